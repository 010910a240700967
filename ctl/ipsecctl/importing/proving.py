"""Owns the comparison of a translation with its source: two judges that share no line of code.

One is the source's evaluator, which walks its rules as that firewall does; the other is
``ipsecd.model.decide`` on the policy. It is a proof when each class of packets was judged, and a
sample when there are too many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from ipsecctl.importing.blocks import Blocks, Names, nearest
from ipsecctl.importing.boxes import OF_RANK
from ipsecctl.importing.cells import Cells, Place
from ipsecctl.importing.layers import OF_STATES, ON_LOOPBACK
from ipsecctl.importing.own_addresses import OwnAddresses
from ipsecctl.importing.regions import LOOPBACK, Dim, Links, Span, Spans, span_of, spans, spans_of
from ipsecctl.importing.source import (
    OPENING,
    Decided,
    Given,
    Hook,
    Kind,
    Line,
    Mention,
    Note,
    Parsed,
    SourcePacket,
    State,
)
from ipsecctl.importing.translating import Translation
from ipsecd.language.packets import format_packet
from ipsecd.model.addresses import Address, Family, Keyword, ListName, Network
from ipsecd.model.decide import Decision, decide
from ipsecd.model.kinds import Action, InterfaceType
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import Endpoint, IcmpOfFamily, InForce, Store, filters_of

ALL_PACKETS = 150_000
"""As many classes are judged one by one; of more, a sample."""
SAMPLE = 40_000
MAX_DIFFERENCES = 100


@dataclass(slots=True)
class Difference:
    """Packets that the source and the policy decide differently, by the rules that decide.

    ``line`` is the source's (None: its default), ``rule`` the policy's (None: none). ``note`` is
    what was said of it beforehand; None if nobody knew. ``unsure`` are lines of which the source's
    verdict depends.
    """

    packet: str
    state: str
    out_link: str
    theirs: tuple[Decided, ...]
    ours: Action
    rule: str | None
    unsure: tuple[Line, ...]
    note: Note | None
    packets: int = 1

    @property
    def weaker(self) -> bool:
        """Whether the policy lets pass what the source may stop."""
        return self.ours is Action.PERMIT


@dataclass(frozen=True, slots=True)
class Proof:
    """What the comparison found. ``complete`` says that all classes of packets were judged."""

    judged: int
    classes: int
    complete: bool
    differences: tuple[Difference, ...]

    @property
    def unknown(self) -> tuple[Difference, ...]:
        """The differences that no note has told of."""
        return tuple(one for one in self.differences if one.note is None)


def prove(
    parsed: Parsed,
    translation: Translation,
    given: Given,
    *,
    most: int = ALL_PACKETS,
    sample: int = SAMPLE,
) -> Proof:
    """Compare the source with the policy: by a packet of each class, or by a sample if too many.

    That is `sample` packets at the most, but one for each hook and IP version.
    """
    judge = _Judge(parsed, translation, given)
    cells = [
        Cells(hook, family, judge.mentions, judge.place)
        for hook, family in product(Hook, Family)
        if (hook, family) in translation.ordered.judged
    ]
    total = sum(one.size for one in cells)
    complete = total <= most
    judged = 0
    for at, one in enumerate(cells):
        packets = one.all()
        if not complete:
            # Half of them by how many classes there are, half alike for each hook and IP version.
            share = sample * one.size // total + sample // len(cells)
            packets = one.some(max(1, share // 2), at)
        for packet in packets:
            judged += 1
            judge.compare(packet)
    return Proof(judged, total, complete, tuple(judge.differences.values()))


class _Judge:
    """Both sides, on one host, and where they differ."""

    def __init__(self, parsed: Parsed, translation: Translation, given: Given) -> None:
        self._evaluator = parsed.evaluator()
        self._lists = translation.written.lists
        self._lines = translation.written.lines
        policy = translation.written.policy
        self._in_force = filters_of(policy, Store.STATIC)
        self._notes: dict[Line, list[Note]] = {}
        for note in translation.notes:
            if note.kind in (Kind.LEFT_OUT, Kind.CHANGED):
                self._notes.setdefault(note.line, []).append(note)
        self._on_loopback = next((n for n in translation.notes if n.reason == ON_LOOPBACK), None)
        chosen = OwnAddresses(translation.ordered.clauses, self._in_force)
        own = chosen.own(given.own or translation.assumed)
        broadcasts = chosen.broadcasts(own)
        self.host = Host(own, broadcasts, self._lists)
        self.place = Place(
            _by_family(own),
            _by_family(broadcasts),
            parsed.links,
            {
                name: {
                    f: spans_of(Network(of, v, n) for of, v, n in entries if of is f)
                    for f in Family
                }
                for name, entries in given.networks.items()
                if name in parsed.links.names
            },
        )
        self.mentions = [*parsed.mentions(), *_mentions(self._in_force, self._lists, parsed.links)]
        self.differences: dict[tuple[object, ...], Difference] = {}
        self._chosen: dict[tuple[Hook, Family, int], _Near] = {}

    def compare(self, packet: SourcePacket) -> None:
        """Judge a packet by both sides."""
        theirs = self._evaluator.judge(packet)
        seen = self._seen(packet)
        ours = decide(self._filters(packet), seen, self.host)
        if theirs.actions == {ours.action}:
            return
        against = tuple(one for one in theirs.outcomes if one.action is not ours.action)
        rule = ours.by.origin.rule if ours.by else None
        note = self._note(against, theirs.unsure, ours, packet)
        said = note and (note.reason, note.weaker)
        key: tuple[object, ...] = (packet.hook, packet.family, ours.action, said)
        if note is None:
            key = (*key, rule, against, theirs.unsure)
        if key in self.differences:
            self.differences[key].packets += 1
            return
        self.differences[key] = Difference(
            format_packet(self._as_written(seen), host=self.host),
            packet.state.name.lower(),
            packet.out_link,
            against,
            ours.action,
            rule,
            theirs.unsure,
            note,
        )

    def _note(
        self,
        against: Sequence[Decided],
        unsure: Sequence[Line],
        ours: Decision,
        packet: SourcePacket,
    ) -> Note | None:
        """The note that told of a difference, by the rules that decide on either side."""
        if packet.link == LOOPBACK and ours.action is Action.PERMIT and self._on_loopback:
            return self._on_loopback
        lines = [one.line for one in against if one.line] + list(unsure)
        by = ours.by and self._lines[ours.by.origin.rule]
        if by and packet.state in (State.INVALID, State.UNTRACKED, State.RELATED):
            lines.append(by)
        notes = [
            note
            for line in lines
            for note in self._notes.get(line, [])
            if note.reason != ON_LOOPBACK and (line is not by or note.kind is Kind.CHANGED)
        ]
        if not notes:
            said = OF_RANK | {OF_STATES.get(packet.state)}
            notes = [one for each in self._notes.values() for one in each if one.reason in said]
        # Of several reasons the one that can have had this effect.
        wanted = ours.action is Action.PERMIT
        return min(notes, key=lambda note: note.weaker is not wanted, default=None)

    def _as_written(self, packet: Packet) -> Packet:
        """The packet without a link that was made up: it stands for all that no rule names."""
        made_up = packet.interface == self.place.links.names[1]
        return replace(packet, interface="") if made_up else packet

    def _seen(self, packet: SourcePacket) -> Packet:
        """The packet as this host sees it."""
        message = packet.message
        return Packet(
            Point.SENDING if packet.hook is Hook.OUT else Point.ARRIVING,
            packet.family,
            packet.source,
            packet.destination,
            packet.protocol,
            packet.source_port,
            packet.destination_port,
            None if packet.link == LOOPBACK else InterfaceType.LAN,
            icmp_type=None if message is None else message >> 8,
            icmp_code=0 if message is None else message & 255,
            interface=packet.link,
            opening=packet.state in OPENING,
        )

    def _filters(self, packet: SourcePacket) -> Iterator[InForce]:
        """The filters that may match, which are few; ``decide`` looks at each of them."""
        key = (packet.hook, packet.family, packet.protocol)
        if key not in self._chosen:
            self._chosen[key] = _Near(self._in_force, packet)
        return self._chosen[key].of(packet)


class _Near:
    """The filters that may match packets like one, found by addresses and ports."""

    def __init__(self, in_force: Iterable[InForce], packet: SourcePacket) -> None:
        bits = packet.family.bits
        self._filters = [one for one in in_force if _may_match(one, packet)]
        self._links = Names()
        self._dimensions = tuple(map(Blocks, (bits, bits, 16, 16, Names.BITS)))
        for number, one in enumerate(self._filters):
            for blocks, some in zip(self._dimensions, self._spans(one), strict=True):
                blocks.add(number, some)

    def of(self, packet: SourcePacket) -> Iterator[InForce]:
        """Those that the packet may be matched by."""
        values = (packet.source, packet.destination, packet.source_port, packet.destination_port)
        at = [None if value is None else (value, value) for value in values]
        near = nearest(self._dimensions, [*at, self._links.span(packet.link)])
        return (self._filters[number] for number in near)

    def _spans(self, one: InForce) -> tuple[Span | None, ...]:
        """What a filter asks of addresses, ports and link; None where it may be anything."""
        ends = (one.filter.source, one.filter.destination)
        name = one.conditions.interface_name
        link = self._links.span(name.pattern) if name else None
        if one.filter.mirrored:
            return (*(None,) * 4, link)
        return (*(_address_span(end.address) for end in ends), *map(_port_span, ends), link)


def _address_span(address: Address) -> Span | None:
    if not isinstance(address, Network):
        return None
    return span_of(address.address, address.length, address.family)


def _port_span(end: Endpoint) -> Span | None:
    """From the first port to the last."""
    if not end.ports:
        return None
    return min(ports.first for ports in end.ports), max(ports.last for ports in end.ports)


def _by_family(addresses: Iterable[tuple[Family, int]]) -> dict[Family, Spans]:
    some = list(addresses)
    return {family: spans((v, v) for of, v in some if of is family) for family in Family}


def _may_match(one: InForce, packet: SourcePacket) -> bool:
    number = one.filter.protocol
    if isinstance(number, IcmpOfFamily):
        number = number.number(packet.family)
    return (
        packet.family in one.filter.families
        and number in (None, packet.protocol)
        and packet.hook in _hooks(one)
    )


def _hooks(one: InForce) -> Sequence[Hook]:
    if one.filter.destination.address is Keyword.ME:
        return (Hook.IN,)
    return (Hook.OUT,) if one.filter.source.address is Keyword.ME else tuple(Hook)


def _mentions(
    in_force: Iterable[InForce], lists: Mapping[str, AddressList], links: Links
) -> Iterator[Mention]:
    """What the policy's filters tell apart."""
    for one in in_force:
        flt = one.filter
        base: dict[Dim, Spans] = {}
        number = flt.protocol
        if one.conditions.interface_name:
            base[Dim.LINK] = links.matching(one.conditions.interface_name.pattern)
        for dim, end in ((Dim.SOURCE_PORT, flt.source), (Dim.DESTINATION_PORT, flt.destination)):
            if end.ports:
                base[dim] = spans((ports.first, ports.last) for ports in end.ports)
        for family in flt.families:
            region = dict(base)
            if number is not None:
                value = number.number(family) if isinstance(number, IcmpOfFamily) else number
                region[Dim.PROTOCOL] = ((value, value),)
            message = flt.message.number(family) if flt.message else None
            if flt.message and message is not None:
                codes = (0, 255) if flt.message.code is None else (flt.message.code,) * 2
                region[Dim.MESSAGE] = ((message << 8 | codes[0], message << 8 | codes[1]),)
            for hook in _hooks(one):
                yield Mention(hook, family, region)
                for dim, end in ((Dim.SOURCE, flt.source), (Dim.DESTINATION, flt.destination)):
                    for some in _sets(end.address, family, lists):
                        yield Mention(hook, family, {dim: some})


def _sets(address: Address, family: Family, lists: Mapping[str, AddressList]) -> Iterator[Spans]:
    """The addresses of one end, by prefix length, as these are of different ranks."""
    if isinstance(address, Network) and address.family is family:
        yield spans_of([address])
    elif isinstance(address, ListName):
        by_length: dict[int, list[Network]] = {}
        for network in lists[address.name].networks():
            if network.family is family:
                by_length.setdefault(network.length, []).append(network)
        yield from map(spans_of, by_length.values())
