"""The sets of lists in the nftables table: which there are, and when one is made anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import pytest

from ipsecd.backend.base import Observation
from ipsecd.backend.nftables import lists as list_sets
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.wire import Message, NftSocket
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.lists import AddressList, listed
from ipsecd.model.packing import changed
from ipsecd.model.values import Action, InForce, Origin
from tests.engine.test_lists import entries
from tests.netns import site
from tests.netns.site import run

pytestmark = pytest.mark.netns
T = TypeVar("T")


@pytest.fixture
def backend() -> Iterator[NftablesBackend]:
    site.needs_isolation()
    nftables = NftablesBackend()
    yield nftables
    nftables.remove()
    nftables.close()


def blocking(
    lists: Mapping[str, AddressList], *texts: str, permitted: tuple[str, ...] = ()
) -> Classifier:
    rules = [
        InForce(Origin("static", "P", text), parse_filter(text), action)
        for action, filters in ((Action.BLOCK, texts), (Action.PERMIT, permitted))
        for text in filters
    ]
    return compile_filters(rules, lists=lists)


def sets() -> dict[str, list[object]]:
    """The sets of lists in the kernel, with their elements."""
    found = json.loads(run("nft", "-j", "list", "sets", "inet"))["nftables"]
    return {
        item["set"]["name"]: item["set"].get("elem", [])
        for item in found
        if "set" in item and item["set"]["name"].startswith("list_")
    }


def hosts(first: int, count: int) -> AddressList:
    return listed(Network(Family.IPV4, first + n, 32) for n in range(count))


def test_a_list_is_there_once_however_many_rules_name_it(backend: NftablesBackend) -> None:
    """And no longer than one does."""
    lists = {"drop": entries("10.1.0.1", "10.2.0.0/16", "[2001:db8::]/32"), "other": entries()}
    everywhere = ("@drop=0", "0=@drop", "@drop=0:80:TCP", "@drop=@drop", "@other=0")
    backend.apply(blocking(lists, *everywhere), Volatile())
    assert {name.rpartition("_g")[0] for name in sets()} == {
        "list_drop_ip4_32",
        "list_drop_ip4_16",
        "list_drop_ip6_32",
    }
    backend.apply(blocking({"drop": entries("10.1.0.1")}, *everywhere), Volatile())
    assert {name.rpartition("_g")[0] for name in sets()} == {"list_drop_ip4_32"}
    backend.apply(blocking(lists, "*=0:80:TCP"), Volatile())
    assert not sets()
    assert not backend.observe().drift


def test_entries_change_in_place(backend: NftablesBackend) -> None:
    """The set stays, and gets and loses what the list does."""
    backend.apply(blocking({"drop": entries("10.1.0.1", "10.1.0.2")}, "@drop=0"), Volatile())
    (name,) = sets()
    backend.apply(blocking({"drop": entries("10.1.0.1", "10.1.0.3")}, "@drop=0"), Volatile())
    assert {key: set(map(str, keys)) for key, keys in sets().items()} == {
        name: {"10.1.0.1", "10.1.0.3"}
    }


def test_what_comes_is_there_before_what_goes_is_deleted(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet on its way between the two always finds one of them."""
    backend.apply(blocking({"drop": entries("10.1.0.1", "10.0.0.0/8")}, "@drop=0"), Volatile())
    steps: list[str] = []
    commit = NftSocket.commit

    def noted(self: NftSocket, messages: list[Message]) -> None:
        kinds = {12: "add", 14: "delete"}
        of_lists = [m for m in messages if m.what.startswith("elements of set list_")]
        steps.append("+".join(sorted({kinds[m.kind] for m in of_lists})))
        commit(self, messages)

    monkeypatch.setattr(NftSocket, "commit", noted)
    monkeypatch.setattr(
        "ipsecd.backend.nftables.backend.wait_for_packets", lambda: steps.append("wait")
    )
    backend.apply(blocking({"drop": entries("10.1.0.2", "11.0.0.0/8")}, "@drop=0"), Volatile())
    assert [step for step in steps if step] == ["add", "wait", "delete"]


def test_a_list_of_both_actions_is_replaced_with_the_rules(backend: NftablesBackend) -> None:
    """No packet may meet the new entries by one rule and the old ones by another."""
    both = ("@drop=0",)
    before, after = {"drop": entries("10.1.0.1")}, {"drop": entries("10.1.0.2")}
    backend.apply(blocking(before, *both, permitted=("@drop=0:80:TCP",)), Volatile())
    (name,) = sets()
    backend.apply(blocking(after, *both, permitted=("@drop=0:80:TCP",)), Volatile())
    (other,) = sets()
    assert name != other


