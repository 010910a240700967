"""Owns what programs with tcp_wrappers do with a connection; must not know its translation.

hosts.allow is searched first, then hosts.deny; the first line whose lists both fit decides, and
what none fits is let in (hosts_access(5)). Only what opens a connection is judged.
"""

from __future__ import annotations

from ipsecctl.importing.hosts_deny import (
    AccessFiles,
    AccessRule,
    Answer,
    Client,
    Daemon,
    Patterns,
)
from ipsecctl.importing.source import (
    OPENING,
    Decided,
    Hook,
    Judgement,
    Line,
    SourcePacket,
)
from ipsecd.model.kinds import Action

_ACTIONS = {Answer.ALLOW: Action.PERMIT, Answer.DENY: Action.BLOCK}


class AccessEvaluator:
    """Judges packets as the first of a connection to a program that asks both files."""

    def __init__(self, files: AccessFiles) -> None:
        self._rules = files.rules

    def judge(self, packet: SourcePacket) -> Judgement:
        """What becomes of a packet."""
        asked = packet.hook is Hook.IN and packet.state in OPENING
        if not asked or packet.protocol not in (6, 17) or packet.destination_port is None:
            return Judgement((Decided(Action.PERMIT, None),))
        outcomes: list[Decided] = []
        unsure: list[Line] = []
        for rule in self._rules:
            fits = _and(_any_daemon(rule.daemons, packet), _any_client(rule.clients, packet))
            if fits is False:
                continue
            outcomes += _outcomes(rule)
            if fits:
                break
            unsure.append(rule.line)
        else:
            outcomes.append(Decided(Action.PERMIT, None))
        return Judgement(tuple(dict.fromkeys(outcomes)), tuple(unsure))


def _outcomes(rule: AccessRule) -> list[Decided]:
    if rule.answer is Answer.UNKNOWN:
        return [Decided(action, rule.line) for action in _ACTIONS.values()]
    return [Decided(_ACTIONS[rule.answer], rule.line)]


def _and(one: bool | None, other: bool | None) -> bool | None:
    if one is False or other is False:
        return False
    return True if one and other else None


def _or(*each: bool | None) -> bool | None:
    if True in each:
        return True
    return None if None in each else False


def _any_daemon(
    patterns: Patterns[Daemon], packet: SourcePacket, *, excepted: bool = False
) -> bool | None:
    fits = _or(*(_is_daemon(one, packet, excepted=excepted) for one in patterns.items))
    if patterns.exceptions is None:
        return fits
    out = _any_daemon(patterns.exceptions, packet, excepted=True)
    return _and(fits, None if out is None else not out)


def _any_client(patterns: Patterns[Client], packet: SourcePacket) -> bool | None:
    fits = _or(*(_is_client(one, packet) for one in patterns.items))
    if patterns.exceptions is None:
        return fits
    excepted = _any_client(patterns.exceptions, packet)
    return _and(fits, None if excepted is None else not excepted)


def _is_daemon(daemon: Daemon, packet: SourcePacket, *, excepted: bool) -> bool | None:
    """Whether a packet is for a program.

    One whose ports nobody knows is taken to have none, unless it is one that a line spares.
    """
    port = packet.destination_port
    assert port is not None
    if not daemon.everything and not daemon.ports:
        return None if excepted else False
    here = daemon.everything or any(
        one.protocol == packet.protocol and port in one.ports for one in daemon.ports
    )
    if not here:
        return False
    return None if daemon.endpoint else True


def _is_client(client: Client, packet: SourcePacket) -> bool | None:
    if client.unknown:
        return None
    if client.network is None:
        return client.everything
    return client.network.family is packet.family and packet.source in client.network
