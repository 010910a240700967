"""Owns what the documentation of all modules shares: how they talk to the daemon."""

from __future__ import annotations


class ModuleDocFragment:
    """The options and notes that every module has."""

    DOCUMENTATION = r"""
options:
  executable:
    description: Path of C(ipsecctl) on the host. If it is left out, it is looked for.
    type: path
  socket:
    description: Path of the daemon's socket, if it is another than the usual one.
    type: path
  force:
    description: Make the change even if it would cut a connection by which somebody is logged in.
    type: bool
    default: false
  message:
    description: What the change is for, for the history of the host.
    type: str
requirements:
  - ipsecd on the host, with its daemon running
  - to be root there, or in the group C(ipsec)
attributes:
  check_mode:
    description: The daemon is asked what the change would do, and nothing is changed.
    support: full
  diff_mode:
    description: What is there before and after.
    support: full
author:
  - ipsecd maintainers
"""