def test_a_policy_that_changes_with_a_list_replaces_it(backend: NftablesBackend) -> None:
    """The same holds for rules of the policy beside it."""
    backend.apply(blocking({"drop": entries("10.1.0.1")}, "@drop=0", "*=0:80:TCP"), Volatile())
    (name,) = sets()
    backend.apply(blocking({"drop": entries("10.1.0.2")}, "@drop=0", "*=0:81:TCP"), Volatile())
    (other,) = sets()
    assert name != other


def test_a_set_that_is_full_is_replaced_by_a_larger_one(backend: NftablesBackend) -> None:
    """A list grows without an end, in steps that are small each."""
    names = set()
    for count in (1, 500, 1000, 1500, 3000):
        backend.apply(blocking({"drop": hosts(0x0A000000, count)}, "@drop=0"), Volatile())
        ((name, elements),) = sets().items()
        assert len(elements) == count
        names.add(name)
    assert 1 < len(names) < 5


def test_many_changes_are_loaded_beforehand(backend: NftablesBackend) -> None:
    """In transactions of a few thousand elements each; then one without any switches."""
    count = list_sets.IN_PLACE + 1
    backend.apply(blocking({"drop": hosts(0x0A000000, count)}, "@drop=0"), Volatile())
    (name,) = sets()
    wanted = blocking({"drop": hosts(0x0B000000, count)}, "@drop=0")
    pieces = 0

    def run_it(work: Callable[[], T]) -> T:
        nonlocal pieces
        pieces += 1
        return work()

    backend.prepare(wanted, run_it)
    assert pieces > 2
    (loaded,) = sets().keys() - {name}
    backend.apply(wanted, Volatile())
    assert sets().keys() == {loaded}
    assert not backend.observe().drift
    backend.prepare(blocking({"drop": hosts(0x0C000000, count)}, "@drop=0"), run_it)
    backend.discard()
    assert sets().keys() == {loaded}


@pytest.mark.parametrize("goes", [False, True])
def test_one_entry_costs_the_same_in_a_short_list_and_in_a_long_one(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch, *, goes: bool
) -> None:
    """One transaction, no rule, no question to the kernel, and no entry but the one is looked at.

    The entries that are packed stay the same object. What is in force is read back as what it is.
    """
    commit, sent = NftSocket.commit, list[list[Message]]()

    def note(self: NftSocket, messages: list[Message]) -> None:
        sent.append(list(messages))
        commit(self, messages)

    sizes = []
    for count in (10, 50_000):
        present = hosts(0x0A000000, count)
        backend.apply(blocking({"l": present}, "@l=0"), Volatile())
        of_one = listed([Network(Family.IPV4, 0x0A000003 if goes else 0x0B000000, 32)])
        nothing = AddressList()
        new = changed(present, *((of_one, nothing) if goes else (nothing, of_one)))
        wanted = blocking({"l": new}, "@l=0")
        sent.clear()
        with monkeypatch.context() as patch:
            patch.setattr(NftSocket, "commit", note)
            patch.setattr(NftSocket, "request", None)
            backend.prepare(wanted, lambda work: work())
            backend.apply(wanted, Volatile())
        (form,) = new.entries
        assert new.layers.base[form] is present.layers.base[form]
        sizes.append(
            [[(message.kind, len(message.attributes)) for message in each] for each in sent]
        )
        assert len(sent) == 1
        assert backend.observe() == Observation(wanted.digest)
    assert sizes[0] == sizes[1]


def test_a_long_list_that_lacks_an_element_is_drift() -> None:
    """Its elements are counted, if they are too many to be compared."""
    site.needs_isolation()
    nftables = NftablesBackend(protect=False)
    try:
        wanted = blocking({"l": hosts(0x0A000000, 5000)}, "@l=0")
        nftables.apply(wanted, Volatile())
        (name,) = sets()
        assert nftables.observe().drift == ()
        run("nft", "delete", "element", "inet", "ipsecd", name, "{ 10.0.0.7 }")
        assert any(name in drift for drift in nftables.observe().drift)
        nftables.apply(wanted, Volatile())
        assert nftables.observe() == Observation(wanted.digest)
    finally:
        nftables.remove()
        nftables.close()


def test_a_long_list_is_not_taken_for_a_change_by_somebody_else() -> None:
    """Its events are more than we could hear; what others do we still hear."""
    site.needs_isolation()
    nftables = NftablesBackend(protect=False)
    try:
        for count in (20_000, 50_000):
            wanted = blocking({"drop": hosts(10 << 24, count)}, "@drop=0")
            nftables.apply(wanted, Volatile())
            assert not nftables.changed()
        run("nft", "add", "chain", "inet", "ipsecd", "foreign")
        assert nftables.changed()
    finally:
        nftables.remove()
        nftables.close()
