"""Owns the ruleset of nft(8) that decides as filters do; must not ask anybody for them.

It is a table of its own, which needs no daemon and touches no other table. Its lines stand in the
order of their rank, so the first that fits a packet decides. What a packet has of ``me`` the kernel
says, so the addresses of the host can change. Pure. Invariants:

1. A packet is looked at where ipsecd looks at it: before connection tracking, or just behind it if
   a filter asks whether a packet opens a connection; what is delivered here once more, and what was
   forwarded and leaves under an address of this host.
2. A line that needs ports or a message meets no later fragment, and no packet whose headers end
   too early: those take chains of their own, or are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ipsecctl.exporting.matches import Line, Match, lines_of, matches_of, ranked
from ipsecctl.exporting.nft_words import (
    comment,
    conditions,
    exempt,
    name_of_rule,
    one_of,
    prefix,
    without_covered,
)
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import Exemption
from ipsecd.model.list_names import with_lengths
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Point
from ipsecd.model.values import ICMP, PROTOCOLS_WITH_PORTS, Action, InForce

TABLE = "ipsecd_export"
_DELIVERED = "delivered"
_HOOKS = {
    Point.ARRIVING.value: ("prerouting", -301),
    _DELIVERED: ("input", -301),
    Point.SENDING.value: ("output", -301),
    Point.LEAVING.value: ("postrouting", 101),
}
"""Before raw (-300), so before connection tracking and translation, and behind srcnat (100)."""
_BEHIND_TRACKING = -199
_FOR_HERE = "{ local, broadcast, anycast, multicast }"
_VERDICTS = {Action.BLOCK: "drop", Action.PERMIT: "accept", Action.AUDIT: ""}


def ruleset(
    in_force: Iterable[InForce],
    exemptions: Iterable[Exemption],
    lists: Mapping[str, AddressList],
    *,
    drop_unparsable: bool,
) -> str:
    """A file for ``nft -f`` that decides about packets as the filters do.

    `drop_unparsable` says what becomes of packets whose headers cannot be read, while anything is
    blocked. Raises ``Refused`` for a DNS name without addresses.
    """
    matches = list(matches_of(with_lengths(in_force, lists)))
    chains = _Chains(tuple(exemptions), lists, any(map(_is_block, matches)), drop_unparsable)
    for point in Point:
        chains.look(point.value, point, ranked(matches, point))
    chains.look(_DELIVERED, Point.ARRIVING, ranked(matches, Point.ARRIVING), again=True)
    return chains.text()


@dataclass
class _Chains:
    """The chains that are written so far, each with its head and its rules, and the sets."""

    exemptions: tuple[Exemption, ...]
    lists: Mapping[str, AddressList]
    blocking: bool
    drop_unparsable: bool
    heads: dict[str, str] = field(default_factory=dict)
    rules: dict[str, list[str]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The whole file: it replaces a table of its name at once."""
        blocks = [*self.sets.values()]
        for name, rules in self.rules.items():
            head = [self.heads[name]] if name in self.heads else []
            blocks.append(_block(f"chain {name}", [*head, *rules]))
        table = _block(f"table inet {TABLE}", "\n".join(blocks).splitlines())
        return f"table inet {TABLE}\ndelete table inet {TABLE}\n{table}\n"

    def look(
        self, base: str, point: Point, matches: Sequence[Match], *, again: bool = False
    ) -> None:
        """Write the chains for one place where packets are looked at.

        With `again` they are from or to this host, and were looked at before.
        """
        matches = _that_matter(matches, point, again=again)
        checks = self.blocking and self.drop_unparsable and not again
        if not matches and not (checks and point is not Point.LEAVING):
            return
        tracked = not again and any(match.is_of_opening for match in matches)
        hook, priority = _HOOKS[base]
        if tracked and point is not Point.LEAVING:
            priority = _BEHIND_TRACKING
        self.heads[base] = f"type filter hook {hook} priority {priority}; policy accept;"
        side = "iif" if point is Point.ARRIVING else "oif"
        self._add(base, f'{side} "lo" accept')
        if point is Point.LEAVING:
            self._add(base, "iif 0 accept", comment("not forwarded"))
        if again:
            self._pass_what_was_for_others(base)
        elif point is Point.ARRIVING:
            self._add(base, 'meta iifkind "vrf" accept', comment("judged by the link in the VRF"))
        for family in Family:
            entry = f"{base}_ip{family.value}"
            self._add(base, f"meta nfproto ipv{family.value} goto {entry}")
            of_family = [match for match in matches if match.family is family]
            self._family(entry, point, family, of_family, again=again)

    def _pass_what_was_for_others(self, base: str) -> None:
        """Filters do not apply to translated addresses, nor to what a transparent proxy takes."""
        self._add(base, "ct status & (snat | dnat) != 0 accept", comment("judged as it arrived"))
        marked = f"{base}_marked"
        self._add(base, f"meta mark != 0 jump {marked}")
        self._add(marked, 'meta iifkind "vrf" return')
        self._add(marked, f"fib daddr type != {_FOR_HERE} accept", comment("for a proxy"))

    def _family(
        self, entry: str, point: Point, family: Family, matches: Sequence[Match], *, again: bool
    ) -> None:
        drops = self.blocking and self.drop_unparsable and point is not Point.LEAVING
        end = "counter drop" if drops else "accept"
        checked = f"{entry}_checked"
        if not (again and family is Family.IPV4):
            # The kernel puts IPv4 together before it delivers it. This comes first: of a later
            # fragment, the headers that are checked next may lie in an earlier one.
            fragment = f"{entry}_fragment"
            offset = "ip frag-off & 0x1fff" if family is Family.IPV4 else "frag frag-off"
            self._add(entry, f"{offset} != 0 goto {fragment}")
            some = [match for match in matches if not match.needs_transport]
            self._judge(fragment, point, family, some, again=again, fragment=True)
        self._add(entry, f"@th,0,32 & 0 == 0 goto {checked}", comment("has a header behind IP"))
        if family is Family.IPV6:
            headers = f"{entry}_headers"
            self._add(entry, f"jump {headers}")
            self._add(headers, "meta l4proto >= 0 return")
            self._add(headers, end, comment("too many or broken extension headers"))
        numbers = sorted({*PROTOCOLS_WITH_PORTS, ICMP.number(family)})
        self._add(
            entry,
            f"meta l4proto {one_of(map(str, numbers))} {end}",
            comment("ends before its ports or its type"),
        )
        self._add(entry, f"goto {checked}")
        self._judge(checked, point, family, matches, again=again, fragment=False)

    def _judge(
        self,
        entry: str,
        point: Point,
        family: Family,
        matches: Sequence[Match],
        *,
        again: bool,
        fragment: bool,
    ) -> None:
        """Let pass what is exempt, and send the rest to the matches that it can meet."""
        self.rules.setdefault(entry, [])
        if not matches:
            return
        for exemption in self.exemptions:
            for pattern in exemption.patterns:
                if point in pattern.points and pattern.family in (None, family):
                    for words in exempt(pattern, family, fragment=fragment):
                        label = comment(f"exempt: {exemption.name}")
                        self._add(entry, *words, "accept", label)
        if again:
            self._lines(entry, point, matches)
            return
        if any(match.is_of_me for match in matches):
            of_me = f"{entry}_me"
            for is_me in _is_me(point, family):
                self._add(entry, is_me, f"goto {of_me}")
            self._lines(of_me, point, matches)
        others = [match for match in matches if not match.is_of_me]
        # A leaving packet whose source is not this host was judged when it arrived.
        if others and point is not Point.LEAVING:
            self._add(entry, f"goto {entry}_other")
            self._lines(f"{entry}_other", point, others)

    def _lines(self, name: str, point: Point, matches: Sequence[Match]) -> None:
        self.rules.setdefault(name, [])
        for line in lines_of(matches):
            for words in conditions(line, point, self._set):
                self._add(name, *words, *_end(line))

    def _set(self, name: str, family: Family, lengths: tuple[int, ...]) -> str:
        """The name of the set for entries of a list, which is written if it is new."""
        every = tuple(sorted(length for of, length in self.lists[name].entries if of is family))
        some = () if lengths == every else (*map(str, lengths),)
        # A number tells lists apart whose names are the same in the letters that nft takes.
        plain = "".join(each if each.isalnum() and each.isascii() else "_" for each in name)
        number = sorted(self.lists).index(name)
        set_name = "_".join((f"list{number}", plain, f"ip{family.value}", *some))
        if set_name not in self.sets:
            networks = (
                network
                for network in self.lists[name].networks()
                if network.family is family and network.length in lengths
            )
            elements = ",\n".join(map(prefix, without_covered(networks)))
            kind = "ipv4_addr" if family is Family.IPV4 else "ipv6_addr"
            only_hosts = lengths == (family.bits,)
            head = [f"type {kind};", *([] if only_hosts else ["flags interval;"])]
            body = [*head, "elements = {", *_indented(elements.splitlines()), "}"]
            self.sets[set_name] = _block(f"set {set_name}", body)
        return set_name

    def _add(self, chain: str, *words: str) -> None:
        self.rules.setdefault(chain, []).append(" ".join(words))


