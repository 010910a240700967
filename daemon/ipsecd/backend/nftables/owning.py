"""Owns whether tables can be owned here; leaves nothing in the kernel by asking."""

from __future__ import annotations

from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.naming import TABLE
from ipsecd.backend.nftables.wire import KernelError, NftSocket


def can_protect(socket: NftSocket) -> bool:
    """Whether the kernel knows tables that are owned and persist (Linux 6.9 and later).

    Asked with a table of another name in a transaction whose last message must fail, so that
    nothing is left of it whatever the answer is.
    """
    name = TABLE + "_probe"
    probe = nft.new_table(name, nft.TABLE_OWNER | nft.TABLE_PERSIST)
    impossible = nft.delete_chain(name, "none")
    try:
        socket.commit([probe, impossible])
    except KernelError as error:
        return error.index == 1
    return True
