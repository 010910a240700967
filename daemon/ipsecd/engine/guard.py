"""Owns refusing a change that would cut a connection somebody works through; must not find any.

1. Only what a change makes worse is refused: what was cut before stays its own matter.
2. What is guarded is known to the thread that makes a change, and goes with its work into the
   kernel's line. So whatever puts a state in force is judged, and what the daemon does by itself
   is not.
3. It is judged by the compiled state, which takes no longer with many filters than a packet does.
   The filter that decides is looked for when something is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from ipsecd.backend.base import Line
from ipsecd.backend.nftables import cgroups
from ipsecd.engine.state import State
from ipsecd.engine.view import filters_of_rule
from ipsecd.errors import Cut, WouldCut
from ipsecd.language.filters import format_filter
from ipsecd.language.packets import format_packet
from ipsecd.model.addresses import Process
from ipsecd.model.connections import Connection
from ipsecd.model.decide import decide
from ipsecd.model.packets import Host, Packet
from ipsecd.model.values import Action, Origin

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Guarded:
    """The connections that a change must not cut, on a host with these addresses.

    ``way_out`` says what to type to make the change all the same.
    """

    connections: tuple[Connection, ...]
    host: Host
    way_out: str = ""


_GUARDED: ContextVar[Guarded | None] = ContextVar("guarded", default=None)


@contextmanager
def guarding(guarded: Guarded | None) -> Iterator[None]:
    """Have whatever is put in force in the block spare these connections."""
    token = _GUARDED.set(guarded)
    try:
        yield
    finally:
        _GUARDED.reset(token)


def carrying(line: Line) -> Line:
    """A line of work in which what is guarded is what whoever asks for the work guards."""

    def carry(work: Callable[[], T]) -> T:
        return line(partial(copy_context().run, work))

    return carry


def is_guarding() -> bool:
    """Whether anything is guarded in what this thread does."""
    return _GUARDED.get() is not None


def must_spare(before: State, after: State) -> None:
    """Raise ``WouldCut`` if `after` cuts a connection that is guarded, and `before` does not."""
    guarded = _GUARDED.get()
    if guarded is None or not after.enforcing:
        return
    cuts = newly_cut(before, after, guarded)
    if cuts:
        raise WouldCut.of(cuts, guarded.way_out)


def newly_cut(before: State, after: State, guarded: Guarded) -> list[Cut]:
    """What `after` cuts of the connections, and `before` does not."""
    # Lists that nothing named before are not in the classifier yet.
    after = after.with_used_lists()
    judged_before, judged_after = (_Judge(state, guarded.host) for state in (before, after))
    cuts = []
    for connection in guarded.connections:
        packet = judged_after.blocked(connection)
        if packet and (not before.enforcing or not judged_before.blocked(connection)):
            cuts.append(judged_after.cut(connection, packet))
    return cuts


class _Judge:
    """Judges packets by a state."""

    def __init__(self, state: State, host: Host) -> None:
        self._state = state
        self._host = replace(host, lists=state.lists)
        self._volatile = state.volatile.tables
        named = {table.id.process for table in state.classifier.tables}
        named |= {table.id.process for table in self._volatile}
        self._senders = [Process(*text.split(":", 1)) for text in sorted(named) if text]

    def blocked(self, connection: Connection) -> Packet | None:
        """A packet of a connection for which it does not go on; None if it goes on."""
        senders = frozenset(each for each in self._senders if cgroups.has(each, connection.cgroup))
        outward = tuple(replace(each, processes=senders) for each in connection.outward)
        return replace(connection, outward=outward).cut_by(self._blocks)

    def _blocks(self, packet: Packet) -> bool:
        verdict = self._state.classifier.lookup(packet, self._host, self._volatile)
        return verdict.action is Action.BLOCK

    def cut(self, connection: Connection, packet: Packet) -> Cut:
        """What is cut, with the filter that decides about the packet."""
        origin = self._state.classifier.lookup(packet, self._host, self._volatile).origin
        text = format_packet(packet)
        if origin is None:
            return Cut(connection.name, text)
        return Cut(
            connection.name,
            text,
            self._deciding_filter(origin, packet),
            origin.rule,
            origin.policy,
            origin.store,
        )

    def _deciding_filter(self, origin: Origin, packet: Packet) -> str:
        of_rule = filters_of_rule(self._state, origin)
        by = decide(of_rule, packet, self._host).by
        return format_filter(by.filter) if by else ""
