"""What becomes of rules: few that people read, specific enough, and silent about nothing."""

from __future__ import annotations

from ipsecctl.importing import iptables
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
