"""``netsh ipsec dynamic``: dynamic rules that are found again, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ipsecctl.workspace.dynamic_rules import DynamicRule
from ipsecd.model.exemptions import ESSENTIALS, NO_DEFAULT_EXEMPT
from tests.ctl.netsh_host import NetshHost

DYNAMIC = "ipsec dynamic "
BLOCK = "actioninbound=block actionoutbound=block"


class Host(NetshHost):
    """A host that is asked about its exemptions and counts too."""

    def call(
        self, method: str, parameters: dict[str, Any] | None = None, descriptor: int | None = None
    ) -> dict[str, Any]:
        if method == "ListExemptions":
            there = (*ESSENTIALS, *NO_DEFAULT_EXEMPT[3])
            return {"exemptions": [{"name": each.name, "reason": "x"} for each in there]}
        if method == "Stats":
            counts = {"rule": "R\n", "policy": "", "packets": 3, "bytes": 99}
            return {"rules": [counts], "unparsable": 0}
        return super().call(method, parameters, descriptor)


def rules(host: NetshHost) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {rule.name: (rule.action, rule.filters) for rule in host.dynamic.values()}


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        (f"any any Temp {BLOCK}", {"netsh *+*": ("block", ("*+*",))}),
        ("any any Temp protocol=ICMP actioni=permit actiono=permit",
         {"netsh *+*::ICMP": ("permit", ("*+*::ICMP",))}),
        (f"any dstaddr=10.1.1.1 mmpolicy=Temp protocol=TCP srcport=0 dstport=25 {BLOCK}",
         {"netsh *+10.1.1.1:25:TCP": ("block", ("*+10.1.1.1:25:TCP",))}),
        (f"10.0.0.2-10.0.0.4 me 1 {BLOCK}",
         {"netsh 10.0.0.2-10.0.0.4+0": ("block", ("10.0.0.2/31+0", "10.0.0.4+0"))}),
        (f"203.0.113.9 any 1 conntype=lan {BLOCK}",
         {"netsh 203.0.113.9+* on lan": ("block", ("203.0.113.9+*",))}),
        ("any me 1 protocol=tcp dstport=80 actioninbound=block actionoutbound=permit",
         {"netsh *+0:80:TCP inbound": ("block", ("*=0:80:TCP",)),
          "netsh *+0:80:TCP outbound": ("permit", ("0:80=*::TCP",))}),
        ("me any 1 mirrored=no actioninbound=block actionoutbound=permit",
         {"netsh 0=* outbound": ("permit", ("0=*",))}),
    ],
)  # fmt: skip
def test_a_rule_is_a_dynamic_rule(
    tags: str, wanted: dict[str, tuple[str, tuple[str, ...]]]
) -> None:
    """Or one for each direction, if their actions differ; it is deleted by what it was made of."""
    host = Host()
    answer = host.line(f"{DYNAMIC}add rule {tags}")
    assert (answer.code, answer.lines) == (0, ())
    assert rules(host) == wanted
    before = host.changes
    assert host.line(f"{DYNAMIC}add rule {tags}").code == 0
    assert host.changes == before
    places = " ".join(tags.split()[:2])
    assert host.line(f"{DYNAMIC}delete rule {places} protocol=47").code == 1
    assert host.line(f"{DYNAMIC}delete rule {places}").code == 0
    assert not host.dynamic


def test_rules_are_found_by_all_that_is_given() -> None:
    """Also those that somebody made by another command; the link counts if it is given."""
    host = Host()
    for rule in (
        DynamicRule.made("mine", "block", ["203.0.113.9+*"]),
        DynamicRule.made("two", "block", ["203.0.113.9+*", "10.0.0.1=0"]),
    ):
        host.dynamic[rule.name] = rule
    host.line(f"{DYNAMIC}add rule 203.0.113.9 any 1 conntype=lan {BLOCK}")
    assert host.line(f"{DYNAMIC}delete rule 203.0.113.9 any conntype=dialup").code == 1
    line = "delete rule srcaddr=203.0.113.9 dstaddr=ANY mirror=yes srcport=0 proto=any conntype=all"
    assert host.line(DYNAMIC + line).code == 0
    assert set(host.dynamic) == {"two", "netsh 203.0.113.9+* on lan"}
    assert host.line(DYNAMIC + "delete all").code == 0
    assert not host.dynamic


def test_another_action_is_refused() -> None:
    """A rule is not turned into its opposite without a word, nor is a file that means to."""
    host = Host()
    host.line(f"{DYNAMIC}add rule any me 1 {BLOCK}")
    answer = host.line(f"{DYNAMIC}add rule any me 1 actionin=permit actionout=permit")
    assert (answer.code, answer.understood) == (1, False)
    assert answer.lines[0].startswith("ERR IPsec[05003] : ")
    assert rules(host)["netsh *+0"][0] == "block"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("add rule any me 1", "actioninbound=negotiate"),
        ("add rule any me 1 actioninbound=block", "actionoutbound=negotiate"),
        (f"add rule any me {BLOCK}", "mmpolicy= is missing"),
        (f"add rule any me 1 tunneldst=1.2.3.4 {BLOCK}", "tunneldstaddress="),
        ("add rule any any 1 actionin=block actionout=permit", "on one side"),
        ("set config ipsecexempt 0", "is a setting of the daemon"),
        ("set config ipsecexempt 4", "not known here"),
        ("set config frob 1", "not known here"),
    ],
)
def test_what_is_not_done_here(line: str, said: str) -> None:
    """It is refused by name, and nothing changes."""
    host = Host()
    answer = host.line(DYNAMIC + line)
    assert (answer.code, answer.understood, host.changes) == (1, False, 0)
    assert said in answer.lines[0]


@pytest.mark.parametrize(
    ("line", "noted"),
    [
        ("add mmpolicy name=Temp", False),
        ("add qmpolicy qmsec soft=yes", True),
        ("delete mmpolicy all", False),
        ("set config ipsecexempt 3", False),
        ("set config ikelogging 1", True),
        ("set config property=bootmode value=stateful", True),
        (f"add rule any me 1 psk=key {BLOCK}", True),
    ],
)
def test_what_means_nothing_here_is_accepted(line: str, noted: bool) -> None:
    """It works, and standard error says so where somebody might count on it."""
    answer = Host().line(DYNAMIC + line)
    assert (answer.code, answer.lines, bool(answer.hints)) == (0, (), noted)


@pytest.mark.parametrize(
    "line",
    ["show all", "show rule", "show qmfilter Name = x", "show config", "show stats", "show mmsas"],
)
def test_show(line: str) -> None:
    """What is in force is listed, and nothing of others ends a line."""
    host = Host()
    host.line(f"{DYNAMIC}add rule any me 1 {BLOCK}")
    answer = host.line(DYNAMIC + line)
    assert answer.code == 0
    assert answer.lines
    assert all(text.isprintable() for text in answer.lines)
    if line == "show all":
        assert "Filter                 : *+0" in answer.lines
