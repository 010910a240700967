"""Owns reading what ``netsh advfirewall`` shows, in English; must not know how rules are added."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipsecctl.importing.source import InputFile, Line
from ipsecctl.importing.windows_firewall import PROFILES, Inbound, Profile, Rule
from ipsecctl.importing.windows_firewall_properties import rule_of
from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote

_LABEL = re.compile(r"([A-Za-z][A-Za-z /-]*?):(?:\s+(.*))?")
_NAMES = {
    "rule name": "name",
    "enabled": "enable",
    "direction": "dir",
    "profiles": "profile",
    "localip": "localip",
    "remoteip": "remoteip",
    "protocol": "protocol",
    "localport": "localport",
    "remoteport": "remoteport",
    "program": "program",
    "service": "service",
    "interfacetypes": "interfacetype",
    "security": "security",
    "action": "action",
    "localusergroup": "localuser",
    "localusersddl": "localuser",
    "remoteusergroup": "remoteuser",
    "remotecomputergroup": "remotecomputer",
    "application package": "package",
}
"""The property that each label is of; others say nothing about which packets are meant."""
_LISTS = frozenset({"profile", "localip", "remoteip", "localport", "remoteport"})
_PASSED_OVER = frozenset({"description", "grouping", "edge traversal", "rule source"})
_SECTION = re.compile(r"(domain|private|public) profile settings:", re.IGNORECASE)
_FIRST = "rule name:"


def is_listing(file: InputFile) -> bool:
    """Whether it is what ``netsh`` shows, rather than commands."""
    lines = (line.strip().lower() for line in file.text.split("\n"))
    return any(line.startswith(_FIRST) or _SECTION.fullmatch(line) for line in lines)


def rules_in(file: InputFile) -> Iterator[Rule]:
    """The rules that are shown; raises ``InvalidInput`` with file and line."""
    for line, given in _blocks(file):
        yield rule_of(given, line)


def _blocks(file: InputFile) -> Iterator[tuple[Line, dict[str, list[str]]]]:
    """The properties of each rule, with the line that names it."""
    given: dict[str, list[str]] = {}
    first: Line | None = None
    for number, text in enumerate(file.text.split("\n"), 1):
        line = Line(file.path, number, text.strip())
        if line.text.lower().startswith(_FIRST):
            if first:
                yield first, given
            first, given = line, {"name": [line.text.partition(":")[2].strip()]}
        elif first and _SECTION.fullmatch(line.text.lower()):
            yield first, given
            first = None
        elif first:
            _take(given, line, is_indented=text[:1].isspace())
    if first:
        yield first, given


def _take(given: dict[str, list[str]], line: Line, *, is_indented: bool) -> None:
    """One line of a rule: a label and its value, or a type of ICMP with its code."""
    words = line.text.lower().split()
    if not words or set(line.text) == {"-"} or words[0] in {"ok.", "type"}:
        return
    if is_indented and len(words) == 2 and "icmp" in "".join(given.get("protocol", ())).lower():
        given.setdefault("icmp", []).append(":".join(words))
        return
    match = _LABEL.fullmatch(line.text)
    label = match[1].lower() if match else ""
    if not match or (label not in _NAMES and label not in _PASSED_OVER):
        if match and not (match[2] or "").strip():
            return
        raise InvalidInput(
            f"{quote(line.text)} is not known in a rule",
            "give what netsh advfirewall firewall show rule name=all verbose prints in English",
            source=line.file,
            line=line.number,
        )
    if label in _NAMES:
        name, value = _NAMES[label], (match[2] or "").strip()
        given[name] = value.split(",") if name in _LISTS else [value]


def profiles_in(file: InputFile) -> dict[str, Profile]:
    """What ``netsh advfirewall show allprofiles`` says of each profile."""
    found: dict[str, Profile] = {}
    here = ""
    is_on = True
    for text in map(str.strip, file.text.split("\n")):
        section = _SECTION.fullmatch(text)
        if section:
            here, is_on = section[1].lower(), True
        elif here in PROFILES:
            label, _, value = re.sub(r"\s{2,}", "\t", text).partition("\t")
            if label.lower() == "state":
                is_on = value.strip().lower() != "off"
                found[here] = Profile(is_on)
            elif label.lower() == "firewall policy":
                found[here] = profile_of(value, is_on=is_on)
    return found


def profile_of(policy: str, *, is_on: bool) -> Profile:
    """A profile with a policy such as ``BlockInbound,AllowOutbound``."""
    inbound, _, outbound = policy.strip().lower().partition(",")
    kind = {"allowinbound": Inbound.ALLOW, "blockinboundalways": Inbound.ALWAYS}
    return Profile(is_on, kind.get(inbound, Inbound.BLOCK), outbound == "blockoutbound")
