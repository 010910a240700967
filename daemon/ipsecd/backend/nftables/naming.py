"""Owns the names of our kernel objects: what a person reads in ``nft list table inet ipsecd``."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Any

from ipsecd.backend.nftables.messages import (
    SET_OBJECT,
    SET_TIMEOUT,
)
from ipsecd.compiler.shapes import EXACT
from ipsecd.compiler.tables import TableId
from ipsecd.model.addresses import JOINED, Family
from ipsecd.model.fields import BY_NAME, ME, Field, Kind
from ipsecd.model.lists import Form
from ipsecd.model.packets import Point
from ipsecd.model.values import Origin

TABLE = "ipsecd"
UNPARSABLE = "unparsable"
DROPPED = "dropped"
"""The chain in which all drops end while somebody is told of them, and the counter of these."""
AUDITED = "audited"
"""The chain that what an audit counts passes meanwhile, and what it is told of as."""
WITH_TRANSPORT = {family: f"protocols_with_transport_ip{family.value}" for family in Family}
"""For each IP version the set of the protocols whose ports, or type and code, are read."""
DIALUP_TYPES = "dialup_types"
STATE_PREFIX = "state_"
COUNTED = "counted_list_"
"""What the names of sets begin with whose elements count what entries of lists match."""
_SAID = re.compile(r"@(\S+) IPv([46]) /([0-9]{1,3})")
CONTENTS = "contents_of_sets"
"""The set that says what the other sets hold."""

DELIVERED = "delivered"
"""The chain for arriving packets that are delivered here; it looks at them a second time."""

HOOKS = {
    Point.ARRIVING.value: ("prerouting", -301),
    DELIVERED: ("input", -301),
    Point.SENDING.value: ("output", -301),
    Point.LEAVING.value: ("postrouting", 101),
}
"""Hook and priority of the base chains. Arriving packets are looked at before raw (-300), so before
connection tracking and DNAT; leaving ones after srcnat (100). ``enum nf_ip_hook_priorities`` in
include/uapi/linux/netfilter_ipv4.h."""

TRACKED = {Point.ARRIVING: "arriving_tracked", Point.SENDING: "sending_tracked"}
"""The base chains that look at packets instead where connections count. Leaving packets have been
seen by connection tracking in any case."""

TRACKED_HOOKS = {
    TRACKED[Point.ARRIVING]: ("prerouting", -199),
    TRACKED[Point.SENDING]: ("output", -199),
}
"""Behind connection tracking (-200), before DNAT (-100). They exist only while they are needed."""

_TYPE_NFPROTO, _TYPE_IPV4, _TYPE_IPV6, _TYPE_PROTOCOL, _TYPE_SERVICE = 2, 7, 8, 12, 13


def chain(base: str, family: Family | None = None, *parts: str) -> str:
    """The chain to which `base` branches for an IP version; `parts` name chains below that one."""
    words = [base, f"ip{family.value}" if family else "", *parts]
    return "_".join(filter(None, words))


def set_name(table: TableId, serial: int) -> str:
    """The set that holds a table's keys; its `serial` number tells old content from new."""
    owner = "protected" if table.protected else "dynamic" if table.volatile else "policy"
    selected = ["selected"] if table.selected else []
    parts = [owner, *selected, table.action.value, f"ip{table.family.value}"]
    names = {field.name: listed.name for field, listed in table.listed}
    parts += [
        _side("source", table.source, names.get("source")),
        _side("destination", table.destination, names.get("destination")),
    ]
    parts += [
        _shape(BY_NAME[name], shape)
        for name, shape in table.looks.items()
        if BY_NAME[name].kind is not Kind.PREFIX
    ]
    parts.append(f"g{serial}")
    return "_".join(parts)


def list_set_name(
    name: str, family: Family, length: int, serial: int, *, counted: bool = False
) -> str:
    """The set that holds those entries of a list which have one IP version and prefix length."""
    prefix = COUNTED if counted else "list_"
    return f"{prefix}{_word(name)}_ip{family.value}_{length}_g{serial}"


def said_of(name: str, form: Form) -> str:
    """What a set whose elements count says of itself: the list, and the form of the entries."""
    return f"@{name} IPv{form.family.value} /{form.length}"


