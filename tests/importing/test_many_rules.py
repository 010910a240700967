"""Thousands of rules: only what can meet is compared, and the quick check stays quick."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from ipsecctl.importing import boxes, command, iptables, proving, specific
from ipsecctl.importing.blocks import Blocks, nearest
from ipsecctl.importing.proving import prove
from ipsecctl.importing.source import Given, InputFile, Parsed
from ipsecctl.importing.translating import Translation, translate
from ipsecd.model import decide

KINDS = {
    "ports": "-A INPUT -p tcp --dport {port} -j {target}",
    "ranges": "-A INPUT -p udp --dport {port}:{after} -j {target}",
    "sources": "-A INPUT -s 10.{high}.{low}.0/24 -p tcp --dport 22 -j {target}",
    "destinations": "-A FORWARD -d 10.{high}.{low}.7/32 -p tcp --dport 80 -j {target}",
    "links": "-A INPUT -i cali{port} -p tcp --dport 80 -j {target}",
    "sent": "-A OUTPUT -d 10.{high}.{low}.7/32 -p tcp --sport 1024:65535 -j {target}",
}


def rules(kind: str, number: int) -> str:
    """So many rules of a kind, of which no two are about the same packets."""
    lines = [
        KINDS[kind].format(
            port=1_000 + 4 * n,
            after=1_002 + 4 * n,
            high=n // 250,
            low=n % 250,
            target="ACCEPT" if n % 3 else "DROP",
        )
        for n in range(number)
    ]
    head = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]"
    return "\n".join([head, *lines, "COMMIT", ""])


def made(kind: str, number: int) -> tuple[Parsed, Translation]:
    """The rules as they were read, and translated."""
    parsed = iptables.read([InputFile("rules", rules(kind, number))], Given())
    return parsed, translate(parsed, "Many", Given(), "iptables-save")


@pytest.mark.parametrize("kind", KINDS)
def test_rules_that_never_meet_are_not_compared(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is compared with the few that it may have packets in common with."""
    compared = 0

    def counted(*values: Any) -> Any:
        nonlocal compared
        compared += 1
        return true(*values)

    true = boxes.common_box
    monkeypatch.setattr(specific, "common_box", counted)
    _, translation = made(kind, 300)
    assert len(translation.written.policy.rules) > 90
    assert compared < 300 * 8


@pytest.mark.parametrize("kind", KINDS)
def test_a_packet_is_judged_by_few_filters(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that ask for other addresses and ports than it has are passed over."""
    asked: list[int] = []

    def counted(filters: Iterable[Any], *values: Any) -> Any:
        some = list(filters)
        asked.append(len(some))
        return true(some, *values)

    true = decide.decide
    monkeypatch.setattr(proving, "decide", counted)
    parsed, translation = made(kind, 300)
    proof = prove(parsed, translation, Given(), most=200, sample=200)
    assert not proof.unknown
    assert len(asked) == proof.judged
    assert max(asked) < 20


def test_the_quick_check_is_bounded_by_packets_times_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of rules are judged by fewer packets, of each hook by some."""
    monkeypatch.setattr(command, "QUICK_STEPS", 60_000)
    parsed, translation = made("ports", 300)
    packets = command.quick_packets(translation)
    asked = 300 + sum(len(rule.filters) for rule in translation.written.policy.rules)
    assert 50_000 < packets * asked <= 60_000
    proof = prove(parsed, translation, Given(), most=packets, sample=packets)
    assert packets // 2 < proof.judged <= packets
    few = made("ports", 3)[1]
    assert command.quick_packets(few) == command.QUICK


def test_five_thousand_rules_take_seconds() -> None:
    """From what was read to what is written and checked, in the processor's time."""
    begun = time.process_time()
    parsed, translation = made("ports", 5_000)
    packets = command.quick_packets(translation)
    proof = prove(parsed, translation, Given(), most=packets, sample=packets)
    assert not proof.unknown
    assert time.process_time() - begun < 10


def drawn(draw: random.Random) -> tuple[int, int] | None:
    """A span of few or many numbers of 8 bits, or any number."""
    first = draw.randrange(256)
    return draw.choice((None, (first, first), (first, draw.randrange(first, 256))))


@pytest.mark.parametrize("seed", range(20))
def test_all_that_meet_are_found(seed: int) -> None:
    """Whatever was added and taken away: none is missed, and each is found once."""
    draw = random.Random(seed)
    dimensions = (Blocks(8), Blocks(8))
    kept: dict[int, Sequence[tuple[int, int] | None]] = {}
    for number in range(200):
        kept[number] = (drawn(draw), drawn(draw))
        for blocks, span in zip(dimensions, kept[number], strict=True):
            blocks.add(number, span)
        if draw.random() < 0.4:
            gone = draw.choice(list(kept))
            for blocks, span in zip(dimensions, kept.pop(gone), strict=True):
                blocks.remove(gone, span)
        wanted = (drawn(draw), drawn(draw))
        found = nearest(dimensions, wanted)
        assert found == sorted(set(found))
        meeting = {n for n, spans in kept.items() if all(map(meet, spans, wanted))}
        assert meeting <= set(found) <= set(kept)


def meet(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    """Whether two spans have a number in common; None has all."""
    return one is None or other is None or (one[0] <= other[1] and other[0] <= one[1])
