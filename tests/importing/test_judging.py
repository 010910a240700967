"""The independent reading of netfilter's rules: each thing that decides, by hand."""

from __future__ import annotations

import pytest

from ipsecctl.importing import iptables, nft
from ipsecctl.importing.source import Cast, Given, Hook, InputFile, Judgement, SourcePacket, State
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action

PEER, HERE = 0xCB007107, 0xC0000201
"""203.0.113.7 and 192.0.2.1."""


def packet(
    port: int | None = 22,
    protocol: int = 6,
    *,
    hook: Hook = Hook.IN,
    source: int = PEER,
    state: State = State.NEW,
    link: str = "eth0",
    message: int | None = None,
) -> SourcePacket:
    """A packet of IPv4 from somebody to this host."""
    sport = None if port is None else 40000
    return SourcePacket(
        *(hook, Family.IPV4, source, HERE, protocol, sport, port, message, link, "eth1"),
        *(state, Cast.LOCAL),
    )


def judged(rules: str, one: SourcePacket, policy: str = "ACCEPT") -> Judgement:
    """What the rules of a table say; ``X`` and ``Y`` are chains."""
    text = f"*filter\n:INPUT {policy} [0:0]\n:FORWARD DROP [0:0]\n:X - [0:0]\n:Y - [0:0]\n{rules}\n"
    read = iptables.read([InputFile("rules", text)], Given())
    return read.evaluator().judge(one)


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ("", True),
        ("-A INPUT -j DROP", False),
        ("-A INPUT -p tcp --dport 22 -j ACCEPT\n-A INPUT -j DROP", True),
        ("-A INPUT -p tcp ! --dport 22 -j DROP", True),
        ("-A INPUT -p tcp -m multiport --dports 80,20:25 -j DROP", False),
        ("-A INPUT -p tcp -m multiport --ports 40000 -j DROP", False),
        ("-A INPUT -p tcp -m multiport ! --ports 22 -j DROP", True),
        ("-A INPUT -p tcp -m multiport ! --ports 40000,1 -j DROP", True),
        ("-A INPUT -p tcp -m multiport ! --ports 1,2 -j DROP", False),
        ("-A INPUT -p udp --dport 22 -j DROP", True),
        ("-A INPUT -s 203.0.113.0/24 -j DROP", False),
        ("-A INPUT ! -s 203.0.113.0/24 -j DROP", True),
        ("-A INPUT -s 203.0.113.0/255.255.255.0 -j DROP", False),
        ("-A INPUT -m iprange --src-range 203.0.113.5-203.0.113.9 -j DROP", False),
        ("-A INPUT -i eth+ -j DROP", False),
        ("-A INPUT -i eth1 -j DROP", True),
        ("-A INPUT -m conntrack --ctstate ESTABLISHED -j DROP", True),
        ("-A INPUT -m conntrack ! --ctstate ESTABLISHED -j DROP", False),
        ("-A INPUT -m addrtype --dst-type LOCAL -j DROP", False),
        ("-A INPUT -m addrtype --dst-type BROADCAST -j DROP", True),
        ("-A INPUT -j LOG\n-A INPUT -j DROP", False),
        ("-A INPUT -j X\n-A INPUT -j DROP\n-A X -j ACCEPT", True),
        ("-A INPUT -j X\n-A INPUT -j DROP\n-A X -j RETURN\n-A X -j ACCEPT", False),
        # A goto comes back to where the chain that was left was called from.
        ("-A INPUT -g X\n-A INPUT -j DROP", True),
        ("-A INPUT -j X\n-A INPUT -j DROP\n-A X -g Y\n-A X -j ACCEPT", False),
        ("-A INPUT -j DROP\n-I INPUT -j ACCEPT", True),
        ("-A INPUT -j ACCEPT\n-I INPUT 2 -j DROP", True),
    ],
)
def test_the_first_that_decides_decides(rules: str, passes: bool) -> None:
    """As ipt_do_table does it."""
    assert judged(rules, packet()).actions == {Action.PERMIT if passes else Action.BLOCK}


def test_what_cannot_be_known_goes_both_ways() -> None:
    """A limit may be reached or not; what comes after it is reached or not."""
    found = judged("-A INPUT -m limit --limit 1/s -j ACCEPT\n-A INPUT -j DROP", packet())
    assert found.actions == {Action.PERMIT, Action.BLOCK}
    assert [line.number for line in found.unsure] == [6]
    both = judged("-A INPUT -m limit --limit 1/s -j DROP", packet(), policy="DROP")
    assert both.actions == {Action.BLOCK}


