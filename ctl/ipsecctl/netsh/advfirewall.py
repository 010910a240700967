"""Owns what is said to commands for the firewall of Windows, which are not obeyed.

That firewall judges connections, has a block beat every allow, and knows programs: a rule of it is
none of these rules, however alike they look. Whoever wants one of these is told how to write it,
and how it differs. Must not know how it is carried out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from ipsecctl.client import Client
from ipsecctl.failures import REFUSED
from ipsecctl.netsh.failing import NotDoneHere, error_line, hint_lines
from ipsecctl.netsh.words import one_of
from ipsecd.errors import InvalidInput
from ipsecd.language.addresses import format_address
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.language.list_entries import entries_in
from ipsecd.language.protocols import parse_protocol
from ipsecd.model.addresses import Network
from ipsecd.model.values import ICMP_VERSIONS
from ipsecd.output import complain, flush, say
from ipsecd.quoting import quote, visible

_NOT_OBEYED = "rules of the Windows firewall are not rules of this system, and this is not obeyed"
_TAGS = (
    *("name", "dir", "action", "program", "service", "description", "enable", "profile", "localip"),
    *("remoteip", "localport", "remoteport", "protocol", "interfacetype", "rmtcomputergrp"),
    *("rmtusrgrp", "edge", "security"),
)
_HARMLESS = {
    "program": ("any",),
    "service": ("any",),
    "profile": ("any", "domain,private,public", "private,domain,public"),
    "interfacetype": ("any", "lan", "ras"),
    "edge": ("no", "false", "block"),
    "security": ("notrequired",),
    "enable": ("yes", "true"),
}
"""Values that ask for nothing that cannot be had."""
_NO_PROGRAMS = (
    "what arrives is not known by the program that it is for; what leaves is known by its sender, "
    "as in 'service:NAME.service=*'"
)
_WHY = {
    "program": _NO_PROGRAMS,
    "service": _NO_PROGRAMS,
    "profile": "there are no profiles: a rule is for LAN or dial-up links, or for one interface",
    "interfacetype": "links are of type lan or dialup here",
    "rmtcomputergrp": "computers are not known by their groups",
    "rmtusrgrp": "users are not known",
    "edge": "there is no edge traversal",
    "security": "nothing is authenticated or encrypted here",
    "enable": "a rule that is off is left out",
}
_PARAMETERS = {
    "displayname": "name", "name": "name", "direction": "dir", "action": "action",
    "program": "program", "service": "service", "description": "description",
    "enabled": "enable", "profile": "profile", "localaddress": "localip",
    "remoteaddress": "remoteip", "localport": "localport", "remoteport": "remoteport",
    "protocol": "protocol", "interfacetype": "interfacetype", "remotemachine": "rmtcomputergrp",
    "remoteuser": "rmtusrgrp", "edgetraversalpolicy": "edge", "authentication": "security",
    "encryption": "security", "icmptype": "icmptype",
}  # fmt: skip
"""The parameters of New-NetFirewallRule, as the tags of netsh."""
_VALUES = {"inbound": "in", "outbound": "out"}
_ICMP = re.compile(r"icmpv([46])(?::(any|\d+)(?:,(any|\d+))?)?")
_PORTS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
DIFFERENCES = (
    "it differs: in Windows a block beats every allow; here a permit for fewer packets beats it",
    "it differs: Windows judges connections, as --opening does; without it answers are dropped too",
)


def refusal(context: str, words: Sequence[str]) -> NotDoneHere:
    """Why a command of ``advfirewall`` or ``firewall`` is not obeyed, and what is near it."""
    low = [word.lower() for word in words]
    if context == "firewall" or low[:3] != ["firewall", "add", "rule"]:
        hint = "'ipsecctl rule add' makes rules, 'ipsecctl show' has those in force"
        if low[:3] == ["firewall", "delete", "rule"]:
            hint = "'ipsecctl rule remove POLICY RULE' removes a rule"
        return NotDoneHere(_NOT_OBEYED, hint)
    tags: dict[str, str] = {}
    for word in words[3:]:
        tag, sign, value = word.partition("=")
        known = one_of(tag, _TAGS) if sign else None
        if known is None:
            return NotDoneHere(
                f"{_NOT_OBEYED}; {quote(word)} is nothing it knows either", "see docs/netsh.md"
            )
        tags[known] = value.strip()
    return _refusal_of(tags)


def new_rule(_client: Client, args: list[str]) -> int:
    """``New-NetFirewallRule``, which is not obeyed either."""
    tags: dict[str, list[str]] = {}
    name = ""
    for arg in args:
        if arg.startswith("-") and not arg[1:2].isdigit():
            word, colon, value = arg[1:].partition(":")
            name = _PARAMETERS.get(one_of(word, tuple(_PARAMETERS)) or "", word.lower())
            tags[name] = [value] if colon and value else []
        else:
            tags.setdefault(name, []).append(arg)
    values = {tag: "".join(each) for tag, each in tags.items()}
    values["name"] = " ".join(tags.get("name", []))
    if "icmptype" in values:
        values["protocol"] = f"{values.get('protocol', '')}:{values.pop('icmptype')}"
    error = _refusal_of({tag: _VALUES.get(v.lower(), v) for tag, v in values.items()})
    say(error_line(error))
    flush()
    complain(*map(visible, hint_lines(error)))
    return REFUSED


def _refusal_of(tags: dict[str, str]) -> NotDoneHere:
    reasons = list(_reasons(tags))
    if reasons:
        return NotDoneHere(f"{_NOT_OBEYED}: {reasons[0]}", "; ".join(reasons[1:]))
    try:
        filters = _filters(tags)
    except InvalidInput as error:
        return NotDoneHere(f"{_NOT_OBEYED}: {error.message}", error.hint)
    link = {"lan": ["--lan"], "ras": ["--dialup"]}.get(tags.get("interfacetype", "").lower(), [])
    name = tags.get("name") or "RULE"
    line = ["ipsecctl", "rule", "add", "POLICY", name, *filters, "--action", "block", "--opening"]
    # A hint is cut where it is long, and a command that is cut must not be typed.
    near = f"this is near: {shlex.join([*line, *link])}"
    return NotDoneHere(_NOT_OBEYED, details=(near, *DIFFERENCES))


def _reasons(tags: dict[str, str]) -> Iterable[str]:
    """What of it there is nothing for."""
    action = tags.get("action", "allow").lower()
    if action != "block":
        yield (
            f"action={quote(action)} lets connections in past a default, and there is no such "
            "default here; 'ipsecctl policy create Server --preset deny-incoming --permit tcp/80' "
            "makes a policy that lets only some in"
        )
    for tag, value in tags.items():
        harmless = _HARMLESS.get(tag)
        if tag in _WHY and (harmless is None or value.lower() not in harmless):
            yield f"{tag}={quote(value)}: {_WHY[tag]}"
        elif tag not in _TAGS:
            yield f"{quote(tag)} is not known here"


def _filters(tags: dict[str, str]) -> list[str]:
    """The filters that match what the rule matches; raises ``InvalidInput``."""
    protocol = _protocol(tags.get("protocol", "any"))
    locals_, remotes = _addresses(tags, "localip", "0"), _addresses(tags, "remoteip", "*")
    local_ports, remote_ports = _ports(tags, "localport"), _ports(tags, "remoteport")
    is_out = tags.get("dir", "in").lower() == "out"
    filters = []
    for local in locals_:
        for remote in remotes:
            here, there = f"{local}:{local_ports}", f"{remote}:{remote_ports}"
            source, destination = (here, there) if is_out else (there, here)
            text = f"{source}={destination}:{protocol}"
            filters.append(format_filter(parse_filter(text)))
    return filters


def _addresses(tags: dict[str, str], tag: str, anywhere: str) -> list[str]:
    value = tags.get(tag, "any").lower()
    if value == "any":
        return [anywhere]
    texts: list[str] = []
    for part in value.split(","):
        try:
            entries = entries_in(part.strip())
        except ValueError as error:
            raise InvalidInput(
                f"{tag}={quote(part)} {error}", "write the addresses themselves"
            ) from error
        texts += [
            format_address(Network(form.family, int.from_bytes(entry, "big"), form.length))
            for form, entry in entries
        ]
    return texts


def _ports(tags: dict[str, str], tag: str) -> str:
    value = tags.get(tag, "any").lower().replace(" ", "")
    if value == "any":
        return ""
    if not _PORTS.fullmatch(value):
        raise InvalidInput(f"{tag}={quote(value)} is not a port", "write numbers: 80,443,1000-1999")
    return value


def _protocol(text: str) -> str:
    low = text.lower()
    icmp = _ICMP.fullmatch(low)
    if icmp:
        words = ["1" if icmp[1] == "4" else "58", *(w for w in icmp.groups()[1:] if w)]
        return "/".join(words[: words.index("any")] if "any" in words else words)
    if low == "any":
        return ""
    protocol = parse_protocol(text)
    return "ICMP" if protocol in ICMP_VERSIONS else text