def _is_block(match: Match) -> bool:
    return match.action is Action.BLOCK


def _that_matter(matches: Sequence[Match], point: Point, *, again: bool) -> Sequence[Match]:
    """Those of the matches, in their order, that can change what happens to a packet.

    What is looked at again was audited before, and only what is for this host can block it yet.
    Leaving packets are looked at only for blocks and audits, and for permits above them.
    """
    if again:
        matches = [
            match
            for match in matches
            if match.action is not Action.AUDIT and (match.is_of_me or not _is_block(match))
        ]
    elif point is not Point.LEAVING:
        return matches
    last = max((n for n, one in enumerate(matches) if one.action is not Action.PERMIT), default=-1)
    return matches[: last + 1]


def _is_me(point: Point, family: Family) -> list[str]:
    """What is asked to know whether a packet is to, or from, this host; any of it is enough.

    The second is for VRFs, before Linux 6.12. What a socket sends is from this host with any
    address, except the unspecified one, unless it is that of a transparent proxy.
    """
    if point is Point.ARRIVING:
        return [f"fib daddr type {_FOR_HERE}", f"fib daddr . iif type {_FOR_HERE}"]
    asked = ["fib saddr type local", "fib saddr . oif type local"]
    if point is Point.SENDING:
        address = "ip saddr != 0.0.0.0" if family is Family.IPV4 else "ip6 saddr != ::"
        asked.append(f"{address} socket transparent 0")
    return asked


def _end(line: Line) -> list[str]:
    """How a rule ends: it counts, and decides unless it is an audit."""
    label = name_of_rule(line.origin)
    if line.action is Action.AUDIT:
        return ["counter", comment(f"audit: {label}")]
    return ["counter", _VERDICTS[line.action], comment(label)]


def _block(head: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{head} {{", *_indented(lines), "}"])


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
