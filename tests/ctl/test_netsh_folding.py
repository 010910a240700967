"""Long filter lists of netsh: their filters are in lists of addresses, with the same verdicts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecctl.netsh import folding
from ipsecctl.netsh.session import DONE, FAILED
from ipsecd.language.filters import format_filter
from tests.ctl.netsh_host import NetshHost

MAKE = """
ipsec static
add filteraction name=Stop action=block
add policy name=P assign=y
add filterlist name=Bans
add rule name=R policy=P filterlist=Bans filteraction=Stop
"""
FOLDED = "@netsh-Bans+0"


@contextmanager
def limits(above: int, below: int) -> Iterator[None]:
    """More than `above` filters are many, and less than `below` are few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "FOLD_ABOVE", above)
        patch.setattr(folding, "UNFOLD_BELOW", below)
        yield


@pytest.fixture
def host() -> Iterator[NetshHost]:
    """One on which more than four filters are many, and less than three are few."""
    with limits(4, 3):
        host = NetshHost()
        assert host.file(MAKE).code == DONE
        yield host


def adding(*numbers: int, tags: str = "dstaddr=me", verb: str = "add") -> str:
    lines = (f"{verb} filter filterlist=Bans srcaddr=10.1.0.{n} {tags}\n" for n in numbers)
    return "ipsec static\n" + "".join(lines)


def of_policy(host: NetshHost) -> list[str]:
    return [format_filter(flt) for rule in host.policy("P").rules for flt in rule.filters]


def shown(host: NetshHost) -> list[str]:
    lines = host.line("netsh ipsec static show filterlist name=Bans").lines
    return [line.partition(": ")[2] for line in lines if line.startswith("Source IP Address")]


def blocked(host: NetshHost, number: int) -> bool:
    return host.verdict(f"tcp 10.1.0.{number}:4000 > me:445") == "block"


def test_many_become_a_list_and_few_become_filters(host: NetshHost) -> None:
    """Between both limits all stays as it is; neither verdicts change nor what scripts see."""
    numbers = list(range(1, 5))
    assert host.file(adding(*numbers)).code == DONE
    assert len(of_policy(host)) == 4
    steps = [(5, "add", True), (4, "delete", True), (3, "delete", True), (2, "delete", True)]
    expected = [True, True, True, False]
    for (number, verb, _), is_folded in zip(steps, expected, strict=True):
        changes = host.changes
        assert host.file(adding(number, verb=verb)).code == DONE
        numbers = [*numbers, number] if verb == "add" else [n for n in numbers if n != number]
        assert host.changes == changes + 1
        assert (of_policy(host) == [FOLDED]) is is_folded
        assert ("netsh-Bans" in host.lists) is is_folded
        assert shown(host) == [f"10.1.0.{n}" for n in numbers]
        assert [n for n in range(1, 8) if blocked(host, n)] == numbers


def test_one_more_asks_for_nothing_and_changes_the_list_alone(host: NetshHost) -> None:
    """Neither what is in the list nor a policy goes over the wire."""
    host.file(adding(*range(1, 10)))
    before = host.documents, host.shared_text
    host.asked.clear()
    assert host.file(adding(77)).code == DONE
    assert host.asked == ["GetWorkspace", "ChangeTogether"]
    assert (host.documents, host.shared_text) == before
    assert blocked(host, 77)
    assert len(host.lists["netsh-Bans"]) == 10


def test_one_less_is_found_by_all_that_is_given(host: NetshHost) -> None:
    """As among filters: by the address alone, or with its mask; none that agrees is an error."""
    host.file(adding(*range(1, 10)))
    host.line("netsh ipsec static add filter Bans srcaddr=10.1.0.0 dstaddr=me srcmask=24")
    host.line("netsh ipsec static add filter Bans srcaddr=10.1.0.0 dstaddr=me srcmask=25")
    for wrong in (
        "srcaddr=10.1.0.99 dstaddr=me",
        "srcaddr=10.1.0.1 dstaddr=any",
        "srcaddr=10.1.0.1 dstaddr=me mirrored=no",
        "srcaddr=10.1.0.0 srcmask=23 dstaddr=me",
        "srcaddr=me dstaddr=10.1.0.1",
        "srcaddr=10.1.0.1 dstaddr=me protocol=TCP",
    ):
        answer = host.line(f"netsh ipsec static delete filter Bans {wrong}")
        assert answer.code == FAILED, wrong
    assert host.line("netsh ipsec static delete filter Bans 10.1.0.0 me srcmask=25").code == DONE
    assert len(host.lists["netsh-Bans"]) == 10
    assert host.line("netsh ipsec static delete filter Bans 10.1.0.0 me").code == DONE
    assert host.line("netsh ipsec static delete filter Bans 10.1.0.9 me").code == DONE
    assert shown(host) == [f"10.1.0.{n}" for n in range(1, 9)]


