"""Owns the gate of XDP: nothing passes that the programs cannot judge yet.

A program can only be attached to an interface that exists, and an address be told to it that is
there already. So there are packets before it: for some milliseconds, or for as long as the daemon
is not running. While anything is blocked they are dropped where nftables sees every packet and
the routing tables say what is local, the loopback interface excepted. Invariants:

1. An interface is let through only after its programs are attached, and an address only after
   they know that it is this host's, and until before they take it for another's.
2. The gate outlives the daemon, as the programs do.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import NamedTuple

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.backend import can_protect
from ipsecd.backend.nftables.elements import add_elements, delete_elements, element
from ipsecd.backend.nftables.failures import failure
from ipsecd.backend.nftables.reading import TableReader
from ipsecd.backend.nftables.render import LOOPBACK_INDEX
from ipsecd.backend.nftables.wire import KernelError, Message, NftSocket
from ipsecd.model.values import Family, Network

TABLE = "ipsecd_gate"
COVERED = "covered"
DROPPED = "dropped"

OWN = {Family.IPV4: "own_ipv4", Family.IPV6: "own_ipv6"}

_ARRIVING, _DELIVERED, _LEAVING = "arriving", "delivered", "leaving"
_HOOKS = {
    _ARRIVING: ("prerouting", -302, ex.META_IIF),
    _DELIVERED: ("input", -302, ex.META_IIF),
    _LEAVING: ("postrouting", 102, ex.META_OIF),
}
_TYPES = {COVERED: 20, OWN[Family.IPV4]: 7, OWN[Family.IPV6]: 8}
"""nft's numbers of the data types: TYPE_IFINDEX, TYPE_IPADDR, TYPE_IP6ADDR."""
_WIDTHS = {COVERED: 4, OWN[Family.IPV4]: 4, OWN[Family.IPV6]: 16}
_ADDRESSES = {Family.IPV4: (12, 16), Family.IPV6: (8, 24)}
"""Where source and destination lie in the header."""
_ROOM = 1 << 16
_FLAGS = nft.TABLE_OWNER | nft.TABLE_PERSIST


