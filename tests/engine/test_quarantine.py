"""A quarantine holds whatever is permitted after it, and at every moment in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.backend.memory import MemoryBackend
from ipsecd.config import Limits
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, InvalidInput, LimitExceeded, Refused
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Keyword, Network, Selector, SelectorKind
from ipsecd.model.decide import decide
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.packets import Packet, Point
from ipsecd.model.quarantine import Quarantine
from ipsecd.model.values import Action, Filter, InForce, Origin, Policy, Rule
from ipsecd.sources.dynamic import DynamicRule
from tests.engine.site import Site, fail_once
from tests.strategies import HOST as WIDE_HOST
from tests.strategies import filters, packets_for

OPEN = Policy(
    "Open",
    (
        Rule("Wide", (parse_filter("*=0:1-100:UDP"),), Action.PERMIT),
        Rule("Narrow", (parse_filter("203.0.113.7=0:7:UDP"),), Action.PERMIT),
    ),
)
OTHER = Policy("Other", (Rule("R", (parse_filter("203.0.113.0/24=0:7:UDP"),), Action.PERMIT),))


def quarantine(
    *permits: str, who: Keyword | Selector = Keyword.ME, deadline: float = inf
) -> Quarantine:
    name = "this host" if who is Keyword.ME else "container:web"
    return Quarantine(name, who, tuple(map(parse_filter, permits)), deadline, 1.5, "uid 0")


def permit(name: str, text: str) -> DynamicRule:
    return DynamicRule(name, (parse_filter(text),), Action.PERMIT)


def names(engine: Engine) -> list[str]:
    return sorted(rule.name for rule in engine.dynamic)


@pytest.fixture
def watched(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether the flow was blocked after each effect in the kernel."""
    blocked: list[bool] = []

    def watch(name: str) -> None:
        effect = getattr(MemoryBackend, name)

        def noted(backend: MemoryBackend, *state: Any) -> None:
            effect(backend, *state)
            blocked.append(site.blocks(7))

        monkeypatch.setattr(MemoryBackend, name, noted)

    site.engine.impose(quarantine())
    watch("apply")
    watch("change")
    yield blocked
    assert blocked
    assert all(blocked)


@pytest.mark.usefixtures("watched")
def test_a_policy_that_is_assigned_later_opens_nothing(site: Site) -> None:
    """One with permits, another in its place, an edit of it, and none."""
    engine = site.engine
    engine.change(put=[OPEN], assign="Open")
    assert site.blocks(7)
    assert names(engine) == ["quarantine this host"]
    engine.change(put=[OTHER], assign="Other")
    engine.change(put=[Policy("Other", OPEN.rules)])
    engine.reload({})
    engine.change(assign=None)


@pytest.mark.usefixtures("watched")
def test_a_dynamic_permit_that_is_added_later_opens_nothing(site: Site) -> None:
    """Nor does it when it is replaced or taken back."""
    engine = site.engine
    engine.add_dynamic(permit("a", "203.0.113.7=0:7:UDP"))
    engine.add_dynamic(permit("a", "203.0.113.0/24=0:7:UDP"))
    engine.add_dynamic(permit("b", "203.0.113.7=0"))
    engine.remove_dynamic(engine.dynamic.select("a"))


@pytest.mark.usefixtures("watched")
def test_it_holds_over_a_crash(site: Site) -> None:
    """Also where the next daemon finds a policy that permits more."""
    site.engine.change(put=[OPEN], assign="Open")
    site.engine.add_dynamic(permit("a", "203.0.113.7=0:7:UDP"))
    site.engine.close()
    engine = site.again()
    assert engine.taken_over == 2
    engine.change(put=[OTHER], assign="Other")


def test_what_the_operator_permits_passes(site: Site) -> None:
    """Whatever policy comes, and however narrowly that permits a part of it."""
    site.engine.impose(quarantine("203.0.113.0/24=0:7:UDP"))
    assert not site.blocks(7)
    site.engine.change(put=[OPEN], assign="Open")
    assert not site.blocks(7)
    assert site.blocks(8)
    site.engine.change(put=[OTHER], assign="Other")
    assert not site.blocks(7)


