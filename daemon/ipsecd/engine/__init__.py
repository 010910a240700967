"""What is or should be in force on this host, and the order in which a change to it happens."""

from ipsecd.engine.engine import Engine

__all__ = ["Engine"]
