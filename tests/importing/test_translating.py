"""What becomes of rules: few that people read, specific enough, and silent about nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ipsecctl.importing import iptables, nft
from ipsecctl.importing.proving import Proof, prove
from ipsecctl.importing.source import Given, InputFile, Kind
from ipsecctl.importing.translating import Translation, translate
from ipsecd.language.filters import format_filter


def made(rules: str, policy: str = "ACCEPT") -> tuple[Translation, Proof]:
    """A table of these rules, translated and compared."""
    text = f"*filter\n:INPUT {policy} [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{rules}\n"
    parsed = iptables.read([InputFile("rules", text)], Given())
    translation = translate(parsed, "Made", Given(), "iptables-save")
    return translation, prove(parsed, translation, Given())


def filters(translation: Translation) -> dict[str, list[str]]:
    """The filters of each rule, by its name."""
    rules = translation.written.policy.rules
    return {rule.name: [format_filter(member) for member in rule.filters] for rule in rules}


def test_many_bans_are_a_list() -> None:
    """Rules that differ in their source alone, in one run, are one rule, with all their lines."""
    bans = [f"-A INPUT -s 203.0.113.{n}/32 -j DROP" for n in range(0, 40, 2)]
    translation, proof = made("\n".join(bans))
    assert filters(translation) == {f"5: {bans[0]} (and 19 more like it)": ["@line-5=0"]}
    assert len(translation.written.lists["line-5"]) == 20
    assert proof.complete
    assert not proof.differences


def test_a_broad_permit_over_a_narrow_drop_is_said_twice() -> None:
    """Order and rank disagree: the part that they disagree about gets a filter of its own."""
    translation, proof = made(
        "-A INPUT -s 10.0.0.0/8 -j ACCEPT\n-A INPUT -p tcp --dport 22 -s 10.1.0.0/16 -j DROP\n"
        "-A INPUT -p tcp --dport 22 -j DROP"
    )
    found = filters(translation)
    assert found["5: -A INPUT -s 10.0.0.0/8 -j ACCEPT"] == ["10.0.0.0/8=0"]
    # The drop of what was accepted before it never decides.
    assert not any("10.1.0.0" in name for name in found)
    assert not proof.unknown


def test_a_permit_that_depends_is_left_out_and_a_block_that_depends_is_loud() -> None:
    """The first lets less pass, and the second more, which is said."""
    translation, proof = made("-A INPUT -m limit --limit 1/s -j ACCEPT", policy="DROP")
    assert not translation.weaker or translation.weaker[0].kind is Kind.CHANGED
    assert all(not one.weaker for one in proof.differences if " in lo" not in one.packet)
    translation, proof = made("-A INPUT -p tcp -m limit --limit 1/s -j DROP")
    (note,) = translation.weaker
    assert (note.line.number, note.kind) == (5, Kind.LEFT_OUT)
    assert [one.note for one in proof.differences] == [note] * len(proof.differences)
    assert "THIS POLICY LETS MORE PASS" in translation.written.policy.description


def test_an_input_about_one_ip_version_says_nothing_of_the_other() -> None:
    """And that is told: a host that everybody reaches by IPv6 is a surprise."""
    translation, _ = made("-A INPUT -p tcp --dport 22 -j ACCEPT", policy="DROP")
    assert any("nothing of IPv6" in note.reason for note in translation.notes)
    assert all(
        member.families == {4} for rule in translation.written.policy.rules
        for member in rule.filters
    )  # fmt: skip


ARCH = """\
:TCP - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp {flags} -m conntrack --ctstate NEW -j TCP
-A INPUT -p tcp -j REJECT --reject-with tcp-reset
-A TCP -p tcp --dport 22 -j ACCEPT
-A TCP -s 192.0.2.0/24 -p tcp --dport 443 -j ACCEPT
"""


@pytest.mark.parametrize(
    "flags", ["--syn", "-m tcp --tcp-flags FIN,SYN,RST,ACK SYN", "--tcp-flags SYN,RST,ACK,FIN SYN"]
)
def test_the_syn_of_a_new_connection_is_its_state(flags: str) -> None:
    """So the chain for new connections is translated, and what else is new is told."""
    translation, proof = made(ARCH.format(flags=flags), policy="DROP")
    found = filters(translation)
    assert found["9: -A TCP -p tcp --dport 22 -j ACCEPT"] == ["0.0.0.0/0=0:22:TCP"]
    assert not proof.unknown
    changed = [note for note in translation.notes if "without SYN" in note.reason]
    assert [(n.line.number, n.kind, n.weaker) for n in changed] == [(7, Kind.CHANGED, True)]
    assert not any(
        note.kind is Kind.LEFT_OUT and note.line.number >= 7 for note in translation.notes
    )


@pytest.mark.parametrize(
    "flags",
    ["! --syn", "--tcp-flags ALL SYN", "--syn -m limit --limit 1/s", "--tcp-flags SYN,ACK SYN"],
)
def test_the_rules_behind_a_jump_that_is_left_out_are_named(flags: str) -> None:
    """They are not translated either; one that is come to by another way is, and is not named."""
    rules = (
        ARCH.format(flags=flags) + "-A TCP -j LOG\n-A TCP -g DEEP\n-A DEEP -s 10.1.0.0/16 -j DROP\n"
    )
    translation, proof = made(":DEEP - [0:0]\n" + rules, policy="DROP")
    left_out = {n.line.number: n for n in translation.notes if n.kind is Kind.LEFT_OUT}
    assert set(left_out) >= {8, 10, 11, 13, 14}
    assert "rules:8" in left_out[10].reason
    assert [left_out[number].weaker for number in (10, 13, 14)] == [False, True, True]
    assert 12 not in left_out
    assert not proof.unknown
    other = rules.replace("-A INPUT -p tcp -j REJECT", "-A INPUT -s 10.0.0.0/8 -j DEEP")
    translation, _ = made(":DEEP - [0:0]\n" + other.replace(" --reject-with tcp-reset", ""))
    assert 14 not in {note.line.number for note in translation.notes}


def test_a_syn_without_a_state_is_told_how_to_be_said() -> None:
    """It is part of no state for sure, so it is left out, with what to write instead."""
    translation, _ = made("-A INPUT -p tcp --syn --dport 22 -j ACCEPT", policy="DROP")
    (note,) = [note for note in translation.notes if note.line.number == 5]
    assert "flags of TCP" in note.reason
    assert "--ctstate NEW" in note.hint


def test_a_set_that_is_missing_is_asked_for() -> None:
    """What to do is to give it, and not to write a rule by hand."""
    translation, _ = made("-A INPUT -m set --match-set bad src -j DROP")
    (note,) = [note for note in translation.notes if note.line.number == 5]
    assert "'bad'" in note.reason
    assert "--set FILE" in note.hint
    assert "by hand" not in note.hint
    translation, _ = made("-A INPUT -m set --match-set bad src,dst -j DROP")
    (note,) = [note for note in translation.notes if note.line.number == 5]
    assert "by hand" in note.hint


RAW = (
    "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP\nCOMMIT\n"
)
ACCEPTING = "j ACCEPT\n-A PREROUTING -p udp -j DROP"
NFT_RAW = """
table ip raw { chain PREROUTING { type filter hook prerouting priority raw; policy accept;
  ip daddr 172.17.0.2 iifname != "docker0" drop; } }