def test_a_release_leaves_nothing(site: Site) -> None:
    """What is permitted passes, and the next daemon does not know of it."""
    site.engine.change(put=[OPEN], assign="Open")
    site.engine.impose(quarantine("*=0:9:UDP"))
    assert names(site.engine) == ["quarantine this host", "quarantine this host: permitted"]
    assert site.engine.release("this host") == (
        "quarantine this host",
        "quarantine this host: permitted",
    )
    assert site.engine.release("this host") == ()
    assert names(site.engine) == []
    assert not site.blocks(7)
    site.engine.close()
    assert site.again().taken_over == 0
    assert not site.blocks(7)


def test_it_ends_by_itself(site: Site) -> None:
    """In the kernel, and then in what is known of it, over a crash too."""
    site.engine.change(put=[OPEN], assign="Open")
    site.engine.impose(quarantine(deadline=site.clock.now + 10))
    site.clock.now += 4
    site.engine.close()
    engine = site.again()
    assert engine.next_expiry() == site.clock.now + 6
    assert site.blocks(7)
    site.clock.now += 6
    assert not site.blocks(7)
    engine.expire()
    assert names(engine) == []
    assert engine.next_expiry() is None
    engine.change(put=[OTHER], assign="Other")
    assert names(engine) == []


def test_another_one_replaces_it(site: Site) -> None:
    """With what that permits, and no more."""
    site.engine.impose(quarantine("*=0:7:UDP"))
    assert not site.blocks(7)
    site.engine.impose(quarantine())
    assert site.blocks(7)
    assert names(site.engine) == ["quarantine this host"]


def test_its_rules_cannot_be_taken_out_of_it(site: Site) -> None:
    """Not by name, nor by what they say, nor by another of their names; only a flush ends it."""
    engine = site.engine
    engine.change(put=[OPEN], assign="Open")
    engine.impose(quarantine())
    for text in ("quarantine this host", "203.0.113.7=0:7:UDP"):
        rules = engine.dynamic.select(text)
        assert rules
        with pytest.raises(Refused, match="belongs to a quarantine"):
            engine.remove_dynamic(rules)
    with pytest.raises(Refused, match="rule of a quarantine"):
        engine.add_dynamic(permit("quarantine this host: permitted", "*=0:7:UDP"))
    engine.add_dynamic(permit("mine", "203.0.113.7=0:7:UDP"))
    removed = engine.remove_dynamic(engine.dynamic.select("203.0.113.7=0:7:UDP"))
    assert [each.rule.name for each in removed] == ["mine"]
    assert site.blocks(7)
    assert engine.flush() == 1
    assert not site.blocks(7)
    engine.change(put=[OTHER], assign="Other")
    assert names(engine) == []


def test_rules_that_had_its_names_are_replaced(site: Site) -> None:
    """Whoever gave a rule such a name before."""
    site.engine.add_dynamic(permit("quarantine this host", "203.0.113.7=0:7:UDP"))
    site.engine.impose(quarantine())
    assert site.blocks(7)
    site.engine.release("this host")
    site.engine.close()
    assert names(site.again()) == []


def test_there_has_to_be_room_for_it(tmp_path: Path) -> None:
    """The limit of dynamic rules counts for it too."""
    site = Site(tmp_path, Limits(dynamic_rules=1))
    site.engine.add_dynamic(permit("a", "*=0:1:UDP"))
    with pytest.raises(LimitExceeded):
        site.engine.impose(quarantine())


def test_a_container_is_followed(site: Site) -> None:
    """It is in quarantine whatever address it has, and whatever that is permitted."""

    def inventory(address: int) -> Inventory:
        network = Network(Family.IPV4, address, 32)
        return Inventory((Container("1" * 64, "web", frozenset(), {"front": (network,)}),), {})

    engine = site.engine
    engine.set_inventory("/run/docker.sock", inventory(0x0A000001))
    engine.impose(quarantine(who=Selector(SelectorKind.CONTAINER, "web")))
    rules = [parse_filter(f"*=10.0.0.{n}:7:UDP") for n in (1, 2)]
    rules += [parse_filter("203.0.113.7=container:web:7:UDP")]
    engine.change(put=[Policy("P", (Rule("R", tuple(rules), Action.PERMIT),))], assign="P")
    assert site.blocks(7, destination=0x0A000001)
    assert not site.blocks(7, destination=0x0A000002)
    engine.set_inventory("/run/docker.sock", inventory(0x0A000002))
    assert site.blocks(7, destination=0x0A000002)
    assert not site.blocks(7, destination=0x0A000001)
    assert not site.blocks(7)