def what_is_said(text: str) -> tuple[str, Form] | None:
    """The inverse of ``said_of``; None if it is none."""
    if not (found := _SAID.fullmatch(text)):
        return None
    return found[1], Form(Family(int(found[2])), int(found[3]))


def _word(name: str) -> str:
    """The name of a list, or the beginning of the names of several, as parts of names can be.

    The kernel takes 255 bytes for a whole name, a serial number tells names apart, and nft takes
    neither hyphens nor colons in names.
    """
    return name.replace("-", "_").replace(":", "_").replace(JOINED, "_and_")[:128]


def uncounted_name(name: str) -> str:
    """The set that holds the same keys as the dynamic set `name` and counts nothing."""
    return name.replace("dynamic_", "dynamic_uncounted_", 1)


def _side(name: str, length: int, list_name: str | None) -> str:
    if list_name is not None:
        return f"{BY_NAME[name].word}_list_{_word(list_name)[:24]}_{length}"
    return BY_NAME[name].word + {ME: "_me", 0: "_any"}.get(length, f"_{length}")


def _shape(field: Field, shape: Any) -> str:
    """How a table looks at a field, in words that are allowed in a name."""
    if field.kind is Kind.RANGE and shape != EXACT:
        return f"{field.word}_{shape.first}_{shape.last}"
    if field.kind is Kind.WORD:
        text: str = shape
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return text if text.isalpha() else f"{field.word}_{digest}"
    return field.word


@lru_cache(maxsize=1 << 15)
def counter_name(origin: Origin) -> str:
    """The counter object of a rule; the same as long as it keeps its name, and is an audit or not.

    What passed is counted by another object than what is dropped: a packet that is on its way in
    the instant in which an audit becomes a block is counted as what has become of it.
    """
    text = f"{origin.store}\0{origin.policy}\0{origin.rule}"
    return ("audit_" if origin.audits else "rule_") + hashlib.sha256(text.encode()).hexdigest()[:24]


def describe(origin: Origin) -> str:
    """A rule's origin as the comment on its kernel objects."""
    return f"{origin.store}: {origin.policy} / {origin.rule}"


def address_type(family: Family) -> int:
    """Nft's data type of an address."""
    return _TYPE_IPV4 if family is Family.IPV4 else _TYPE_IPV6


def key_types(table: TableId) -> tuple[int, ...]:
    """Nft's data types of the fields in the table's key."""
    address = address_type(table.family)
    types = {Kind.PREFIX: address, Kind.NUMBER: _TYPE_PROTOCOL, Kind.RANGE: _TYPE_SERVICE}
    return tuple(types[part.field.kind] for part in table.parts) or (_TYPE_NFPROTO,)


@lru_cache(maxsize=1024)
def kernel_key_width(table: TableId) -> int:
    """The key length of the table's set, in bytes: a lone small field is not padded."""
    return 1 if key_types(table) in ((_TYPE_NFPROTO,), (_TYPE_PROTOCOL,)) else table.key_width


def kernel_keys(table: TableId, keys: bytes, nfproto: int) -> bytes:
    """The table's keys as its set holds them, end to end.

    A table that looks at no field has one key, the IP version, so that it is a set all the same.
    """
    if not table.key_width:
        return bytes((nfproto,))
    return keys[::4] if kernel_key_width(table) == 1 else keys


def set_flags(table: TableId, *, mapped: bool) -> int:
    """The flags of a table's set: dynamic elements end by themselves, others may be mapped."""
    if table.volatile:
        return SET_TIMEOUT
    return SET_OBJECT if mapped else 0


def table_key(table: TableId, key: bytes) -> bytes:
    """The key in the table that a set's `key` stands for: the inverse of ``kernel_keys``."""
    return (key + bytes(3))[: table.key_width] if len(key) < 4 else key


def stem(name: str) -> str:
    """The name of a set without its serial number."""
    return name.rpartition("_g")[0]


def serial_of(name: str) -> int:
    """The serial number at the end of a set's name; 0 for the fixed sets."""
    _, separator, number = name.rpartition("_g")
    return int(number) if separator and number.isdigit() else 0
