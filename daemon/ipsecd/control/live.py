"""Owns which of the connections open now a change would cut, grouped; must not change anything.

What takes long is apart: a handler says which two states are to be compared, and what is open is
found and judged afterwards, in a thread of its own. However many connections there are, a reply has
some of each group, and counts all.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from time import monotonic
from typing import Any

from ipsecd.backend.nftables import cgroups
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import require_known_state
from ipsecd.engine import Engine
from ipsecd.engine.judging import Comparison
from ipsecd.engine.state import State
from ipsecd.errors import Cut, InvalidInput, LimitExceeded, Refused
from ipsecd.garbage import collection_paused
from ipsecd.host.open_connections import OpenConnection, OpenConnections
from ipsecd.language.addresses import format_value
from ipsecd.language.documents import parse_policy
from ipsecd.language.protocols import format_protocol
from ipsecd.log import record
from ipsecd.model.addresses import Family
from ipsecd.model.inventory import MIN_ID, Container, Inventory
from ipsecd.model.packets import Host
from ipsecd.model.values import PROTOCOLS_WITH_PORTS, Policy
from ipsecd.sources.names import dns_names_of

MOST_GROUPS = 100
"""How many groups are told, and how many more where somebody may be working through them."""
MOST_IN_GROUP = 20
"""How many connections of a group are told one by one."""
JUDGING_S = 90.0
"""After so long judging is given up: a client waits two minutes."""
LOOKED_AT_BETWEEN = 100
"""How many connections are judged between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Unjudged:
    """What stands in a reply until open connections are judged: the states before and after."""

    before: State
    after: State
    ports: frozenset[int]
    """The ports of administration."""


def add_live(
    engine: Engine, request: Request, outcome: dict[str, Any], after: Callable[[State], State]
) -> None:
    """Have the outcome of a dry run say what the change cuts, if that is asked.

    `after` makes the state after it of the state of now. Raises ``Refused`` where it is not known
    what is in force.
    """
    if request["dry_run"] and request["live"]:
        require_known_state(engine)
        now = engine.state
        outcome["live"] = _unjudged(engine, now, after(now))


def _unjudged(engine: Engine, before: State, after: State) -> Unjudged:
    return Unjudged(before, after, frozenset(engine.config.guard_ports))


def judge(reply: dict[str, Any]) -> None:
    """Put what is cut in the place of what is unjudged in a reply; for any thread.

    Raises ``Refused`` where the kernel does not tell its sockets, and ``LimitExceeded`` where it
    would take too long.
    """
    holder = reply.get("outcome") or reply
    waiting = holder.get("live")
    if isinstance(waiting, Unjudged):
        holder["live"] = _judged(waiting)


