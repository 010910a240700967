"""ipset: sets become lists with their own entries, and say nothing of what becomes of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecctl.importing.ipset_source import read
from ipsecctl.importing.source import Given, InputFile
from ipsecd.errors import InvalidInput
from ipsecd.language.list_entries import format_list
from ipsecd.model.kinds import Action
from tests.ctl.importing.expected import imported
from tests.ctl.importing.judged import notes, passes, verdicts

BLOCK = Given(block=True)


def sets(text: str) -> list[InputFile]:
    """What ``ipset save`` has printed."""
    return [InputFile("sets", text)]


def lists(text: str) -> dict[str, list[str]]:
    """The entries of the lists that sets become."""
    translation, _ = imported("ipset", sets(text), BLOCK)
    return {name: list(format_list(one)) for name, one in translation.written.lists.items()}


def test_entries_that_adjoin_stay_themselves() -> None:
    """So that each can be taken out of the list by itself."""
    text = "create bans hash:ip\nadd bans 203.0.113.6\nadd bans 203.0.113.7\n"
    assert lists(text) == {"bans": ["203.0.113.6", "203.0.113.7"]}


def test_a_set_only_counts_unless_it_is_to_block() -> None:
    """The set does not say what becomes of its addresses."""
    text = "create bans hash:net\nadd bans 203.0.113.0/24\n"
    counting, _ = imported("ipset", sets(text), Given())
    blocking, _ = imported("ipset", sets(text), BLOCK)
    assert counting.written.policy.audit
    assert not blocking.written.policy.audit
    assert {rule.action for rule in blocking.written.policy.rules} == {Action.BLOCK}
    assert passes("ipset", sets(text), "tcp in 203.0.113.7 80")
    assert not passes("ipset", sets(text), "tcp in 203.0.113.7 80", BLOCK)
    assert passes("ipset", sets(text), "tcp in 198.51.100.7 80", BLOCK)


def test_an_exception_is_cut_out_of_what_it_lies_in() -> None:
    """The narrowest network that holds an address decides."""
    text = (
        "create nets hash:net\nadd nets 10.0.0.0/8\nadd nets 10.1.0.0/16 nomatch\n"
        "add nets 10.1.2.0/24\nadd nets 10.9.0.0/16\n"
    )
    for address, inside in (
        ("10.0.0.1", True),
        ("10.1.0.1", False),
        ("10.1.2.3", True),
        ("10.9.9.9", True),
    ):
        assert passes("ipset", sets(text), f"tcp in {address} 1", BLOCK) is not inside
    assert {"10.1.2.0/24", "10.9.0.0/16", "10.128.0.0/9"} <= set(lists(text)["nets"])


@pytest.mark.parametrize(
    ("kind", "entry", "expected"),
    [
        ("hash:ip family inet netmask 24", "192.0.2.0", ["192.0.2.0/24"]),
        ("hash:ip family inet6", "2001:db8::7", ["2001:db8::7"]),
        ("bitmap:ip range 192.0.2.0/24", "192.0.2.6-192.0.2.9", ["192.0.2.6/31", "192.0.2.8/31"]),
        ("hash:net", '192.0.2.7/24 comment "seen, nomatch" timeout 0', ["192.0.2.0/24"]),
        ("hash:net", "0.0.0.0/0", ["0.0.0.0/0"]),
    ],
)
def test_an_entry_is_taken_as_its_set_means_it(kind: str, entry: str, expected: list[str]) -> None:
    """With the prefix length of the set, or its own."""
    assert lists(f"create s {kind}\nadd s {entry}\n") == {"s": expected}


def test_a_set_of_sets_is_a_list_of_all_that_they_hold() -> None:
    """Of both IP versions; what is no set of addresses in it is named."""
    text = (
        "create a hash:ip\ncreate b hash:net family inet6\ncreate c hash:ip,port\n"
        "create all list:set\nadd a 192.0.2.7\nadd b 2001:db8::/32\nadd c 192.0.2.8,tcp:22\n"
        "add all a\nadd all b\nadd all c\n"
    )
    assert lists(text)["all"] == ["192.0.2.7", "2001:db8::/32"]
    said = notes("ipset", sets(text), BLOCK)
    assert {text.split(": ")[0] for text, weaker in said.items() if weaker} == {"sets:3", "sets:4"}


def test_entries_that_would_end_stay_and_it_is_said() -> None:
    """A list in a file has no ends; the policy is stricter, and not weaker."""
    text = "create s hash:ip timeout 600\nadd s 192.0.2.7 timeout 30\nadd s 192.0.2.8 timeout 0\n"
    said = notes("ipset", sets(text), BLOCK)
    assert [weaker for note, weaker in said.items() if "of its entries 1 would end" in note] == [
        False
    ]


def test_lines_are_carried_out_as_restore_does() -> None:
    """Sets are filled aside and swapped in, by what updates them."""
    text = (
        "create s hash:ip -exist\ncreate new hash:ip -exist\nflush new\nadd s 192.0.2.1\n"
        "add new 192.0.2.2\nadd new 192.0.2.3\ndel new 192.0.2.3\nswap new s\ndestroy new\nCOMMIT\n"
    )
    assert lists(text) == {"s": ["192.0.2.2"]}


def test_a_name_that_no_list_can_have_is_made_one() -> None:
    """Names of sets have other signs; no two lists have one name."""
    text = "create a:b hash:ip\ncreate a/b hash:ip\nadd a:b 192.0.2.1\nadd a/b 192.0.2.2\n"
    assert lists(text) == {"a-b": ["192.0.2.1"], "a-b-2": ["192.0.2.2"]}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("create s hash:ip\nadd s 192.0.2.300\n", 2),
        ("create s hash:ip\nadd s a-name.example\n", 2),
        ("create s hash:ip\n\nswap s other\n", 3),
        ("create s hash:ip netmask 500\n", 1),
        ("-A INPUT -j DROP\n", 1),
        ("# nothing\n", 1),
        ("create\n", 1),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, line: int) -> None:
    """By its line."""
    with pytest.raises(InvalidInput) as caught:
        read(sets(text), Given())
    assert (caught.value.source, caught.value.line) == ("sets", line)


def test_a_set_that_nothing_creates_is_taken_for_one_of_addresses() -> None:
    """As country lists come, without the line that creates the set."""
    text = "add cc 192.0.2.0/24\n"
    assert lists(text) == {"cc": ["192.0.2.0/24"]}
    assert verdicts("ipset", sets(text), "tcp in 192.0.2.7 1", BLOCK) == {"block"}


ENTRIES = st.builds(
    "add s 10.{}.{}.0/{}{}".format,
    st.integers(0, 3),
    st.integers(0, 3).map(lambda part: part * 64),
    st.sampled_from([8, 14, 16, 18, 24]),
    st.sampled_from(["", "", " nomatch"]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ENTRIES, min_size=1, max_size=8))
def test_no_list_differs_from_its_set(entries: list[str]) -> None:
    """Networks within networks, with exceptions within exceptions."""
    _, proof = imported("ipset", sets("\n".join(["create s hash:net", *entries])), BLOCK, 400)
    assert not proof.differences
