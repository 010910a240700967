"""Owns the text of the ports of a filter; must not know addresses or filters."""

from __future__ import annotations

from ipsecd.errors import InvalidInput
from ipsecd.language.protocols import is_protocol_name
from ipsecd.language.quoting import is_number, trim, wrong_within
from ipsecd.model.values import PortRange
from ipsecd.quoting import quote


def parse_ports(text: str) -> tuple[PortRange, ...]:
    """The ports in `text`: numbers, ranges and lists of both; none for any port.

    Raises ``InvalidInput`` with a position in `text`.
    """
    if text in ("", "0", "*"):
        return ()
    ranges = []
    begin = 0
    for part in text.split(","):
        ports, place = trim(text, begin, begin + len(part))
        try:
            ranges.append(_range(ports))
        except InvalidInput as error:
            raise wrong_within(error, text, place) from error
        begin += len(part) + 1
    return tuple(ranges)


def _range(text: str) -> PortRange:
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not is_number(first) or (dash and not is_number(last)):
        hint = "give a number from 1 to 65535, a range 1000-1999 or a list 80,443"
        if is_protocol_name(text):
            hint = "the port stands before the protocol; for any port leave it empty: *=0::UDP"
        elif text[:1].isalpha():
            hint = "names of services are not looked up; give the port's number, as in 80"
        raise InvalidInput(f"{quote(text)} is not a port", hint)
    if max(len(first), len(last)) > 5:
        raise InvalidInput(
            f"port {quote(text)} is not between 1 and 65535", "leave the port out for any port"
        )
    return PortRange(int(first), int(last) if dash else int(first))
