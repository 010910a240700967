"""Owns the socket that the nftables table belongs to, which the service manager keeps.

A table belongs to a netlink socket, and everybody may flush it once that is closed. A socket that
the service manager holds too stays open while no daemon runs (sd_pid_notify_with_fds(3),
FileDescriptorStoreMax= in systemd.service(5)).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping

from ipsecd.log import record
from ipsecd.service.listener import FIRST_PASSED_FD
from ipsecd.service.notify import Notifier

NAME = "nftables-owner"


def keep_owner(notifier: Notifier, taken: socket.socket | None, descriptor: int) -> None:
    """Have the service manager hold the socket, unless it is the one that was `taken` from it."""
    if taken and taken.fileno() == descriptor:
        return
    # The service manager keeps one socket of this name: an unusable one must go first.
    notifier.let_go(NAME)
    # Without FDPOLL=0 the service manager closes a socket that has an error to report.
    notifier.keep(descriptor, "FDSTORE=1", f"FDNAME={NAME}", "FDPOLL=0")


def take_owner(environment: MutableMapping[str, str]) -> socket.socket | None:
    """The socket that an earlier daemon left with the service manager, if there is one.

    Its entry is removed from the variables; the other descriptors come before it
    (sd_listen_fds_with_names(3)).
    """
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if environment.get("LISTEN_PID") != str(os.getpid()) or names[-1] != NAME:
        return None
    if environment.get("LISTEN_FDS") != str(len(names)):
        return None
    descriptor = FIRST_PASSED_FD + len(names) - 1
    environment["LISTEN_FDS"] = str(len(names) - 1)
    environment["LISTEN_FDNAMES"] = ":".join(names[:-1])
    try:
        owner = socket.socket(fileno=descriptor)
    except OSError as error:
        record(logging.WARNING, "kept-socket-unusable", reason=error.strerror)
        return None
    if owner.family != socket.AF_NETLINK:
        record(logging.WARNING, "kept-socket-unusable", reason="it is no netlink socket")
        owner.close()
        return None
    os.set_inheritable(descriptor, False)
    return owner
