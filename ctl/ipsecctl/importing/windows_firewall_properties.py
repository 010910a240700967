"""Owns making a rule of properties, however they were written; must not know any syntax.

The names of properties are those of ``netsh``; a value is a list of texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from ipsecctl.importing.plain_networks import networks_in
from ipsecctl.importing.source import Line
from ipsecctl.importing.windows_firewall import PROFILES, Addresses, Ports, Rule
from ipsecd.errors import InvalidInput
from ipsecd.language.protocols import parse_protocol
from ipsecd.model.kinds import Action
from ipsecd.model.values import IcmpOfFamily, PortRange
from ipsecd.quoting import quote

Properties = Mapping[str, Sequence[str]]
_T = TypeVar("_T")

ANY = frozenset({"", "any", "*", "all"})
_ADDRESS_WORDS = frozenset(
    {"localsubnet", "localsubnet4", "localsubnet6", "dns", "dhcp", "wins", "defaultgateway"}
    | {"internet", "intranet", "rmtintranet", "intranetremoteaccess", "ply2renders"}
    | {"captiveportal"}
)
_PORT_WORDS = frozenset(
    {"rpc", "iphttps", "iphttpsin", "iphttpsout", "ply2disc", "teredo", "mdns", "cortanaout"}
    | {"playtodiscovery"}
)
_RPC_ENDPOINT_MAPPER = frozenset({"rpc-epmap", "rpcepmap"})
_PROTOCOLS = {
    "icmpv4": 1,
    "icmpv6": 58,
    "igmp": 2,
    "ipv6route": 43,
    "ipv6frag": 44,
    "ipv6nonxt": 59,
    "ipv6opts": 60,
}
_CONDITIONS = {
    "program": "program",
    "service": "service",
    "package": "package",
    "interfacetype": "type of link",
    "interface": "link",
    "localuser": "user",
    "remoteuser": "remote user",
    "remotecomputer": "remote computer",
    "target": "dynamic target",
}
"""What no packet tells, with the word for it."""
_NO_SECURITY = frozenset({"", "notrequired", "noauthentication"})
KNOWN = frozenset(
    {"name", "enable", "dir", "profile", "localip", "remoteip", "protocol", "localport"}
    | {"remoteport", "icmp", "action", "security", "bypass", *_CONDITIONS}
)
WITHOUT_EFFECT = frozenset({"description", "edge", "group", "source", "mode", "store"})
"""Properties that say nothing about which packets are meant."""


def rule_of(given: Properties, line: Line) -> Rule:
    """The rule with these properties; raises ``InvalidInput`` with the line."""
    name = _one(given, "name")
    action = _word(given, "action", _ACTIONS, line)
    number, messages = _protocol(given, line)
    rule = Rule(
        Line(line.file, line.number, name or line.text),
        name,
        inbound=_word(given, "dir", {"in": True, "inbound": True, "out": False} | _OUT, line),
        action=action,
        profiles=_profiles(given.get("profile", ()), line),
        enabled=_word(given, "enable", _SWITCH, line, "yes"),
        protocol=number,
        messages=messages,
        local=_addresses(given.get("localip", ()), line),
        remote=_addresses(given.get("remoteip", ()), line),
        local_ports=_ports(given.get("localport", ()), line),
        remote_ports=_ports(given.get("remoteport", ()), line),
        conditions=tuple(_conditions(given)),
    )
    has_ports = not (rule.local_ports.is_any and rule.remote_ports.is_any)
    if has_ports and number not in (6, 17):
        raise _wrong(line, f"rule {quote(name)} has ports", "ports need protocol TCP or UDP")
    return rule


_ACTIONS = {"block": Action.BLOCK, "allow": Action.PERMIT, "bypass": Action.PERMIT}
_OUT = {"outbound": False}
_SWITCH = {"yes": True, "true": True, "1": True, "no": False, "false": False, "2": False}


def _one(given: Properties, name: str) -> str:
    return ",".join(given.get(name, ())).strip()


def _word(
    given: Properties, name: str, words: Mapping[str, _T], line: Line, otherwise: str = ""
) -> _T:
    text = _one(given, name).lower() or otherwise
    if text not in words:
        raise _wrong(
            line,
            f"{quote(text)} is no value of {name}" if text else f"{name} is missing",
            f"it is one of {', '.join(words)}",
        )
    return words[text]


def _profiles(texts: Sequence[str], line: Line) -> frozenset[str]:
    words = {text.strip().lower() for text in texts} - {""}
    if not words or words & ANY:
        return frozenset(PROFILES)
    if not words <= set(PROFILES):
        raise _wrong(
            line, f"{quote(', '.join(texts))} is no profile", "use domain, private and public"
        )
    return frozenset(words)


def _protocol(
    given: Properties, line: Line
) -> tuple[int | None, tuple[tuple[int, int | None], ...]]:
    text = _one(given, "protocol").lower()
    messages = tuple(_message(one, line) for one in given.get("icmp", ()))
    if None in messages or text in ANY:
        messages = ()
    if text in ANY:
        return None, ()
    name, _, rest = text.partition(":")
    if rest:
        number, _, code = rest.partition(",")
        message = _message(f"{number}:{code or 'any'}", line)
        messages = (message,) if message else ()
    if name in _PROTOCOLS:
        return _PROTOCOLS[name], tuple(one for one in messages if one)
    try:
        protocol = parse_protocol(name)
    except InvalidInput as error:
        raise _wrong(line, error.message, error.hint) from error
    return 1 if isinstance(protocol, IcmpOfFamily) else protocol, ()


def _message(text: str, line: Line) -> tuple[int, int | None] | None:
    """A type and code of ICMP, written ``8:any`` or ``3:4``; None for any."""
    number, _, code = text.strip().lower().partition(":")
    if number in ANY:
        return None
    numbers = (number, code if code not in ANY else "0")
    if not all(one.isascii() and one.isdecimal() and len(one) < 4 for one in numbers):
        raise _wrong(line, f"{quote(text)} is no type of ICMP", "write TYPE or TYPE:CODE")
    kind, of_kind = map(int, numbers)
    if kind > 255 or of_kind > 255:
        raise _wrong(line, f"{quote(text)} is no type of ICMP", "types and codes go up to 255")
    return kind, None if code in ANY else of_kind


def _addresses(texts: Sequence[str], line: Line) -> Addresses:
    found = Addresses()
    for text in texts:
        word = text.strip().lower()
        if word in ANY:
            return Addresses()
        if word in _ADDRESS_WORDS:
            found = replace(found, words=(*found.words, text.strip()))
            continue
        try:
            networks = networks_in(text.strip())
        except ValueError as error:
            raise _wrong(line, f"{quote(text)} {error}", "write an address or a prefix") from error
        found = replace(found, networks=(*found.networks, *networks))
    return found


def _ports(texts: Sequence[str], line: Line) -> Ports:
    found = Ports()
    for text in texts:
        word = text.strip().lower()
        if word in ANY:
            return Ports()
        if word in _PORT_WORDS:
            found = replace(found, words=(*found.words, text.strip()))
            continue
        if word in _RPC_ENDPOINT_MAPPER:
            word = "135"
        first, dash, last = word.partition("-")
        numbers = (first.strip(), (last if dash else first).strip())
        if not all(one.isascii() and one.isdecimal() and len(one) < 6 for one in numbers):
            raise _wrong(line, f"{quote(text)} is no port", "write ports such as 80, 1000-2000")
        try:
            # Port 0 is no port that anybody listens at.
            ports = PortRange(max(1, int(numbers[0])), int(numbers[1]))
        except InvalidInput as error:
            raise _wrong(line, error.message, error.hint) from error
        found = replace(found, ranges=(*found.ranges, ports))
    return found


def _conditions(given: Properties) -> list[str]:
    found = []
    for name, word in _CONDITIONS.items():
        value = _one(given, name)
        if value.lower() not in ANY:
            found.append(f"{word} {quote(value)}")
    security = _one(given, "security")
    if security.lower() not in _NO_SECURITY or _one(given, "action").lower() == "bypass":
        found.append("authentication")
    return found


def _wrong(line: Line, message: str, hint: str) -> InvalidInput:
    return InvalidInput(message, hint, source=line.file, line=line.number)