def test_a_failure_leaves_the_old_state(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy and the quarantine's rules for it come in one step, or stay as they are."""
    engine = site.engine
    engine.change(put=[OPEN], assign="Open")
    engine.impose(quarantine())
    before = [*engine.dynamic], engine.policy, engine.backend.observe().digest
    entries = sorted(engine.volatile.entries())
    has_failed = fail_once(monkeypatch, site.backend, "apply")
    with pytest.raises(BackendFailed):
        engine.change(put=[OTHER], assign="Other")
    assert has_failed()
    assert ([*engine.dynamic], engine.policy, engine.backend.observe().digest) == before
    assert sorted(engine.volatile.entries()) == entries
    assert site.blocks(7)
    live = {
        (table, key): deadline
        for table, held in site.backend._live.items()
        for key, deadline in held.deadlines.items()
    }
    assert live == {(entry.table, entry.key): entry.deadline for entry in entries}


permitting = st.lists(filters(), min_size=1, max_size=4).map(
    lambda permitted: Policy("P", (Rule("R", tuple(permitted), Action.PERMIT),))
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("policy"), permitting),
        st.tuples(st.just("permit"), permitting),
        st.tuples(st.just("remove"), st.none()),
        st.tuples(st.just("unassign"), st.none()),
        st.tuples(st.just("crash"), st.none()),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(steps, st.lists(filters(), max_size=2), st.data())
def test_no_policy_and_no_dynamic_permit_lets_anything_through(
    changes: Sequence[tuple[str, Policy | None]], operators: list[Filter], data: st.DataObject
) -> None:
    """By the semantics and by what the backend holds, after each of any changes."""
    allowed = [InForce(Origin("dynamic", "", "o"), flt, Action.PERMIT) for flt in operators]
    packets = [
        packet
        for _, policy in changes
        if policy
        for packet in data.draw(st.lists(packets_for(policy), min_size=4, max_size=8))
        if is_own(packet) and decide(allowed, packet, WIDE_HOST).by is None
    ]
    with TemporaryDirectory() as name:
        site = Site(Path(name))
        imposed = Quarantine("this host", Keyword.ME, tuple(operators), inf, 1.5, "uid 0")
        site.engine.impose(imposed)
        for what, policy in changes:
            _carry_out(site, what, policy)
            for packet in packets:
                said = decide(site.engine.in_force(), packet, WIDE_HOST, site.config.exemptions)
                if said.reason in ("filter", "no filter"):
                    assert said.action is Action.BLOCK, (what, packet)
                    verdict = site.backend.judge(packet, WIDE_HOST)
                    assert verdict.action is Action.BLOCK, (what, packet)


def is_own(packet: Packet) -> bool:
    """Whether a packet comes to this host or is sent by it, and not both."""
    family, source, destination = packet.family, packet.source, packet.destination
    if packet.point is Point.ARRIVING:
        return WIDE_HOST.receives(family, destination) and not WIDE_HOST.owns(family, source)
    return (
        packet.point is Point.SENDING
        and WIDE_HOST.owns(family, source)
        and not WIDE_HOST.owns(family, destination)
    )


def _carry_out(site: Site, what: str, policy: Policy | None) -> None:
    engine = site.engine
    if what == "policy":
        assert policy
        engine.change(put=[policy], assign="P")
    elif what == "permit":
        assert policy
        # A filter that matches nothing is refused.
        with suppress(InvalidInput):
            engine.add_dynamic(DynamicRule("a", policy.rules[0].filters, Action.PERMIT))
    elif what == "remove":
        engine.remove_dynamic(engine.dynamic.select("a"))
    elif what == "unassign":
        engine.change(assign=None)
    else:
        engine.close()
        site.again()
