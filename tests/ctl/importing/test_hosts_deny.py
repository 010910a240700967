"""hosts.allow and hosts.deny: who is let in, and what no address tells."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecctl.importing.hosts_deny_source import read
from ipsecctl.importing.source import Given, InputFile
from ipsecd.errors import InvalidInput
from ipsecd.language.list_entries import format_list
from tests.ctl.importing.expected import imported
from tests.ctl.importing.judged import is_as_said, notes, passes, verdicts


def access(deny: str, allow: str = "", services: str = "") -> list[InputFile]:
    """Both files, and one of services."""
    return [
        InputFile("/etc/hosts.allow", allow),
        InputFile("/etc/hosts.deny", deny),
        *([InputFile("/etc/services", services)] if services else []),
    ]


def lets(text: str, deny: str, allow: str = "", services: str = "") -> bool:
    """Whether a packet passes."""
    return passes("hosts.deny", access(deny, allow, services), text)


def test_what_is_allowed_is_asked_before_what_is_denied() -> None:
    """And what neither file is about is let in."""
    allow, deny = "sshd: 192.0.2.0/24", "ALL: ALL"
    assert lets("tcp in 192.0.2.7 22", deny, allow)
    assert not lets("tcp in 192.0.2.7 23", deny, allow)
    assert not lets("tcp in 203.0.113.7 22", deny, allow)
    assert lets("tcp in 203.0.113.7 22", "in.telnetd: ALL")


def test_only_what_opens_a_connection_of_tcp_or_udp_is_judged() -> None:
    """Open connections go on, and ICMP asks nobody."""
    assert lets("tcp in 203.0.113.7 22 known", "ALL: ALL")
    assert lets("icmp in 203.0.113.7 8", "ALL: ALL")
    assert lets("tcp out 203.0.113.7 22", "ALL: ALL")
    assert not lets("udp in 203.0.113.7 69", "ALL: ALL")


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("192.0.", "192.0.9.9", "192.1.0.1"),
        ("10.", "10.200.1.1", "11.0.0.1"),
        ("192.0.2.*", "192.0.2.99", "192.0.3.1"),
        ("192.0.*", "192.0.77.1", "192.1.77.1"),
        ("192.0.2.0/255.255.255.128", "192.0.2.127", "192.0.2.128"),
        ("192.0.2.64/26", "192.0.2.65", "192.0.2.1"),
        ("[2001:db8::]/32", "2001:db8:1::1", "2001:db9::1"),
        ("[2001:db8::/32]", "2001:db8:1::1", "2001:db9::1"),
        ("[2001:db8::7]", "2001:db8::7", "2001:db8::8"),
        ("ALL EXCEPT 192.0.2.0/24", "203.0.113.1", "192.0.2.1"),
        ("192.0.2.0/24 EXCEPT 192.0.2.64/26 EXCEPT 192.0.2.65", "192.0.2.65", "192.0.2.66"),
        ("192.0.2.1, 192.0.2.2\t192.0.2.3", "192.0.2.3", "192.0.2.4"),
        ("all", "203.0.113.1", None),
    ],
)
def test_a_pattern_means_these_addresses(pattern: str, inside: str, outside: str | None) -> None:
    """As hosts_access(5) has it."""
    assert not lets(f"tcp in {inside} 22", f"sshd: {pattern}")
    assert outside is None or lets(f"tcp in {outside} 22", f"sshd: {pattern}")


@pytest.mark.parametrize(
    ("daemons", "port", "other"),
    [
        ("sshd", "tcp in 192.0.2.7 22", "tcp in 192.0.2.7 23"),
        ("vsftpd, in.tftpd", "udp in 192.0.2.7 69", "tcp in 192.0.2.7 69"),
        ("ALL EXCEPT sshd", "tcp in 192.0.2.7 23", "tcp in 192.0.2.7 22"),
        ("ourd", "tcp in 192.0.2.7 7777", "tcp in 192.0.2.7 22"),
        ("in.ourd", "tcp in 192.0.2.7 7777", "tcp in 192.0.2.7 22"),
        ("other", "udp in 192.0.2.7 7777", "tcp in 192.0.2.7 22"),
    ],
)
def test_a_program_means_these_ports(daemons: str, port: str, other: str) -> None:
    """As they are known here, or as a file of services says."""
    services = "our 7777/tcp\nour2 7777/udp other # a comment\n"
    services = services.replace("our ", "ourd ") if daemons == "ourd" else services
    assert not lets(port, f"{daemons}: ALL", services=services)
    assert lets(other, f"{daemons}: ALL", services=services)


def test_an_option_may_turn_the_answer_round() -> None:
    """In either file, as hosts_options(5) has it."""
    assert not lets("tcp in 192.0.2.7 22", "", "sshd: 192.0.2.7: deny\nsshd: ALL")
    assert lets("tcp in 192.0.2.7 22", "sshd: 192.0.2.7 : spawn echo %a\\: x : allow\nALL: ALL")
    assert not lets("tcp in 192.0.2.7 22", "", "sshd: ALL: twist /bin/echo no")


def test_what_a_command_decides_is_blocked() -> None:
    """The original may do either, and the policy is not weaker."""
    files = access("", "sshd: ALL: aclexec /bin/check %a")
    assert verdicts("hosts.deny", files, "tcp in 192.0.2.7 22") == {"permit", "block"}
    said = notes("hosts.deny", files)
    assert [weaker for text, weaker in said.items() if "a command says" in text] == [False]


@pytest.mark.parametrize("pattern", ["PARANOID", "UNKNOWN", ".example.org", "@staff", "me@ALL"])
def test_what_no_address_tells_is_named(pattern: str) -> None:
    """To leave it out costs something where it denies, and nothing where it allows."""
    of_deny = notes("hosts.deny", access(f"sshd: {pattern}"))
    of_allow = notes("hosts.deny", access("", f"sshd: {pattern}"))
    assert [weaker for text, weaker in of_deny.items() if "left out" in text] == [True]
    assert [weaker for text, weaker in of_allow.items() if "left out" in text] == [False]


@pytest.mark.parametrize("exception", ["LOCAL", ".example.org", "/etc/friends"])
def test_an_exception_that_no_address_tells_makes_nothing_weaker(exception: str) -> None:
    """Who may be spared is denied, and who may be excepted is not let in."""
    for files in (
        access(f"sshd: ALL EXCEPT {exception}"),
        access("", f"sshd: ALL EXCEPT {exception}"),
    ):
        said = notes("hosts.deny", files)
        assert [weaker for text, weaker in said.items() if exception in text] == [False]
    translation, _ = imported("hosts.deny", access(f"sshd: ALL EXCEPT {exception}"))
    assert translation.written.policy.rules[0].action.value == "block"


def test_a_program_whose_ports_nobody_knows_is_named() -> None:
    """What it is denied is missing; what is denied to all but it is denied to it, too."""
    assert any(notes("hosts.deny", access("nobodysd: ALL")).values())
    denied, _ = imported("hosts.deny", access("ALL EXCEPT nobodysd: ALL"), Given())
    assert [str(rule.action.value) for rule in denied.written.policy.rules] == ["block"]
    spared = notes("hosts.deny", access("ALL EXCEPT nobodysd: 192.0.2.7"))
    assert [weaker for text, weaker in spared.items() if "nobodysd" in text] == [False]


def test_lines_go_on_behind_a_backslash() -> None:
    """A comment is a line that begins with #; what is no rule is passed over and said."""
    deny = "# sshd: ALL\nsshd: \\\n  192.0.2.7\nno rule here\n"
    assert not lets("tcp in 192.0.2.7 22", deny)
    said = notes("hosts.deny", access(deny))
    assert any(text.startswith("/etc/hosts.deny:4: ") for text in said)


