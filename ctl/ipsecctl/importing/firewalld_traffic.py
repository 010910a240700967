"""Owns reading what zones and policies say of their traffic; must not know their other parts."""

from __future__ import annotations

from collections.abc import Iterable

from ipsecctl.importing.firewalld import (
    Element as Subject,
)
from ipsecctl.importing.firewalld import (
    IcmpOf,
    Item,
    Named,
    PortOf,
    RichRule,
    Side,
    Traffic,
)
from ipsecctl.importing.firewalld_icmp import icmp_named
from ipsecctl.importing.firewalld_xml import Element
from ipsecctl.importing.plain_networks import network_in
from ipsecctl.importing.source import Line
from ipsecd.errors import InvalidInput
from ipsecd.language.protocols import parse_protocol
from ipsecd.model.addresses import Network, check_list_name
from ipsecd.model.values import PROTOCOLS_WITH_PORTS, IcmpOfFamily, PortRange
from ipsecd.quoting import quote

_WORDS = frozenset({"short", "description"})
_NOT_ABOUT_BLOCKING = {
    "masquerade": "masquerade",
    "forward-port": "forward-port",
    "tcp-mss-clamp": "tcp-mss-clamp",
}
_ACTIONS = frozenset({"accept", "reject", "drop", "mark"})
_TRUE = frozenset({"yes", "true", "1"})
_HARDWARE = frozenset("0123456789abcdefABCDEF:")


def wrong(line: Line, message: str, hint: str = "") -> InvalidInput:
    """An error about a line of a file."""
    return InvalidInput(message, hint, source=line.file, line=line.number)


def integer_of(element: Element, name: str, otherwise: str) -> int:
    """A priority: an attribute that is a number from -32768 to 32767."""
    text = element.get(name) or otherwise
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdecimal() and len(digits) <= 5 and abs(int(text)) <= 32768:
        return int(text)
    raise wrong(
        element.line,
        f"{quote(text)} is not a priority",
        "write a whole number from -32768 to 32767",
    )


def network_of(text: str, line: Line) -> Network:
    """An address, or an address with a prefix length or a mask; bits behind it are cleared."""
    try:
        return network_in(text)
    except ValueError as error:
        raise wrong(line, f"{quote(text)} {error}", "write an address or a prefix") from error


def protocol_of(element: Element, name: str) -> int:
    """The number of the protocol in an attribute."""
    line = element.line
    text = element.get(name)
    if not text:
        raise wrong(line, f"<{element.tag}> has no {name}", f"give it {name}=…")
    try:
        protocol = parse_protocol(text)
    except InvalidInput as error:
        raise wrong(line, error.message, error.hint) from error
    return 1 if isinstance(protocol, IcmpOfFamily) else protocol


def port_of(element: Element) -> PortOf:
    """The port or range of ports of an element, with its protocol."""
    line = element.line
    protocol = protocol_of(element, "protocol")
    if protocol not in PROTOCOLS_WITH_PORTS:
        raise wrong(line, f"protocol {protocol} has no ports", "use <protocol value=…/>")
    text = element.get("port")
    first, dash, last = text.partition("-")
    numbers = (first, last if dash else first)
    if not all(each.isascii() and each.isdecimal() and len(each) <= 5 for each in numbers):
        raise wrong(line, f"{quote(text)} is not a port", "write one such as 80, or 60000-61000")
    try:
        return PortOf(protocol, PortRange(int(numbers[0]), int(numbers[1])))
    except InvalidInput as error:
        raise wrong(line, error.message, error.hint) from error


def side_of(element: Element) -> Side:
    """The source or destination in an element."""
    line = element.line
    given = [name for name in ("address", "ipset", "mac") if element.get(name)]
    if len(given) != 1:
        raise wrong(
            line,
            f"<{element.tag}> has {' and '.join(given) or 'nothing'}",
            "give it one of address, ipset and mac",
        )
    text = element.get(given[0])
    inverted = element.get("invert").lower() in _TRUE
    if given == ["address"]:
        return Side(network=network_of(text, line), inverted=inverted)
    if given == ["mac"]:
        if len(text) != 17 or not set(text) <= _HARDWARE:
            raise wrong(line, f"{quote(text)} is not a hardware address", "write 02:00:00:00:00:01")
        return Side(mac=text.lower(), inverted=inverted)
    try:
        check_list_name(text)
    except InvalidInput as error:
        raise wrong(line, error.message, error.hint) from error
    return Side(ipset=text, inverted=inverted)


