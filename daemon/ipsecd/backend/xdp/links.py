"""Owns the attachment of programs to interfaces; must not know what the programs do.

Invariants:

1. A program of somebody else is never replaced. Where one holds XDP, packets that arrive are
   judged at tc ingress, behind it.
2. Links are pinned, so they outlive the daemon; a program is replaced in its link, so there is
   no moment without one. No descriptor is held: a host may have more links than a process may
   have descriptors.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.coverage import Wanted

NATIVE, GENERIC, TC = "native", "generic", "tc"
_REFUSED_BY_DRIVER = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE, errno.ENOMEM})
_FOREIGN = frozenset({errno.EBUSY, errno.EEXIST})
_TC = {"arrive": libbpf.BPF_TC_INGRESS, "leave": libbpf.BPF_TC_EGRESS}
_TCX = {"arrive": libbpf.BPF_TCX_INGRESS, "leave": libbpf.BPF_TCX_EGRESS}

Place = tuple[int, str]
"""An interface by its index, and the hook: ``receive`` (XDP), ``arrive`` or ``leave`` (tc)."""


@dataclass(slots=True)
class Link:
    """One program on one interface; not ``pinned`` is a tc filter, which has no link."""

    mode: str
    program: str
    pinned: bool = True


class Links:
    """All attachments, pinned below a directory of the BPF file system."""

    def __init__(self, directory: Path, *, xdp: bool = True, tcx: bool = True) -> None:
        """Without `xdp` use tc for what arrives too; without `tcx`, clsact for tc."""
        self._directory = directory
        self._arriving = ("receive", "arrive") if xdp else ("arrive",)
        self._tcx = tcx
        self._links: dict[Place, Link] = {}
        self._is_new = True
        self._looked_at = 0
        self.failures: dict[int, str] = {}

    @property
    def uses_tcx(self) -> bool:
        """Whether tc programs are attached by links (Linux 6.6 and later)."""
        return self._tcx

    def modes(self) -> Mapping[int, str]:
        """How arriving packets meet a program, by interface index."""
        return {index: link.mode for (index, hook), link in self._links.items() if hook != "leave"}

    def sync(self, interfaces: Iterable[Wanted], programs: Callable[[str], int]) -> None:
        """Attach to interfaces that have no programs yet, and let go of those that need none.

        An interface that takes no program is in ``failures`` with the reason, by its index, and
        tried again next time.
        """
        wanted = {interface.ifindex: interface for interface in interfaces}
        self._find_pinned()
        for place in list(self._links):
            if place[0] not in wanted or place[1] not in self._hooks(wanted[place[0]]):
                self._drop(*place)
        self.failures = {}
        for interface in wanted.values():
            try:
                self._cover(interface, programs)
            except OSError as error:
                self.failures[interface.ifindex] = (
                    f"{interface.name}: no program ({error.strerror})"
                )

    def prepare(self, interfaces: Iterable[Wanted], programs: Callable[[str], int]) -> None:
        """Load what will be attached, so that no program is missing half-way."""
        self._find_pinned()
        attached = {index: hook for index, hook in self._links if hook != "leave"}
        for interface in interfaces:
            first = attached.get(interface.ifindex, self._arriving[0])
            for hook, needed in ((first, interface.arriving), ("leave", interface.leaving)):
                if needed:
                    programs(f"{hook}_{interface.suffix}")

    def replace(self, programs: Callable[[str], int]) -> None:
        """Put `programs` in the place of the attached ones."""
        for (index, hook), link in self._links.items():
            self._renew(index, hook, link, programs)

    def lost(self) -> list[Place]:
        """Attachments that somebody else has ended."""
        return [place for place, link in self._links.items() if not self._holds(*place, link)]

    def lost_among(self, most: int, within_s: float) -> list[Place]:
        """The same among the next `most`, in turn, or fewer when so many seconds have passed.

        The kernel locks all links of the host for each look, and somebody else may have that lock.
        """
        places = list(self._links)
        at = self._looked_at % max(len(places), 1)
        lost = []
        end = monotonic() + within_s
        for looked, place in enumerate([*places[at:], *places[:at]][:most], 1):
            self._looked_at = at + looked
            if not self._holds(*place, self._links[place]):
                lost.append(place)
            if monotonic() >= end:
                break
        return lost

    def forget_lost(self) -> None:
        """Let go of what is attached no more, or elsewhere, so that ``sync`` attaches it anew."""
        for place in dict.fromkeys((*self.lost(), *self._moved())):
            self._drop(*place)

    def remove(self) -> None:
        """Detach everything, even where there is not one more descriptor to be had."""
        self._find_filters()
        for index, hook in [place for place, link in self._links.items() if not link.pinned]:
            with suppress(OSError):
                libbpf.delete_filter(index, _TC[hook])
        for place in self._pinned():
            self._end(*place)
        self._links.clear()
        with suppress(OSError):
            self._directory.rmdir()

    # -- inside ----------------------------------------------------------------------------------

    def _hooks(self, interface: Wanted) -> tuple[str, ...]:
        """The hooks at which an interface may have programs of ours."""
        arriving = self._arriving if interface.arriving else ()
        return (*arriving, "leave") if interface.leaving else arriving

    def _cover(self, interface: Wanted, programs: Callable[[str], int]) -> None:
        index, hooks = interface.ifindex, self._hooks(interface)
        for ways in (tuple(hook for hook in hooks if hook != "leave"), ("leave",)):
            if not set(ways) & set(hooks):
                continue
            taken = next((hook for hook in ways if (index, hook) in self._links), None)
            if taken != ways[0] and self._attach_xdp(interface, ways[0], programs):
                if taken:
                    self._drop(index, taken)
                continue
            if not taken:
                self._attach_tc(interface, ways[-1], programs)
                continue
            link = self._links[index, taken]
            if link.program != f"{taken}_{interface.suffix}":
                link.program = f"{taken}_{interface.suffix}"
                self._renew(index, taken, link, programs)

    def _attach_xdp(self, interface: Wanted, hook: str, programs: Callable[[str], int]) -> bool:
        """Attach to XDP if `hook` is that; False where somebody else holds it."""
        if hook != "receive":
            return False
        name = f"receive_{interface.suffix}"
        for mode, flags in (
            (NATIVE, libbpf.XDP_FLAGS_DRV_MODE),
            (GENERIC, libbpf.XDP_FLAGS_SKB_MODE),
        ):
            try:
                link = libbpf.create_link(programs(name), interface.ifindex, libbpf.BPF_XDP, flags)
            except OSError as error:
                if error.errno in _FOREIGN:
                    return False
                if error.errno not in _REFUSED_BY_DRIVER or mode is GENERIC:
                    raise
            else:
                self._keep((interface.ifindex, "receive"), link, Link(mode, name))
                return True
        return False

    def _attach_tc(self, interface: Wanted, hook: str, programs: Callable[[str], int]) -> None:
        index, name = interface.ifindex, f"{hook}_{interface.suffix}"
        if self._tcx:
            try:
                link = libbpf.create_link(programs(name), index, _TCX[hook])
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._tcx = False
            else:
                self._keep((index, hook), link, Link(TC, name))
                return
        libbpf.set_filter(index, _TC[hook], programs(name))
        self._links[index, hook] = Link(TC, name, pinned=False)

    def _keep(self, place: Place, descriptor: int, link: Link) -> None:
        try:
            self._directory.mkdir(exist_ok=True)
            path = self._path(*place)
            self._end(*place)
            libbpf.pin(descriptor, path)
        finally:
            os.close(descriptor)
        self._links[place] = link

    def _renew(self, index: int, hook: str, link: Link, programs: Callable[[str], int]) -> None:
        if not link.pinned:
            libbpf.set_filter(index, _TC[hook], programs(link.program))
            return
        program = programs(link.program)
        try:
            with self._opened(index, hook) as descriptor:
                libbpf.update_link(descriptor, program)
        except OSError as error:
            # Its interface is gone, or somebody else took the pin away: it is attached anew.
            if error.errno not in {errno.ENOLINK, errno.ENOENT}:
                raise

    def _path(self, index: int, hook: str) -> Path:
        return self._directory / f"{index}-{hook}"

    @contextmanager
    def _opened(self, index: int, hook: str) -> Iterator[int]:
        descriptor = libbpf.get_pinned(self._path(index, hook))
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _find_filters(self) -> None:
        """Take over the tc filters that an earlier process made: they have no pins."""
        for index, _ in socket.if_nameindex():
            for hook, side in _TC.items():
                if (index, hook) not in self._links and libbpf.has_filter(index, side):
                    self._links[index, hook] = Link(TC, "", pinned=False)

    def _find_pinned(self) -> None:
        """Take over what an earlier process attached."""
        if self._is_new:
            self._find_filters()
            self._is_new = False
        for index, hook in self._pinned():
            if (index, hook) in self._links:
                continue
            if not self._is_here(index, hook):
                self._end(index, hook)
                continue
            with self._opened(index, hook) as descriptor:
                info = libbpf.link_info(descriptor)
            name = libbpf.program_name(info.prog_id)
            mode = TC if hook != "receive" else _mode_of(index)
            self._links[index, hook] = Link(mode, name)

    def _pinned(self) -> Iterator[Place]:
        if not self._directory.is_dir():
            return
        for path in sorted(self._directory.iterdir()):
            number, _, hook = path.name.partition("-")
            if number.isdecimal() and hook in {"receive", *_TC}:
                yield int(number), hook

    def _holds(self, index: int, hook: str, link: Link) -> bool:
        if not link.pinned:
            return libbpf.has_filter(index, _TC[hook])
        try:
            with self._opened(index, hook) as descriptor:
                return bool(libbpf.link_info(descriptor).ifindex == index)
        except FileNotFoundError:
            return False

    def _moved(self) -> list[Place]:
        """Attachments to what is not here any more.

        A link goes with its interface into another network namespace, where it may have the same
        index.
        """
        return [
            place
            for place, link in self._links.items()
            if link.pinned and not self._is_here(*place)
        ]

    def _is_here(self, index: int, hook: str) -> bool:
        """Whether the link that is pinned for an interface is on it, in this network namespace."""
        try:
            with self._opened(index, hook) as descriptor:
                info = libbpf.link_info(descriptor)
        except FileNotFoundError:
            return False
        kind = libbpf.BPF_XDP if hook == "receive" else _TCX[hook]
        return info.ifindex == index and info.prog_id in libbpf.programs_at(index, kind)

    def _drop(self, index: int, hook: str) -> None:
        link = self._links.pop((index, hook))
        if link.pinned:
            self._end(index, hook)
            return
        with suppress(OSError):
            libbpf.delete_filter(index, _TC[hook])

    def _end(self, index: int, hook: str) -> None:
        """End a pinned link; without a descriptor to be had, by its pin alone."""
        path = self._path(index, hook)
        try:
            descriptor = libbpf.get_pinned(path)
        except OSError:
            path.unlink(missing_ok=True)
            return
        try:
            path.unlink(missing_ok=True)
            # Its interface may have ended it.
            with suppress(OSError):
                libbpf.detach_link(descriptor)
        finally:
            os.close(descriptor)


def pinned_programs(directory: Path) -> frozenset[int]:
    """The numbers of the programs in links that are pinned below `directory`."""
    numbers = set()
    for path in directory.iterdir() if directory.is_dir() else ():
        # Somebody else may have put something there, or taken it away since.
        with suppress(OSError):
            descriptor = libbpf.get_pinned(path)
            try:
                numbers.add(libbpf.link_info(descriptor).prog_id)
            finally:
                os.close(descriptor)
    return frozenset(numbers)


def _mode_of(index: int) -> str:
    return NATIVE if libbpf.xdp_program(index, libbpf.XDP_FLAGS_DRV_MODE) else GENERIC
