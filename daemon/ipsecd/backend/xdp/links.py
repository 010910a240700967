"""Owns attaching programs to interfaces; must not know what the programs do.

Invariants:

1. A program of somebody else is never replaced. Where an interface runs one at XDP, arriving
   packets are judged behind it, at tc ingress.
2. Links are pinned, so they outlive the daemon. A program is replaced in its link, so there is no
   moment without a program. No descriptor is kept open: a host may have more links than a process
   may have descriptors.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.coverage import Covered, CoveredInterface
from ipsecd.errors import IpsecdError

NATIVE, GENERIC, TC = "native", "generic", "tc"
XDP_ATTACHED_DRV = 1
_REFUSED_BY_DRIVER = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE, errno.ENOMEM})
_FOREIGN = frozenset({errno.EBUSY, errno.EEXIST})
_TC = {"arrive": libbpf.BPF_TC_INGRESS, "leave": libbpf.BPF_TC_EGRESS}
_TCX = {"arrive": libbpf.BPF_TCX_INGRESS, "leave": libbpf.BPF_TCX_EGRESS}

Attachment = tuple[int, str]
"""An interface by its index, and the hook: ``receive`` (XDP), ``arrive`` or ``leave`` (tc)."""


@dataclass(slots=True)
class Link:
    """One program on one interface; ``pinned`` is False for a tc filter, which has no link."""

    mode: str
    program: str
    pinned: bool = True


class Links:
    """All attachments, pinned below a directory of the BPF file system."""

    def __init__(self, directory: Path, *, xdp: bool = True, tcx: bool = True) -> None:
        """Without `xdp` use tc for arriving packets too; without `tcx` use clsact for tc."""
        self._directory = directory
        self._arriving = ("receive", "arrive") if xdp else ("arrive",)
        self._tcx = tcx
        self._links: dict[Attachment, Link] = {}
        self._is_first_look = True
        self._next_to_check = 0
        self._covered: Covered = {}
        self.failures: dict[int, str] = {}

    @property
    def uses_tcx(self) -> bool:
        """Whether tc programs are attached by links (Linux 6.6 and later)."""
        return self._tcx

    def modes(self) -> Mapping[int, str]:
        """The mode of the program for arriving packets, by interface index."""
        return {index: link.mode for (index, hook), link in self._links.items() if hook != "leave"}

    def sync(self, covered: Covered, programs: Callable[[str], int]) -> None:
        """Attach to interfaces that have no programs yet, and detach from those that need none.

        An interface that takes no program gets into ``failures``, by its index and with the
        reason, and is tried again next time.
        """
        self._covered = covered
        self._take_over_pinned(covered)
        for attachment in list(self._links):
            if attachment[0] not in covered or attachment[1] not in self._hooks(
                covered[attachment[0]]
            ):
                self._detach(*attachment)
        self.failures = {}
        for interface in covered.values():
            try:
                self._cover(interface, programs)
            except OSError as error:
                self.failures[interface.ifindex] = (
                    f"{interface.name}: no program ({error.strerror})"
                )

    def prepare(self, covered: Covered, programs: Callable[[str], int], *, of_types: bool) -> None:
        """Load the programs that will be attached, so that loading fails before any change."""
        for name in self.needed(covered, of_types=of_types):
            programs(name)

    def load_more(self, programs: Callable[[str], int], *, of_types: bool) -> None:
        """Load what is ``needed`` besides if some rules are `of_types`, for what is covered now.

        A program that cannot be loaded is tried again when an interface becomes another type.
        """
        if of_types:
            with suppress(IpsecdError, OSError):
                self.prepare(self._covered, programs, of_types=True)

    def needed(self, covered: Covered, *, of_types: bool) -> list[str]:
        """The names of the programs that will be attached.

        If some rules are for types of interfaces (`of_types`), those too that are attached when an
        interface becomes another type: loading them then would take too long.
        """
        self._take_over_pinned(covered)
        attached = {index: hook for index, hook in self._links if hook != "leave"}
        names = []
        for interface in covered.values():
            first = attached.get(interface.ifindex, self._arriving[0])
            for hook, needed in ((first, interface.arriving), ("leave", interface.leaving)):
                if needed:
                    names.append(f"{hook}_{interface.suffix}")
                if needed and of_types:
                    names.append(f"{hook}_{interface.suffix_of_other_type}")
        return list(dict.fromkeys(names))

    def replace(self, programs: Callable[[str], int]) -> None:
        """Replace the attached programs by those of the same names in `programs`."""
        for (index, hook), link in self._links.items():
            self._renew(index, hook, link, programs)

    def lost(self) -> list[Attachment]:
        """Attachments that somebody else has ended."""
        return [
            attachment
            for attachment, link in self._links.items()
            if not self._is_attached(*attachment, link)
        ]

    def lost_among(self, most: int, within_s: float) -> list[Attachment]:
        """The lost ones among the next `most` attachments, in turn.

        It checks fewer of them if `within_s` seconds have passed: for each check the kernel locks
        all links of the host, and somebody else may hold that lock.
        """
        attachments = list(self._links)
        at = self._next_to_check % max(len(attachments), 1)
        lost = []
        end = monotonic() + within_s
        for looked, attachment in enumerate([*attachments[at:], *attachments[:at]][:most], 1):
            self._next_to_check = at + looked
            if not self._is_attached(*attachment, self._links[attachment]):
                lost.append(attachment)
            if monotonic() >= end:
                break
        return lost

    def forget_lost(self, covered: Covered) -> None:
        """Forget what is detached or on none of these, so that ``sync`` attaches it anew."""
        for attachment in dict.fromkeys((*self.lost(), *self._moved(covered))):
            self._detach(*attachment)

    def remove(self) -> None:
        """Detach everything, even if the process can open no more descriptors."""
        self._take_over_filters()
        for index, hook in [
            attachment for attachment, link in self._links.items() if not link.pinned
        ]:
            with suppress(OSError):
                libbpf.delete_filter(index, _TC[hook])
        for attachment in self._pinned():
            self._detach_pinned(*attachment)
        self._links.clear()
        with suppress(OSError):
            self._directory.rmdir()

    # -- inside ----------------------------------------------------------------------------------

    def _hooks(self, interface: CoveredInterface) -> tuple[str, ...]:
        """The hooks at which an interface may have programs of ours."""
        arriving = self._arriving if interface.arriving else ()
        return (*arriving, "leave") if interface.leaving else arriving

    def _cover(self, interface: CoveredInterface, programs: Callable[[str], int]) -> None:
        index, hooks = interface.ifindex, self._hooks(interface)
        for side_hooks in (tuple(hook for hook in hooks if hook != "leave"), ("leave",)):
            if not set(side_hooks) & set(hooks):
                continue
            attached_hook = next(
                (hook for hook in side_hooks if (index, hook) in self._links), None
            )
            if attached_hook != side_hooks[0] and self._attach_xdp(
                interface, side_hooks[0], programs
            ):
                if attached_hook:
                    self._detach(index, attached_hook)
                continue
            if not attached_hook:
                self._attach_tc(interface, side_hooks[-1], programs)
                continue
            link = self._links[index, attached_hook]
            if link.program != f"{attached_hook}_{interface.suffix}":
                link.program = f"{attached_hook}_{interface.suffix}"
                self._renew(index, attached_hook, link, programs)

    def _attach_xdp(
        self, interface: CoveredInterface, hook: str, programs: Callable[[str], int]
    ) -> bool:
        """Attach to XDP if `hook` is ``receive``; False if it is not, or if XDP is taken."""
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
                self._pin((interface.ifindex, "receive"), link, Link(mode, name))
                return True
        return False

    def _attach_tc(
        self, interface: CoveredInterface, hook: str, programs: Callable[[str], int]
    ) -> None:
        index, name = interface.ifindex, f"{hook}_{interface.suffix}"
        if self._tcx:
            try:
                link = libbpf.create_link(programs(name), index, _TCX[hook])
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._tcx = False
            else:
                self._pin((index, hook), link, Link(TC, name))
                return
        libbpf.set_filter(index, _TC[hook], programs(name))
        self._links[index, hook] = Link(TC, name, pinned=False)

    def _pin(self, attachment: Attachment, descriptor: int, link: Link) -> None:
        try:
            self._directory.mkdir(exist_ok=True)
            path = self._path(*attachment)
            self._detach_pinned(*attachment)
            libbpf.pin(descriptor, path)
        finally:
            os.close(descriptor)
        self._links[attachment] = link

    def _renew(self, index: int, hook: str, link: Link, programs: Callable[[str], int]) -> None:
        if not link.pinned:
            libbpf.set_filter(index, _TC[hook], programs(link.program))
            return
        program = programs(link.program)
        try:
            with self._opened(index, hook) as descriptor:
                libbpf.update_link(descriptor, program)
        except OSError as error:
            # The interface or the pin is gone; ``sync`` attaches the program anew.
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

    def _take_over_filters(self) -> None:
        """Take over the tc filters that an earlier process made: they have no pins."""
        for index, _ in socket.if_nameindex():
            for hook, side in _TC.items():
                if (index, hook) not in self._links and libbpf.has_filter(index, side):
                    self._links[index, hook] = Link(TC, "", pinned=False)

    def _take_over_pinned(self, covered: Covered) -> None:
        """Take over what an earlier process attached."""
        if self._is_first_look:
            self._take_over_filters()
            self._is_first_look = False
        for index, hook in self._pinned():
            if (index, hook) in self._links:
                continue
            if not self._is_here(index, hook, covered):
                self._detach_pinned(index, hook)
                continue
            with self._opened(index, hook) as descriptor:
                info = libbpf.link_info(descriptor)
            name = libbpf.program_name(info.prog_id)
            mode = TC if hook != "receive" else _mode_of(covered[index])
            self._links[index, hook] = Link(mode, name)

    def _pinned(self) -> Iterator[Attachment]:
        if not self._directory.is_dir():
            return
        for path in sorted(self._directory.iterdir()):
            number, _, hook = path.name.partition("-")
            if number.isdecimal() and hook in {"receive", *_TC}:
                yield int(number), hook

    def _is_attached(self, index: int, hook: str, link: Link) -> bool:
        if not link.pinned:
            return libbpf.has_filter(index, _TC[hook])
        try:
            with self._opened(index, hook) as descriptor:
                return bool(libbpf.link_info(descriptor).ifindex == index)
        except FileNotFoundError:
            return False

    def _moved(self, covered: Covered) -> list[Attachment]:
        """Attachments whose interface is no longer in this network namespace, or not covered.

        A link goes with its interface into another namespace, where that may have the same index.
        """
        return [
            attachment
            for attachment, link in self._links.items()
            if link.pinned and not self._is_here(*attachment, covered)
        ]

    def _is_here(self, index: int, hook: str, covered: Covered) -> bool:
        """Whether the link that is pinned for an interface is on it, in this network namespace.

        What interfaces run at XDP was read of all at once: to ask for one, libbpf reads them all.
        """
        if index not in covered:
            return False
        try:
            with self._opened(index, hook) as descriptor:
                info = libbpf.link_info(descriptor)
        except FileNotFoundError:
            return False
        if hook == "receive":
            numbers = {number for _, number in covered[index].xdp}
        else:
            numbers = set(libbpf.programs_at(index, _TCX[hook]))
        return info.ifindex == index and info.prog_id in numbers

    def _detach(self, index: int, hook: str) -> None:
        link = self._links.pop((index, hook))
        if link.pinned:
            self._detach_pinned(index, hook)
            return
        with suppress(OSError):
            libbpf.delete_filter(index, _TC[hook])

    def _detach_pinned(self, index: int, hook: str) -> None:
        """End a pinned link; if no descriptor can be opened, by removing its pin alone."""
        path = self._path(index, hook)
        try:
            descriptor = libbpf.get_pinned(path)
        except OSError:
            path.unlink(missing_ok=True)
            return
        try:
            path.unlink(missing_ok=True)
            # The link may have ended with its interface.
            with suppress(OSError):
                libbpf.detach_link(descriptor)
        finally:
            os.close(descriptor)


def exists(index: int) -> bool:
    """Whether there is an interface with this index."""
    try:
        socket.if_indextoname(index)
    except OSError:
        return False
    return True


def pinned_programs(directory: Path) -> frozenset[int]:
    """The numbers of the programs in links that are pinned below `directory`."""
    numbers = set()
    for path in directory.iterdir() if directory.is_dir() else ():
        # Somebody else may have put other files there, or have removed some just now.
        with suppress(OSError):
            descriptor = libbpf.get_pinned(path)
            try:
                numbers.add(libbpf.link_info(descriptor).prog_id)
            finally:
                os.close(descriptor)
    return frozenset(numbers)


def _mode_of(interface: CoveredInterface) -> str:
    return NATIVE if any(mode == XDP_ATTACHED_DRV for mode, _ in interface.xdp) else GENERIC