def _judged(waiting: Unjudged) -> dict[str, Any]:
    begun = monotonic()
    try:
        connections = OpenConnections()
        groups = _Groups(waiting, connections.state.host)
        # Nothing of it is garbage, and looking for some keeps bans waiting.
        with collection_paused():
            for number, connection in enumerate(connections, 1):
                groups.judge(connection)
                if number % LOOKED_AT_BETWEEN == 0 and monotonic() - begun > JUDGING_S:
                    raise LimitExceeded(
                        f"there are too many connections, or rules: {number:,} connections were "
                        f"judged in {JUDGING_S:.0f} s, and more are open",
                        "leave --live out",
                    )
    except OSError as error:
        raise Refused(
            f"the kernel does not tell which connections are open: {error.strerror or error}",
            "leave --live out",
        ) from error
    record(logging.DEBUG, "connections-judged", count=groups.looked_at, seconds=monotonic() - begun)
    return groups.told()


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose a connection is; what is not known is empty, and all is for what was left over."""

    container: str = ""
    container_id: str = ""
    unit: str = ""
    uid: int | None = None
    address: str = ""
    forwarded: bool = False
    administrative: bool = False


@dataclass(slots=True)
class _Group:
    """Connections of one owner that one filter cuts; some of them as the interface has them.

    With ``perhaps`` they may go on all the same.
    """

    perhaps: bool
    owner: _Owner
    cut: Cut
    count: int = 0
    connections: list[dict[str, Any]] = field(default_factory=list)

    @property
    def importance(self) -> tuple[object, ...]:
        """Sorts groups, the most important first."""
        owner, cut = self.owner, self.cut
        names = (owner.container, owner.unit, owner.address, cut.policy, cut.rule, cut.filter)
        return (self.perhaps, not owner.administrative, -self.count, *names)


_Key = tuple[bool, _Owner, str, str, str, str]
_NO_FILTER = ("", "", "", "")


class _Groups:
    """Judges connections, and keeps those that are cut in groups."""

    def __init__(self, waiting: Unjudged, host: Host) -> None:
        self.looked_at = 0
        self._comparison = Comparison(waiting.before, waiting.after, host)
        self._ports = waiting.ports
        self._containers = _by_address(waiting.after.inventory)
        self._units: dict[int, str] | None = None
        self._groups: dict[_Key, _Group] = {}
        self._rooms = {True: MOST_GROUPS, False: MOST_GROUPS}

    def judge(self, each: OpenConnection) -> None:
        """Take one more connection."""
        self.looked_at += 1
        packet, perhaps = self._comparison.newly_blocked(each.connection), False
        if packet is None:
            packet, perhaps = self._comparison.newly_held_up(each.connection), True
        if packet is None:
            return
        cut = self._comparison.after.cut(each.connection, packet)
        owner, by = self._owner(each), cut
        key = perhaps, owner, cut.filter, cut.rule, cut.policy, cut.store
        if key not in self._groups and not self._took_room(owner):
            owner, by = _Owner(), Cut("", "")
            key = perhaps, owner, *_NO_FILTER
        group = self._groups.setdefault(key, _Group(perhaps, owner, by))
        group.count += 1
        if len(group.connections) < MOST_IN_GROUP:
            group.connections.append(_told(each, cut))

    def _took_room(self, owner: _Owner) -> bool:
        """Take the room of another group; whether there was any."""
        self._rooms[owner.administrative] -= 1
        return self._rooms[owner.administrative] >= 0

    def told(self) -> dict[str, Any]:
        """What is cut, as the type ``Live`` of the interface has it."""
        groups = sorted(self._groups.values(), key=attrgetter("importance"))
        return {
            "looked_at": self.looked_at,
            "cut": sum(group.count for group in groups if not group.perhaps),
            "perhaps": sum(group.count for group in groups if group.perhaps),
            "groups": [_group_told(group) for group in groups],
        }

    def _owner(self, each: OpenConnection) -> _Owner:
        way, found = each.way, each.socket
        port = found.local_port if found else way.destination_port
        administrative = port in self._ports and way.protocol == socket.IPPROTO_TCP
        if found:
            unit = self._unit(found.cgroup)
            return _Owner(unit=unit, uid=found.uid, administrative=administrative)
        if not each.ends:
            return _Owner(administrative=administrative)
        for address in each.ends:
            container = self._containers.get((way.family, address))
            if container:
                return _Owner(
                    container.name,
                    container.id[:MIN_ID],
                    forwarded=True,
                    administrative=administrative,
                )
        inner = format_value(way.family, each.inner) if each.inner is not None else ""
        return _Owner(address=inner, forwarded=True, administrative=administrative)

    def _unit(self, number: int) -> str:
        if self._units is None:
            self._units = cgroups.paths_by_number()
        return self._units.get(number, "")


def _by_address(inventory: Inventory) -> dict[tuple[Family, int], Container]:
    return {
        (address.family, address.address): container
        for container in inventory.containers
        for addresses in container.networks.values()
        for address in addresses
    }


def _told(each: OpenConnection, cut: Cut) -> dict[str, Any]:
    way = each.way
    has_ports = way.protocol in PROTOCOLS_WITH_PORTS
    return {
        "protocol": format_protocol(way.protocol).lower(),
        "source": format_value(way.family, way.source),
        "source_port": way.source_port if has_ports else None,
        "destination": format_value(way.family, way.destination),
        "destination_port": way.destination_port if has_ports else None,
        "state": each.state,
        "packet": cut.packet,
        "inode": each.socket.inode if each.socket else 0,
    }


def _group_told(group: _Group) -> dict[str, Any]:
    owner, cut = group.owner, group.cut
    return {
        "count": group.count,
        "perhaps": group.perhaps,
        "administrative": owner.administrative,
        "container": owner.container,
        "container_id": owner.container_id,
        "unit": owner.unit,
        "uid": owner.uid,
        "address": owner.address,
        "forwarded": owner.forwarded,
        "filter": cut.filter,
        "rule": cut.rule,
        "policy": cut.policy,
        "store": cut.store,
        "connections": group.connections,
    }


def _get_cuts(engine: Engine, request: Request) -> dict[str, Any]:
    require_known_state(engine)
    before, after = (
        engine.outlook.assumed(engine.state, policy, request.names) for policy in _policies(request)
    )
    return {"live": _unjudged(engine, before, after)}


def _policies(request: Request) -> tuple[Policy | None, Policy]:
    if request.policy is None:
        raise InvalidInput("there is no document", "pass one, or the file that holds it")
    earlier = request["before"]
    return (parse_policy(earlier, "<before>") if earlier else None), request.policy


def _names(_: Engine, request: Request) -> frozenset[str]:
    policies: Iterable[Policy | None] = _policies(request)
    return frozenset[str]().union(*(dns_names_of(each) for each in policies if each))


METHODS = (Method("GetCuts", Role.VIEW, Work.LONG, _get_cuts, names=_names, takes_document=True),)
