"""Rule sets that nobody would write, of few values that meet often."""

from __future__ import annotations

import random
from collections.abc import Sequence

NETWORKS = ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "192.0.2.0/24", "198.51.100.7/32")
HERE = ("10.0.0.0/8", "224.0.0.251/32", "192.0.2.99/32", "10.1.2.9/32")
PORTS = ("22", "80", "1:1024", "1000:2000", "443")
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
