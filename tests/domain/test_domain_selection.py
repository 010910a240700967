"""Tests of which policy a host takes, and of the index that offers stand in."""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.errors import InvalidInput
from ipsecd_domain.layout import (
    MAX_INDEX_BYTES,
    Index,
    Offer,
    directory_of,
    hashed,
    index_path,
    offer_to_json,
    read_index,
    unhashed,
    write_index,
)
from ipsecd_domain.selection import Candidate, Host, Naming, choose, covers, naming, rank, selects

HOST = Host("web1", ("web", "db"), (("site", "paris"), ("tier", "1")))
ROLES = ("targets", "group-web", "group-db")
NAMES = ("web1", "WEB1", "web*", "*1", "w?b1", "db*", "*")
LABELS = (("site", "paris"), ("site", "rome"), ("tier", "1"), ("os", "debian"))


def candidate(role: str = "targets", **given: Any) -> Candidate:
    number = given.pop("number", 0)
    path = f"{directory_of(role)}/p{number}.yaml"
    return Candidate(Offer(path, f"P{number}", **given), role, f"{number:064x}")


LATE, EARLY = "2026-11-29T12:00:01Z", "2026-11-29T12:00:00Z"
SPECIFIC: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"hosts": ("web1",)}, {"hosts": ("web*",), "labels": LABELS[:1], "role": "group-web"}),
    ({"hosts": ("db*", "WEB1")}, {"hosts": ("*",), "precedence": 9}),
    ({"hosts": ("*",)}, {"labels": (LABELS[0], LABELS[2]), "role": "group-web"}),
    ({"labels": (LABELS[0], LABELS[2])}, {"labels": LABELS[:1], "role": "group-web"}),
    ({"labels": LABELS[:1]}, {"role": "group-db", "precedence": 9}),
    ({"role": "group-db"}, {"precedence": 9, "published": LATE}),
    ({"precedence": 1}, {"published": LATE}),
    ({"precedence": 1, "role": "group-db"}, {"precedence": 0, "role": "group-web"}),
    ({"canary": 99.9}, {"published": LATE}),
    ({"published": LATE}, {"published": EARLY}),
    ({"number": 2}, {"number": 1}),
]
"""Pairs of which the first goes before the second."""


@pytest.mark.parametrize(("more", "less"), SPECIFIC)
def test_the_more_specific_one_wins(more: dict[str, Any], less: dict[str, Any]) -> None:
    """By one thing after the other, whatever comes after it, and the choice says so."""
    first, second = candidate(**{"number": 1} | more), candidate(**{"number": 0} | less)
    for candidates in ([first, second], [second, first]):
        chosen = choose([], candidates, HOST)
        assert chosen.chosen == first
        assert f"it goes before policy '{second.offer.policy}'" in chosen.reasons[1]


@pytest.mark.parametrize(
    ("offer", "is_selected"),
    [
        ({}, True),
        ({"hosts": ("web1",)}, True),
        ({"hosts": ("WEB?",)}, True),
        ({"hosts": ("web",)}, False),
        ({"hosts": ("db*", "*1")}, True),
        ({"hosts": ("w.b1",)}, False),
        ({"labels": LABELS[:1]}, True),
        ({"labels": LABELS[1:2]}, False),
        ({"labels": (LABELS[0], LABELS[3])}, False),
        ({"hosts": ("web1",), "labels": LABELS[1:2]}, False),
    ],
)
def test_every_selector_must_match(offer: dict[str, Any], is_selected: bool) -> None:
    """Of several names one is enough; of labels all are needed."""
    assert selects(candidate(**offer).offer, HOST) == is_selected


