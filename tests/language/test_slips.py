"""What people type who come from another firewall: each gets what it means, and what to type."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.errors import InvalidInput
from ipsecd.language.filters import format_filter, join_arguments, parse_filter, parse_short
from ipsecd.language.reading import errors_of_policy, parse_policy

TAKEN = {
    "22/tcp": "*=0:22:TCP",
    "80,443/tcp": "*=0:80,443:TCP",
    "137-138/UDP": "*=0:137-138:UDP",
}
REFUSED = {
    "22": ("is a port, and a port needs its protocol", "write tcp/22 or udp/22"),
    "ssh": ("names of services are not looked up", "write tcp/22"),
    "icmp": ("alone is not a filter", "write '*=0::ICMP'"),
    "tcp": ("alone is not a filter", "tcp/22"),
    "*": ("alone is not a filter", "'*=0' for all that arrives at this host, your login too"),
    "any": ("alone is not a filter", "'*=0'"),
    "all": ("alone is not a filter", "'*=0'"),
    "*:0:80:TCP": ("has no '=' between source and destination", "write '*=0:80:TCP'"),
    "*=0:80:tpc": ("'tpc' is not a known protocol", "did you mean TCP?"),
    "*=0;80;TCP": ("has semicolons in it", "'*=0:80:TCP'"),
    "eth0=0": ("is an interface, and no address", "--interface eth0"),
    "list.txt": ("looks like the name of a file", "write @list.txt"),
    "!10.9.0.0/24": ("says what not to match", "a permit of 10.9.0.0/24 is narrower"),
    "!10.9.0.0/24=0": ("says what not to match", "a permit of 10.9.0.0/24 is narrower"),
    "192.0.2.1-192.0.2.9": ("a range", "192.0.2.1 192.0.2.2/31 192.0.2.4/30 192.0.2.8/31"),
    "192.0.2.1-192.0.2.9=0": ("a range", "192.0.2.1 192.0.2.2/31 192.0.2.4/30 192.0.2.8/31"),
    "10.0.0.1-10.9.9.9": ("a range", "of which 10.0.0.1 is the first"),
    "country:CN=0": ("is in lists", "ipsecctl list create cn --from FILE"),
    "country:CN": ("is in lists", "block '@cn=0'"),
    "[fd09::1]:22": ("lacks the other side", "'[fd09::1]=0:22:TCP'"),
    "fd09::1/64": ("address bits set beyond its mask", "write [fd09::]/64 for the network"),
    "[fd09::1]/64=0": ("address bits set beyond its mask", "or [fd09::1] for that one host"),
    "10.9.0.1/24": ("address bits set beyond its mask", "write 10.9.0.0/24 for the network"),
}
SENTENCES = {
    "tcp 22": "write tcp/22",
    "udp 137-138": "write udp/137-138",
    "from 192.0.2.1": "write 192.0.2.1",
    "192.0.2.1 from any": "write 192.0.2.1",
    "in on eth0": "write '*=0' --interface eth0",
    "in on eth0 from 192.0.2.0/24 to any port 22 proto tcp":
        "write '192.0.2.0/24=0:22:TCP' --interface eth0",
    "out to 192.0.2.1 port 25": "write '0=192.0.2.1:25:TCP'",
    "from fd09::1 to any port 53 proto udp": "write '[fd09::1]=0:53:UDP'",
}  # fmt: skip


def refusal(text: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as raised:
        [parse_short(each) for each in join_arguments([text])]
    return raised.value


@pytest.mark.parametrize(("text", "meant"), TAKEN.items())
def test_what_can_only_be_meant_one_way_is_taken(text: str, meant: str) -> None:
    assert format_filter(parse_short(text)) == meant
    document = f"policy: P\nrules: [{{rule: r, action: block, filters: ['{text}']}}]"
    assert [format_filter(each) for each in parse_policy(document).rules[0].filters] == [meant]


@pytest.mark.parametrize(("text", "said"), REFUSED.items())
def test_what_is_refused_is_answered_in_filters(text: str, said: tuple[str, str]) -> None:
    error = refusal(text)
    message, hint = said
    assert message in error.message
    assert hint in error.hint
    assert error.source == text


@pytest.mark.parametrize(("sentence", "hint"), SENTENCES.items())
def test_a_sentence_of_another_firewall_is_answered_as_a_whole(sentence: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        join_arguments(sentence.split())
    assert raised.value.hint == hint
    (typed,) = (word for word in [hint.removeprefix("write ").split(" --")[0].strip("'")])
    parse_short(typed)


@pytest.mark.parametrize("word", ["deny", "DROP", "reject"])
def test_an_action_of_others_is_answered_with_ours(word: str) -> None:
    document = f'policy: P\nrules:\n- rule: r\n  action: {word}\n  filters: "*=0"\n'
    first, second = errors_of_policy(document).by_line
    assert (first.line, first.hint) == (4, "write block")
    assert (second.line, "list" in second.message) == (5, True)


@pytest.mark.parametrize(
    "text", ["a;b\nFORGED=0", "!\x1b]0;x\x07=0", "1.2.3.4-\n1.2.3.9", "9" * 500 + ".txt"]
)
def test_no_hint_repeats_what_drives_a_terminal(text: str) -> None:
    error = refusal(text)
    assert error.hint.isprintable()
    assert len(error.hint) < 200


@given(st.text(max_size=40))
def test_no_text_is_answered_with_anything_but_an_error(text: str) -> None:
    for parse in (parse_short, parse_filter, lambda given_text: join_arguments([given_text])):
        with suppress(InvalidInput):
            parse(text)


WORDS = (
    "in",
    "out",
    "on",
    "from",
    "to",
    "proto",
    "port",
    "any",
    "tcp",
    "udp",
    "22",
    "10.0.0.1",
    "fd09::1",
    "eth0",
    "x",
)


@given(st.lists(st.sampled_from(WORDS), max_size=8))
def test_what_is_proposed_for_a_sentence_is_a_filter(words: list[str]) -> None:
    """Nobody is told to type what is refused in turn."""
    try:
        join_arguments(words)
    except InvalidInput as error:
        if "is not how a filter is written" in error.message:
            parse_short(error.hint.removeprefix("write ").split(" --")[0].strip("'"))
