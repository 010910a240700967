"""Owns which backend enforces: the one asked for, or the nearest that this kernel takes."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from pathlib import Path

from ipsecd.backend.base import Backend, Line, TransactionRecord
from ipsecd.backend.combined import NOT_IN_FORCE, NftablesWithPrograms, not_exchanged
from ipsecd.backend.judgeable import judgeable_points
from ipsecd.backend.nftables.ahead import ListAhead
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.registry import BY_NAME, BackendArguments, asked_for
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.backend.xdp.mounts import is_bpf_file_system
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import BackendFailed, IpsecdError, Refused


def make_backend(
    name: str,
    bpffs: Path,
    owner: socket.socket | None = None,
    record: TransactionRecord | None = None,
) -> Backend:
    """The backend that `name` means, one of ``registry.NAMES``; `bpffs` is for pins.

    `owner` is the socket that owned the table of an earlier process, if it is still open, and
    `record` what it kept about its last transaction. Raises ``BackendFailed`` where this host has
    neither what it needs nor what it falls back to.
    """
    try:
        return asked_for(name).make(BackendArguments(bpffs, owner, record))
    except BackendFailed as error:
        return fallback_backend(name, error, bpffs)


def fallback_backend(name: str, reason: IpsecdError, bpffs: Path) -> Backend:
    """The backend to use in the place of the one that `name` means, which failed for `reason`.

    Raises `reason` where there is none.
    """
    record = asked_for(name)
    if not record.falls_back_to:
        raise reason
    words = f"no nftables: {reason.message}; programs judge alone"
    try:
        return BY_NAME[record.falls_back_to].make(BackendArguments(bpffs, reason=words))
    except IpsecdError:
        raise reason from None


def make_ready(
    backend: Backend, name: str, bpffs: Path, held: tuple[Classifier, Volatile], run: Line
) -> Programs | None:
    """The programs with which the backend called `name` would take the place of `backend`.

    They hold the state `held` and judge nothing; None if it has none. This takes what an exchange
    takes long for, and may be called in any thread; what has to be one thread's is done with `run`.
    The caller closes them if there is no exchange. Raises ``BackendFailed``.
    """
    beside = BY_NAME[name].beside
    nftables = backend.nftables if isinstance(backend, NftablesWithPrograms) else backend
    if beside is None or not isinstance(nftables, NftablesBackend):
        return None
    make = beside(nftables, bpffs).make
    if make is None:
        return None
    with closing(make()) as maker:
        try:
            return maker.make_ready(*held, run(lambda: judgeable_points(*held)), run)
        except (IpsecdError, OSError) as error:
            raise not_exchanged(NOT_IN_FORCE, error) from error


def exchange_backend(
    backend: Backend,
    name: str,
    bpffs: Path,
    held: tuple[Classifier, Volatile] | None,
    ready: Programs | None = None,
) -> Backend:
    """The backend called `name`, which holds what `backend` does and takes its place.

    `held` is that state, None for none, and `ready` what ``make_ready`` made, for it or for one
    before it. nftables has the whole ranking in either backend and goes on judging by it, so only
    programs come or go. Raises ``Refused`` where there is no nftables, or ``BackendFailed`` if the
    programs fail, and then nothing has changed.
    """
    beside = BY_NAME[name].beside
    if beside is None or not isinstance(backend, NftablesBackend | NftablesWithPrograms):
        raise Refused(
            f"the backend {backend.name!r} cannot be exchanged for {name!r} as it runs",
            "what enforces here does so without nf_tables: ipsecctl doctor says why",
        )
    if isinstance(backend, NftablesWithPrograms):
        combined = backend
    else:
        combined = NftablesWithPrograms(backend.name, backend, None, required=False)
    wanted = beside(combined.nftables, bpffs)
    try:
        combined.exchange_programs(name, wanted.make, held, required=wanted.required, ready=ready)
    except BaseException:
        if combined is not backend:
            combined.release()
        raise
    return combined


def put_off_programs(backend: Backend) -> None:
    """Have the next state in force before programs are filled with it, if that takes long."""
    if isinstance(backend, NftablesWithPrograms):
        backend.put_off_programs()


def load_programs(backend: Backend, run: Line) -> bool:
    """Have programs follow that were put off; whether there were any and they are in force now.

    It may be called in any thread; what has to be one thread's is done with `run`.
    """
    return isinstance(backend, NftablesWithPrograms) and backend.load_programs(run)


def load_ahead(backend: Backend, name: str, size: int, run: Line) -> ListAhead | None:
    """What loads a list while its text of `size` bytes is read; None if that is of no use.

    It may be called in any thread but the one of `run`.
    """
    nftables = backend.nftables if isinstance(backend, NftablesWithPrograms) else backend
    if not isinstance(nftables, NftablesBackend):
        return None
    return nftables.load_ahead(name, size, run)


def withdraw_left_programs(backend: Backend, bpffs: Path) -> None:
    """Withdraw programs that were left in force, if `backend` has none.

    What cannot be withdrawn stays, and is tried again at the next start.
    """
    if not isinstance(backend, NftablesBackend) or not (bpffs / "links").is_dir():
        return
    with suppress(IpsecdError, OSError), closing(XdpBackend(bpffs)) as programs:
        programs.remove()


def withdraw_all(bpffs: Path) -> None:
    """Withdraw whatever any backend left in force; raises ``IpsecdError`` or ``OSError``."""
    if is_bpf_file_system(bpffs):
        with closing(XdpBackend(bpffs)) as programs:
            programs.remove()
    nftables = NftablesBackend()
    nftables.remove()
    nftables.close()
