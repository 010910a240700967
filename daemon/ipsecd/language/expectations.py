"""Owns the text of expectations, as policy documents have them: ``VERDICT PACKET``.

Where there is a reason, documents have verdict, packet and reason by themselves.

A packet is written as ``explain`` takes it without a daemon, where ``me`` is any host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ipsecd.errors import InvalidInput, LimitExceeded, Refused
from ipsecd.language.addresses import format_address, format_value
from ipsecd.language.filters import format_filter
from ipsecd.language.icmp import format_protocol_and_message
from ipsecd.language.packets import PacketText, Side, parse_packet
from ipsecd.language.quoting import wrong, wrong_within
from ipsecd.language.seen import assumed_types, to_packet
from ipsecd.model.addresses import Family, Selector
from ipsecd.model.expectations import SOME_HOST, Expectation
from ipsecd.model.kinds import VERDICTS
from ipsecd.model.lists import AddressList
from ipsecd.model.nearness import NO_LISTS
from ipsecd.model.unmet import Unmet, unmet
from ipsecd.model.values import MAX_PORT, Action, Policy
from ipsecd.quoting import MAX_LINES, count, cut, first_lines, quote

MAX_LINE = 300
_EXAMPLE = "as in block tcp 203.0.113.7:4000 > me:22"


def parse_expectation(text: str) -> Expectation:
    """The expectation that `text` names; raises ``InvalidInput`` with a position in `text`."""
    verdict, rest = [*text.split(None, 1), "", ""][:2]
    place = len(text) - len(rest)
    action = next((each for each in VERDICTS if each.value == verdict.lower()), None)
    if action is None:
        what = f"{quote(text)} does not begin with what is expected"
        raise wrong(text, 0, what, f"begin with block or permit, {_EXAMPLE}")
    try:
        written = parse_packet(rest)
        for side in (written.source, written.destination):
            if isinstance(side, Selector):
                name = format_address(side)
                what = f"{name} has another address on every host, so nothing can be expected of it"
                raise wrong(rest, rest.index(name), what, "give an address, or me for this host")
        packet = to_packet(written, SOME_HOST, assumed_types(written.interface))
        return Expectation(
            action, _format_packet_text(written), packet, any_source_port=written.any_source_port
        )
    except InvalidInput as error:
        raise wrong_within(error, text, place) from error


def format_expectation(expectation: Expectation) -> str:
    """The canonical text without the reason; ``parse_expectation`` gives an equal one back."""
    return f"{expectation.action.value} {expectation.text}"


def must_be_met(policy: Policy, lists: Mapping[str, AddressList] = NO_LISTS) -> None:
    """Raise ``Refused`` if `policy` does not do what its author expects, with all that differs.

    It is judged by the entries of `lists`. Raises ``LimitExceeded`` if that is too much.
    """
    if failing := unmet(policy, lists):
        by_lists = " with the lists that were given" if lists else ""
        raise Refused(
            "\n".join([f"{_summary(failing, policy)}{by_lists}:", *first_lines(_lines(failing))]),
            "mend the rules, or the lines of expect that are no longer wanted; "
            "ipsecctl check FILE tells whether they are met",
        )


def unmet_warnings(policy: Policy) -> list[str]:
    """What to say of a policy that is stored, and would be refused if it were assigned."""
    try:
        failing = unmet(policy)
    except LimitExceeded as error:
        # It is stored by now, so this must not end in an error.
        return [f"{error.message}, so it cannot be assigned"]
    if not failing:
        return []
    lines = _lines(failing)
    # With the first line they are as many as are shown of warnings.
    shown = lines if len(lines) < MAX_LINES else lines[: MAX_LINES - 2]
    more = [f"and {len(lines) - len(shown):,} more"] if len(shown) < len(lines) else []
    return [f"{_summary(failing, policy)}, and cannot be assigned until it does:", *shown, *more]


def _summary(failing: Sequence[Unmet], policy: Policy) -> str:
    whole = count(len(policy.expect), "expectation")
    which = f"{len(failing):,} of its {whole}" if len(policy.expect) > 1 else "its expectation"
    return f"policy {quote(policy.name)} does not meet {which}"


def _lines(failing: Sequence[Unmet]) -> list[str]:
    return [cut(_line(one), MAX_LINE) for one in failing]


def _line(unmet_expectation: Unmet) -> str:
    decision = unmet_expectation.decision
    became = "blocked" if decision.action is Action.BLOCK else "permitted"
    expectation = unmet_expectation.expectation
    reason = f" ({expectation.reason})" if expectation.reason else ""
    text = f'"{format_expectation(expectation)}"{reason}: it is {became}'
    if unmet_expectation.source_ports:
        first, last = unmet_expectation.source_ports
        if (first, last) != (0, MAX_PORT):
            text += f" from port {first}" if first == last else f" from ports {first}-{last}"
    if decision.by is None:
        why = "no filter matches it" if decision.reason == "no filter" else decision.reason
        return f"{text}, {why}"
    by = decision.by
    deciding = f'{by.action.value} "{format_filter(by.filter)}"'
    return f"{text} by {deciding} of rule {quote(by.origin.rule)}"


def _format_packet_text(packet: PacketText) -> str:
    words = [
        format_protocol_and_message(packet.protocol, packet.message).lower(),
        _format_side(packet.source, packet.source_port, brackets=packet.any_source_port),
        ">",
        _format_side(packet.destination, packet.destination_port),
    ]
    if packet.fragment:
        words.append("fragment")
    if packet.direction:
        words += [packet.direction, packet.interface]
    if packet.sender:
        words += ["by", format_address(packet.sender)]
    if packet.connection:
        words.append(packet.connection)
    return " ".join(words)


def _format_side(side: Side, port: int | None, *, brackets: bool = False) -> str:
    at_port = "" if port is None else f":{port}"
    if not isinstance(side, tuple):
        return f"me{at_port}"
    family, value = side
    text = format_value(family, value)
    brackets = family is Family.IPV6 and (brackets or bool(at_port))
    return f"[{text}]{at_port}" if brackets else f"{text}{at_port}"
