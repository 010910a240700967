"""Owns which backend enforces: the one that was asked for, or the one that ``auto`` stands for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ipsecd.backend.base import Backend
from ipsecd.backend.beside import XdpWithNftables
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp.backend import XdpBackend, is_bpf_file_system
from ipsecd.errors import IpsecdError


def make_backend(name: str, bpffs: Path) -> Backend:
    """The backend called `name`: ``nftables``, ``xdp`` or ``auto``; `bpffs` is for pins.

    ``auto`` is nftables wherever the kernel has it: it sees what the IP stack sees, keeps no
    interface waiting for a program, and asks the routing tables themselves what is ``me``. XDP
    is for those who ask for its speed. Raises ``BackendFailed`` where it cannot be used.
    """
    if name == "xdp":
        return XdpWithNftables(XdpBackend(bpffs))
    return NftablesBackend()


def withdraw_other(name: str, bpffs: Path) -> None:
    """Withdraw what another backend than `name` left in force, when it is enforced in its place.

    What cannot be withdrawn stays, and is tried again at the next start. The XDP backend, which
    can need nftables beside it, sees to a table that was left by itself.
    """
    if name == "xdp" or not (bpffs / "links").is_dir():
        return
    with suppress(IpsecdError, OSError):
        other = XdpWithNftables(XdpBackend(bpffs))
        other.remove()
        other.close()


def withdraw_all(bpffs: Path) -> None:
    """Withdraw whatever any backend left in force; raises ``IpsecdError`` or ``OSError``."""
    if is_bpf_file_system(bpffs):
        xdp = XdpWithNftables(XdpBackend(bpffs))
        xdp.remove()
        xdp.close()
    nftables = NftablesBackend()
    nftables.remove()
    nftables.close()
