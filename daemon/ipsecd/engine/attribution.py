"""Owns finding out what decided about packets that a backend tells of; must not know who asks.

The kernel says that it dropped a packet, and not why. So the packet is judged once more, by the
state that was in force then. What that state would not drop is said to be of no rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ipsecd.backend.reporting import Report
from ipsecd.compiler.classifier import Entry, Lookups
from ipsecd.engine.naming_filters import FilterNames
from ipsecd.engine.recent import RecentStates
from ipsecd.engine.senders import Senders
from ipsecd.engine.state import State
from ipsecd.host.interfaces import HostReader, HostState, Interface
from ipsecd.language.addresses import parse_address
from ipsecd.language.headers import Read, read_packet
from ipsecd.model.addresses import JOINED, Family, Network, Process
from ipsecd.model.inventory import Inventory
from ipsecd.model.lists import Form
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.sightings import LINK_ETHERNET, LINK_RAW, Sighting
from ipsecd.model.values import Action, Filter, InterfaceType, Origin

HOST_S = 1.0
"""How long what is known of this host's links and addresses is relied on."""
HOST_SHARE = 20
"""Reading it takes at most one part in so many of the time."""
JUDGES = 16
REMEMBERED = 8192


@dataclass(frozen=True, slots=True)
class Decided:
    """The rule that dropped a packet, its filter, and the entry of the list that the filter names.

    ``origin`` is None where the packet was dropped because it cannot be read.
    """

    origin: Origin | None
    filter: Filter | None = None
    list_name: str = ""
    entry: Network | None = None


class Attribution:
    """Turns reports into sightings; for one thread."""

    def __init__(
        self, recent: RecentStates, read_host: Callable[[], HostState] | None = None
    ) -> None:
        self._recent = recent
        self._read_host = read_host or HostReader()
        self._host_until = 0.0
        self._host = HostState((), Host())
        self._links: dict[int, Interface] = {}
        self._judges: dict[int, _Judge] = {}
        self._names: FilterNames | None = None
        self._containers: tuple[Inventory, dict[tuple[Family, int], str]] = (Inventory(), {})
        self._senders = Senders()

    def sightings(self, reports: Sequence[Report]) -> list[Sighting]:
        """What is known of each packet."""
        self._look_at_host()
        return [self._sighting(report) for report in reports]

    def _sighting(self, report: Report) -> Sighting:
        if report.interface not in self._links:
            self._look_at_host(now=True)
        link = self._links.get(report.interface)
        kind = link.type if link else InterfaceType.LAN
        read = read_packet(report.packet, report.point, link.name if link else "", kind)
        packet, flags = read or _unreadable(report, link)
        sender = self._senders.of(packet)
        states = self._recent.at(report.at_ns)
        judged = (self._judge(s).decide(packet, sender, report.action) for s in states)
        decided = next(filter(None, judged), None)
        decided = decided or Decided(None)
        return Sighting(
            report.at_ns,
            report.action,
            decided.origin,
            decided.filter,
            decided.list_name,
            decided.entry,
            report.point,
            packet.interface,
            packet,
            flags,
            report.length,
            report.link_header + report.packet,
            LINK_ETHERNET if report.link_header else LINK_RAW,
            str(sender) if sender else "",
            self._container(packet, states[0]) if states else "",
        )

    def _look_at_host(self, *, now: bool = False) -> None:
        """Ask for links and addresses, if what is known of them is old; `now` if it is not enough.

        A link that has gone is asked for in vain, but not again and again.
        """
        begun = time.monotonic()
        if begun < self._host_until - (HOST_S * 0.9 if now else 0.0):
            return
        try:
            self._host = self._read_host()
        except OSError:
            # What was known is better than nothing; it is asked again in a second.
            self._host_until = begun + HOST_S
            return
        took = time.monotonic() - begun
        self._host_until = begun + max(HOST_S, took * HOST_SHARE)
        self._links = {link.index: link for link in self._host.interfaces}
        self._judges = {}

    def _judge(self, state: State) -> _Judge:
        """What judges by a state, made when it is first needed."""
        judge = self._judges.get(id(state))
        if judge is None:
            if len(self._judges) >= JUDGES:
                self._judges = {}
            if self._names is None or not self._names.suits(state):
                self._names = FilterNames(state)
            judge = self._judges[id(state)] = _Judge(state, self._host.host, self._names)
        return judge

    def _container(self, packet: Packet, state: State) -> str:
        """The name of the container that the packet is to or from; "" if there is none."""
        inventory, names = self._containers
        if inventory is not state.inventory:
            names = {
                (network.family, network.address): container.name
                for container in state.inventory.containers
                for networks in container.networks.values()
                for network in networks
            }
            self._containers = state.inventory, names
        if not names:
            return ""
        to, by = ((packet.family, value) for value in (packet.destination, packet.source))
        return names.get(to) or names.get(by, "")


