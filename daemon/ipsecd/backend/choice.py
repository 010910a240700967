"""Owns which backend enforces: the one asked for, or the nearest that this kernel takes."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from ipsecd.backend.base import Backend
from ipsecd.backend.combined import NftablesWithPrograms
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp.backend import XdpBackend, is_bpf_file_system
from ipsecd.errors import BackendFailed, IpsecdError


def make_backend(name: str, bpffs: Path, owner: socket.socket | None = None) -> Backend:
    """The backend called `name`: ``nftables``, ``xdp`` or ``auto``; `bpffs` is for pins.

    `owner` is the socket that owned the table of an earlier process, if it is still open.

    nftables decides in all of them. ``xdp`` has programs that drop before it; so has ``auto``, and
    ``nftables`` itself, at tc, where the kernel lets everybody flush our table: they hold while it
    is away. Where the kernel has no nf_tables, programs judge alone. Raises ``BackendFailed``
    where there is neither.
    """
    try:
        nftables = NftablesBackend(owner=owner)
    except BackendFailed as error:
        return other_backend(error, bpffs)
    if name == "xdp":
        programs = partial(XdpBackend, bpffs, alone=False)
        return NftablesWithPrograms("xdp", nftables, programs, required=True)
    if nftables.is_protected:
        return nftables
    guard = partial(XdpBackend, bpffs, alone=False, xdp=False)
    return NftablesWithPrograms("nftables", nftables, guard, required=False)


def other_backend(reason: IpsecdError, bpffs: Path) -> Backend:
    """What judges where nftables cannot for a `reason`, which is raised where there is nothing."""
    try:
        return XdpBackend(bpffs, reason=f"no nftables: {reason.message}; programs judge alone")
    except IpsecdError:
        raise reason from None


def withdraw_other(backend: Backend, bpffs: Path) -> None:
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
