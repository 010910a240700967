"""Owns what is asked of the kernel about itself; leaves nothing in it by asking.

Every question is a transaction about a table of another name, whose last message must fail. So
nothing is left of it, whatever the answer is.
"""

from __future__ import annotations

import re

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.log_socket import FIRST_GROUP
from ipsecd.backend.nftables.naming import HOOKS, TABLE
from ipsecd.backend.nftables.wire import KernelError, Message, NftSocket
from ipsecd.model.packets import Point

_NAME = TABLE + "_probe"
NO_SOCKETS = "this kernel cannot be asked about sockets (CONFIG_NFT_SOCKET)"


def can_protect(socket: NftSocket) -> bool:
    """Whether the kernel knows tables that are owned and persist (Linux 6.9 and later)."""
    return _takes(socket, [nft.new_table(_NAME, nft.TABLE_OWNER | nft.TABLE_PERSIST)])


def can_see_sockets(socket: NftSocket) -> bool:
    """Whether the kernel has the module that asks about sockets (CONFIG_NFT_SOCKET)."""
    return _takes(
        socket,
        [
            nft.new_table(_NAME, 0),
            nft.new_chain(_NAME, "probe", *HOOKS[Point.SENDING.value]),
            nft.new_rule(_NAME, "probe", ex.is_sent_for_others(), ""),
        ],
    )


def can_log(socket: NftSocket) -> bool:
    """Whether the kernel has rules that tell of a limited number of packets (CONFIG_NFT_LOG)."""
    return _takes(
        socket,
        [
            nft.new_table(_NAME, 0),
            nft.new_chain(_NAME, "probe"),
            nft.new_rule(_NAME, "probe", ex.limited(1) + ex.logged(FIRST_GROUP, 1, 1), ""),
        ],
    )


def finds_addresses_in_vrf(release: str) -> bool:
    """Whether a kernel of this release finds this host's addresses in a VRF (``fib saddr type``).

    There is no question that the kernel would answer without a VRF and a packet. Linux 6.16 does,
    and 6.12 in later stable versions, of which 6.12.95 is the first that was tried. A release that
    does and is not known to costs only that transparent proxies count as this host in a VRF.
    """
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    if numbers is None:
        return False
    major, minor, stable = (int(number or 0) for number in numbers.groups())
    return (major, minor) >= (6, 16) or ((major, minor) == (6, 12) and stable >= 95)


def _takes(socket: NftSocket, messages: list[Message]) -> bool:
    impossible = nft.delete_chain(_NAME, "none")
    try:
        socket.commit([*messages, impossible])
    except KernelError as error:
        return error.index == len(messages)
    return True