def test_icmp_is_judged_by_type_and_code() -> None:
    """A name is a type with all codes, or one code."""
    rule = "-A INPUT -p icmp --icmp-type fragmentation-needed -j DROP"
    for message, action in ((0x0304, Action.BLOCK), (0x0303, Action.PERMIT)):
        assert judged(rule, packet(None, 1, message=message)).actions == {action}


def test_the_hooks_have_chains_of_their_own() -> None:
    """What passes through is no matter of INPUT."""
    rules = "-A INPUT -j ACCEPT\n-A FORWARD -o eth1 -j ACCEPT"
    assert judged(rules, packet(hook=Hook.FORWARD)).actions == {Action.PERMIT}
    assert judged("-A FORWARD -o eth2 -j ACCEPT", packet(hook=Hook.FORWARD)).actions == {
        Action.BLOCK
    }


@pytest.mark.parametrize(
    ("body", "passes"),
    [
        ("tcp dport { 22, 80 } drop", False),
        ("tcp dport != { 22, 80 } drop", True),
        ("tcp dport vmap { 22 : drop, 80 : accept }", False),
        ("ip saddr . tcp dport { 203.0.113.7 . 22, 203.0.113.8 . 23 } drop", False),
        ("ip saddr . tcp dport { 203.0.113.7 . 23, 203.0.113.8 . 22 } drop", True),
        ("ip saddr 203.0.113.5-203.0.113.9 drop", False),
        ("ip6 saddr ::/0 drop", True),
        ("meta nfproto ipv6 drop", True),
        ("meta l4proto { tcp, udp } th dport 22 drop", False),
        ('iifname "eth*" drop', False),
        ('iifname != { "eth0", "wg0" } drop', True),
        ("ct state { established, related } accept\ndrop", False),
        ("ct state != established,related drop", False),
        ("ct state vmap { new : goto tail }\naccept", True),
        ('tcp dport 22 counter packets 1 bytes 2 log prefix "a drop" accept\ndrop', True),
        ("tcp dport 22 jump tail\naccept", False),
        # What stands behind a setting limits the rule as well.
        ("meta mark set 0x1 tcp dport 23 drop", True),
        ("meta mark set ct mark | 0x2 tcp dport 22 drop", False),
        ("ct mark set meta mark udp dport 22 drop", True),
        ("tcp dport 22 meta nftrace set 1 drop", False),
        ("flow add @f tcp dport 23 drop", True),
        ("update @s { ip saddr timeout 1m } tcp dport 23 drop", True),
    ],
)
def test_nft_means_the_same(body: str, passes: bool) -> None:
    """Its matches, its sets and its maps of verdicts, in a chain whose policy accepts."""
    tail = "udp dport 1 accept" if "goto" in body else "drop"
    text = (
        f"table inet t {{\n chain tail {{\n {tail}\n }}\n chain input {{\n"
        f"  type filter hook input priority filter; policy accept;\n{body}\n }}\n}}\n"
    )
    read = nft.read([InputFile("rules", text)], Given())
    expected = Action.PERMIT if passes else Action.BLOCK
    assert read.evaluator().judge(packet()).actions == {expected}


@pytest.mark.parametrize(
    "rule",
    [
        "tcp dport 22 queue num 0 bypass",
        "tcp dport 22 synproxy mss 1460",
        "meta mark vmap { 0x1 : drop }",
        "fib daddr . iif type vmap { blackhole : drop }",
        "fib saddr . iif oif missing drop",
        "fib saddr . mark . iif oif != 0 tcp dport 22 drop",
        "meta mark set 0x1 limit rate 5/second drop",
    ],
)
def test_what_may_drop_is_never_taken_for_nothing(rule: str) -> None:
    """The policy of the chain is to accept, so leaving the rule out is said to be weaker."""
    text = (
        "table inet t {\n chain input {\n  type filter hook input priority 0; policy accept;\n"
        f"{rule}\n }}\n}}\n"
    )
    read = nft.read([InputFile("rules", text)], Given())
    assert read.evaluator().judge(packet()).actions == set(Action) - {Action.AUDIT}
    assert [note.weaker for note in read.ordered().notes if note.line.number == 4] == [True]


def test_all_base_chains_of_a_hook_must_accept() -> None:
    """An accept ends one chain, a drop ends all, whatever their priorities are."""
    text = """
    table inet a { chain one { type filter hook input priority 0; policy accept; accept; } }
    table inet b { chain two { type filter hook input priority 10; policy accept;
      tcp dport 22 drop; } }
    """
    read = nft.read([InputFile("rules", text)], Given())
    assert read.evaluator().judge(packet()).actions == {Action.BLOCK}
    assert read.evaluator().judge(packet(80)).actions == {Action.PERMIT}