def test_a_withdrawal_counts_where_nothing_is_offered() -> None:
    """Of all, of a group, beside what another index offers, and where nothing is withdrawn."""
    gone, empty = Index(withdrawn=True), Index()
    assert choose([("targets", gone)], [], HOST).withdrawn
    assert choose([("targets", empty), ("group-web", gone)], [], HOST).withdrawn
    of_group = candidate("group-web")
    chosen = choose([("targets", gone), ("group-web", Index((of_group.offer,)))], [of_group], HOST)
    assert (chosen.chosen, chosen.withdrawn) == (of_group, False)
    nothing = choose([("targets", empty)], [], HOST)
    assert (nothing.chosen, nothing.withdrawn) == (None, False)


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    """Some that select ``HOST``, each with a path of its own."""
    made = [
        candidate(
            draw(st.sampled_from(ROLES)),
            number=number,
            hosts=tuple(draw(st.lists(st.sampled_from(NAMES), max_size=3))),
            labels=tuple(sorted(draw(st.sets(st.sampled_from(LABELS), max_size=2)))),
            precedence=draw(st.integers(-2, 2)),
            canary=draw(st.sampled_from([0.01, 30.0, 99.0, 100.0])),
            published=draw(st.sampled_from([EARLY, LATE])),
        )
        for number in range(draw(st.integers(0, 8)))
    ]
    return [each for each in made if selects(each.offer, HOST)]


def beats(first: Candidate, second: Candidate) -> bool:
    """The order as the manual words it, one question after the other."""
    mine, other = first.offer, second.offer
    exact = [any(name.lower() == "web1" for name in offer.hosts) for offer in (mine, other)]
    if exact[0] != exact[1]:
        return exact[0]
    if not exact[0] and bool(mine.hosts) != bool(other.hosts):
        return bool(mine.hosts)
    if len(mine.labels) != len(other.labels):
        return len(mine.labels) > len(other.labels)
    if (first.role == "targets") != (second.role == "targets"):
        return second.role == "targets"
    if mine.precedence != other.precedence:
        return mine.precedence > other.precedence
    if (mine.canary < 100) != (other.canary < 100):
        return mine.canary < 100
    return (mine.published, mine.path) > (other.published, other.path)


@given(candidates(), st.randoms(use_true_random=False))
def test_the_choice_is_the_one_that_beats_all(
    offered: list[Candidate], shuffled: random.Random
) -> None:
    """Whatever order they come in; and only those whose share holds the host."""
    covered = [each for each in offered if covers(each, HOST)]
    chosen = choose([], offered, HOST)
    shuffled.shuffle(offered)
    assert choose([], offered, HOST).chosen == chosen.chosen
    if not covered:
        assert chosen.chosen is None
        return
    assert chosen.chosen in covered
    for other in covered:
        assert other == chosen.chosen or beats(chosen.chosen, other)


@given(candidates())
def test_the_order_is_total(offered: list[Candidate]) -> None:
    """No two candidates are equal, so that every host of a kind chooses the same."""
    ranks = [rank(each, HOST) for each in offered]
    assert len(set(ranks)) == len(ranks)


@given(st.floats(0.01, 99.99), st.floats(0.01, 99.99), st.integers(0, 10**6), st.integers(0, 99))
def test_a_growing_share_loses_nobody(a: float, b: float, host: int, number: int) -> None:
    """Who is in the smaller share is in the greater one."""
    small, great = (replace(candidate(number=number).offer, canary=c) for c in sorted((a, b)))
    member = Host(f"h{host}")
    if covers(Candidate(small, "targets", "ab" * 32), member):
        assert covers(Candidate(great, "targets", "ab" * 32), member)
    whole = replace(small, canary=100.0)
    assert covers(Candidate(whole, "targets", "ab" * 32), member)


def test_a_share_is_about_as_large_as_it_says() -> None:
    """Of ten thousand hosts, and not the same ones for every document."""
    shares = []
    for digest in ("ab" * 32, "cd" * 32):
        canary = Candidate(replace(candidate().offer, canary=5.0), "targets", digest)
        shares.append({n for n in range(10_000) if covers(canary, Host(f"host{n}"))})
    assert all(400 < len(share) < 600 for share in shares)
    assert shares[0] != shares[1]


def test_names_are_compared_without_letter_case() -> None:
    """As DNS does it."""
    assert naming(candidate(hosts=("Web1",)).offer, Host("wEB1")) is Naming.EXACT


