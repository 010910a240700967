"""Metrics of ipsecd for Prometheus; a process of its own, which may only read."""