class _Judge:
    """Judges packets by one state, which it keeps."""

    def __init__(self, state: State, host: Host, names: FilterNames) -> None:
        self._state = state
        self._host = replace(host, lists=state.lists)
        self._names = names
        tables = state.volatile.tables
        self._lookups = Lookups(state.classifier, host, tables)
        ids = [*(table.id for table in state.classifier.tables), *(t.id for t in tables)]
        self._asks_for_connections = any(table.opening for table in ids)
        self._processes = {
            process
            for text in {table.process for table in ids if table.process}
            if isinstance(process := parse_address(text), Process)
        }
        self._known: dict[tuple[Packet, Process | None, Action], Decided | None] = {}

    def decide(self, packet: Packet, sender: Process | None, action: Action) -> Decided | None:
        """What drops the packet, or is the audit that counts it; None if nothing does."""
        key = packet, sender, action
        if key not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = self._decided(*key)
        return self._known[key]

    def _decided(self, packet: Packet, sender: Process | None, action: Action) -> Decided | None:
        if not packet.parsed:
            verdict = self._lookups.verdict(packet).action
            return Decided(None) if verdict is Action.BLOCK else None
        for candidate in self._candidates(packet, sender):
            audit, deciding = self._lookups.entries(candidate)
            entry = audit if action is Action.AUDIT else deciding
            if entry is not None and entry.action is action:
                return self._named(entry, candidate)
        return None

    def _candidates(self, packet: Packet, sender: Process | None) -> Iterator[Packet]:
        """What the packet may have been, the most likely first.

        Whether it opened a connection, and often who sent it, is not to be seen any more.
        """
        groups = {process for process in self._processes if sender and _holds(process, sender)}
        senders = [frozenset(groups)]
        if self._processes and not sender and packet.point is Point.SENDING:
            senders.append(frozenset(self._processes))
        for processes in senders:
            judged = replace(packet, processes=processes) if processes else packet
            yield judged
            if self._asks_for_connections:
                yield replace(judged, opening=False)

    def _named(self, entry: Entry, packet: Packet) -> Decided:
        rule_filter = self._names.of(self._state, entry, packet, self._host)
        for field, listed in entry.table.listed:
            address = packet.source if field.name == "source" else packet.destination
            family = packet.family
            network = Network(
                family,
                address >> family.bits - listed.length << family.bits - listed.length,
                listed.length,
            )
            name = self._list_of(listed.name, Form(family, listed.length), address)
            return Decided(entry.origin, rule_filter, name, network)
        return Decided(entry.origin, rule_filter)

    def _list_of(self, names: str, form: Form, address: int) -> str:
        """Of lists that were put together, the first that has the entry."""
        for name in names.split(JOINED):
            members = self._state.lists.get(name)
            if members and members.holds(form, address):
                return name
        return names.partition(JOINED)[0]


def _holds(outer: Process, inner: Process) -> bool:
    """Whether local processes are among others, by the names of both."""
    if outer == inner:
        return True
    kind, _, name = str(outer).partition(":")
    path = str(inner).partition(":")[2].strip("/").split("/")
    if kind == "service":
        return name in path
    words = name.strip("/").split("/")
    return path[: len(words)] == words


def _unreadable(report: Report, link: Interface | None) -> Read:
    """What ends before its addresses."""
    version = report.packet[0] >> 4 if report.packet else 0
    family = Family.IPV6 if version == 6 else Family.IPV4
    name, kind = (link.name, link.type) if link else ("", InterfaceType.LAN)
    packet = Packet(
        report.point, family, 0, 0, 0, interface_type=kind, parsed=False, interface=name
    )
    return Read(packet, "")
