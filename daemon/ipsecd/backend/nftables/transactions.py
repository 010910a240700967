"""Owns the parts of transactions, as lists of messages; sends nothing and reads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from ipsecd.backend.nftables import contents
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.elements import (
    add_elements,
    delete_elements,
    element,
    ending_element,
    in_lists,
    packed_elements,
)
from ipsecd.backend.nftables.expressions import NFPROTO, host16
from ipsecd.backend.nftables.failures import DYNAMIC_SET_SIZE
from ipsecd.backend.nftables.looks import KernelTable, Ruleset
from ipsecd.backend.nftables.naming import (
    DIALUP_TYPES,
    HOOKS,
    STATE_PREFIX,
    TABLE,
    TRACKED_HOOKS,
    UNPARSABLE,
    WITH_TRANSPORT,
    counter_name,
    kernel_key_width,
    kernel_keys,
    key_types,
    set_flags,
)
from ipsecd.backend.nftables.wire import Message
from ipsecd.compiler.classifier import Table
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Entry
from ipsecd.model.lists import split
from ipsecd.model.values import ICMP, PROTOCOLS_WITH_PORTS

DIALUP_ARPHRD = (256, 257, 258, 259, 512, 519)
"""SLIP and its variants, PPP, raw IP of mobile modems (include/uapi/linux/if_arp.h)."""
FIXED_SETS = {
    **{
        name: tuple(bytes((n,)) for n in sorted({*PROTOCOLS_WITH_PORTS, ICMP.number(family)}))
        for family, name in WITH_TRANSPORT.items()
    },
    DIALUP_TYPES: tuple(host16(n) for n in DIALUP_ARPHRD),
}
"""The keys of the sets that are the same in every state."""
FIXED_SET_ROOM = 32
"""The size of these sets: while a transaction fills one anew it holds old and new elements."""
_KINDS = {**dict.fromkeys(WITH_TRANSPORT.values(), 12), DIALUP_TYPES: 21}

BASE_CHAINS = frozenset(HOOKS)


def foundation(
    flags: int, existing: Iterable[str] = (), relied_on: Iterable[bytes] = ()
) -> list[Message]:
    """Create what every state has: the table, its base chains, a counter, and fixed sets.

    Fixed sets that are among the `existing` ones are filled anew. What the table says of the
    contents of other sets is `relied_on`, and nothing else.
    """
    steps = [nft.new_table(TABLE, flags)]
    steps += [nft.new_chain(TABLE, name, *hook) for name, hook in HOOKS.items()]
    steps.append(nft.new_counter(TABLE, UNPARSABLE, "dropped: headers cannot be read"))
    for name, keys in FIXED_SETS.items():
        if name in existing:
            # Whoever had the table in between may have changed its elements.
            steps.append(delete_elements(TABLE, name))
        else:
            size = max(len(keys), FIXED_SET_ROOM)
            steps.append(nft.new_set(TABLE, name, (_KINDS[name],), len(keys[0]), size, 0))
        steps.append(add_elements(TABLE, name, b"".join(map(element, keys))))
    return [*steps, *contents.creation(relied_on)]


def policy_set(table: Table, kernel: KernelTable) -> list[Message]:
    """Create a set of the policy with all its elements; its size is what it holds."""
    width = kernel_key_width(table.id)
    flags = set_flags(table.id, mapped=kernel.mapped)
    steps = [nft.new_set(TABLE, kernel.set_name, key_types(table.id), width, len(table), flags)]
    counters: list[str] = []
    if kernel.mapped:
        names = [counter_name(origin) for origin in table.origins]
        counters = [names[writer] for writer in table.writers]
    keys = kernel_keys(table.id, table.keys, NFPROTO[table.id.family])
    steps += [
        add_elements(TABLE, kernel.set_name, part)
        for part in packed_elements(keys, width, counters)
    ]
    return [*steps, contents.complete(kernel.set_name, table.digest)]


def dynamic_sets(kernel: KernelTable) -> list[Message]:
    """Create empty sets for dynamic rules, whose elements may end by themselves."""
    return [
        nft.new_set(
            TABLE,
            name,
            key_types(kernel.id),
            kernel_key_width(kernel.id),
            DYNAMIC_SET_SIZE,
            set_flags(kernel.id, mapped=False),
            counted=name == kernel.set_name,
        )
        for name in kernel.sets
    ]


def additions(
    entries: Iterable[Entry], dynamic: Mapping[TableId, KernelTable], now: float
) -> list[Message]:
    """Add dynamic entries; `now` is on the clock of their deadlines, in seconds."""
    by_table: dict[TableId, list[Entry]] = {}
    for entry in entries:
        by_table.setdefault(entry.table, []).append(entry)
    steps = []
    for table, of_table in by_table.items():
        keys = _set_keys(table, [entry.key for entry in of_table])
        encoded = [
            element(key)
            if entry.deadline == inf
            else ending_element(key, max(1, round((entry.deadline - now) * 1000)))
            for key, entry in zip(keys, of_table, strict=True)
        ]
        parts = list(in_lists(encoded))
        steps += [add_elements(TABLE, name, part) for name in dynamic[table].sets for part in parts]
    return steps


def removals(
    entries: Iterable[Entry], dynamic: Mapping[TableId, KernelTable], now: float
) -> list[Message]:
    """Remove dynamic entries from the sets that stay; those before `now` the kernel has removed.

    Each has a message of its own, which is left out if the kernel has removed it meanwhile.
    """
    return [
        delete_elements(TABLE, name, element(*_set_keys(entry.table, [entry.key])))
        for entry in entries
        if entry.deadline > now and entry.table in dynamic
        for name in dynamic[entry.table].sets
    ]


def replace_rules(ruleset: Ruleset, mark: str, present: Iterable[str]) -> list[Message]:
    """Replace all rules and, of the chains that are `present`, those that are no longer wanted.

    `mark` is an empty chain whose name says which policy the rules are.
    """
    wanted = {*ruleset.chains, mark} - BASE_CHAINS
    there = set(present) - BASE_CHAINS
    steps = [nft.delete_all_rules(TABLE)]
    steps += [nft.delete_chain(TABLE, name) for name in sorted(there - wanted)]
    steps += [new_chain(name) for name in sorted(wanted - there)]
    for name, rules in ruleset.chains.items():
        steps += [nft.new_rule(TABLE, name, parts, text) for parts, text in rules]
    return steps


def replace_mark(present: Iterable[str], mark: str) -> tuple[list[Message], list[str]]:
    """Have the rules that stay bear another mark; the messages, and the chains that are there then.

    `mark` is as for ``replace_rules``, and `present` are the chains before.
    """
    others = [name for name in present if not name.startswith(STATE_PREFIX)]
    old = [name for name in present if name.startswith(STATE_PREFIX)]
    if old == [mark]:
        return [], [*others, mark]
    steps = [nft.delete_chain(TABLE, name) for name in old if name != mark]
    return [*steps, *([] if mark in old else [new_chain(mark)])], [*others, mark]


def new_chain(name: str) -> Message:
    """Create a chain; some are base chains, by their name."""
    return nft.new_chain(TABLE, name, *TRACKED_HOOKS.get(name, ()))


def _set_keys(table: TableId, keys: Sequence[bytes]) -> list[bytes]:
    """The keys of a table as its set holds them."""
    width = kernel_key_width(table)
    packed = kernel_keys(table, b"".join(keys), NFPROTO[table.family])
    return split(packed, width)
