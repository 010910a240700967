"""Owns what a link is built on: this host, its peer behind a wire, and what was there before."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tests.links.probes import End, within
from tests.netns.site import PEER

HOST4, PEER4, HOST6, PEER6 = "10.77.0.1", "10.77.0.66", "fd77::1", "fd77::66"
"""The addresses at the two ends of the link that is tried. The wire below has others."""
PORT = "link add port0 type veth peer name port1 netns peer\nlink set port0 up\n"
"""Lines that make a wire of its own, for links that take a whole one."""


class CannotBuild(Exception):
    """A link cannot be built. ``said`` is the kernel's word, or that of ``ip``, about a command."""

    def __init__(self, said: str, command: str) -> None:
        super().__init__(f"{said}, to: {command}")
        self.said = said


class Ground:
    """Runs commands at the two ends. ``settle`` waits until the daemon, if any, has seen them."""

    def __init__(self, settle: Callable[[], None] | None = None) -> None:
        self._settle = settle

    def settle(self) -> None:
        if self._settle:
            self._settle()

    def host(self, commands: str) -> None:
        """Run lines of ``ip`` here."""
        _batch(("ip",), commands)

    def peer(self, commands: str) -> None:
        """Run lines of ``ip`` at the peer."""
        _batch(("ip", "-n", PEER), commands)

    def bridge(self, commands: str) -> None:
        """Run lines of ``bridge`` here."""
        _batch(("bridge",), commands)


def _batch(words: tuple[str, ...], commands: str) -> None:
    lines = "".join(f"{line.strip()}\n" for line in commands.splitlines() if line.strip())
    done = subprocess.run(
        [*words, "-batch", "-"], input=lines, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.partition("\n")[0].removeprefix("Error: ").rstrip(".")
        said = said.removeprefix("RTNETLINK answers: ")
        where = re.search(r"Command failed -:(\d+)", done.stderr)
        failed = lines.splitlines()[int(where[1]) - 1] if where else ""
        raise CannotBuild(said, f"{words[0]} {failed}")


def at_host(device: str) -> str:
    """Lines of ``ip`` that give a device the host's addresses and set it up."""
    return _addressed(device, HOST4, HOST6)


def at_peer(device: str) -> str:
    """Lines of ``ip`` that give a device the peer's addresses and set it up."""
    return _addressed(device, PEER4, PEER6)


def _addressed(device: str, ipv4: str, ipv6: str) -> str:
    return f"""
        link set {device} up
        address add {ipv4}/24 dev {device}
        address add {ipv6}/64 dev {device} nodad
    """


Build = Callable[[Ground], AbstractContextManager[None]]


@dataclass(frozen=True)
class Kind:
    """A kind of link, and how to build one between this host and the peer.

    ``bound_to`` is a device that services here are bound to. ``since`` is the first kernel that has
    such links; an older one may lack them. ``ordered`` says that it matters to the kernel what is
    on a link when the next is made of it: then it is also tried with a daemon that comes later.
    """

    title: str
    build: Build
    versions: tuple[int, ...] = (4, 6)
    bound_to: str | None = None
    since: tuple[int, int] = (0, 0)
    ordered: bool = False

    @property
    def host(self) -> End:
        return End(None, {4: HOST4, 6: HOST6}, self.bound_to)

    @property
    def peer(self) -> End:
        return End(PEER, {4: PEER4, 6: PEER6})


def scripts(host: str, peer: str) -> Build:
    """Builds a link by lines of ``ip`` here, then there; the word ``settle`` is a line as well."""

    @contextmanager
    def build(ground: Ground) -> Iterator[None]:
        for number, part in enumerate(host.split("settle\n")):
            if number:
                ground.settle()
            ground.host(part)
        ground.peer(peer)
        yield

    return build


@contextmanager
def built(kind: Kind, ground: Ground) -> Iterator[None]:
    """A link of this kind; nothing of it is left afterwards."""
    before = {where: devices(where) for where in (None, PEER)}
    try:
        with kind.build(ground):
            yield
    finally:
        for where, names in before.items():
            lines = "".join(
                f"link delete {name}\n" for name in reversed(devices(where)) if name not in names
            )
            words = ("ip", "-force") if where is None else ("ip", "-force", "-n", where)
            subprocess.run(
                [*words, "-batch", "-"], input=lines, text=True, capture_output=True, check=False
            )


def devices(namespace: str | None) -> list[str]:
    """The names of the links of a namespace, in the order in which they came."""
    with within(namespace):
        return [name for _, name in sorted(socket.if_nameindex())]
