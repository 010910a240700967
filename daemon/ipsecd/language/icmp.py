"""Owns the text of protocols with messages of ICMP; must not know what the text is part of.

``PROTOCOL[/TYPE[/CODE]]``, where a type is a number or a name of ``model.icmp`` and a code is a
number.
"""

from __future__ import annotations

from difflib import get_close_matches

from ipsecd.errors import InvalidInput
from ipsecd.language.protocols import format_protocol, parse_protocol
from ipsecd.language.quoting import is_number, wrong
from ipsecd.model.icmp import MAX_NUMBER, NAMES, IcmpMessage
from ipsecd.model.values import ICMP_VERSIONS, IcmpOfFamily
from ipsecd.quoting import quote

_OTHER_SPELLINGS = {
    "echo": "echo-request",
    "ping": "echo-request",
    "pong": "echo-reply",
    "timestamp": "timestamp-request",
    "neighbour-solicitation": "neighbor-solicitation",
    "neighbour-advertisement": "neighbor-advertisement",
}


def parse_protocol_and_message(text: str) -> tuple[int | IcmpOfFamily, IcmpMessage | None]:
    """The protocol that `text` names, and the message of ICMP if it names one.

    Raises ``InvalidInput`` with a position in `text`.
    """
    name, slash, type_and_code = text.partition("/")
    protocol = parse_protocol(name.rstrip())
    if not slash:
        return protocol, None
    start = len(name) + 1
    if protocol not in ICMP_VERSIONS:
        raise wrong(
            text,
            start,
            f"protocol {quote(name)} has no types",
            "types stand after ICMP or ICMPv6; a port stands before the protocol: *=0:1434:UDP",
        )
    type_text, slash, code = type_and_code.partition("/")
    try:
        types = _types(type_text.strip())
        return protocol, IcmpMessage(*types, _code(code.strip(), text) if slash else None)
    except InvalidInput as error:
        raise wrong(text, start, error.message, error.hint) from error


def _types(text: str) -> tuple[int | None, int | None]:
    if is_number(text) and len(text) <= 3 and int(text) <= MAX_NUMBER:
        return int(text), int(text)
    name = _OTHER_SPELLINGS.get(text.casefold(), text.casefold())
    if name in NAMES:
        return NAMES[name]
    hint = f"give a number from 0 to {MAX_NUMBER}, or a name such as echo-request"
    if close := get_close_matches(name, NAMES, 1):
        hint = f"did you mean {close[0]}?"
    raise InvalidInput(f"{quote(text)} is not a type of ICMP", hint)


def _code(text: str, protocol_text: str) -> int:
    if not is_number(text) or len(text) > 3 or int(text) > MAX_NUMBER:
        raise InvalidInput(
            f"{quote(text)} is not a code of ICMP",
            f"give a number from 0 to {MAX_NUMBER}, or leave it out for any: "
            f"{protocol_text.rpartition('/')[0]}",
        )
    return int(text)


def format_protocol_and_message(protocol: int | IcmpOfFamily, message: IcmpMessage | None) -> str:
    """The canonical text; ``parse_protocol_and_message`` reads the same values from it."""
    if message is None:
        return format_protocol(protocol)
    parts = [format_protocol(protocol), format_type(protocol, message)]
    if message.code is not None:
        parts.append(str(message.code))
    return "/".join(parts)


def format_type(protocol: int | IcmpOfFamily, message: IcmpMessage) -> str:
    """The name of a type that `protocol` has, or its number."""
    versions = ICMP_VERSIONS[protocol]
    for name, numbers in NAMES.items():
        pairs = zip((4, 6), numbers, (message.ipv4, message.ipv6), strict=True)
        if all(
            wanted == (number if version in versions else None) for version, number, wanted in pairs
        ):
            return name
    return str(message.ipv4 if message.ipv4 is not None else message.ipv6)
