"""Owns the encoding of nf_tables messages and expressions, by pyroute2's message classes.

Expressions are cached as bytes; a rule is a few of them laid end to end. This module adds what
pyroute2 lacks: the numeric result of ``fib``, the widths of the numbers in ``log``, comments on
every kind of object, and flags as numbers, which versions since 0.7.2 take in different ways.
Source of every constant: include/uapi/linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ipsecd.backend.nftables.message_classes import nfgen_msg, nft, nla
from ipsecd.backend.nftables.wire import Message
from ipsecd.host.netlink import NLM_F_ACK, NLM_F_DUMP, attribute

NEWTABLE, GETTABLE, DELTABLE = 0, 1, 2
NEWCHAIN, GETCHAIN, DELCHAIN = 3, 4, 5
NEWRULE, GETRULE, DELRULE = 6, 7, 8
NEWSET, GETSET, DELSET = 9, 10, 11
NEWSETELEM, GETSETELEM, DELSETELEM = 12, 13, 14
GETGEN = 16
NEWOBJ, GETOBJ, DELOBJ = 18, 19, 20

NLM_F_CREATE = 0x400
NLM_F_EXCL = 0x200
NLM_F_APPEND = 0x800

TABLE_OWNER = 0x2
TABLE_PERSIST = 0x4
SET_TIMEOUT = 0x10
SET_OBJECT = 0x40
OBJECT_COUNTER = 1

HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}

VERDICT_REGISTER = 0
FIRST_REGISTER = 8
"""NFT_REG32_00: the first of sixteen registers of four bytes."""

DROP, ACCEPT, JUMP, GOTO, RETURN = 0, 1, -3, -4, -5

COMMENT_BYTES = 127
SET_USERDATA, SET_COMMENT = 13, 7
"""The attribute of a set for user data, and the type of a comment there, as nft has them."""
_COUNTER_TYPE = attribute(3, OBJECT_COUNTER.to_bytes(4, "big"))
_NO_DATA = attribute(4, b"")


class _Expression(nft.nft_contains_expr.nft_expr):  # type: ignore[misc]
    class nft_fib(nft.nft_regs):  # type: ignore[misc] # noqa: N801 (pyroute2 finds it by name)
        nla_map = (
            ("NFTA_FIB_UNSPEC", "none"),
            ("NFTA_FIB_DREG", "regs"),
            ("NFTA_FIB_RESULT", "be32"),
            ("NFTA_FIB_FLAGS", "be32"),
        )

    class nft_lookup(nft.nft_regs):  # type: ignore[misc] # noqa: N801 (pyroute2 finds it by name)
        nla_map = (
            ("NFTA_LOOKUP_UNSPEC", "none"),
            ("NFTA_LOOKUP_SET", "asciiz"),
            ("NFTA_LOOKUP_SREG", "regs"),
            ("NFTA_LOOKUP_DREG", "regs"),
            ("NFTA_LOOKUP_SET_ID", "be32"),
            ("NFTA_LOOKUP_FLAGS", "be32"),
        )

    class nft_socket(nft.nft_regs):  # type: ignore[misc] # noqa: N801 (pyroute2 finds it by name)
        nla_map = (
            ("NFTA_SOCKET_UNSPEC", "none"),
            ("NFTA_SOCKET_KEY", "be32"),
            ("NFTA_SOCKET_DREG", "regs"),
            ("NFTA_SOCKET_LEVEL", "be32"),
        )

    class nft_log(nla):  # type: ignore[misc] # noqa: N801 (pyroute2 finds it by name)
        nla_map = (
            ("NFTA_LOG_UNSPEC", "none"),
            ("NFTA_LOG_GROUP", "be16"),
            ("NFTA_LOG_PREFIX", "asciiz"),
            ("NFTA_LOG_SNAPLEN", "be32"),
            ("NFTA_LOG_QTHRESHOLD", "be16"),
        )

    class nft_numgen(nft.nft_regs):  # type: ignore[misc] # noqa: N801 (pyroute2 finds it by name)
        nla_map = (
            ("NFTA_NUMGEN_UNSPEC", "none"),
            ("NFTA_NUMGEN_DREG", "regs"),
            ("NFTA_NUMGEN_MODULUS", "be32"),
            ("NFTA_NUMGEN_TYPE", "be32"),
        )


class _Rule(nft.nft_rule_msg):  # type: ignore[misc]
    nft_expr = _Expression


class _Set(nfgen_msg):  # type: ignore[misc]
    prefix = "NFTA_SET_"
    nla_map = (
        ("NFTA_SET_UNSPEC", "none"),
        ("NFTA_SET_TABLE", "asciiz"),
        ("NFTA_SET_NAME", "asciiz"),
        ("NFTA_SET_FLAGS", "be32"),
        ("NFTA_SET_KEY_TYPE", "be32"),
        ("NFTA_SET_KEY_LEN", "be32"),
        ("NFTA_SET_DATA_TYPE", "be32"),
        ("NFTA_SET_DATA_LEN", "be32"),
        ("NFTA_SET_POLICY", "be32"),
        ("NFTA_SET_DESC", "description"),
        ("NFTA_SET_ID", "be32"),
        ("NFTA_SET_TIMEOUT", "be64"),
        ("NFTA_SET_GC_INTERVAL", "be32"),
        ("NFTA_SET_USERDATA", "cdata"),
        ("NFTA_SET_PAD", "hex"),
        ("NFTA_SET_OBJ_TYPE", "be32"),
        ("NFTA_SET_HANDLE", "be64"),
        ("NFTA_SET_EXPR", "nft_expr"),
    )
    nft_expr = _Expression

    class description(nla):  # type: ignore[misc] # noqa: N801 (pyroute2 finds it by name)
        nla_map = (("NFTA_SET_DESC_UNSPEC", "none"), ("NFTA_SET_DESC_SIZE", "be32"))


_GENERIC_MESSAGE = 20
"""Bytes before the attributes in what pyroute2 encodes: nlmsghdr and nfgenmsg."""


def _encode(message: Any, attrs: list[tuple[str, Any]]) -> bytes:
    message["attrs"] = attrs
    message.encode()
    return bytes(message.data[_GENERIC_MESSAGE:])


def comment(text: str, kind: int = 0) -> bytes:
    """User data that nft shows as a comment: its type, length, text with a NUL."""
    raw = text.encode()[:COMMENT_BYTES].decode(errors="ignore").encode() + b"\0"
    return bytes((kind, len(raw))) + raw


@lru_cache(maxsize=8192)
def expression(name: str, *fields: tuple[str, Any]) -> bytes:
    """The list element for expression `name`; `fields` are pairs of attribute and value.

    A value of bytes is wrapped as data, a tuple as a verdict of code and chain.
    """
    attrs = [(f"NFTA_{name.upper()}_{field}", _value(value)) for field, value in fields]
    exprs = [{"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": attrs})]}]
    # The message holds one attribute, the list; the element lies behind the header of the list.
    return _encode(_Rule(), [("NFTA_RULE_EXPRESSIONS", exprs)])[4:]


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"attrs": [("NFTA_DATA_VALUE", value)]}
    if isinstance(value, tuple):
        code, chain = value
        verdict = [("NFTA_VERDICT_CODE", code)]
        if chain:
            verdict.append(("NFTA_VERDICT_CHAIN", chain))
        return {"attrs": [("NFTA_DATA_VERDICT", {"attrs": verdict})]}
    return value


def new_table(table: str, flags: int) -> Message:
    """Create the table; adopt one that exists if `flags` say that it is owned."""
    attrs = [("NFTA_TABLE_NAME", table), ("NFTA_TABLE_FLAGS", flags)]
    encoded = _encode(nft.nft_table_msg(), attrs)
    return Message(NEWTABLE, NLM_F_CREATE | NLM_F_ACK, encoded, f"table {table}")


def delete_table(table: str) -> Message:
    """Delete the table with all that is in it."""
    encoded = _encode(nft.nft_table_msg(), [("NFTA_TABLE_NAME", table)])
    return Message(DELTABLE, NLM_F_ACK, encoded, f"table {table}")


def new_chain(table: str, chain: str, hook: str = "", priority: int = 0) -> Message:
    """Create a chain; with a `hook` a base chain that accepts what it does not drop."""
    encoded = _chain(table, chain)
    if hook:
        place = [("NFTA_HOOK_HOOKNUM", HOOKS[hook]), ("NFTA_HOOK_PRIORITY", priority)]
        attrs = [
            ("NFTA_CHAIN_HOOK", {"attrs": place}),
            ("NFTA_CHAIN_POLICY", ACCEPT),
            ("NFTA_CHAIN_TYPE", "filter"),
        ]
        encoded += _encode(nft.nft_chain_msg(), attrs)
    return Message(NEWCHAIN, NLM_F_CREATE, encoded, f"chain {chain}")


def delete_chain(table: str, chain: str) -> Message:
    """Delete a chain with its rules; no rule may jump to it."""
    return Message(DELCHAIN, 0, _chain(table, chain), f"chain {chain}")


def _chain(table: str, chain: str) -> bytes:
    # This is encoded by hand, as the mark of the state is such a chain, which every change of a
    # list replaces.
    return attribute(1, table.encode() + b"\0") + attribute(3, chain.encode() + b"\0")


def delete_all_rules(table: str) -> Message:
    """Delete every rule of the table."""
    attrs = [("NFTA_RULE_TABLE", table)]
    return Message(DELRULE, 0, _encode(_Rule(), attrs), f"rules of table {table}")


def new_rule(table: str, chain: str, expressions: bytes, text: str) -> Message:
    """Append a rule made of encoded `expressions`, with a comment."""
    encoded = (
        attribute(1, table.encode() + b"\0")
        + attribute(2, chain.encode() + b"\0")
        + attribute(4, expressions)
        + (attribute(7, comment(text)) if text else b"")
    )
    return Message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, encoded, f"rule in chain {chain}")


def new_set(
    table: str,
    name: str,
    key_types: tuple[int, ...],
    key_bytes: int,
    size: int,
    flags: int,
    *,
    counted: bool = False,
    exclusive: bool = True,
    text: str = "",
) -> Message:
    """Create a hash set. `key_types` are nft's numbers of the data types in the key.

    Unless it is to be `exclusive`, the set may be there already. A `size` of 0 is for none. With
    ``SET_TIMEOUT`` its elements may end by themselves; with ``SET_OBJECT`` they are mapped to
    counter objects. If it is `counted`, every element has a counter of its own. `text` is a
    comment.
    """
    key_type = 0
    for type_number in key_types:
        key_type = key_type << 6 | type_number
    attrs: list[tuple[str, Any]] = [
        ("NFTA_SET_TABLE", table),
        ("NFTA_SET_NAME", name),
        ("NFTA_SET_FLAGS", flags),
        ("NFTA_SET_KEY_TYPE", key_type),
        ("NFTA_SET_KEY_LEN", key_bytes),
        ("NFTA_SET_ID", 1),
    ]
    if size:
        attrs.append(("NFTA_SET_DESC", {"attrs": [("NFTA_SET_DESC_SIZE", size)]}))
    if flags & SET_OBJECT:
        attrs.append(("NFTA_SET_OBJ_TYPE", OBJECT_COUNTER))
    if counted:
        counter = {"attrs": [("NFTA_EXPR_NAME", "counter"), ("NFTA_EXPR_DATA", {"attrs": []})]}
        attrs.append(("NFTA_SET_EXPR", counter))
    flags = NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0)
    encoded = _encode(_Set(), attrs)
    if text:
        encoded += attribute(SET_USERDATA, comment(text, SET_COMMENT))
    return Message(NEWSET, flags, encoded, f"set {name}")


def delete_set(table: str, name: str) -> Message:
    """Delete a set that no rule looks into."""
    attrs = [("NFTA_SET_TABLE", table), ("NFTA_SET_NAME", name)]
    return Message(DELSET, 0, _encode(_Set(), attrs), f"set {name}")


def new_counter(table: str, name: str, text: str) -> Message:
    """Create a counter object; one that exists keeps its count."""
    encoded = _counter(table, name) + _NO_DATA + attribute(8, comment(text))
    return Message(NEWOBJ, NLM_F_CREATE, encoded, f"counter {name}")


def delete_counter(table: str, name: str) -> Message:
    """Delete a counter object that nothing refers to."""
    return Message(DELOBJ, 0, _counter(table, name), f"counter {name}")


def get_counter(table: str, name: str) -> Message:
    """Ask for one counter object."""
    return Message(GETOBJ, NLM_F_ACK, _counter(table, name), f"counter {name}")


def _counter(table: str, name: str) -> bytes:
    # This is encoded by hand: every rule has one, and pyroute2 takes a tenth of a millisecond.
    return (
        attribute(1, table.encode() + b"\0") + attribute(2, name.encode() + b"\0") + _COUNTER_TYPE
    )


def dump(kind: int, table: str, *more: bytes) -> Message:
    """Ask for all objects of a kind in the table, whose name is attribute 1 of every request."""
    encoded = attribute(1, table.encode() + b"\0") + b"".join(more)
    return Message(kind, NLM_F_DUMP, encoded, f"contents of table {table}")


def get_generation() -> Message:
    """Ask for the number of the transaction that was carried out last."""
    return Message(GETGEN, NLM_F_ACK, b"", "generation")


def get_table(table: str) -> Message:
    """Ask for the table itself."""
    return Message(GETTABLE, NLM_F_ACK, attribute(1, table.encode() + b"\0"), f"table {table}")
