"""Owns reading hosts.allow and hosts.deny; must not know what becomes of packets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import TypeVar

from ipsecctl.importing.hosts_deny import (
    AccessFiles,
    AccessRule,
    Answer,
    Client,
    Daemon,
    Patterns,
    PortOf,
)
from ipsecctl.importing.hosts_deny_daemons import Services, ports_of, read_services
from ipsecctl.importing.plain_networks import network_in
from ipsecctl.importing.source import InputFile, Line
from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Family, Network
from ipsecd.quoting import quote, quote_path

MAX_EXCEPTIONS = 50
_BETWEEN = re.compile(r"[\s,]+")
_PREFIX = re.compile(r"((?:[0-9]{1,3}\.){1,3})(?:\*(?:\.\*)*)?")
_KEYWORDS = {
    "LOCAL": "whether the name of a machine has a dot is not known of its address",
    "KNOWN": "whether a machine's name and address are known is not known of its packets",
    "UNKNOWN": "whether a machine's name or address is unknown is not known of its packets",
    "PARANOID": "whether the name of a machine belongs to its address is not known of its packets",
}
_NAME = (
    "names of machines are looked up backwards for each connection, and a policy looks nothing up"
)
_ANSWERS = {"allow": Answer.ALLOW, "deny": Answer.DENY}

_Item = TypeVar("_Item", Daemon, Client)


def read_access(files: Sequence[InputFile]) -> AccessFiles:
    """What the files say, each of which is known by the end of its name.

    These are ``allow``, ``deny`` and ``services``. Raises ``InvalidInput`` with file and line.
    """
    by_kind: dict[str, list[InputFile]] = {"allow": [], "deny": [], "services": []}
    for file in files:
        by_kind[_kind_of(file)].append(file)
    services: dict[str, list[PortOf]] = {}
    for file in by_kind["services"]:
        services |= read_services(file)
    ignored: list[Line] = []
    rules = {
        kind: tuple(
            rule for file in by_kind[kind] for rule in _rules(file, kind, services, ignored)
        )
        for kind in _ANSWERS
    }
    return AccessFiles(rules["allow"], rules["deny"], tuple(ignored))


def _kind_of(file: InputFile) -> str:
    name = PurePath(file.path).name.lower()
    for kind in ("allow", "deny", "services"):
        if name.endswith(kind) or f"{kind}." in name:
            return kind
    raise InvalidInput(
        f"the name of {quote_path(file.path)} does not say what it is",
        "give hosts.allow, hosts.deny, or a file of services by names that end so",
        source=file.path,
        line=1,
    )


def _rules(
    file: InputFile, kind: str, services: Services, ignored: list[Line]
) -> Iterator[AccessRule]:
    for line in _logical_lines(file):
        if line.text.startswith("#") or not line.text.strip():
            continue
        fields = _fields(line.text)
        if len(fields) < 2 or not fields[0].strip() or not fields[1].strip():
            ignored.append(line)
            continue
        daemons = _patterns(fields[0], line, lambda text: _daemon(text, services))
        clients = _patterns(fields[1], line, _client)
        answer, other = _options(fields[2:], _ANSWERS[kind])
        yield AccessRule(line, daemons, clients, answer, other)


def _logical_lines(file: InputFile) -> Iterator[Line]:
    """The lines, put together where one ends in a backslash; each by the number of its first."""
    parts: list[str] = []
    first = 1
    for number, text in enumerate(file.text.split("\n"), 1):
        if not parts:
            first = number
        whole = text.removesuffix("\r")
        parts.append(whole.removesuffix("\\"))
        if not whole.endswith("\\"):
            yield Line(file.path, first, "".join(parts))
            parts = []
    if parts:
        yield Line(file.path, first, "".join(parts))


def _fields(text: str) -> list[str]:
    """The parts between colons that are not in brackets and have no backslash before them."""
    fields = [""]
    depth = 0
    escaped = False
    for letter in text:
        if letter == ":" and not depth and not escaped:
            fields.append("")
        else:
            depth = max(0, depth + (letter == "[") - (letter == "]"))
            fields[-1] += letter
        escaped = letter == "\\" and not escaped
    return fields


def _patterns(text: str, line: Line, item: Callable[[str], _Item]) -> Patterns[_Item]:
    """A list of patterns; what stands behind EXCEPT may have an EXCEPT of its own."""
    groups: list[list[_Item]] = [[]]
    for word in filter(None, _BETWEEN.split(text)):
        if word.upper() == "EXCEPT":
            groups.append([])
        else:
            groups[-1].append(item(word))
    if len(groups) > MAX_EXCEPTIONS or not all(groups):
        raise InvalidInput(
            f"{quote(text.strip())} has EXCEPT with no pattern beside it, or too often",
            "write LIST EXCEPT LIST",
            source=line.file,
            line=line.number,
        )
    found: Patterns[_Item] | None = None
    for group in reversed(groups):
        found = Patterns(tuple(group), found)
    assert found
    return found


def _daemon(text: str, services: Services) -> Daemon:
    name, _, endpoint = text.partition("@")
    if name.upper() == "ALL":
        return Daemon(text, everything=True, endpoint=endpoint)
    return Daemon(text, ports=ports_of(name, services), endpoint=endpoint)


def _client(text: str) -> Client:
    word = text.upper()
    if word == "ALL":
        return Client(text, everything=True)
    if word in _KEYWORDS:
        return Client(text, unknown=_KEYWORDS[word])
    if text.startswith("@"):
        return Client(text, unknown="the members of a netgroup are not known here")
    if "@" in text:
        return Client(text, unknown="which user a connection is from is not known of its packets")
    if text.startswith("/"):
        return Client(text, unknown="the patterns are in a file of their own")
    network = _prefix(text) or _network(text)
    return Client(text, network=network) if network else Client(text, unknown=_NAME)


def _prefix(text: str) -> Network | None:
    """The network of numbers that end in a dot, as in ``192.168.``; None if it is none."""
    match = _PREFIX.fullmatch(text)
    if not match:
        return None
    octets = [int(part) for part in match[1].split(".")[:-1]]
    if max(octets) > 255:
        return None
    value = int.from_bytes(bytes(octets)) << 8 * (4 - len(octets))
    return Network(Family.IPV4, value, 8 * len(octets))


def _network(text: str) -> Network | None:
    try:
        return network_in(text)
    except ValueError:
        return None


def _options(fields: Sequence[str], answer: Answer) -> tuple[Answer, tuple[str, ...]]:
    """The answer of a rule with its options, and what else these do."""
    other: list[str] = []
    for field in fields:
        words = field.split(None, 1)
        name = words[0].lower() if words else ""
        if name in _ANSWERS:
            answer = _ANSWERS[name]
        elif name == "aclexec":
            answer = Answer.UNKNOWN
            other.append(name)
        elif name == "twist":
            # Another program answers the connection, and never the one that the rule names.
            answer = Answer.DENY
            other.append(name)
        elif name:
            other.append(name)
    return answer, tuple(other)