table ip filter { chain INPUT { type filter hook input priority filter; policy drop; }
  chain FORWARD { type filter hook forward priority filter; policy accept; } }
"""


@pytest.mark.parametrize("kind", ["iptables-save", "accepting", "nft"])
def test_a_container_that_is_named_before_routing_is_not_this_host(kind: str) -> None:
    """It is judged as what packets pass through to, which Docker's rules in raw are about."""
    raw = RAW.replace("j DROP", ACCEPTING) if kind == "accepting" else RAW
    text = (
        NFT_RAW
        if kind == "nft"
        else raw
        + (
            "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n"
            "-A FORWARD -d 172.17.0.2/32 -p tcp --dport 80 -j DROP\n"
        )
    )
    reader = nft if kind == "nft" else iptables
    parsed = reader.read([InputFile("rules", text)], Given())
    translation = translate(parsed, "Made", Given(), kind)
    proof = prove(parsed, translation, Given())
    assert translation.assumed == frozenset()
    assert any("172.17.0.2" in str(each) for each in filters(translation).values())
    assert proof.complete
    assert not proof.unknown


def test_an_address_that_the_input_chain_names_too_is_this_host() -> None:
    """Then a rule before routing is about what is delivered here as well."""
    text = RAW + "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -d 172.17.0.2/32 -p udp -j DROP\n"
    parsed = iptables.read([InputFile("rules", text)], Given())
    translation = translate(parsed, "Made", Given(), "iptables-save")
    assert translation.assumed == {(4, 0xAC110002)}
    assert not prove(parsed, translation, Given()).unknown


