"""Owns the vocabulary of rules: one function for each nf_tables expression, which it encodes.

Registers are numbered 0 to 15 here, four bytes each. Sources: include/uapi/linux/netfilter/
nf_tables.h, and for the offsets RFC 791, RFC 8200, RFC 768.
"""

from __future__ import annotations

import struct

from ipsecd.backend.nftables.messages import FIRST_REGISTER, VERDICT_REGISTER
from ipsecd.backend.nftables.messages import expression as _expression
from ipsecd.model.addresses import Family

META_MARK = 3
META_IIF, META_OIF, META_IIFNAME, META_OIFNAME, META_IIFTYPE, META_OIFTYPE = 4, 5, 6, 7, 8, 9
META_SKUID = 10
META_NFPROTO, META_L4PROTO, META_IIFKIND, META_OIFKIND = 15, 16, 26, 27
CT_STATE, CT_DIRECTION, CT_STATUS, CT_PROTO_SRC, CT_PROTO_DST = 0, 1, 2, 11, 12
CT_SRC_IP, CT_DST_IP, CT_SRC_IP6, CT_DST_IP6 = 19, 20, 21, 22
CT_STATE_INVALID_OR_UNTRACKED = 1 | 1 << 6
CT_STATE_RELATED = 1 << 2
CT_STATE_OF_CONNECTION = 1 << 1 | CT_STATE_RELATED
"""What connection tracking calls established or related (NF_CT_STATE_BIT)."""
CT_STATUS_SRC_NAT, CT_STATUS_DST_NAT = 1 << 4, 1 << 5
CT_STATUS_TRANSLATED = CT_STATUS_SRC_NAT | CT_STATUS_DST_NAT
"""IPS_SRC_NAT and IPS_DST_NAT of include/uapi/linux/netfilter/nf_conntrack_common.h."""
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
EQ, NEQ, LTE, GTE = 0, 1, 3, 5
LINK_NAME_BYTES = 16
MOST_COMPARED = 16
"""Up to how many bytes the kernel compares without calling a function (``nft_cmp16_fast``)."""
FIB_RESULT_ADDRTYPE = 3
FIB_SADDR, FIB_DADDR, FIB_IIF, FIB_OIF = 1, 2, 8, 16
RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST = 2, 3, 5
LOOKUP_INVERTED = 1
NUMGEN_RANDOM = 1
SOCKET_TRANSPARENT, SOCKET_CGROUPV2 = 0, 3
IPPROTO_FRAGMENT = 44
NFPROTO = {Family.IPV4: 2, Family.IPV6: 10}


def _register(number: int) -> int:
    return FIRST_REGISTER + number


def meta(key: int, register: int = 0) -> bytes:
    """Load a property of the packet that is not in its bytes."""
    return _expression("meta", ("DREG", _register(register)), ("KEY", key))


def payload(base: int, offset: int, size: int, register: int = 0) -> bytes:
    """Load `size` bytes at `offset` of a header; the rule does not match if they are not there."""
    return _expression(
        "payload",
        ("DREG", _register(register)),
        ("BASE", base),
        ("OFFSET", offset),
        ("LEN", size),
    )


def has_transport() -> bytes:
    """Go on only if the first four bytes behind the IP header can be read.

    They are compared in the way for which the kernel calls no function (``nft_cmp_fast``).
    """
    return payload(TRANSPORT_HEADER, 0, 4) + masked(bytes(4)) + compare(EQ, bytes(4))


def masked(mask: bytes, register: int = 0) -> bytes:
    """Replace a register by its bitwise and with `mask`."""
    return _expression(
        "bitwise",
        ("SREG", _register(register)),
        ("DREG", _register(register)),
        ("LEN", len(mask)),
        ("MASK", mask),
        ("XOR", bytes(len(mask))),
    )


def compare(operator: int, value: bytes, register: int = 0) -> bytes:
    """Go on with the rule only if the register compares with `value` as `operator` says."""
    return _expression("cmp", ("SREG", _register(register)), ("OP", operator), ("DATA", value))


def within(first: bytes, last: bytes, register: int = 0, *, inverted: bool = False) -> bytes:
    """Go on with the rule only if the register is from `first` to `last` (or is not)."""
    return _expression(
        "range",
        ("SREG", _register(register)),
        ("OP", NEQ if inverted else EQ),
        ("FROM_DATA", first),
        ("TO_DATA", last),
    )