def test_many_lines_alike_are_one_rule_and_a_list() -> None:
    """In which each address stays an entry; a line of another kind between them is kept apart."""
    bans = [f"sshd: 192.0.2.{number}" for number in range(1, 21)]
    translation, proof = imported("hosts.deny", access("\n".join([*bans, "vsftpd: ALL"])), Given())
    assert is_as_said(proof)
    assert [len(rule.filters) for rule in translation.written.policy.rules] == [1, 1]
    assert list(format_list(translation.written.lists["hosts"])) == [
        f"192.0.2.{number}" for number in range(1, 21)
    ]
    spared = [*bans, "sshd: 192.0.2.0/24: allow", *(ban.replace("192", "10") for ban in bans)]
    assert not lets("tcp in 192.0.2.7 22", "\n".join(spared))
    assert lets("tcp in 192.0.2.77 22", "\n".join(spared))
    assert not lets("tcp in 10.0.2.7 22", "\n".join(spared))


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (access("\nsshd: EXCEPT 192.0.2.7"), 2),
        (access("\n\nsshd EXCEPT: ALL"), 3),
        (access("sshd: ALL", services="\nssh twenty-two\n"), 2),
        ([InputFile("rules", "sshd: ALL")], 1),
    ],
)
def test_what_cannot_be_read_is_refused(files: list[InputFile], line: int) -> None:
    """By its line."""
    with pytest.raises(InvalidInput) as caught:
        read(files, Given())
    assert caught.value.line == line


ADDRESSES = st.sampled_from(
    ["ALL", "192.0.2.0/24", "192.0.2.64/26", "192.0.2.7", "10.", "[2001:db8::]/32", ".example.org"]
)
DAEMONS = st.sampled_from(["ALL", "sshd", "vsftpd", "snmpd", "nobodysd", "slapd@192.0.2.1"])


def _list(items: list[str], exceptions: list[str]) -> str:
    return " ".join(items) + (f" EXCEPT {' '.join(exceptions)}" if exceptions else "")


def _lists(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    some = st.lists(items, min_size=1, max_size=2)
    return st.builds(_list, some, st.one_of(st.just([]), some))


RULES = st.lists(
    st.builds(
        "{}: {}{}".format,
        _lists(DAEMONS),
        _lists(ADDRESSES),
        st.sampled_from(["", "", ": deny", ": allow", ": twist x", ": aclexec y"]),
    ),
    max_size=4,
).map("\n".join)


@settings(max_examples=40, deadline=None)
@given(RULES, RULES)
def test_no_translation_differs_from_what_the_rules_say(allow: str, deny: str) -> None:
    """Files of any kind become a policy that does the same, or it was said why not."""
    _, proof = imported("hosts.deny", access(deny, allow), Given(), 250)
    assert is_as_said(proof)