@given(candidates())
def test_an_index_reads_as_it_was_written(offered: list[Candidate]) -> None:
    """For every role; an offer from the directory of another one makes no index."""
    for role in ROLES:
        own = [each.offer for each in offered if each.role == role]
        assert read_index(write_index(Index(tuple(own))), role) == Index(tuple(own))
        others = [each.offer for each in offered if each.role != role]
        if others:
            with pytest.raises(InvalidInput, match="path: "):
                read_index(write_index(Index(tuple(own + others))), role)
    assert read_index(write_index(Index(withdrawn=True)), "targets").withdrawn


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
OFFER = offer_to_json(candidate(hosts=("web*",), labels=LABELS[:1], interval_s=60.0).offer)


@given(st.sampled_from([*OFFER, "other"]), json_values)
def test_an_index_is_an_index_or_an_error(name: str, value: Any) -> None:
    """Whatever stands in the place of one of its values."""
    document = {"format": 1, "withdrawn": False, "policies": [{**OFFER, name: value}]}
    for text in (json.dumps(document), json.dumps({**document, "policies": value}), "[" * 99_999):
        with contextlib.suppress(InvalidInput):
            read_index(text.encode(), "targets")


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "all/../x.yaml"},
        {"path": "/all/x.yaml"},
        {"path": "group/web/x/y.yaml"},
        {"path": "all/x.json"},
        {"path": "all/.x.yaml"},
        {"hosts": ["web[12]"]},
        {"hosts": "web1"},
        {"labels": {"site": 1}},
        {"labels": ["site"]},
        {"canary": 0},
        {"canary": 100.1},
        {"canary": True},
        {"canary": 10**400},
        {"interval_s": 1},
        {"interval_s": 1e9},
        {"precedence": 1.5},
        {"precedence": 10**9},
        {"published": "yesterday"},
        {"policy": ""},
        {"policy": None},
    ],
    ids=str,
)
def test_an_offer_out_of_bounds_is_none(wrong: dict[str, Any]) -> None:
    """Each of these alone makes an index that nobody obeys."""
    document = {"format": 1, "withdrawn": False, "policies": [OFFER]}
    read_index(json.dumps(document).encode(), "targets")
    with pytest.raises(InvalidInput):
        read_index(json.dumps({**document, "policies": [{**OFFER, **wrong}]}).encode(), "targets")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"format": 2, "withdrawn": false, "policies": []}',
        b'{"format": 1, "withdrawn": 0, "policies": []}',
        b'{"format": 1, "withdrawn": true, "policies": [%s]}' % json.dumps(OFFER).encode(),
        b'{"format": 1, "withdrawn": false, "policies": [%s, %s]}'
        % (json.dumps(OFFER).encode(), json.dumps(OFFER).encode()),
        b" " * (MAX_INDEX_BYTES + 1),
    ],
    ids=lambda text: text.decode(errors="replace")[:50],
)
def test_a_text_that_is_no_index(text: bytes) -> None:
    """It is refused, and quoted shortly."""
    with pytest.raises(InvalidInput):
        read_index(text, "targets")


def test_the_name_of_a_file_leads_back_to_its_path() -> None:
    """With the digest before it and without."""
    for role in ROLES:
        path = index_path(role)
        assert unhashed(hashed(path, "ab" * 32)) == path == unhashed(path)


@pytest.mark.parametrize(
    "given",
    [
        {"name": ""},
        {"name": "a/b"},
        {"name": "a" * 256},
        {"groups": ("..",)},
        {"groups": ("a/b",)},
        {"groups": tuple(f"g{n}" for n in range(33))},
        {"labels": (("a b", "c"),)},
        {"labels": (("a", "\n"),)},
    ],
    ids=str,
)
def test_a_host_that_cannot_be(given: dict[str, Any]) -> None:
    """Names end up in paths and in regular expressions, so they are plain."""
    with pytest.raises(InvalidInput):
        Host(**{"name": "web1", **given})
