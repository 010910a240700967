"""Owns what people type who come from another firewall, or slip; answers in filters of ours.

Nothing here takes or refuses a filter: it only finds better words for what was refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from ipsecd.errors import InvalidInput
from ipsecd.language.addresses import ipv4_value, ipv6_value
from ipsecd.language.list_entries import entries_in, format_entry
from ipsecd.language.not_hosts import of_a_file
from ipsecd.language.protocols import is_protocol_name, parse_protocol
from ipsecd.language.quoting import is_number, wrong
from ipsecd.model.values import ICMP_VERSIONS, MAX_PORT, PROTOCOLS_WITH_PORTS
from ipsecd.quoting import count, quote

SERVICES = {
    "dns": "udp/53", "domain": "udp/53", "ftp": "tcp/21", "http": "tcp/80", "https": "tcp/443",
    "imap": "tcp/143", "imaps": "tcp/993", "ldap": "tcp/389", "mysql": "tcp/3306",
    "netbios": "udp/137-138", "nfs": "tcp/2049", "ntp": "udp/123", "openvpn": "udp/1194",
    "pop3": "tcp/110", "postgres": "tcp/5432", "postgresql": "tcp/5432", "rdp": "tcp/3389",
    "redis": "tcp/6379", "smb": "tcp/445", "smtp": "tcp/25", "snmp": "udp/161", "ssh": "tcp/22",
    "submission": "tcp/587", "syslog": "udp/514", "telnet": "tcp/23", "tftp": "udp/69",
    "vnc": "tcp/5900", "wireguard": "udp/51820", "www": "tcp/80",
}  # fmt: skip
"""What people call the services that they block most often, and the ports of these."""
EVERYBODY = frozenset({"*", "any", "all", "anywhere", "everything", "everyone"})
_WORDS_OF_OTHERS = frozenset({"in", "out", "on", "from", "to", "proto", "port", *EVERYBODY})
"""The words of ufw and pf, whose rules are sentences."""
_KINDS_IN_LISTS = frozenset({"country", "geoip", "geo", "cc", "asn", "as"})
"""What others name addresses by, which lists have here."""
_MOST_NETWORKS = 8
_MOST_CHARACTERS = 100


def in_other_words(error: InvalidInput, text: str) -> InvalidInput | None:
    """The error about `text`, a filter or something short, with what may have been meant by it.

    None if nothing is known that is better than `error`.
    """
    if not _can_be_said_again(text):
        return None
    meant = _about_short(text.strip()) if not set("=+") & set(text) else _about_filter(text)
    return wrong(text, error.position or 0, *meant) if meant else None


def not_filters(
    arguments: Sequence[str], culprit: str, must_be_filter: Callable[[str], object]
) -> InvalidInput | None:
    """The error that `culprit`, one of the arguments of a command, is no filter; None if it is new.

    A sentence of another firewall is answered as a whole, by a filter: `must_be_filter` raises
    ``InvalidInput`` for a text that is none.
    """
    if not all(map(_can_be_said_again, arguments)):
        return None
    words = [argument.strip() for argument in arguments]
    filter_text, interface = _sentence(words)
    with suppress(InvalidInput):
        must_be_filter(filter_text)
        said = " ".join(words)
        written = f"'{filter_text}'" if "=" in filter_text else filter_text
        return InvalidInput(
            f"{quote(said)} is not how a filter is written",
            f"write {written}{f' --interface {interface}' if interface else ''}",
            source=said,
            position=0,
        )
    meant = _about_short(culprit.strip())
    return InvalidInput(*meant, source=culprit, position=0) if meant else None


def _can_be_said_again(text: str) -> bool:
    """Whether a hint may have a text in it: nobody types what is long or drives a terminal."""
    return len(text) <= _MOST_CHARACTERS and text.isprintable()


def _about_short(text: str) -> tuple[str, str] | None:
    """What to say of a text without ``=`` and ``+`` that is refused; None if nothing is known."""
    word = text.lower()
    if is_number(word) and 0 < int(word[:6]) <= MAX_PORT:
        return (
            f"{quote(text)} is a port, and a port needs its protocol",
            f"write tcp/{word} or udp/{word} for what arrives there at this host",
        )
    if word in SERVICES:
        return (
            f"{quote(text)} is the name of a service, and names of services are not looked up",
            f"write {SERVICES[word]}",
        )
    if word in EVERYBODY:
        return (
            f"{quote(text)} alone is not a filter",
            (
                "write '*=0' for all that arrives at this host, your login too; see also: "
                "ipsecctl policy create NAME --preset deny-incoming --permit ssh"
            ),
        )
    if is_protocol_name(word):
        return f"{quote(text)} alone is not a filter", _of_protocol(word)
    if text.startswith("!"):
        return (
            f"{quote(text)} says what not to match, and filters say what they match",
            (
                f"block what is wider, and permit this: a permit of {text[1:].strip() or 'A'} is "
                "narrower, and so it decides"
            ),
        )
    return _about_addresses(text)


def _of_protocol(name: str) -> str:
    protocol = parse_protocol(name)
    upper = name.upper()
    if protocol in PROTOCOLS_WITH_PORTS:
        return f"write {name}/22 for a port of this host, or '*=0::{upper}' for all of them"
    if protocol in ICMP_VERSIONS:
        return f"write '*=0::{upper}', or {name}/echo-request for that type alone"
    return f"write '*=0::{upper}'"


def _about_addresses(text: str) -> tuple[str, str] | None:
    """The same for what has addresses, or names in their place."""
    kind, colon, name = text.partition(":")
    if colon and kind.lower() in _KINDS_IN_LISTS:
        listed = re.sub(r"[^a-z0-9-]", "", name.lower()) or "cn"
        return (
            f"{quote(text)} is not an address: which addresses a country or an AS has is in lists",
            f"make one, ipsecctl list create {listed} --from FILE, and block '@{listed}=0'",
        )
    if "-" in text and (networks := _networks_of_range(text)):
        return (
            f"{quote(text)} is a range, which a list can hold and a filter cannot",
            f"write {networks}; or put it into a list: ipsecctl list add NAME {text}",
        )
    fields = [field.strip() for field in text.split(":")]
    if len(fields) > 2 and _is_side(fields[0]) and _is_side(fields[1]):
        filter_text = f"{fields[0]}={':'.join(fields[1:])}"
        return f"{quote(text)} has no '=' between source and destination", f"write '{filter_text}'"
    bracketed = re.fullmatch(r"(\[[0-9A-Fa-f:]+\]):([0-9]+)", text)
    if bracketed:
        address, port = bracketed.groups()
        return (
            f"{quote(text)} is an address with a port, and lacks the other side",
            (
                f"write '{address}=0:{port}:TCP' for what it sends to that port of this host, or "
                f"'0={address}:{port}:TCP' for what this host sends to it"
            ),
        )
    return of_a_file(text)


def _is_side(text: str) -> bool:
    return text in ("0", "*") or ipv4_value(text.partition("/")[0]) is not None


def _networks_of_range(text: str) -> str:
    """The networks that a range ``FIRST-LAST`` is, in words; empty if it is none."""
    try:
        networks = [format_entry(*entry) for entry in entries_in(text)]
    except ValueError:
        return ""
    if len(networks) > _MOST_NETWORKS:
        return f"its {count(len(networks), 'network')}, of which {networks[0]} is the first"
    return " ".join(networks)


def _about_filter(text: str) -> tuple[str, str] | None:
    """What to say of a text with ``=`` or ``+`` that is refused; None if nothing is known."""
    if ";" in text:
        return (
            f"{quote(text)} has semicolons in it",
            f"colons stand between address, port and protocol: '{text.replace(';', ':')}'",
        )
    negated = re.search(r"![\w.:/\[\]-]*", text)
    if negated:
        return _about_short(negated.group())
    for side in re.split("[=+]", text, maxsplit=1):
        address = side.strip()
        if meant := _of_side(address):
            return meant
    return None


def _of_side(address: str) -> tuple[str, str] | None:
    kind = address.partition(":")[0].strip()
    if kind.lower() in _KINDS_IN_LISTS:
        return _about_addresses(address)
    if re.fullmatch(r"[0-9.]+-[0-9.]+", kind):
        return _about_addresses(kind)
    return None


def _sentence(words: list[str]) -> tuple[str, str]:
    """The filter that a sentence of ufw or pf is, and its interface; both empty if it is none."""
    lowered = [word.lower() for word in words]
    if len(words) == 2 and is_protocol_name(lowered[0]) and _is_port_list(words[1]):
        return f"{lowered[0]}/{words[1]}", ""
    if not set(lowered) & (_WORDS_OF_OTHERS - EVERYBODY):
        return "", ""
    parts = dict(_parts(lowered))
    source, destination = parts.get("from", "*"), parts.get("to", "0")
    if parts.get("direction") == "out" and "from" not in parts:
        source, destination = "0", parts.get("to", "*")
    port = parts.get("port", "")
    protocol = parts.get("proto", "tcp" if port else "").upper()
    interface = parts.get("on", "")
    if source != "*" and destination == "0" and not protocol:
        return source, interface
    rest = f":{port}:{protocol}" if protocol else ""
    return f"{_bracketed(source)}={_bracketed(destination)}{rest}", interface


def _bracketed(address: str) -> str:
    host = address.partition("/")[0]
    return f"[{address}]" if ipv6_value(host) is not None else address


def _is_port_list(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]+(?:[,:-][0-9]+)*", text))


def _parts(words: list[str]) -> Iterator[tuple[str, str]]:
    """What the words of a sentence say: from, to, on, proto, port and direction."""
    at = 0
    while at < len(words):
        word = words[at]
        following = words[at + 1] if at + 1 < len(words) else ""
        if word in ("in", "out"):
            yield "direction", word
        elif word in ("from", "to", "on", "proto", "port") and following:
            if following not in EVERYBODY:
                yield word, following
            at += 1
        elif is_protocol_name(word) and not is_number(word):
            yield "proto", word
        elif _is_port_list(word):
            yield "port", word
        elif ipv4_value(word.partition("/")[0]) is not None:
            # As "192.0.2.1 from any" begins with whom it is about.
            yield "from", word
        at += 1
