"""Rule sets that nobody would write, of few values that meet often."""

from __future__ import annotations

import random
from collections.abc import Sequence

NETWORKS = ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "192.0.2.0/24", "198.51.100.7/32")
HERE = ("10.0.0.0/8", "224.0.0.251/32", "192.0.2.99/32", "10.1.2.9/32")
PORTS = ("22", "80", "1:1024", "1000:2000", "443")
LINKS = ('"eth0"', '"eth*"', '{ "eth0", "wg0" }')
STATES = ("NEW", "ESTABLISHED,RELATED", "INVALID", "RELATED")


def rule_set(seed: int) -> str:
    """A rule set in the form of ``iptables-save``, the same for the same seed."""
    draw = random.Random(seed)
    lines = ["*filter"]
    lines += [
        f":{hook} {draw.choice(('ACCEPT', 'DROP'))} [0:0]"
        for hook in ("INPUT", "FORWARD", "OUTPUT")
    ]
    lines += [":c1 - [0:0]", ":c2 - [0:0]"]
    if draw.random() < 0.5:
        lines.append("-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
    below: dict[str, Sequence[str]] = {
        "INPUT": ("c1", "c2"),
        "FORWARD": ("c1", "c2"),
        "OUTPUT": (),
        "c1": ("c2",),
        "c2": (),
    }
    for chain, chains in below.items():
        lines += [_rule(draw, chain, chains) for _ in range(draw.randrange(6))]
    return "\n".join([*lines, "COMMIT", ""])


def _rule(draw: random.Random, chain: str, chains: Sequence[str]) -> str:
    def maybe_not() -> str:
        return "! " if draw.random() < 0.15 else ""

    words = [f"-A {chain}"]
    if draw.random() < 0.4:
        words.append(f"{maybe_not()}-s {draw.choice(NETWORKS)}")
    if draw.random() < 0.15:
        words.append(f"-d {draw.choice(HERE)}")
    if draw.random() < 0.3:
        names = ("eth0", "eth+") if chain == "OUTPUT" else ("eth0", "eth+", "wg0", "lo")
        words.append(f"{maybe_not()}{'-o' if chain == 'OUTPUT' else '-i'} {draw.choice(names)}")
    kind = draw.random()
    if kind < 0.5:
        words.append(f"-p {draw.choice(('tcp', 'udp'))}")
        if draw.random() < 0.8:
            words.append(f"{maybe_not()}--dport {draw.choice(PORTS)}")
        if draw.random() < 0.1:
            words.append(f"--sport {draw.choice(('53', '1024:65535'))}")
    elif kind < 0.6:
        words.append(f"-p icmp {draw.choice(('', '--icmp-type 8', '--icmp-type 3/4'))}")
    elif kind < 0.65:
        words.append(f"{maybe_not()}-p {draw.choice(('gre', 'esp'))}")
    if draw.random() < 0.2:
        words.append(f"-m conntrack --ctstate {draw.choice(STATES)}")
    if draw.random() < 0.06:
        words.append("-m limit --limit 1/s")
    target = draw.choice([*("ACCEPT", "DROP") * 3, "RETURN", "LOG", *chains, *chains])
    goes = "-g" if target in chains and draw.random() < 0.2 else "-j"
    return " ".join([*words, goes, target])


def nft_rule_set(seed: int) -> str:
    """Tables of nft with sets, maps of verdicts and several base chains at a hook."""
    draw = random.Random(seed)
    tables = []
    for number in range(draw.choice((1, 1, 2))):
        family = draw.choice(("inet", "inet", "ip", "ip6"))
        chains = [_nft_chain(draw, name, "", family) for name in ("c2", "c1")]
        hooks = [hook for hook in ("input", "forward", "output") if draw.random() < 0.7]
        hooks += ["prerouting"] * (draw.random() < 0.2)
        for hook in hooks:
            place = f"type filter hook {hook} priority {draw.choice(('filter', 'raw', '-5'))}; "
            place += f"policy {draw.choice(('accept', 'drop'))};"
            chains.append(_nft_chain(draw, f"at-{hook}", place, family))
        tables.append("\n".join([f"table {family} t{number} {{", *chains, "}"]))
    return "\n".join([*tables, ""])


def _nft_chain(draw: random.Random, name: str, place: str, family: str) -> str:
    below = {"c2": (), "c1": ("c2",)}.get(name, ("c1", "c2"))
    out = name in ("at-output", "c1", "c2")
    rules = [_nft_rule(draw, below, family, out=out) for _ in range(draw.randrange(5))]
    return "\n".join([f"chain {name} {{", *filter(None, [place]), *rules, "}"])


def _nft_rule(draw: random.Random, chains: Sequence[str], family: str, *, out: bool) -> str:
    words = []
    if family != "ip6" and draw.random() < 0.3:
        equals = draw.choice(("", "!= "))
        words.append(f"ip saddr {equals}{{ {', '.join(draw.sample(NETWORKS[1:4], 2))} }}")
    elif family != "ip" and draw.random() < 0.3:
        words.append(f"ip6 saddr {draw.choice(('2001:db8::/32', '2001:db8:1::7', 'fe80::/10'))}")
    if not out and draw.random() < 0.3:
        words.append(f"iifname {draw.choice(('!= ', ''))}{draw.choice(LINKS)}")
    kind = draw.random()
    if kind < 0.3:
        words.append(
            f"{draw.choice(('tcp', 'udp'))} dport {draw.choice(('!= ', ''))}{{ 22, 80-90 }}"
        )
    elif kind < 0.4:
        words.append(f"meta l4proto {draw.choice(('!= ', ''))}{{ gre, tcp }}")
    elif kind < 0.5 and family != "ip6":
        words.append("icmp type { echo-request, 13 }")
    if draw.random() < 0.2:
        words.append(f"ct state {draw.choice(('new', 'established,related', 'invalid'))}")
    if draw.random() < 0.05:
        words.append("limit rate 3/second")
    if draw.random() < 0.15:
        verdict = draw.choice(("drop", *(f"jump {chain}" for chain in chains)))
        return " ".join([*words, f"tcp dport vmap {{ 22 : accept, 443 : {verdict} }}"])
    jumps = [f"{goes} {chain}" for chain in chains for goes in ("jump", "goto")]
    return " ".join([*words, draw.choice([*("accept", "drop", "reject") * 2, "return", *jumps])])
