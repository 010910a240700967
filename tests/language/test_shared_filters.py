"""Filter lists and actions: what is written is read back, and errors say where they are."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ipsecd.errors import InvalidInput
from ipsecd.language.filters import parse_filter
from ipsecd.language.shared_filters import (
    expanded,
    format_shared_filter,
    format_shared_filters,
    parse_shared_filter,
    parse_shared_filters,
)
from ipsecd.model.addresses import Family, HostName, Network, Selector, SelectorKind
from ipsecd.model.kinds import Action
from ipsecd.model.shared_filters import (
    AddressRange,
    FilterAction,
    FilterList,
    ServerKind,
    Servers,
    SharedEndpoint,
    SharedFilter,
    SharedFilters,
)
from ipsecd.model.values import ICMP, TCP, UDP, PortRange
from tests.strategies import ADDRESSES

HOSTS = st.builds(
    lambda address: Network(Family.IPV4, address, 32),
    st.sampled_from(range(0x0A000000, 0x0A000009)),
)
RANGES = st.builds(
    lambda family, first, more: AddressRange(family, first, first + more),
    st.sampled_from(Family),
    st.sampled_from((0, 1, 0x0A000000, 0x0A0000FF)),
    st.integers(0, 300),
)
SERVERS = st.builds(
    Servers, st.sampled_from(ServerKind), st.lists(HOSTS, min_size=1, max_size=3).map(tuple)
)
NAMED = st.sampled_from(
    [HostName("dns"), HostName("example.com"), Selector(SelectorKind.LABEL, "a=b")]
)
SIDES = st.builds(
    SharedEndpoint,
    st.one_of(ADDRESSES, RANGES, SERVERS, NAMED),
    st.sampled_from([(), (PortRange(80, 80),), (PortRange(1, 9), PortRange(20, 20))]),
)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(["yes", "- a: b", "\x1b[2J\nfilters: []", "规则", "x" * 300]),
)


@st.composite
def shared_filters(draw: st.DrawFn) -> SharedFilter:
    sides = draw(SIDES), draw(SIDES)
    has_ports = any(side.ports for side in sides)
    protocol = draw(st.sampled_from((None, TCP, UDP) if has_ports else (None, TCP, ICMP, 47)))
    try:
        return SharedFilter(*sides, protocol, draw(st.booleans()), description=draw(TEXTS))
    except InvalidInput:
        assume(condition=False)
        raise


@given(shared_filters())
def test_a_filter_is_read_back(flt: SharedFilter) -> None:
    """Its text names an equal one, whatever stands on its sides."""
    assert parse_shared_filter(format_shared_filter(flt)) == flt


NAMES = st.sampled_from(["a", "b", "yes", "007", "规则", "- x", "'quoted\"", "x" * 256])


@given(
    st.dictionaries(NAMES, st.tuples(TEXTS, st.lists(shared_filters(), max_size=4))),
    st.dictionaries(NAMES, st.tuples(TEXTS, st.sampled_from(Action))),
)
def test_a_document_is_read_back(
    lists: dict[str, tuple[str, list[SharedFilter]]], actions: dict[str, tuple[str, Action]]
) -> None:
    """All names, descriptions and filters are what they were."""
    shared = SharedFilters.of(
        (FilterList(name, text, tuple(filters)) for name, (text, filters) in lists.items()),
        (FilterAction(name, action, text) for name, (text, action) in actions.items()),
    )
    again = parse_shared_filters(format_shared_filters(shared).encode())
    assert again == shared
    described = [flt.description for each in again.lists.values() for flt in each.filters]
    assert described == [
        flt.description for name in again.lists for flt in shared.lists[name].filters
    ]


@given(st.integers(0, 1 << 12), st.integers(0, 1 << 9))
def test_a_range_is_the_fewest_networks(first: int, more: int) -> None:
    """They hold each of its addresses once, ascend, and no two could be one."""
    networks = list(AddressRange(Family.IPV4, first, first + more).networks())
    held = [
        address
        for network in networks
        for address in range(network.address, network.address + (1 << 32 - network.length))
    ]
    assert held == list(range(first, first + more + 1))
    for one, other in pairwise(networks):
        is_half = one.length == other.length and one.address >> (32 - one.length) & 1 == 0
        assert not is_half


@pytest.mark.parametrize("family", Family)
def test_all_addresses_are_one_network(family: Family) -> None:
    """The largest range there is has no address after it."""
    whole = AddressRange(family, 0, (1 << family.bits) - 1)
    assert list(whole.networks()) == [Network(family, 0, 0)]


def test_a_list_is_expanded_to_each_filter_once() -> None:
    """What two filters have in common is there once, in the place of the first."""
    texts = ["10.0.0.2-10.0.0.4=0:80:TCP", "10.0.0.4=0:80:TCP", "0+dns(10.0.0.9, 10.0.0.8):53:UDP"]
    filters = expanded(FilterList("L", "", tuple(map(parse_shared_filter, texts))))
    assert list(filters) == list(
        map(
            parse_filter,
            [
                "10.0.0.2/31=0:80:TCP",
                "10.0.0.4=0:80:TCP",
                "0+10.0.0.8:53:UDP",
                "0+10.0.0.9:53:UDP",
            ],
        )
    )


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("filter-lists: 3\n", 1, "a list"),
        ("filter-lists:\n  - filters: []\n", 2, "no 'filter-list'"),
        ("filter-lists:\n  - filter-list: a\n    filters: [x]\n", 3, "'x'"),
        (
            "filter-lists:\n  - filter-list: a\n    filters:\n      - 10.0.0.9-10.0.0.1=0\n",
            4,
            "ends",
        ),
        (
            "filter-lists:\n  - filter-list: a\n    filters:\n      - 0=10.0.0.1-[::1]\n",
            4,
            "two IP",
        ),
        (
            "filter-lists:\n  - filter-list: a\n    filters:\n      - 0:1.1.1.1-1.1.1.2=*\n",
            4,
            "port",
        ),
        ("filter-lists:\n  - filter-list: a\n    filters:\n      - 0=gateway()\n", 4, "no address"),
        ("filter-lists:\n  - filter-list: a\n  - filter-list: a\n", 3, "above already"),
        ("filter-actions:\n  - filter-action: a\n", 2, "nothing says what it does"),
        ("filter-actions:\n  - filter-action: a\n    action: ban\n", 2, "'ban' is not"),
        ("filter-lists: []\nlists: []\n", 2, "'lists' is not known"),
        ("filter-lists: [\n", 2, "not YAML"),
        ("filter-lists: []\n---\na: b\n", 2, "more than one"),
    ],
)
def test_an_error_says_where_it_is(text: str, line: int, said: str) -> None:
    """With the file, the line and what stands there."""
    with pytest.raises(InvalidInput, match=said) as caught:
        parse_shared_filters(text, "shared-filters.yaml")
    assert (caught.value.source, caught.value.line) == ("shared-filters.yaml", line)


def test_nothing_is_no_lists() -> None:
    """An empty file, or one of comments, has neither lists nor actions."""
    assert not parse_shared_filters(b"")
    assert not parse_shared_filters("# nothing\n")
    assert not parse_shared_filters(format_shared_filters(SharedFilters()))


def test_lists_and_actions_are_put_and_removed() -> None:
    """What had them before still has them as they were."""
    before = SharedFilters.of([FilterList("a")], [FilterAction("x", Action.BLOCK)])
    after = before.with_list(FilterList("b")).without_list("a").with_list(FilterList("c"))
    after = after.with_action(FilterAction("x", Action.PERMIT)).without_action("y")
    assert (list(before.lists), list(after.lists)) == (["a"], ["b", "c"])
    assert before.actions["x"].action is Action.BLOCK
    assert after.actions["x"].action is Action.PERMIT


def test_a_description_that_is_not_text_is_refused_by_what_it_describes() -> None:
    """It could not be written into a file."""
    flt = parse_shared_filter("*+0:445:TCP")
    with pytest.raises(InvalidInput, match="description of a filter is not text"):
        SharedFilter(flt.source, flt.destination, description="\ud800")
    with pytest.raises(InvalidInput, match="description of filter list 'Ports' is not text"):
        FilterList("Ports", "\ud800")
    with pytest.raises(InvalidInput, match="description of filter action 'Stop' is not text"):
        FilterAction("Stop", Action.BLOCK, "\ud800")
