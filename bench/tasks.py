"""Owns one task for a firewall in the words of each: what is to be dropped of what arrives.

The rulesets are the best that each one's documentation knows for the task: for nft sets, in the
first hook that sees packets of the host (prerouting before connection tracking) and in the one
before it (ingress of the link); for iptables sets of ipset in its raw table; for firewalld ipsets
and rules of its default zone, which by itself lets the rest through here. Must not know how
anything is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

LINK = "wire0"
"""The link that packets come in by."""
ROOM = 2
"""How many times the entries a set has room for."""
LEAST_ROOM = 1 << 16
"""For how many it has room at least: a short one is added to."""


@dataclass(frozen=True)
class Task:
    """Datagrams to ports, packets from sources, and datagrams from a source to a port."""

    name: str
    ports: Sequence[int] = ()
    sources: Sequence[str] = ()
    """Addresses and prefixes, none of which lies in another; of one IP version."""
    pairs: Sequence[tuple[str, int]] = ()

    @property
    def version(self) -> int:
        addresses = [*self.sources[:1], *(address for address, _ in self.pairs[:1])]
        return 6 if any(":" in address for address in addresses) else 4

    @property
    def has_prefixes(self) -> bool:
        return any("/" in source for source in self.sources)


def joined(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


# -- ipsecd --------------------------------------------------------------------------------------


def policy(task: Task) -> str:
    """The policy; sources are a list, which is a file of its own (`listed`)."""
    filters = [f"*=0:{port}:UDP" for port in task.ports]
    # The article blocks the worm's port both ways.
    if task.ports and len(task.ports) == 1:
        filters += [f"0=*:{port}:UDP" for port in task.ports]
    filters += [
        f"[{a}]=0:{port}:UDP" if ":" in a else f"{a}=0:{port}:UDP" for a, port in task.pairs
    ]
    if task.sources:
        filters.append("@listed=0")
    if not filters:
        return "policy: P\nrules: []\n"
    lines = "".join(f'      - "{text}"\n' for text in filters)
    return f"policy: P\nrules:\n  - rule: R\n    action: block\n    filters:\n{lines}"


def listed(task: Task) -> str:
    """The file of the list."""
    return "".join(f"{source}\n" for source in task.sources)


# -- nft -----------------------------------------------------------------------------------------


def nft(task: Task, hook: str) -> str:
    """A ruleset for ``nft -f``, in the hook `ingress` or `prerouting`."""
    sets, rules = nft_sets(task), nft_rules(task)
    if hook == "ingress":
        family, where = "netdev", f"ingress device {LINK} priority -500"
    else:
        family, where = "inet", "prerouting priority raw"
    chain = f"chain first {{\ntype filter hook {where}; policy accept;\n{rules}}}\n"
    return f"table {family} hand {{\n{sets}{chain}}}\n"


def nft_rules(task: Task) -> str:
    """The rules of the chain, which look into the sets."""
    family = "ip6" if task.version == 6 else "ip"
    rules = ""
    if len(task.ports) == 1:
        rules += f"udp dport {task.ports[0]} drop\n"
    elif task.ports:
        rules += "udp dport @ports drop\n"
    if task.sources:
        rules += f"{family} saddr @sources drop\n"
    if task.pairs:
        rules += f"{family} saddr . udp dport @pairs drop\n"
    return rules


def room(task: Task) -> int:
    """For how many sources a set has room."""
    return max(LEAST_ROOM, ROOM * len(task.sources))


def nft_sets(task: Task) -> str:
    """The sets: of addresses hash sets of a known size, and of prefixes an interval set."""
    kind = "ipv6_addr" if task.version == 6 else "ipv4_addr"
    sets = ""
    if len(task.ports) > 1:
        sets += f"set ports {{ type inet_service; elements = {{ {joined(task.ports)} }} }}\n"
    if task.sources:
        shape = "flags interval" if task.has_prefixes else f"size {room(task)}"
        elements = joined(task.sources)
        sets += f"set sources {{ type {kind}; {shape}; elements = {{ {elements} }} }}\n"
    if task.pairs:
        elements = joined(f"{address} . {port}" for address, port in task.pairs)
        sets += f"set pairs {{ type {kind} . inet_service; elements = {{ {elements} }} }}\n"
    return sets


# -- ipset, and iptables that looks into it ------------------------------------------------------


def ipset(task: Task) -> str:
    """What ``ipset restore`` reads."""
    family = "family inet6" if task.version == 6 else "family inet"
    text = ""
    if len(task.ports) > 1:
        text += "create ports bitmap:port range 0-65535\n"
        text += "".join(f"add ports {port}\n" for port in task.ports)
    if task.sources:
        kind = "hash:net" if task.has_prefixes else "hash:ip"
        text += f"create sources {kind} {family} maxelem {room(task)}\n"
        text += "".join(f"add sources {source}\n" for source in task.sources)
    if task.pairs:
        text += f"create pairs hash:ip,port {family}\n"
        text += "".join(f"add pairs {address},udp:{port}\n" for address, port in task.pairs)
    return text


def iptables(task: Task) -> str:
    """What ``iptables-restore`` reads, or ``ip6tables-restore``."""
    rules = ""
    if len(task.ports) == 1:
        rules += f"-A PREROUTING -p udp --dport {task.ports[0]} -j DROP\n"
    elif task.ports:
        rules += "-A PREROUTING -p udp -m set --match-set ports dst -j DROP\n"
    if task.sources:
        rules += "-A PREROUTING -m set --match-set sources src -j DROP\n"
    if task.pairs:
        rules += "-A PREROUTING -p udp -m set --match-set pairs src,dst -j DROP\n"
    return f"*raw\n:PREROUTING ACCEPT [0:0]\n{rules}COMMIT\n"


# -- firewalld, ufw, xdp-filter ------------------------------------------------------------------


def firewalld_ipset(task: Task) -> str:
    """The file of an ipset of firewalld."""
    kind = "hash:net" if task.has_prefixes else "hash:ip"
    family = "inet6" if task.version == 6 else "inet"
    entries = "".join(f"<entry>{source}</entry>\n" for source in task.sources)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<ipset type="{kind}">\n'
        f'<option name="family" value="{family}"/><option name="maxelem" value="{room(task)}"/>\n'
        f"{entries}</ipset>\n"
    )


def firewalld_zone(task: Task, open_port: int) -> str:
    """The file of the zone, which lets a port through, and what is not named too."""
    version = f"ipv{task.version}"
    rules = [f'<rule><port port="{port}" protocol="udp"/><drop/></rule>' for port in task.ports]
    if task.sources:
        rules.append(f'<rule family="{version}"><source ipset="sources"/><drop/></rule>')
    rules += [
        f'<rule family="{version}"><source address="{escape(address)}"/>'
        f'<port port="{port}" protocol="udp"/><drop/></rule>'
        for address, port in task.pairs
    ]
    lines = "\n".join(rules)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<zone target="ACCEPT"><short>Public</short>\n'
        f'<port port="{open_port}" protocol="udp"/>\n{lines}\n</zone>\n'
    )


def ufw(task: Task, open_port: int) -> list[str]:
    """The rules that ufw is told one by one; it takes up to 15 ports at a time."""
    parts = [task.ports[at : at + 15] for at in range(0, len(task.ports), 15)]
    blocked = [
        f"deny in proto udp from any to any port {','.join(map(str, part))}" for part in parts
    ]
    return [*blocked, f"allow {open_port}/udp"]


def xdp_filter(task: Task) -> list[str]:
    """The commands of xdp-filter, without its name."""
    ports = [f"port {port} -p udp -m dst" for port in task.ports]
    return [*ports, *(f"ip {source} -m src" for source in task.sources)]
