"""Owns the runtime directory, its lock, and the socket in it that clients connect to.

1. Only one daemon, the one that holds the lock, uses a runtime directory.
2. The socket's path always leads to a socket that a daemon listens on, or does not exist.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import MutableMapping
from pathlib import Path

from ipsecd.errors import IpsecdError, Refused, StoreFailed

SOCKET_NAME = "ipsecd.sock"
LOCK_NAME = "ipsecd.lock"
BACKLOG = 4096
FIRST_PASSED_FD = 3
MAX_PATH_BYTES = 107


class RuntimeLock:
    """An exclusive lock on a runtime directory, held until it is closed or its process ends."""

    def __init__(self, runtime_dir: Path) -> None:
        """Take the lock, creating the directory if need be; raises ``Refused`` if it is taken."""
        path = runtime_dir / LOCK_NAME
        try:
            runtime_dir.mkdir(mode=0o755, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            if not isinstance(error, BlockingIOError):
                raise _unusable(path, error) from error
            raise Refused(
                f"another ipsecd runs with the runtime directory {str(runtime_dir)!r}",
                "stop it first, or give this one its own with --runtime-dir",
            ) from error

    def close(self) -> None:
        """Release the lock, for the next daemon."""
        os.close(self._file)


class Listener:
    """A listening socket, with its path if this process has made it and must remove it."""

    def __init__(self, sock: socket.socket, path: Path | None) -> None:
        self.sock = sock
        self._path = path

    def close(self) -> None:
        """Stop listening, and remove the path if this process made it."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self.sock.close()


def open_listener(runtime_dir: Path, environment: MutableMapping[str, str]) -> Listener:
    """The socket that the service manager passed, or else a new one in `runtime_dir`.

    The caller holds the directory's lock, so a socket that is there already is stale. Everybody may
    connect (mode 0666): who may do what is decided by the peer's credentials.
    """
    passed = passed_socket(environment)
    if passed is not None:
        return Listener(passed, None)
    path = runtime_dir / SOCKET_NAME
    if len(os.fsencode(path)) > MAX_PATH_BYTES - len(".new"):
        raise Refused(
            f"the path {str(path)!r} is too long for a socket",
            "choose a shorter one with --runtime-dir; the kernel takes 107 bytes (unix(7))",
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _bind(sock, path)
    except OSError as error:
        sock.close()
        raise _unusable(path, error) from error
    except IpsecdError:
        sock.close()
        raise
    return Listener(sock, path)


def passed_socket(environment: MutableMapping[str, str]) -> socket.socket | None:
    """The listening socket of systemd's socket activation (sd_listen_fds(3)), or None.

    Removes the variables, so that no child process uses them.
    """
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or count in ("", "0"):
        return None
    hint = "let ipsecd.socket have one ListenStream=, with a path"
    if count != "1":
        raise Refused(f"the service manager passed {count} sockets, and one is wanted", hint)
    try:
        sock = socket.socket(fileno=FIRST_PASSED_FD)
    except OSError as error:
        raise Refused("the service manager passed something that is no socket", hint) from error
    if (
        sock.family != socket.AF_UNIX
        or sock.type != socket.SOCK_STREAM
        or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        sock.close()
        raise Refused("the service manager passed a socket of another kind", hint)
    sock.setblocking(False)
    os.set_inheritable(FIRST_PASSED_FD, False)
    return sock


def _bind(sock: socket.socket, path: Path) -> None:
    """Listen on `path`. For clients this is one step, from the stale socket to this one."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Refused(
                f"{str(path)!r} is in the way, and it is not a socket", "move it elsewhere"
            )
    except FileNotFoundError:
        pass
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    sock.bind(str(new))
    new.chmod(0o666)
    sock.listen(BACKLOG)
    new.rename(path)


def _unusable(path: Path, error: OSError) -> StoreFailed:
    return StoreFailed(
        f"{str(path)!r} cannot be used: {error.strerror}",
        "look at the owner and the mode of the runtime directory",
    )
