"""What a destination port alone decides is what the policy decides."""

from __future__ import annotations

import mmap
import os
import struct
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.programs import Programs
from ipsecd.backend.xdp.shortcuts import Shortcuts, shortcuts
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import BY_NAME
from ipsecd.model.packets import Packet, Point
from ipsecd.model.protected_filters import BY_SETTINGS
from ipsecd.model.values import TCP, UDP, Action, InForce, InterfaceType, Origin
from tests.netns.site import needs_isolation
from tests.strategies import HOST, ME, in_force, packets, ports_in_force, types_of_links

RULE = Origin("static", "P", "r")
POINTS = frozenset(Point)


def word_of(words: bytes, packet: Packet) -> tuple[int, int]:
    """The outcome and the rule that stand for a packet."""
    table = 2 * (packet.family is Family.IPV6) + (packet.protocol == UDP)
    assert packet.destination_port is not None
    at = 4 * ((table << 16) + packet.destination_port)
    (word,) = struct.unpack_from("=I", words, at)
    return word & 3, word >> abi.SHORTCUT_BITS


def blocked(*filters: str) -> Classifier:
    return compile_filters([InForce(RULE, parse_filter(text), Action.BLOCK) for text in filters])


def arriving(port: int, protocol: int = UDP, family: Family = Family.IPV4) -> Packet:
    return Packet(
        Point.ARRIVING, family, ME[family] ^ 1, ME[family], protocol, 4000, port, InterfaceType.LAN
    )


def test_every_word_agrees_with_the_policy() -> None:
    """Over generated policies, dynamic rules and exemptions; each outcome occurs."""
    words_seen: Counter[int] = Counter()

    @seed(1434)
    @settings(
        max_examples=400,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.one_of(ports_in_force(), ports_in_force(), in_force(), in_force(asked=types_of_links())),
        st.lists(packets((Point.ARRIVING,)), min_size=20, max_size=30),
        st.lists(st.sampled_from(sorted(BY_NAME)), max_size=2, unique=True),
    )
    def compare(filters: list[InForce], sent: list[Packet], exempt: list[str]) -> None:
        volatile = Volatile()
        volatile.change(add=rows_of([flt for flt in filters if flt.origin.volatile]))
        policy = compile_filters([flt for flt in filters if not flt.origin.volatile], exempt)
        rules = {origin: number for number, origin in enumerate(sorted(policy.origins))}
        words = shortcuts(policy, volatile.tables, rules, POINTS)
        for packet in sent:
            if (
                packet.protocol not in {TCP, UDP}
                or packet.destination_port is None
                or packet.interface_type is None
                or not packet.parsed
            ):
                continue
            outcome, rule = word_of(words, packet)
            verdict = policy.lookup(packet, HOST, volatile.tables)
            words_seen[outcome] += 1
            if outcome == abi.SHORTCUT_PASS:
                assert verdict.action is Action.PERMIT, packet
            elif outcome == abi.SHORTCUT_DROP or (
                outcome == abi.SHORTCUT_DROP_ME and HOST.owns(packet.family, packet.destination)
            ):
                assert verdict.action is Action.BLOCK, packet
                assert verdict.origin is not None
                assert rules[verdict.origin] == rule, packet

    compare()
    assert all(words_seen[outcome] > 20 for outcome in range(4)), words_seen


@pytest.mark.parametrize(
    ("filters", "port", "outcome"),
    [
        (("*=0:1434:UDP",), 1434, abi.SHORTCUT_DROP_ME),
        (("*=0:1434:UDP",), 1435, abi.SHORTCUT_PASS),
        (("*=*:1434:UDP",), 1434, abi.SHORTCUT_DROP),
        (("*=0:1434:UDP", "10.0.0.0/8=0"), 1434, abi.SHORTCUT_NONE),
        (("*=0:1434:UDP", "10.0.0.0/8=0"), 53, abi.SHORTCUT_NONE),
        (("*=0:1434:UDP", "0=*:53:UDP"), 53, abi.SHORTCUT_PASS),
        (("*=0:1434:TCP",), 1434, abi.SHORTCUT_PASS),
    ],
)
def test_the_ports_of_simple_policies(filters: tuple[str, ...], port: int, outcome: int) -> None:
    """Policies as people write them get the shortcut that they can have."""
    words = shortcuts(blocked(*filters), (), {RULE: 7}, POINTS)
    word, rule = word_of(words, arriving(port))
    assert word == outcome
    assert rule == (7 if outcome in {abi.SHORTCUT_DROP, abi.SHORTCUT_DROP_ME} else 0)


@pytest.mark.parametrize("text", ["10.0.0.0/8+0:1434:UDP", "*+0:1434:UDP", "*+0"])
def test_a_port_that_the_settings_protect_for_some_has_no_shortcut(text: str) -> None:
    """Its packets walk the steps, although the block of the port is a plain one."""
    protected = InForce(BY_SETTINGS, parse_filter(text), Action.PERMIT)
    block = InForce(RULE, parse_filter("*=0:1434:UDP"), Action.BLOCK)
    words = shortcuts(compile_filters([protected, block]), (), {RULE: 7, BY_SETTINGS: 8}, POINTS)
    assert word_of(words, arriving(1434)) == (abi.SHORTCUT_NONE, 0)


def test_where_arriving_is_judged_elsewhere_everything_passes() -> None:
    """With arriving packets left to nftables, XDP says nothing of them."""
    words = shortcuts(blocked("*=0:1434:UDP"), (), {RULE: 7}, frozenset({Point.SENDING}))
    assert word_of(words, arriving(1434)) == (abi.SHORTCUT_PASS, 0)


def test_a_dynamic_entry_takes_away_only_its_port() -> None:
    """What is added is walked to, and every other port keeps its shortcut."""
    with mmap.mmap(-1, (abi.SHORTCUT_LINES + 1) * abi.LINE) as memory:
        ours = Shortcuts(memory)
        ours.set(shortcuts(blocked("*=0:1434:UDP"), (), {RULE: 7}, POINTS), "")
        volatile = Volatile()
        rule = InForce(Origin("dynamic", "", "x"), parse_filter("*=0:53:UDP"), Action.BLOCK)
        for entry in volatile.change(add=rows_of([rule])).added:
            ours.forget(entry.table, entry.key)
        words = memory[:]
        assert word_of(words, arriving(53)) == (abi.SHORTCUT_NONE, 0)
        assert word_of(words, arriving(53, family=Family.IPV6)) == (abi.SHORTCUT_NONE, 0)
        assert word_of(words, arriving(53, TCP)) == (abi.SHORTCUT_PASS, 0)
        assert word_of(words, arriving(52)) == (abi.SHORTCUT_PASS, 0)
        assert word_of(words, arriving(1434)) == (abi.SHORTCUT_DROP_ME, 7)
        assert not ours.are_changed()


@pytest.mark.netns
def test_words_that_somebody_else_wrote_are_noticed() -> None:
    """A word that lets a blocked port pass is drift."""
    needs_isolation()
    if os.geteuid() != 0:
        pytest.skip("needs root")
    programs = Programs()
    try:
        programs.set_host(HOST)
        programs.apply(blocked("*=0:1434:UDP"), Volatile())
        assert not programs.drift()
        with libbpf.map_lines(programs.maps["shortcuts"], abi.SHORTCUT_LINES + 1) as memory:
            at = 4 * ((1 << 16) + 1434)
            memory[at : at + 4] = struct.pack("=I", abi.SHORTCUT_PASS)
        assert programs.drift() == ["map shortcuts was changed"]
    finally:
        programs.close()