def in_set(name: str, register: int = 0, *, inverted: bool = False) -> bytes:
    """Go on only if the key that begins in the register is in the set (or is not)."""
    flags = LOOKUP_INVERTED if inverted else 0
    return _expression("lookup", ("SET", name), ("SREG", _register(register)), ("FLAGS", flags))


def counted_by(counter: str) -> bytes:
    """Count the packet on a counter object."""
    return _expression("objref", ("IMM_TYPE", 1), ("IMM_NAME", counter))


def counted_in_map(name: str, register: int = 0) -> bytes:
    """Count the packet on the object its key is mapped to; without one the rule does not match."""
    return _expression("objref", ("SET_SREG", _register(register)), ("SET_NAME", name))


def address_type(flag: int, register: int = 0) -> bytes:
    """Load the routing type of the source or destination address (``RTN_…``)."""
    return _expression(
        "fib", ("DREG", _register(register)), ("RESULT", FIB_RESULT_ADDRTYPE), ("FLAGS", flag)
    )


def tracked(key: int, register: int = 0, direction: int | None = None) -> bytes:
    """Load what connection tracking knows of the packet; this turns connection tracking on."""
    fields = [("DREG", _register(register)), ("KEY", key)]
    if direction is not None:
        fields.append(("DIRECTION", direction))
    return _expression("ct", *fields)


def link_kind(key: int, kind: str) -> bytes:
    """Go on only if the link is of a kind that ``ip link add type`` knows; hardware has none."""
    return meta(key) + compare(EQ, kind.encode().ljust(LINK_NAME_BYTES, b"\0"))


def sender_group(level: int, register: int = 0) -> bytes:
    """Load the number of the control group at depth `level` of the socket that sends a packet."""
    return _expression(
        "socket", ("KEY", SOCKET_CGROUPV2), ("DREG", _register(register)), ("LEVEL", level)
    )


def is_sent_for_others(register: int = 0) -> bytes:
    """Load 1 if the packet's socket is that of a transparent proxy (IP_TRANSPARENT), else 0.

    A packet without a socket does not match.
    """
    return _expression("socket", ("KEY", SOCKET_TRANSPARENT), ("DREG", _register(register)))


def fragment_offset(register: int = 0) -> bytes:
    """Load the offset field of an IPv6 fragment header; without one the rule does not match."""
    return _expression(
        "exthdr",
        ("DREG", _register(register)),
        ("TYPE", IPPROTO_FRAGMENT),
        ("OFFSET", 2),
        ("LEN", 2),
    )


def limited(packets_per_second: int) -> bytes:
    """Go on with the rule for no more than so many packets a second; they may come all at once."""
    rate = ("RATE", packets_per_second), ("UNIT", 1), ("BURST", packets_per_second)
    return _expression("limit", *rate)


def one_in(number: int, register: int = 0) -> bytes:
    """Go on with the rule for one of so many packets, chosen by chance, on each processor alone."""
    chance = ("DREG", _register(register)), ("MODULUS", number), ("TYPE", NUMGEN_RANDOM)
    return _expression("numgen", *chance) + compare(EQ, host32(0), register)


def logged(group: int, head_bytes: int, at_once: int, prefix: str = "") -> bytes:
    """Tell of the packet, with its first bytes, to who listens to a group of ``nfnetlink_log``.

    The kernel tells of so many `at_once`, and with the `prefix`.
    """
    fields = [("GROUP", group), ("SNAPLEN", head_bytes), ("QTHRESHOLD", at_once)]
    return _expression("log", *fields, *([("PREFIX", prefix)] if prefix else ()))


def verdict(code: int, chain: str = "") -> bytes:
    """End the rule with a verdict."""
    return _expression("immediate", ("DREG", VERDICT_REGISTER), ("DATA", (code, chain)))


def host32(value: int) -> bytes:
    """A number of 32 bits as registers hold it: in the byte order of the machine."""
    return struct.pack("=I", value)


def host64(value: int) -> bytes:
    """A number of 64 bits in the byte order of the machine."""
    return struct.pack("=Q", value)


def host16(value: int) -> bytes:
    """A number of 16 bits in the byte order of the machine."""
    return struct.pack("=H", value)
