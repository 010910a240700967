"""Owns the text of filters, in the legacy grammar; must not know rules or policies.

``addr[:port] ("=" | "+") addr[:port[:protocol[/type[/code]]]]``: the left side is the source,
``=`` is one way and ``+`` is mirrored. Spaces around separators are ignored. A protocol may stand
on the left side too, if it is that of the right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from ipsecd.errors import InvalidInput
from ipsecd.language.addresses import (
    PROCESSES,
    SELECTORS,
    format_address,
    ipv6_value,
    parse_address,
)
from ipsecd.language.icmp import format_protocol_and_message, parse_protocol_and_message
from ipsecd.language.ports import parse_ports
from ipsecd.language.protocols import is_protocol_name, parse_protocol
from ipsecd.language.quoting import trim, wrong, wrong_within
from ipsecd.language.slips import in_other_words, not_filters
from ipsecd.language.typography import refuse_typography
from ipsecd.model.addresses import HostName, Keyword
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.values import (
    ICMP_VERSIONS,
    PROTOCOLS_WITH_PORTS,
    Action,
    Endpoint,
    Filter,
    IcmpOfFamily,
    PortRange,
)
from ipsecd.quoting import quote

_Protocol = tuple[int | IcmpOfFamily | None, IcmpMessage | None]
"""A protocol and, of ICMP, its message."""

_PLAIN_SIDE = r"(\*|0|[0-9.]+(?:/[0-9]+)?|\[[0-9A-Fa-f:]+\](?:/[0-9]+)?)"
_PLAIN = re.compile(
    rf"{_PLAIN_SIDE}(|:[0-9,-]*)([=+]){_PLAIN_SIDE}(|:[0-9,-]*(?::[0-9A-Za-z/-]*)?)"
)
"""What nearly all filters of long documents look like."""
_MISPRINT = re.compile(r"\s*\*\s*0\s*[=+]")
_NUMBERS_WITH_PORTS = frozenset(map(str, PROTOCOLS_WITH_PORTS))
_PROTOCOL_AT_THE_RIGHT = "the protocol stands once, at the far right: 0:80+*::TCP"
_SIGNS = frozenset("=+")
_GOES_ON = _SIGNS | {":"}
_BRACKETS = {"[": ("]", Action.BLOCK), "(": (")", Action.PERMIT)}


@dataclass(frozen=True, slots=True)
class Spec:
    """A filter as the legacy tools take it: brackets around it say what to do."""

    filter: Filter
    action: Action | None = None


def parse_filter(text: str) -> Filter:
    """The filter that `text` names; raises ``InvalidInput`` with a position in `text`."""
    plain = _PLAIN.fullmatch(text)
    if plain:
        with suppress(InvalidInput):
            return _plain_filter(*plain.groups())
    try:
        return _parse_carefully(text)
    except InvalidInput as error:
        if not (better := in_other_words(error, text)):
            raise
        raise better from error


def _parse_carefully(text: str) -> Filter:
    """The same, by all of the grammar, and with every error told."""
    refuse_typography(text)
    if _MISPRINT.match(text):
        raise wrong(
            text,
            text.index("*"),
            f"'*0' in {quote(text.strip())} is not an address",
            "for packets from this host to any other, write 0=*:port:protocol",
        )
    at = _separator(text)
    _refuse_brackets(text, at)
    source, left = _side(text, 0, at, last=False)
    destination, (protocol, message) = _side(text, at + 1, len(text), last=True)
    if left not in ((None, None), (protocol, message)):
        part, place = _fields(text, 0, at)[2]
        raise _one_field_too_many(text, place, part, _PROTOCOL_AT_THE_RIGHT)
    try:
        return Filter(source, destination, protocol, text[at] == "+", message)
    except InvalidInput as error:
        _, place = _fields(text, at + 1, len(text))[-1]
        raise wrong(text, place, f"{error.message}: {quote(text.strip())}", error.hint) from error


def _plain_filter(source: str, ports: str, sign: str, destination: str, rest: str) -> Filter:
    """The filter in the parts of a plain text; raises ``InvalidInput`` without a position."""
    left, _ = _plain_side(source, ports, last=False)
    right, (protocol, message) = _plain_side(destination, rest, last=True)
    return Filter(left, right, protocol, sign == "+", message)


def _plain_side(address: str, rest: str, *, last: bool) -> tuple[Endpoint, _Protocol]:
    """An endpoint of a plain text, with the protocol that follows it."""
    if address in {"*", "0"}:
        return _side_in_words(address + rest, last=last)
    any_address, protocol = _side_in_words(f"*{rest}", last=last)
    return Endpoint(parse_address(address), any_address.ports), protocol


@lru_cache(maxsize=4096)
def _side_in_words(text: str, *, last: bool) -> tuple[Endpoint, _Protocol]:
    """A side whose address is ``*`` or ``0``: there are few, however long the document is."""
    return _side(text, 0, len(text), last=last)


def parse_spec(text: str) -> Spec:
    """The filter in `text`, with BLOCK for ``[…]`` and PERMIT for ``(…)`` around it."""
    part, start = trim(text, 0, len(text))
    closing, action = _BRACKETS.get(part[:1], ("", None))
    end = _closing(part)
    # An address of IPv6 has brackets too, which close before the end and hold no separator.
    if not closing or (part[0] == "[" and "=" not in part[:end] and "+" not in part[:end]):
        return Spec(parse_filter(text))
    if end != len(part) - 1 or part[-1] != closing:
        raise wrong(
            text,
            start + len(part),
            f"{quote(part)} begins with {part[0]!r} and does not end with {closing!r}",
            f"close it, and quote it for the shell: '{part[0]}*=0:80:TCP{closing}'",
        )
    try:
        return Spec(parse_filter(part[1:-1]), action)
    except InvalidInput as error:
        raise wrong_within(error, text, start + 1) from error


def _closing(part: str) -> int:
    """Where the bracket that `part` begins with closes; its length if it does not."""
    depth = 0
    for n, letter in enumerate(part):
        depth += (letter in "[(") - (letter in "])")
        if not depth:
            return n
    return len(part)


def parse_short(text: str) -> Filter:
    """A filter in the grammar or in short: ``udp/1434`` at this host, or an address to it.

    A bare ``*``, ``0`` or name without a dot is refused: what is most often a slip of the hand
    must not block everything, nor wait for a name that nobody has.
    """
    if set(_without_labels(text)) & set("=+"):
        return parse_filter(text)
    try:
        return _parse_short(text)
    except InvalidInput as error:
        if not (better := in_other_words(error, text)):
            raise
        raise better from error


def _parse_short(text: str) -> Filter:
    part, start = trim(text, 0, len(text))
    if part.partition(":")[0] in PROCESSES:
        raise wrong(
            text, start, f"{quote(part)} alone is not a filter", f"write {part}=* for all it sends"
        )
    if part.partition(":")[0] in SELECTORS:
        try:
            return Filter(Endpoint(parse_address(part)), Endpoint(Keyword.ME))
        except InvalidInput as error:
            raise wrong(text, start, error.message, error.hint) from error
    name, slash, ports = part.partition("/")
    if slash and is_protocol_name(ports) and not name.strip("0123456789,-"):
        # Others write the port first, and nothing else can be meant.
        name, ports = ports, name
    # By name only: a number is a slip of somebody writing ports.
    if ports[:1].isalpha() and is_protocol_name(name) and parse_protocol(name) in ICMP_VERSIONS:
        try:
            protocol, message = parse_protocol_and_message(part)
            return Filter(Endpoint(), Endpoint(Keyword.ME), protocol, message=message)
        except InvalidInput as error:
            raise wrong(text, start + len(name) + 1, error.message, error.hint) from error
    # Only numbers whose protocol has ports: 10/8 and 0/0 are slips of somebody writing networks.
    if slash and (is_protocol_name(name) or name in _NUMBERS_WITH_PORTS):
        try:
            to = Endpoint(Keyword.ME, parse_ports(ports))
            return Filter(Endpoint(), to, parse_protocol(name))
        except InvalidInput as error:
            raise wrong_within(error, text, start + len(name) + 1) from error
    if slash and not part[:1].isdigit() and ":" not in part and name not in ("0", "*", ""):
        raise wrong(
            text,
            start,
            f"{quote(name)} is not a known protocol",
            "write udp/1434 or tcp/80,443, or a filter such as *=0:1434:UDP",
        )
    bare = f"[{part}]" if part.count(":") > 1 and not part.startswith("[") else part
    try:
        address = parse_address(bare)
    except InvalidInput as error:
        hint = error.hint
        if part.count(":") == 1:
            hint = f"an address with a port needs both sides: write {part}=0, or 0={part}"
        raise wrong(text, start, error.message, hint) from error
    if isinstance(address, Keyword) or (isinstance(address, HostName) and "." not in part):
        raise wrong(text, start, f"{quote(part)} alone is not a filter", _whole_filter(part))
    return Filter(Endpoint(address), Endpoint(Keyword.ME))


def _whole_filter(part: str) -> str:
    """What to write in place of a word that is too short to be a filter."""
    if part in ("0", "*"):
        return "write both sides: *=0 is all that arrives at this host, 0+* all to and from it"
    if is_protocol_name(part):
        return f"write *=0::{part} for all {part} that arrives at this host"
    return f"write {part}=0 for what {part} sends to this host, or udp/1434, or an address"


def join_arguments(arguments: Sequence[str]) -> list[str]:
    """The filters in a command's arguments: they are joined while one ends with ``:``.

    A bracket that stands alone belongs to its neighbour, as does ``=`` or ``+`` to both; what has
    one of its own begins a filter, and the one before it ends in an empty field.
    Raises ``InvalidInput`` for an argument that only a shell can have made of a filter.
    """
    joined: list[str] = []
    for argument in arguments:
        before = joined[-1].rstrip() if joined else ""
        goes_on = before[-1:] in _GOES_ON and not set(argument) & _SIGNS
        joins = argument.strip()[:1] in _SIGNS and not set(before) & _SIGNS
        is_end = argument.strip() in ("]", ")")
        if before and (goes_on or joins or is_end or before in _BRACKETS):
            joined[-1] += " " + argument
        else:
            joined.append(argument)
    for text in joined:
        if len(text) == 1 or not set(text) & set("=+:./@"):
            raise not_filters(arguments, text, parse_short) or InvalidInput(
                f"{quote(text)} is not a filter; the shell may have made a file name of it",
                "quote filters in brackets: '[*=0:80:TCP]'",
                source=text,
                position=0,
            )
    return joined


def format_filter(flt: Filter) -> str:
    """The canonical text of a filter; ``parse_filter`` gives an equal flt back."""
    source, destination = map(_format_endpoint, (flt.source, flt.destination))
    if flt.protocol is not None:
        protocol = format_protocol_and_message(flt.protocol, flt.message)
        colon = ":" if flt.destination.ports else "::"
        named = isinstance(flt.destination.address, HostName)
        # The name "cafe" with protocol 99 would read as the IPv6 address cafe::99.
        if named and ipv6_value(f"{destination}::{protocol.partition('/')[0]}") is not None:
            colon = ":*:"
        destination += colon + protocol
    return f"{source}{'+' if flt.mirrored else '='}{destination}"


_LABEL = re.compile(r"(?:^|(?<=[=+]))\s*label:[^=+]*=")
"""The beginning of an endpoint that holds a ``=`` of its own."""


def _without_labels(text: str) -> str:
    """`text` with the signs inside labels blotted out, at the same length."""
    at = 0
    while label := _LABEL.search(text, at):
        at = label.end()
        text = text[: at - 1] + "\0" + text[at:]
    return text


def _separator(text: str) -> int:
    places = [n for n, letter in enumerate(_without_labels(text)) if letter in "=+"]
    if not places:
        raise wrong(
            text,
            len(text),
            f"{quote(text)} has no '=' or '+' between source and destination",
            "write SOURCE=DESTINATION:PORT:PROTOCOL, as in *=0:1434:UDP, and quote it: "
            "the shell may have made a file name of it",
        )
    if len(places) > 1:
        raise wrong(
            text, places[1], f"{quote(text)} has more than one '=' or '+'", "give one filter"
        )
    return places[0]


def _refuse_brackets(text: str, at: int) -> None:
    """Refuse the brackets that name an action where only a filter is expected."""
    first, start = trim(text, 0, at)
    last, place = trim(text, at + 1, len(text))
    hint = "give the filter alone here; brackets say block and permit in dynamic commands"
    opened = first[:1] == "(" or (first[:1] == "[" and "]" not in first)
    closed = last[-1:] == ")" or (last[-1:] == "]" and "[" not in last)
    # With a colon and no end, "[2001:db8::1=0" is rather an address that was not closed.
    address = first[:1] == "[" and ":" in first and last[-1:] != "]"
    if opened and not address:
        raise wrong(text, start, f"{quote(text.strip())} is in brackets", hint)
    if closed and not opened:
        end = place + len(last) - 1
        raise wrong(text, end, f"{quote(text.strip())} closes a bracket that is not open", hint)


def _fields(text: str, start: int, end: int) -> list[tuple[str, int]]:
    """The parts between colons, not counting those inside brackets, with their offsets."""
    fields = []
    depth = 0
    begin = start
    for n in range(start, end):
        letter = text[n]
        if letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
        elif letter == ":" and depth == 0:
            fields.append(trim(text, begin, n))
            begin = n + 1
    fields.append(trim(text, begin, end))
    if len(fields) > 1 and fields[0][0] in SELECTORS | PROCESSES:
        (kind, offset), (name, _) = fields[:2]
        fields[:2] = [(f"{kind}:{name}", offset)]
    return fields


def _side(text: str, start: int, end: int, *, last: bool) -> tuple[Endpoint, _Protocol]:
    fields = _fields(text, start, end)
    if len(fields) > 2 and fields[0][0] != "0":
        _refuse_bare_ipv6(text, start, end)
    if len(fields) > 3:
        hint = "write ADDRESS:PORT:PROTOCOL, and IPv6 addresses in brackets: [2001:db8::1]"
        part, offset = fields[3]
        raise _one_field_too_many(text, offset, part, hint)
    address_text, offset = fields[0]
    if not address_text:
        side = "destination" if last else "source"
        raise wrong(text, offset, f"the {side} has no address", "write 0 for this host, * for any")
    try:
        address = parse_address(address_text)
    except InvalidInput as error:
        raise wrong_within(error, text, offset) from error
    ports: tuple[PortRange, ...] = ()
    if len(fields) > 1:
        try:
            ports = parse_ports(fields[1][0])
            endpoint = Endpoint(address, ports)
        except InvalidInput as error:
            raise wrong_within(error, text, fields[1][1]) from error
    endpoint = Endpoint(address, ports)
    if len(fields) < 3 or fields[2][0] in ("", "*"):
        return endpoint, (None, None)
    try:
        return endpoint, parse_protocol_and_message(fields[2][0])
    except InvalidInput as error:
        if not last:
            part, offset = fields[2]
            raise _one_field_too_many(text, offset, part, _PROTOCOL_AT_THE_RIGHT) from error
        raise wrong_within(error, text, fields[2][1]) from error


def _one_field_too_many(text: str, position: int, part: str, hint: str) -> InvalidInput:
    return wrong(text, position, f"{quote(part)} is one field too many", hint)


def _refuse_bare_ipv6(text: str, start: int, end: int) -> None:
    """Refuse one side of a filter that is an IPv6 address and could be read as fields too."""
    side, offset = trim(text, start, end)
    if ipv6_value(side.partition("/")[0].rstrip()) is not None:
        raise wrong(
            text,
            offset,
            f"IPv6 address {quote(side)} is not in brackets",
            f"write [{side}], and a port after the bracket",
        )


def _format_endpoint(endpoint: Endpoint) -> str:
    address = format_address(endpoint.address)
    if not endpoint.ports:
        return address
    ports = [
        str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"
        for ports in endpoint.ports
    ]
    return f"{address}:{','.join(ports)}"
