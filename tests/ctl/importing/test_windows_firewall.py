"""The firewall of Windows: what blocks beats what allows, and conditions are never dropped."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecctl.importing.source import Given, InputFile
from ipsecctl.importing.windows_firewall_source import read
from ipsecd.errors import InvalidInput
from tests.ctl.importing.expected import CORPUS, files_in, imported
from tests.ctl.importing.judged import is_as_said, notes, passes, verdicts

LISTING = files_in(CORPUS / "windows" / "listing")
ADD = "netsh advfirewall firewall add rule"


def script(*lines: str, name: str = "rules.cmd") -> list[InputFile]:
    """A script."""
    return [InputFile(name, "\r\n".join(lines))]


def lets(text: str, *lines: str, profile: str = "") -> bool:
    """Whether a packet passes where a script has run."""
    return passes("windows-firewall", script(*lines), text, Given(profile=profile))


@pytest.mark.parametrize(
    ("text", "passes_there"),
    [
        ("tcp in 8.8.8.8 443", True),
        ("tcp in 8.8.8.8 444", False),
        ("tcp in 8.8.8.8 444 known", True),
        ("tcp in 203.0.113.7 443", False),
        ("tcp in 192.0.2.7 3389", True),
        ("tcp in 198.51.100.15 3389", True),
        ("tcp in 198.51.100.21 3389", False),
        ("tcp in 192.0.2.7 445", False),  # allowed, and blocked by a rule that is wider
        ("icmp in 8.8.8.8 8", True),
        ("icmp in 8.8.8.8 13", False),
        ("tcp in 192.0.2.9 10005", True),  # by two rules, which have all profiles together
        ("tcp in 8.8.8.8 23", False),
        ("tcp out 8.8.8.8 25", False),
        ("tcp out 198.51.100.77 443", False),
        ("tcp out 8.8.8.8 22", True),
    ],
)
def test_a_listing_is_judged_as_windows_does(text: str, passes_there: bool) -> None:
    """Packets to a host with the rules of the corpus."""
    assert passes("windows-firewall", LISTING, text) is passes_there


def test_what_blocks_beats_what_allows_whatever_is_narrower() -> None:
    """As [MS-FASP] has it, and other than in a policy, where the narrower one decides."""
    assert not lets(
        "tcp in 192.0.2.7 22",
        f"{ADD} name=a dir=in action=allow protocol=tcp localport=22 remoteip=192.0.2.7",
        f"{ADD} name=b dir=in action=block remoteip=192.0.2.0/24",
    )


def test_connections_are_judged_when_they_open() -> None:
    """Answers come in from a blocked address, if this host has asked."""
    block = f"{ADD} name=b dir=in action=block remoteip=192.0.2.7"
    assert lets("tcp in 192.0.2.7 40000 known", block)
    assert not lets("tcp in 192.0.2.7 40000", block)


def test_a_profile_is_chosen() -> None:
    """Without one, what one profile blocks is blocked, and what all allow is allowed."""
    private = f"{ADD} name=a dir=in action=allow protocol=tcp localport=80 profile=private"
    public = f"{ADD} name=b dir=out action=block remoteip=192.0.2.7 profile=public"
    assert not lets("tcp in 8.8.8.8 80", private)
    assert lets("tcp in 8.8.8.8 80", private, profile="private")
    assert not lets("tcp in 8.8.8.8 80", private, profile="public")
    assert not lets("tcp out 192.0.2.7 80", public)
    assert lets("tcp out 192.0.2.7 80", public, profile="private")
    said = notes("windows-firewall", script(private))
    assert any("allows nothing in domain, public" in text for text in said)


def test_a_profile_that_is_not_there_is_refused() -> None:
    """By name, with those that there are."""
    with pytest.raises(InvalidInput, match="'home' is no profile"):
        read(script(f"{ADD} name=a dir=in action=block"), Given(profile="home"))


@pytest.mark.parametrize(
    "condition",
    [
        r'program="C:\x y\z.exe"',
        "service=mpssvc",
        "interfacetype=wireless",
        "rmtusrgrp=D:(A;;CC;;;S-1)",
        "security=authenticate",
    ],
)
def test_a_condition_that_no_packet_tells_is_never_dropped(condition: str) -> None:
    """A block would then hit everything, and a permit would let everything in."""
    for action, costs in (("block", True), ("allow", False)):
        lines = script(f"{ADD} name=x dir=in action={action} protocol=tcp localport=80 {condition}")
        said = notes("windows-firewall", lines)
        assert [weaker for text, weaker in said.items() if "no filter asks for" in text] == [costs]
        assert len(verdicts("windows-firewall", lines, "tcp in 8.8.8.8 80")) == 2 - costs


def test_words_for_addresses_that_only_windows_knows_are_named() -> None:
    """What is written beside them is translated."""
    lines = script(f"{ADD} name=x dir=in action=block remoteip=LocalSubnet,192.0.2.7 profile=any")
    said = notes("windows-firewall", lines)
    assert [weaker for text, weaker in said.items() if "LocalSubnet" in text] == [True]
    assert verdicts("windows-firewall", lines, "tcp in 192.0.2.7 80") == {"block"}


def test_the_state_of_profiles_is_read() -> None:
    """Of netsh and of PowerShell, and where the firewall is off nothing is blocked."""
    allow = f"{ADD} name=a dir=in action=allow protocol=tcp localport=80"
    assert lets("tcp in 8.8.8.8 22", "netsh advfirewall set allprofiles state off", allow)
    policy = "netsh advfirewall set allprofiles firewallpolicy"
    assert lets("tcp in 8.8.8.8 22", f"{policy} allowinbound,allowoutbound", allow)
    assert not lets("tcp in 8.8.8.8 80", f"{policy} blockinboundalways,allowoutbound", allow)
    assert not lets("tcp out 8.8.8.8 80", f"{policy} blockinbound,blockoutbound", allow)
    cmdlet = "Set-NetFirewallProfile -All -DefaultInboundAction Allow"
    assert not lets("tcp in 8.8.8.8 22", cmdlet.replace("-All", "-Profile Public"), allow)


def test_many_bans_are_one_rule_and_a_list() -> None:
    """Each address stays an entry."""
    bans = [f"{ADD} name=b{n} dir=out action=block remoteip=192.0.2.{n}" for n in range(1, 31)]
    translation, proof = imported("windows-firewall", script(*bans), Given())
    assert is_as_said(proof)
    assert len(translation.written.policy.rules[0].filters) == 1
    assert len(translation.written.lists["windows"]) == 30


def test_a_name_or_a_program_may_have_variables() -> None:
    """They say nothing of packets that could be known here."""
    line = f'{ADD} name="%1" dir=in action=block program="%windir%\\a.exe"'
    assert any("no filter asks for" in text for text in notes("windows-firewall", script(line)))


def test_what_a_script_deletes_is_gone() -> None:
    """By its name; whoever writes bans deletes the old one before."""
    block = f"{ADD} name=b dir=out action=block remoteip=192.0.2.7"
    other = f"{ADD} name=c dir=out action=block remoteip=192.0.2.8"
    delete = "netsh advfirewall firewall delete rule name=B"
    assert lets("tcp out 192.0.2.7 80", block, other, delete)
    assert not lets("tcp out 192.0.2.7 80", "netsh advfirewall firewall delete rule name=b", block)


@pytest.mark.parametrize(
    "line",
    [
        f"{ADD} name=x dir=in action=block remoteip=%1",
        "New-NetFirewallRule -DisplayName x -Action Block -RemoteAddress $bad",
        "New-NetFirewallRule @given",
        "netsh advfirewall firewall set rule name=x new enable=no",
        "Disable-NetFirewallRule -DisplayName x",
        "netsh firewall set opmode enable",
        "netsh advfirewall reset",
        "for %%a in (1 2) do netsh advfirewall firewall add rule name=%%a dir=in action=block",
        "New-NetFirewallRule -DisplayName 'x -Action Block",
    ],
)
def test_a_command_that_is_not_understood_is_named(line: str) -> None:
    """It may block something."""
    said = notes("windows-firewall", script(line))
    assert any(text.startswith("rules.cmd:1: ") and weaker for text, weaker in said.items())


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (script("", f"{ADD} name=x dir=in action=block localport=80"), 2),
        (script(f"{ADD} name=x dir=sideways action=block"), 1),
        (script(f"{ADD} name=x dir=in"), 1),
        (script(f"{ADD} name=x dir=in action=block remoteip=192.0.2.300"), 1),
        (script(f"{ADD} name=x dir=in action=block weather=fine"), 1),
        (script(f"{ADD} name=x dir=in action=block protocol=tcp localport=80-70"), 1),
        (script("New-NetFirewallRule -DisplayName x -Weather fine"), 1),
        (script("New-NetFirewallRule -DisplayName x -Protocol ICMPv4 -IcmpType 8:300"), 1),
        (script("", "Rule Name:   x", "Enabled:  Yes", "Farbe:  rot"), 4),
        (script("Regelname:   x", "Aktiviert:   Ja"), 1),
    ],
)
def test_what_cannot_be_read_is_refused(files: list[InputFile], line: int) -> None:
    """By its line; a listing in another language is none, and it is said what to do."""
    with pytest.raises(InvalidInput) as caught:
        read(files, Given())
    assert (caught.value.source, caught.value.line) == ("rules.cmd", line)


SIDES = st.sampled_from(["", " remoteip=192.0.2.0/24", " remoteip=192.0.2.7,2001:db8::/32"])
WHAT = st.one_of(
    st.builds(
        " protocol={} {}={}".format,
        st.sampled_from(["tcp", "udp"]),
        st.sampled_from(["localport", "remoteport"]),
        st.sampled_from(["80", "80,443", "1-1023", "RPC"]),
    ),
    st.sampled_from(["", " protocol=icmpv4:8,any", " protocol=icmpv6", " protocol=47"]),
)
LINES = st.builds(
    "netsh advfirewall firewall add rule name=x dir={} action={}{}{}{}{}".format,
    st.sampled_from(["in", "out"]),
    st.sampled_from(["allow", "block"]),
    SIDES,
    WHAT,
    st.sampled_from(["", "", " profile=public", " profile=domain,private", " enable=no"]),
    st.sampled_from(["", "", "", " program=x.exe"]),
)
POLICIES = st.sampled_from(
    ["blockinbound,allowoutbound", "allowinbound,blockoutbound", "blockinboundalways,allowoutbound"]
).map("netsh advfirewall set publicprofile firewallpolicy {}".format)


@settings(max_examples=40, deadline=None)
@given(POLICIES, st.lists(LINES, max_size=5), st.sampled_from(["", "public", "domain"]))
def test_no_translation_differs_from_what_the_rules_say(
    policy: str, lines: list[str], profile: str
) -> None:
    """Rules of any kind become a policy that does the same, or it was said why not."""
    given_ = Given(profile=profile)
    _, proof = imported("windows-firewall", script(policy, *lines), given_, 250)
    assert is_as_said(proof)