def test_who_only_looks_changes_nothing() -> None:
    """Neither are many filters that were there before made a list, nor a few of one filters."""
    host = NetshHost()
    host.file(MAKE + adding(*range(1, 7)))
    with limits(4, 3):
        for _ in range(2):
            changes = host.changes
            assert host.line("netsh ipsec static show all").code == DONE
            assert host.line("netsh ipsec static show filterlist Bans").code == DONE
            assert host.changes == changes
            # The next filter has them in a list, of which somebody else takes most out.
            host.file(adding(7))
            assert of_policy(host) == [FOLDED]
            host.lists["netsh-Bans"] = set(list(host.lists["netsh-Bans"])[:1])


def test_each_group_has_a_list_of_its_own(host: NetshHost) -> None:
    """Filters with other ports or another direction; what is described stays itself."""
    host.file(adding(*range(1, 7)))
    host.file(adding(*range(1, 8), tags="dstaddr=me protocol=TCP dstport=22 mirrored=no"))
    host.file(adding(*range(1, 4), tags='dstaddr=me protocol=UDP "description=noted"'))
    wanted = {FOLDED, "@netsh-Bans-2=0:22:TCP"}
    described = {f"10.1.0.{n}+0::UDP" for n in range(1, 4)}
    assert set(of_policy(host)) == wanted | described
    assert len(shown(host)) == 6 + 7 + 3


def test_names_of_others_are_not_taken(host: NetshHost) -> None:
    """Also not if filters come and go until there are too few and then many."""
    host.lists["netsh-Bans"] = set()
    host.file(adding(*range(1, 7)))
    assert of_policy(host) == ["@netsh-Bans-2+0"]
    host.file(adding(*range(2, 7), verb="delete"))
    assert of_policy(host) == ["10.1.0.1+0"]
    assert set(host.lists) == {"netsh-Bans"}


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("Host PermitList", "netsh-Host-PermitList"),
        ("封禁列表", "netsh-list"),
        (".hidden~", "netsh-hidden"),
        ("a" * 200, f"netsh-{'a' * 40}"),
    ],
)
def test_names_of_lists_say_whose_they_are(name: str, first: str) -> None:
    """Whatever a filter list is called."""
    names = list(islice(folding.list_names(name), 3))
    assert names == [first, f"{first}-2", f"{first}-3"]


def test_a_filter_list_takes_its_lists_along(host: NetshHost) -> None:
    """When it is deleted, but not while a filter of somebody else names one."""
    host.file(adding(*range(1, 7)))
    host.line("netsh ipsec static delete policy P")
    host.documents["Q"] = 'policy: Q\nrules:\n  - rule: R\n    filters: ["@netsh-Bans=0"]\n'
    host.documents["Q"] += "    action: block\n"
    assert host.line("netsh ipsec static delete filterlist Bans").code == DONE
    assert set(host.lists) == {"netsh-Bans"}
    del host.documents["Q"]
    host.lists.clear()
    host.file(MAKE.replace("add filteraction", "delete filteraction Stop\nadd filteraction"))
    host.file(adding(*range(1, 7)))
    assert set(host.lists) == {"netsh-Bans"}
    assert host.line("netsh ipsec static delete all").code == DONE
    assert not host.lists


def test_a_script_that_begins_anew_keeps_the_list(host: NetshHost) -> None:
    """What deletes all and adds it again changes the entries that differ, and no policy."""
    text = MAKE.replace("ipsec static\n", "ipsec static\ndelete all\n", 1)
    assert host.file(text + adding(*range(1, 7))).code == DONE
    before = host.documents["P"]
    assert host.file(text + adding(*range(3, 9))).code == DONE
    assert host.documents["P"] == before
    assert [n for n in range(1, 10) if blocked(host, n)] == [*range(3, 9)]
    assert set(host.lists) == {"netsh-Bans"}


def test_entries_with_an_end_are_left_to_their_list(host: NetshHost) -> None:
    """As filters they would be there for good."""
    host.file(adding(*range(1, 7)))
    host.ending["netsh-Bans"] = ["10.1.0.1"]
    host.file(adding(*range(2, 7), verb="delete"))
    assert of_policy(host) == [FOLDED]
    assert blocked(host, 1)


