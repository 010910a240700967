"""The parts of transactions about dynamic rules, as bytes: bans are many, and few messages."""

from __future__ import annotations

from math import inf

import pytest

from ipsecd.backend.nftables import transactions as tx
from ipsecd.backend.nftables.elements import element, ending_element
from ipsecd.backend.nftables.looks import KernelTable
from ipsecd.backend.nftables.messages import DELSETELEM, NEWSETELEM
from ipsecd.backend.nftables.wire import Message
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Entry, Volatile
from ipsecd.host.netlink import attributes
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin

NOW = 1000.0


def entries_of(*texts: str, action: Action = Action.BLOCK, deadline: float = inf) -> list[Entry]:
    volatile = Volatile()
    for text in texts:
        in_force = InForce(Origin("dynamic", "", text), parse_filter(text), action)
        volatile.change(add=rows_of([in_force]), deadline=deadline)
    return list(volatile.entries())


def kernel_tables(entries: list[Entry]) -> dict[TableId, KernelTable]:
    tables = dict.fromkeys(entry.table for entry in entries)
    return {
        table: KernelTable(table, f"dynamic_{number}_g{number}")
        for number, table in enumerate(tables)
    }


def set_and_elements(message: Message) -> tuple[str, list[bytes]]:
    parts = dict(attributes(message.attributes))
    return parts[2].rstrip(b"\0").decode(), [body for _, body in attributes(parts.get(3, b""))]


@pytest.mark.parametrize("width", [1, 4, 8, 12, 16, 20, 36])
@pytest.mark.parametrize("timeout_ms", [1, 999, 3_600_000, 315_360_000_000])
def test_an_element_with_an_end_is_as_any_other(width: int, timeout_ms: int) -> None:
    """What is put together of prepared pieces is what is laid out piece by piece."""
    key = bytes(range(1, width + 1))
    assert ending_element(key, timeout_ms) == element(key, timeout_ms=timeout_ms)


def test_many_entries_go_into_few_messages_that_are_not_too_long() -> None:
    """Each into its set, with its end; an attribute has room for 65,535 bytes."""
    hosts = [f"10.{n >> 8}.{n & 255}.9=0:22:TCP" for n in range(5000)]
    entries = [*entries_of(*hosts, deadline=NOW + 5), *entries_of("[2001:db8::1]=0", "*=0:9:UDP")]
    tables = kernel_tables(entries)
    messages = tx.additions(entries, tables, NOW)
    assert len(messages) < 12
    assert all(len(message.attributes) < 65_000 for message in messages)
    sent: dict[str, list[bytes]] = {}
    for message in messages:
        assert message.kind == NEWSETELEM
        name, elements = set_and_elements(message)
        sent.setdefault(name, []).extend(elements)
    wanted: dict[str, list[bytes]] = {}
    for entry in entries:
        keys = tx._set_keys(entry.table, [entry.key])
        whole = element(*keys, timeout_ms=0 if entry.deadline == inf else 5000)
        wanted.setdefault(tables[entry.table].set_name, []).append(whole[4:])
    assert sent == wanted


def test_a_permit_is_in_both_of_its_sets() -> None:
    """It is looked for once more, where it does not count."""
    entries = entries_of("192.0.2.1=0", "192.0.2.2=0", action=Action.PERMIT)
    tables = kernel_tables(entries)
    sent = dict(map(set_and_elements, tx.additions(entries, tables, NOW)))
    assert sorted(sent) == sorted(tables[entries[0].table].sets)
    assert len({tuple(elements) for elements in sent.values()}) == 1


def test_removals_are_messages_of_their_own() -> None:
    """The kernel may have ended one of them meanwhile, and the others have to go all the same."""
    hosts = ("192.0.2.1=0", "192.0.2.2=0")
    entries = [*entries_of(*hosts), *entries_of("192.0.2.3=0", deadline=NOW)]
    messages = tx.removals(entries, kernel_tables(entries), NOW)
    assert [message.kind for message in messages] == [DELSETELEM] * 2
    assert all(len(set_and_elements(message)[1]) == 1 for message in messages)


def test_an_entry_without_a_key_is_the_ip_version() -> None:
    """A table that looks at no field has a set all the same, with one element."""
    entries = entries_of("*=*")
    tables = kernel_tables(entries)
    for message in tx.additions(entries, tables, NOW):
        assert len(set_and_elements(message)[1]) == 1