UNREACHED = "no jump leads to its chain"


IPTABLES_UNREACHED = """*filter
:INPUT ACCEPT [0:0]
:IN - [0:0]
:LOST - [0:0]
:TOO - [0:0]
-A INPUT -j IN
-A IN -p tcp --dport 22 -j DROP
-A LOST -p tcp --dport 23 -j DROP
-A TOO -j LOST"""
NFT_UNREACHED = """table inet f {
chain lost {
tcp dport 23 drop
}
chain in {
type filter hook input priority 0; policy accept;
jump own
}
chain own {
tcp dport 22 drop
}
chain too {
jump lost
}
}"""


@pytest.mark.parametrize(
    ("reader", "text", "lines"),
    [(iptables.read, IPTABLES_UNREACHED, [8, 9]), (nft.read, NFT_UNREACHED, [3, 13])],
)
def test_rules_that_no_packet_comes_to_are_named(
    reader: Callable[[Sequence[InputFile], Given], Any], text: str, lines: list[int]
) -> None:
    """Also where a jump leads to them from a chain that none leads to; nothing gets weaker."""
    translation = translate(reader([InputFile("rules", text)], Given()), "Made", Given(), "x")
    notes = [note for note in translation.notes if UNREACHED in note.reason]
    assert [note.kind for note in notes] == [Kind.LEFT_OUT] * 2
    assert sorted(note.line.number for note in notes) == lines
    assert not any(note.weaker for note in notes)
    ((flt,),) = filters(translation).values()
    assert flt.endswith("=0:22:TCP")


@pytest.mark.parametrize(
    "match",
    [
        "tcp flags syn",
        "tcp flags != syn",
        "tcp flags & (fin | syn) == (fin | syn) tcp dport 22",
        "tcp flags syn / fin,syn,rst,ack",
        "tcp flags & syn == 0",
        "tcp flags 0x2",
        "tcp flags ! syn",
        "tcp flags { syn, syn | ack }",
        "tcp flags . tcp dport { syn . 22 }",
        "tcp dport . tcp flags { 22 . syn }",
        "ip saddr . tcp flags . tcp dport { 192.0.2.1 . syn . 22 }",
        "tcp dport . tcp flags vmap { 22 . syn : drop }",
        "tcp flags vmap { syn : drop, fin : accept }",
    ],
)
def test_flags_of_tcp_are_named_in_every_form(match: str) -> None:
    """No policy asks for them, so the rule is left out, and the report says why."""
    text = (
        "table inet f {\nchain in {\ntype filter hook input priority 0; policy accept;\n"
        f"{match}{'' if 'vmap' in match else ' drop'}\n}}\n}}"
    )
    translation = translate(nft.read([InputFile("rules", text)], Given()), "Made", Given(), "nft")
    (note,) = translation.notes
    assert (note.kind, note.weaker, note.line.number) == (Kind.LEFT_OUT, True, 4)
    assert "flags of TCP" in note.reason
    assert not translation.written.policy.rules
