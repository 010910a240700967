"""Owns where the page is served: a port of loopback or a Unix socket, and nothing else."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from ipsecctl.failures import UsageError
from ipsecctl.web.access import Gate, SocketGate, TokenGate
from ipsecd.errors import Refused
from ipsecd.quoting import quote, quote_path

DEFAULT = "127.0.0.1:0"
_BACKLOG = 64
_HTTP = 80
_MOST_PATH_BYTES = 107  # unix(7)
_ELSEWHERE = (
    "to look from another host use a tunnel with the same port on both sides, "
    "'ssh -L 8080:127.0.0.1:8080 HOST ipsecctl web --listen 127.0.0.1:8080', or put a proxy that "
    "knows who may look in front of --listen /run/NAME/web.sock"
)


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket, who may look through it, and the path that is removed at the end."""

    sock: socket.socket
    gate: Gate
    path: Path | None = None

    @property
    def place(self) -> str:
        """Where to look: a URL with its token, or the path of the socket."""
        return self.gate.url if isinstance(self.gate, TokenGate) else str(self.path)

    def close(self) -> None:
        """Listen no more."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.sock.close()


def listen(place: str) -> Listener:
    """Listen at `place`: ``127.0.0.1:PORT``, ``[::1]:PORT`` or the path of a Unix socket.

    Port 0 is one that is free. Raises ``UsageError`` for what is no such place, and ``Refused`` if
    it cannot be had.
    """
    return _at_path(Path(place)) if place.startswith("/") else _at_port(place)


def _at_port(place: str) -> Listener:
    host, colon, digits = place.rpartition(":")
    written = f"write 127.0.0.1:PORT, [::1]:PORT or the path of a socket, not {quote(place)}"
    if not (colon and digits.isascii() and digits.isdecimal() and int(digits) < 1 << 16):
        raise UsageError("--listen names no port", written)
    try:
        number = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        if host != "localhost":
            raise UsageError(f"{quote(host)} is no address of loopback", _ELSEWHERE) from error
        number = ipaddress.ip_address("127.0.0.1")
    if not number.is_loopback or (number.version == 6 and not host.startswith("[")):
        raise UsageError(f"{quote(host)} is no address of loopback", _ELSEWHERE)
    sock = socket.socket(socket.AF_INET if number.version == 4 else socket.AF_INET6)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((str(number), int(digits)))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _unusable(place, error) from error
    port = sock.getsockname()[1]
    name = f"[{number}]" if number.version == 6 else str(number)
    # Browsers leave out the port of HTTP.
    bare = (name, "localhost") if port == _HTTP else ()
    return Listener(sock, TokenGate((f"{name}:{port}", f"localhost:{port}", *bare)))


def _at_path(path: Path) -> Listener:
    """Listen on a new socket at `path`, in the place of one that a process before has left.

    Everybody may connect, as to the daemon: the peer's credentials decide, and the mode of the
    directory if it is stricter.
    """
    if len(os.fsencode(path)) > _MOST_PATH_BYTES:
        raise UsageError(
            f"{quote_path(str(path))} is too long for a socket", "the kernel takes 107 bytes"
        )
    _make_room(path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)
        _bind_for_everybody(sock, path)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _unusable(str(path), error) from error
    return Listener(sock, SocketGate(), path)


def _bind_for_everybody(sock: socket.socket, path: Path) -> None:
    """Make the socket with the mode that it is to have.

    A change of the mode afterwards goes by the path, where somebody may have put a link meanwhile.
    """
    before = os.umask(0o111)
    try:
        sock.bind(str(path))
    finally:
        os.umask(before)


def _make_room(path: Path) -> None:
    """Raise ``Refused`` if at `path` is anything but a socket that nobody listens on."""
    shown = quote_path(str(path))
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Refused(f"{shown} is in the way, and it is no socket", "move it elsewhere")
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(str(path), error) from error
    if _is_listened_on(path):
        raise Refused(f"something listens on {shown} already", "choose another path")


def _is_listened_on(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _unusable(place: str, error: OSError) -> Refused:
    return Refused(
        f"{quote_path(place)} cannot be listened on: {error.strerror}",
        "choose another place with --listen, and see whether something else listens there",
    )
