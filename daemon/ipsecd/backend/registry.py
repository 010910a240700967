"""Owns which backends there are: one record for each; nothing else compares their names.

A backend is added with a record here and a row in ``tests/conformance``, which it has to pass.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ipsecd.backend.base import Backend, TransactionRecord
from ipsecd.backend.combined import NftablesWithPrograms
from ipsecd.backend.examination import Assessment, assess_nftables, assess_xdp
from ipsecd.backend.memory import MemoryBackend
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.trial import Trial, try_backend, try_nftables, try_xdp
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.host.interfaces import Interface

AUTO = "auto"
"""The name that leaves the choice to the daemon."""


@dataclass(frozen=True, slots=True)
class BackendArguments:
    """What a backend is made with.

    ``bpffs`` is where pins are, ``owner`` the socket that an earlier process left open, and
    ``record`` what it kept about its last transaction. ``reason`` is why this backend is made in
    the place of another, "" if it is the one asked for.
    """

    bpffs: Path
    owner: socket.socket | None = None
    record: TransactionRecord | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """How a backend that can be asked for is tried and assessed.

    ``attempt`` runs in a process of its own. Its argument says why that process may not touch a
    network, "" if it may. ``assess`` judges the outcome.
    """

    attempt: Callable[[str], Trial]
    assess: Callable[[Trial, Path, tuple[Interface, ...]], Assessment]


@dataclass(frozen=True, slots=True)
class Beside:
    """The programs beside nftables: how they are made, None for none, and if they are required."""

    make: Callable[[], XdpBackend] | None
    required: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One backend.

    ``make`` raises ``BackendFailed`` where this host lacks what the backend ``needs``;
    ``falls_back_to`` names what is made then, "" for nothing. ``beside`` says which programs stand
    beside nftables, None for a backend without it. ``offer`` is None for a backend that nobody can
    ask for by its name.
    """

    name: str
    make: Callable[[BackendArguments], Backend]
    needs: str
    falls_back_to: str = ""
    beside: Callable[[NftablesBackend, Path], Beside] | None = None
    offer: Offer | None = None


def _guard(nftables: NftablesBackend, bpffs: Path) -> Beside:
    """Programs at tc, where the kernel lets everybody flush our table; else none."""
    guard = None if nftables.is_protected else partial(XdpBackend, bpffs, alone=False, xdp=False)
    return Beside(guard, required=False)


def _before(_: NftablesBackend, bpffs: Path) -> Beside:
    """Programs that drop before nftables does."""
    return Beside(partial(XdpBackend, bpffs, alone=False), required=True)


def _make_nftables(arguments: BackendArguments) -> Backend:
    """nftables, and its guard where it needs one."""
    nftables = NftablesBackend(owner=arguments.owner, record=arguments.record)
    beside = _guard(nftables, arguments.bpffs)
    if beside.make is None:
        return nftables
    return NftablesWithPrograms("nftables", nftables, beside.make, required=beside.required)


def _make_xdp(arguments: BackendArguments) -> Backend:
    """nftables, and programs that drop before it."""
    nftables = NftablesBackend(owner=arguments.owner, record=arguments.record)
    beside = _before(nftables, arguments.bpffs)
    return NftablesWithPrograms("xdp", nftables, beside.make, required=beside.required)


def _make_programs(arguments: BackendArguments) -> Backend:
    return XdpBackend(arguments.bpffs, reason=arguments.reason)


PROGRAMS = Record("programs", _make_programs, "a BPF file system, and XDP or tc")
RECORDS = (
    Record(
        "nftables",
        _make_nftables,
        "nf_tables",
        falls_back_to=PROGRAMS.name,
        beside=_guard,
        offer=Offer(try_nftables, assess_nftables),
    ),
    Record(
        "xdp",
        _make_xdp,
        "nf_tables; a BPF file system, and XDP or tc",
        falls_back_to=PROGRAMS.name,
        beside=_before,
        offer=Offer(try_xdp, assess_xdp),
    ),
    PROGRAMS,
    Record("memory", lambda _: MemoryBackend(), "nothing"),
)
BY_NAME = {record.name: record for record in RECORDS}
STANDS_FOR_AUTO = RECORDS[0]
OFFERED = tuple(record.name for record in RECORDS if record.offer)
NAMES = (AUTO, *OFFERED)
"""The names that can be given in the settings and on the command line."""


def asked_for(name: str) -> Record:
    """The backend that one of NAMES means; raises ``KeyError`` for any other."""
    return STANDS_FOR_AUTO if name == AUTO else BY_NAME[name]


def assess(bpffs: Path, interfaces: Iterable[Interface]) -> tuple[Assessment, ...]:
    """What speaks for and against each backend that can be asked for on this host.

    All are tried, which takes some tenths of a second; may be called from any thread.
    """
    all_interfaces = tuple(interfaces)
    return tuple(
        record.offer.assess(try_backend(record.name), bpffs, all_interfaces)
        for record in RECORDS
        if record.offer
    )


def lacking_for_reports(backend: Backend) -> tuple[str, ...]:
    """What the kernel lacks to tell of what nftables drops, a sentence for each; () for nothing.

    Called in the kernel's line.
    """
    nftables = backend.nftables if isinstance(backend, NftablesWithPrograms) else backend
    return nftables.reporting.lacking() if isinstance(nftables, NftablesBackend) else ()
