"""Owns the attachment of programs to interfaces; must not know what the programs do.

Invariants:

1. A program of somebody else is never replaced. Where one holds XDP, packets that arrive are
   judged at tc ingress, behind it.
2. Links are pinned, so they outlive the daemon; a program is replaced in its link, so there is
   no moment without one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from pyroute2 import IPRoute

from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.coverage import Wanted

NATIVE, GENERIC, TC = "native", "generic", "tc"
_REFUSED_BY_DRIVER = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE, errno.ENOMEM})
_FOREIGN = frozenset({errno.EBUSY, errno.EEXIST})
_TC = {"arrive": libbpf.BPF_TC_INGRESS, "leave": libbpf.BPF_TC_EGRESS}
_TCX = {"arrive": libbpf.BPF_TCX_INGRESS, "leave": libbpf.BPF_TCX_EGRESS}


@dataclass(slots=True)
class Link:
    """One program on one interface. ``descriptor`` is -1 for a tc filter, which has no link."""

    descriptor: int
    hook: str
    mode: str
    program: str


class Links:
    """All attachments, pinned below a directory of the BPF file system."""

    def __init__(self, directory: Path, *, tcx: bool = True) -> None:
        """`tcx` false: use clsact even where the kernel has tcx."""
        self._directory = directory
        self._tcx = tcx
        self._links: dict[tuple[int, str], Link] = {}
        self.failures: dict[int, str] = {}

    @property
    def uses_tcx(self) -> bool:
        """Whether tc programs are attached by links (Linux 6.6 and later)."""
        return self._tcx

    def modes(self) -> Mapping[int, str]:
        """How arriving packets meet a program, by interface index."""
        return {index: link.mode for (index, hook), link in self._links.items() if hook != "leave"}

    def sync(self, interfaces: Iterable[Wanted], programs: Callable[[str], int]) -> None:
        """Attach to interfaces that have no programs yet, and forget those that are gone.

        An interface that takes no program is in ``failures`` with the reason, by its index, and
        tried again next time.
        """
        wanted = {one.ifindex: one for one in interfaces}
        self._find_pinned()
        for place in [place for place in self._links if place[0] not in wanted]:
            self._drop(*place)
        self.failures = {}
        for one in wanted.values():
            if not one.suffix:
                self.failures[one.ifindex] = (
                    f"{one.name}: NOT COVERED (it is no Ethernet or IP link)"
                )
                continue
            try:
                self._cover(one, programs)
            except OSError as error:
                self.failures[one.ifindex] = f"{one.name}: NOT COVERED ({error.strerror})"

    def prepare(self, interfaces: Iterable[Wanted], programs: Callable[[str], int]) -> None:
        """Load what will be attached, so that no program is missing half-way."""
        self._find_pinned()
        attached = {index: hook for index, hook in self._links if hook != "leave"}
        for one in filter(attrgetter("suffix"), interfaces):
            hook = attached.get(one.ifindex, "receive")
            for name in (f"{hook}_{one.suffix}", f"leave_{one.suffix}"):
                programs(name)

    def replace(self, programs: Callable[[str], int]) -> None:
        """Put `programs` in the place of the attached ones."""
        for (index, hook), link in self._links.items():
            self._renew(index, hook, link, programs)

    def lost(self) -> list[tuple[int, str]]:
        """Attachments that somebody else has ended, by interface index and hook."""
        return [place for place, link in self._links.items() if not self._holds(place[0], link)]

    def forget(self, places: Iterable[tuple[int, str]]) -> None:
        """Drop attachments, so that ``sync`` makes them anew."""
        for place in places:
            self._drop(*place)

    def remove(self) -> None:
        """Detach everything."""
        self._find_pinned()
        for place in list(self._links):
            self._drop(*place)
        with suppress(FileNotFoundError):
            self._directory.rmdir()

    def close(self) -> None:
        """Let go of the links; they stay."""
        for link in self._links.values():
            if link.descriptor >= 0:
                os.close(link.descriptor)
        self._links.clear()

    # -- inside ----------------------------------------------------------------------------------

    def _cover(self, one: Wanted, programs: Callable[[str], int]) -> None:
        for hooks in (("receive", "arrive"), ("leave",)):
            known = next((hook for hook in hooks if (one.ifindex, hook) in self._links), None)
            if known:
                link = self._links[one.ifindex, known]
                if link.program != f"{known}_{one.suffix}":
                    link.program = f"{known}_{one.suffix}"
                    self._renew(one.ifindex, known, link, programs)
                continue
            self._attach(one, hooks[0], programs)

    def _attach(self, one: Wanted, hook: str, programs: Callable[[str], int]) -> None:
        if hook == "receive":
            for mode, flags in (
                (NATIVE, libbpf.XDP_FLAGS_DRV_MODE),
                (GENERIC, libbpf.XDP_FLAGS_SKB_MODE),
            ):
                name = f"receive_{one.suffix}"
                try:
                    link = libbpf.create_link(programs(name), one.ifindex, libbpf.BPF_XDP, flags)
                except OSError as error:
                    if error.errno in _FOREIGN:
                        break
                    if error.errno not in _REFUSED_BY_DRIVER or mode is GENERIC:
                        raise
                else:
                    self._keep(one.ifindex, Link(link, "receive", mode, name))
                    return
            hook = "arrive"
        name = f"{hook}_{one.suffix}"
        if self._tcx:
            try:
                link = libbpf.create_link(programs(name), one.ifindex, _TCX[hook])
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._tcx = False
            else:
                self._keep(one.ifindex, Link(link, hook, TC, name))
                return
        libbpf.set_filter(one.ifindex, _TC[hook], programs(name))
        self._links[one.ifindex, hook] = Link(-1, hook, TC, name)

    def _keep(self, index: int, link: Link) -> None:
        try:
            self._directory.mkdir(exist_ok=True)
            path = self._path(index, link.hook)
            path.unlink(missing_ok=True)
            libbpf.pin(link.descriptor, path)
        except OSError:
            os.close(link.descriptor)
            raise
        self._links[index, link.hook] = link

    def _renew(self, index: int, hook: str, link: Link, programs: Callable[[str], int]) -> None:
        if link.descriptor < 0:
            libbpf.set_filter(index, _TC[hook], programs(link.program))
            return
        try:
            libbpf.update_link(link.descriptor, programs(link.program))
        except OSError as error:
            if error.errno != errno.ENOLINK:
                raise

    def _path(self, index: int, hook: str) -> Path:
        return self._directory / f"{index}-{hook}"

    def _find_pinned(self) -> None:
        """Take over the links that an earlier process pinned."""
        for index, hook in self._pinned():
            if (index, hook) in self._links:
                continue
            path = self._path(index, hook)
            descriptor = libbpf.get_pinned(path)
            info = libbpf.link_info(descriptor)
            if info.ifindex != index:
                path.unlink()
                os.close(descriptor)
                continue
            name = libbpf.program_name(info.prog_id)
            mode = TC if hook != "receive" else _mode_of(index)
            self._links[index, hook] = Link(descriptor, hook, mode, name)

    def _pinned(self) -> Iterator[tuple[int, str]]:
        if not self._directory.is_dir():
            return
        for path in sorted(self._directory.iterdir()):
            number, _, hook = path.name.partition("-")
            yield int(number), hook

    def _holds(self, index: int, link: Link) -> bool:
        if link.descriptor < 0:
            return libbpf.has_filter(index, _TC[link.hook])
        return bool(libbpf.link_info(link.descriptor).ifindex == index)

    def _drop(self, index: int, hook: str) -> None:
        link = self._links.pop((index, hook))
        if link.descriptor < 0:
            with suppress(OSError):
                libbpf.delete_filter(index, _TC[hook])
            return
        self._path(index, hook).unlink(missing_ok=True)
        os.close(link.descriptor)


def pinned_programs(directory: Path) -> frozenset[int]:
    """The numbers of the programs in links that are pinned below `directory`."""
    found = set()
    for path in directory.iterdir() if directory.is_dir() else ():
        descriptor = libbpf.get_pinned(path)
        try:
            found.add(libbpf.link_info(descriptor).prog_id)
        finally:
            os.close(descriptor)
    return frozenset(found)


def _mode_of(index: int) -> str:
    with IPRoute() as route:
        for link in route.get_links(index):
            xdp = link.get_attr("IFLA_XDP")
            if xdp and xdp.get_attr("IFLA_XDP_DRV_PROG_ID"):
                return NATIVE
    return GENERIC