def test_what_is_expected_of_a_policy_is_judged_by_filters(host: NetshHost) -> None:
    """So a filter list stays filters where its policy says what it expects."""
    host.documents["P"] += 'expect:\n  - {packet: "tcp 10.1.0.1:9 > me:5", verdict: block}\n'
    host.file(adding(*range(1, 7)))
    assert len(of_policy(host)) == 6
    assert not host.lists


def test_an_export_has_every_filter(host: NetshHost, tmp_path: Path) -> None:
    """Another host makes lists of them again."""
    host.file(adding(*range(1, 7)))
    assert (
        host.line(["netsh", "ipsec", "static", "exportpolicy", str(tmp_path / "all")]).code == DONE
    )
    assert "@" not in (tmp_path / "all").read_text()
    other = NetshHost()
    assert (
        other.line(["netsh", "ipsec", "static", "importpolicy", str(tmp_path / "all")]).code == DONE
    )
    assert other.lists == host.lists
    assert of_policy(other) == [FOLDED]
    # What is there is replaced, also by itself.
    host.file(adding(88))
    assert (
        host.line(["netsh", "ipsec", "static", "importpolicy", str(tmp_path / "all")]).code == DONE
    )
    assert other.lists == host.lists


def test_a_list_that_somebody_deleted_holds_nothing(host: NetshHost) -> None:
    """It is shown so, and is made again by the next filter."""
    host.file(adding(*range(1, 7)))
    host.lists.clear()
    assert shown(host) == []
    assert host.file(adding(9)).code == DONE
    assert blocked(host, 9)


ADDRESSES = st.tuples(st.integers(0, 15), st.sampled_from([0, 28, 30, 31, 32])).map(
    lambda both: (both[0] >> 32 - both[1] << 32 - both[1] if both[1] else 0, both[1])
)
"""Of 10.1.0.0/28, so that they lie in each other; of length 0 is any address."""
TAGS = st.sampled_from(["", "mirrored=no", "protocol=TCP", "protocol=TCP dstport=445"])


def tags_of(address: tuple[int, int], *, is_source: bool, tags: str) -> str:
    low, length = address
    side, other = ("src", "dst") if is_source else ("dst", "src")
    text = f"{side}addr=10.1.0.{low} {side}mask={length}" if length else f"{side}addr=any"
    return f"{text} {other}addr=me {tags}"


COMMANDS = st.lists(
    st.tuples(st.sampled_from(["Bans", "Bans", "Friends"]), ADDRESSES, st.booleans(), TAGS),
    min_size=1,
    max_size=40,
)
BOTH = (
    MAKE
    + """
add filteraction name=Go action=permit
add filterlist name=Friends
add rule name=G policy=P filterlist=Friends filteraction=Go
"""
)


@settings(max_examples=40, deadline=None)
@given(COMMANDS, st.randoms(use_true_random=False))
def test_folded_and_unfolded_decide_alike(
    commands: list[tuple[str, tuple[int, int], bool, str]], chance: random.Random
) -> None:
    """A block list and a permit list with prefixes of all lengths, while filters come and go."""
    hosts = NetshHost(), NetshHost()
    lines = [
        f"filter filterlist={name} {tags_of(address, is_source=is_source, tags=tags)}"
        for name, address, is_source, tags in commands
    ]
    gone = chance.sample(sorted(set(lines)), k=len(set(lines)) // 2)
    steps = [["add " + line for line in lines], ["delete " + line for line in gone]]
    for host, above in zip(hosts, (10**6, 1), strict=True):
        with limits(above, 1):
            assert host.file(BOTH).code == DONE
    for step in steps:
        answers = []
        for host, (above, below) in zip(hosts, ((10**6, 0), (2, 2)), strict=True):
            with limits(above, below):
                answers.append(host.file("ipsec static\n" + "\n".join(step)))
        assert answers[0].lines == answers[1].lines
        for number in range(17):
            for packet in (
                f"tcp 10.1.0.{number}:4000 > me:445",
                f"udp 10.1.0.{number}:4000 > me:445",
                f"tcp me:4000 > 10.1.0.{number}:445",
                f"udp me:4000 > 10.1.0.{number}:445",
            ):
                assert hosts[0].verdict(packet) == hosts[1].verdict(packet), packet
        told = [
            sorted(host.line("netsh ipsec static show filterlist all verbose").lines)
            for host in hosts
        ]
        assert told[0] == told[1]
    assert not hosts[0].lists