def traffic_of(elements: Iterable[Element]) -> Traffic:
    """What the elements of a zone or policy say, besides whose traffic it is."""
    services: list[Named] = []
    items: dict[str, list[Item]] = {
        tag: [] for tag in ("port", "protocol", "source-port", "icmp-block")
    }
    rich: list[RichRule] = []
    other: list[Named] = []
    inversion = False
    for one in elements:
        line = one.line
        if one.tag == "service":
            services.append(Named(_name(one), line))
        elif one.tag in {"port", "source-port"}:
            items[one.tag].append(Item(line, port_of(one)))
        elif one.tag == "protocol":
            items[one.tag].append(Item(line, protocol_of(one, "value")))
        elif one.tag == "icmp-block":
            items[one.tag].append(Item(line, _icmp(one)))
        elif one.tag == "icmp-block-inversion":
            inversion = True
        elif one.tag == "rule":
            rich.append(_rich(one))
        elif one.tag not in _WORDS:
            other.append(Named(_NOT_ABOUT_BLOCKING.get(one.tag, f"<{one.tag}>"), line))
    return Traffic(
        tuple(services),
        ports=tuple(items["port"]),
        protocols=tuple(items["protocol"]),
        source_ports=tuple(items["source-port"]),
        icmp_blocks=tuple(items["icmp-block"]),
        icmp_inversion=inversion,
        rich=tuple(rich),
        other=tuple(other),
    )


def _name(element: Element) -> str:
    if not element.get("name"):
        raise wrong(element.line, f"<{element.tag}> has no name", "give it name=…")
    return element.get("name")


def _icmp(element: Element) -> IcmpOf:
    name = _name(element)
    known = icmp_named(name)
    if known is None:
        raise wrong(
            element.line,
            f"{quote(name)} is not a known type of ICMP",
            "name a type that firewall-cmd --get-icmptypes shows",
        )
    return known


def _rich(rule: Element) -> RichRule:
    line = rule.line
    version = {"": None, "ipv4": 4, "ipv6": 6}.get(rule.get("family"), 0)
    if version == 0:
        raise wrong(line, f"{quote(rule.get('family'))} is not a family", "write ipv4 or ipv6")
    sides: dict[str, Side] = {}
    subjects: list[Element] = []
    actions: list[Element] = []
    other: list[str] = []
    for one in rule.children:
        if one.tag in {"source", "destination"}:
            if one.tag in sides:
                raise wrong(one.line, f"<{one.tag}> stands twice", "keep one of them")
            sides[one.tag] = side_of(one)
        elif one.tag in _ACTIONS:
            actions.append(one)
        elif one.tag in {"log", "nflog", "audit", *_NOT_ABOUT_BLOCKING}:
            other.append(one.tag)
        else:
            subjects.append(one)
    if len(subjects) > 1 or len(actions) > 1:
        twice = (subjects if len(subjects) > 1 else actions)[1]
        raise wrong(twice.line, f"<{twice.tag}> is one too many", "write a rule for each")
    subject = _subject(subjects[0]) if subjects else Subject()
    action = actions[0].tag if actions else ""
    limits = [one.get("value") for one in actions[:1] for one in one.children if one.tag == "limit"]
    if action == "mark":
        other.append("mark")
    return RichRule(
        line,
        integer_of(rule, "priority", "0"),
        version,
        sides.get("source"),
        sides.get("destination"),
        subject,
        "reject" if subject.blocks_icmp and not action else action.replace("mark", ""),
        limits[0] if limits else "",
        tuple(other),
    )


def _subject(element: Element) -> Subject:
    """What a rich rule is for; raises ``InvalidInput`` for what is not known."""
    if element.tag == "service":
        return Subject(service=_name(element))
    if element.tag == "port":
        return Subject(port=port_of(element))
    if element.tag == "source-port":
        return Subject(source_port=port_of(element))
    if element.tag == "protocol":
        return Subject(protocol=protocol_of(element, "value"))
    if element.tag in {"icmp-block", "icmp-type"}:
        return Subject(icmp=_icmp(element), blocks_icmp=element.tag == "icmp-block")
    raise wrong(
        element.line,
        f"<{element.tag}> is not known in a rich rule",
        "take it out, or write the rule with service, port, protocol, source-port or icmp-type",
    )
