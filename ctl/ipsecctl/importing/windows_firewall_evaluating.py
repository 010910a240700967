"""Owns what the firewall of Windows does with a packet; must not know its translation.

It judges connections: packets of one that is open pass. Of the rules that match what opens one, a
rule that blocks decides, whatever others allow; then one that allows; then the profile's default.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipsecctl.importing.source import (
    OPENING,
    Decided,
    Hook,
    Judgement,
    Line,
    SourcePacket,
)
from ipsecctl.importing.windows_firewall import (
    DEFAULT_IN,
    DEFAULT_OUT,
    Addresses,
    Inbound,
    Ports,
    Rule,
    WindowsFirewall,
)
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action

_ICMP = {1: Family.IPV4, 58: Family.IPV6}
_PASSES = Decided(Action.PERMIT, None)


class WindowsEvaluator:
    """Judges packets as the firewall does in the profiles that are meant."""

    def __init__(self, firewall: WindowsFirewall) -> None:
        self._firewall = firewall

    def judge(self, packet: SourcePacket) -> Judgement:
        """What becomes of a packet. Where several profiles are meant, it passes if it does in all.

        A verdict that only some profiles have counts if it is to block.
        """
        if packet.hook is Hook.FORWARD or packet.link == "lo" or packet.state not in OPENING:
            return Judgement((_PASSES,))
        judged = [self._in(profile, packet) for profile in self._firewall.meant]
        for one in judged:
            if one.actions == {Action.BLOCK}:
                return one
        outcomes = dict.fromkeys(each for one in judged for each in one.outcomes)
        unsure = dict.fromkeys(line for one in judged for line in one.unsure)
        return Judgement(tuple(outcomes), tuple(unsure))

    def _in(self, profile: str, packet: SourcePacket) -> Judgement:
        default = self._firewall.default(profile)
        if not default.is_on:
            return Judgement((_PASSES,))
        is_in = packet.hook is Hook.IN
        rules = [
            rule
            for rule in self._firewall.rules
            if rule.enabled and rule.inbound is is_in and profile in rule.profiles
        ]
        ignores_allow = is_in and default.inbound is Inbound.ALWAYS
        blocks = is_in and default.inbound is not Inbound.ALLOW
        blocks = blocks or (not is_in and default.blocks_outbound)
        outcomes: list[Decided] = []
        unsure: list[Line] = []
        for action in (Action.BLOCK, Action.PERMIT):
            if action is Action.PERMIT and ignores_allow:
                continue
            found = [(rule, _matches(rule, packet)) for rule in rules if rule.action is action]
            unsure += [rule.line for rule, matches in found if matches is None]
            outcomes += [Decided(action, rule.line) for rule, matches in found if matches is None]
            for rule, matches in found:
                if matches:
                    return Judgement((*outcomes, Decided(action, rule.line)), tuple(unsure))
        last = Decided(Action.BLOCK, DEFAULT_IN if is_in else DEFAULT_OUT) if blocks else _PASSES
        return Judgement((*outcomes, last), tuple(unsure))


def _matches(rule: Rule, packet: SourcePacket) -> bool | None:
    """Whether a rule matches a packet; None if the packet does not tell."""
    local, remote = packet.destination, packet.source
    local_port, remote_port = packet.destination_port, packet.source_port
    if not rule.inbound:
        local, remote = remote, local
        local_port, remote_port = remote_port, local_port
    asked = (
        _is_protocol(rule, packet),
        _has_address(rule.local, packet.family, local),
        _has_address(rule.remote, packet.family, remote),
        _has_port(rule.local_ports, local_port),
        _has_port(rule.remote_ports, remote_port),
        None if rule.conditions else True,
    )
    if False in asked:
        return False
    return None if None in asked else True


def _is_protocol(rule: Rule, packet: SourcePacket) -> bool:
    if rule.protocol is None:
        return True
    if rule.protocol != packet.protocol:
        return False
    if rule.protocol not in _ICMP:
        return True
    if _ICMP[rule.protocol] is not packet.family:
        return False
    if not rule.messages:
        return True
    message = packet.message
    return message is not None and any(
        kind == message >> 8 and code in (None, message & 255) for kind, code in rule.messages
    )


def _has_address(wanted: Addresses, family: Family, address: int) -> bool | None:
    if wanted.is_any or _is_in(wanted, family, address):
        return True
    return None if wanted.words else False


def _is_in(wanted: Addresses, family: Family, address: int) -> bool:
    here: Iterable[bool] = (one.family is family and address in one for one in wanted.networks)
    return any(here)


def _has_port(wanted: Ports, port: int | None) -> bool | None:
    if wanted.is_any or (port is not None and any(port in ports for ports in wanted.ranges)):
        return True
    return None if wanted.words and port is not None else False