class Known(NamedTuple):
    """What is let through: interfaces by index, addresses (None: all), and local networks.

    ``networks`` are local by a route alone, and no program ever knows their addresses.
    """

    interfaces: frozenset[int]
    addresses: frozenset[tuple[Family, int]] | None = None
    networks: frozenset[Network] = frozenset()

    def only(self, addresses: frozenset[tuple[Family, int]]) -> Known:
        """The same, but of the addresses only those that are among `addresses`."""
        return self._replace(
            addresses=None if self.addresses is None else self.addresses & addresses
        )

    def elements(self) -> dict[str, frozenset[bytes]]:
        """The keys of each set."""
        found = {COVERED: frozenset(ex.host32(index) for index in self.interfaces)}
        for family, name in OWN.items():
            found[name] = frozenset(
                address.to_bytes(family.bits // 8, "big")
                for of, address in self.addresses or ()
                if of is family
            )
        return found


class Gate:
    """One table, with the sets of what is let through."""

    def __init__(self) -> None:
        """Raises ``BackendFailed`` where the kernel has no nf_tables."""
        self._socket = NftSocket()
        self._reader = TableReader(self._socket, TABLE)
        try:
            self._flags = _FLAGS if can_protect(self._socket) else 0
        except KernelError as error:
            raise failure(error) from error
        self._known: Known | None = None
        self._asked: Known | None = None
        self._fingerprint = ""

    def close_but_for(self, known: Known) -> None:
        """Let through only what is `known`. Raises ``BackendFailed``."""
        old, self._asked = self._known, known
        if known == old:
            return
        try:
            if old is None or _rules(old) != _rules(known):
                self._put(known)
            else:
                self._socket.commit(_difference(old.elements(), known.elements()))
        except KernelError as error:
            self._known = None
            raise failure(error) from error
        self._known = known
        self._fingerprint = self._reader.fingerprint()

    def forget_addresses(self, but: frozenset[tuple[Family, int]]) -> None:
        """Let nothing through any more for an address that is none of `but`."""
        if self._asked:
            self.close_but_for(self._asked.only(but))

    def drift(self) -> tuple[str, ...]:
        """One sentence if somebody else changed the table; the next call puts it right."""
        if self._known is None:
            return ()
        same = all(
            {key for key, _ in self._reader.elements(name)} == keys
            for name, keys in self._known.elements().items()
        )
        if same and self._reader.fingerprint() == self._fingerprint:
            return ()
        self._known = None
        return (f"table inet {TABLE} was changed",)

    def adopt(self) -> None:
        """Own the table of an earlier process, if there is one. Raises ``BackendFailed``."""
        try:
            if self._reader.exists():
                self._own()
        except KernelError as error:
            raise failure(error) from error

    def remove(self) -> None:
        """Let everything through."""
        self._known = self._asked = None
        if not self._reader.exists():
            return
        try:
            self._own()
            self._socket.commit([nft.delete_table(TABLE)])
        except KernelError as error:
            raise failure(error) from error

    def close(self) -> None:
        """Let go of the table and leave it."""
        self._socket.close()

    def _put(self, known: Known) -> None:
        """Put a new table in the place of what is there, in one transaction."""
        steps = []
        if self._reader.exists():
            self._own()
            steps.append(nft.delete_table(TABLE))
        steps.append(nft.new_table(TABLE, self._flags))
        steps.append(nft.new_counter(TABLE, DROPPED, "before the programs could judge it"))
        steps += [
            nft.new_set(TABLE, name, (kind,), _WIDTHS[name], _ROOM, 0)
            for name, kind in _TYPES.items()
        ]
        steps += _difference({name: frozenset() for name in _TYPES}, known.elements())
        for chain, rules in _rules(known).items():
            hook, priority, _ = _HOOKS[chain]
            steps.append(nft.new_chain(TABLE, chain, hook, priority))
            steps += [nft.new_rule(TABLE, chain, rule, "") for rule in rules]
        self._socket.commit(steps)

    def _own(self) -> None:
        """Own what an earlier process left; a table without an owner stays without."""
        try:
            self._socket.commit([nft.new_table(TABLE, self._flags)])
        except KernelError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise


def _rules(known: Known) -> dict[str, list[bytes]]:
    """The rules of each chain; those about addresses only where these count."""
    passes = ex.verdict(nft.ACCEPT)
    drops = ex.counted_by(DROPPED) + ex.verdict(nft.DROP)
    found = {}
    for chain, (_, _, key) in _HOOKS.items():
        loopback = ex.compare(ex.EQ, ex.host32(LOOPBACK_INDEX))
        found[chain] = [ex.meta(key) + loopback + passes]
        if chain != _DELIVERED:
            found[chain].append(ex.meta(key) + ex.in_set(COVERED, inverted=True) + drops)
        if known.addresses is None or chain == _ARRIVING:
            continue
        which = chain == _DELIVERED
        for family, name in OWN.items():
            of_family = ex.meta(ex.META_NFPROTO) + ex.compare(ex.EQ, bytes((ex.NFPROTO[family],)))
            address = ex.payload(ex.NETWORK_HEADER, _ADDRESSES[family][which], family.bits // 8)
            found[chain].append(of_family + address + ex.in_set(name) + passes)
            found[chain] += [
                of_family + address + _inside(network) + passes
                for network in sorted(known.networks, key=lambda n: (n.address, n.length))
                if network.family is family
            ]
        flag = ex.FIB_DADDR if which else ex.FIB_SADDR
        local = ex.address_type(flag) + ex.compare(ex.EQ, ex.host32(ex.RTN_LOCAL))
        found[chain].append(local + drops)
        if chain == _DELIVERED:
            # What is delivered although its address is nobody's was on its way when the address
            # went; but what a proxy takes for others bears a mark.
            several = ex.within(ex.host32(ex.RTN_BROADCAST), ex.host32(ex.RTN_MULTICAST))
            found[chain].append(ex.address_type(flag) + several + passes)
            unmarked = ex.meta(ex.META_MARK) + ex.compare(ex.EQ, ex.host32(0))
            found[chain].append(unmarked + drops)
    return found


def _inside(network: Network) -> bytes:
    bits = network.family.bits
    mask = ((1 << bits) - (1 << (bits - network.length))).to_bytes(bits // 8, "big")
    return ex.masked(mask) + ex.compare(ex.EQ, network.address.to_bytes(bits // 8, "big"))


def _difference(
    old: Mapping[str, frozenset[bytes]], new: Mapping[str, frozenset[bytes]]
) -> list[Message]:
    steps = []
    for name in new:
        gone = b"".join(element(key) for key in sorted(old[name] - new[name]))
        come = b"".join(element(key) for key in sorted(new[name] - old[name]))
        steps += [delete_elements(TABLE, name, gone)] if gone else []
        steps += [add_elements(TABLE, name, come)] if come else []
    return steps
