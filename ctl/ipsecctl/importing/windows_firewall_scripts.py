"""Owns reading commands that add rules, of ``netsh`` and PowerShell; must not know listings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ipsecctl.importing.source import InputFile, Line
from ipsecctl.importing.windows_firewall import PROFILES, Inbound, Profile, Rule, Unread
from ipsecctl.importing.windows_firewall_listings import profile_of
from ipsecctl.importing.windows_firewall_properties import KNOWN, WITHOUT_EFFECT, rule_of
from ipsecctl.importing.windows_firewall_words import (
    Unreadable,
    cmd_words,
    logical_lines,
    parameters,
)
from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote

_COMMENT = re.compile(r"(#|::|rem(\s|$)|@?echo(\s|$))", re.IGNORECASE)
_NETSH = re.compile(r"@?(?:cmd(?:\.exe)?\s+/c\s+)?netsh(?:\.exe)?\s+adv\w*\s+(.*)", re.IGNORECASE)
_CMDLET = re.compile(r"(\w+-NetFirewall(?:Rule|Profile))\b(.*)", re.IGNORECASE)
_ABOUT = re.compile(r"netsh|netfirewall", re.IGNORECASE)
_VALUES = {
    "displayname": "name",
    "direction": "dir",
    "enabled": "enable",
    "localaddress": "localip",
    "remoteaddress": "remoteip",
    "icmptype": "icmp",
    "interfacealias": "interface",
    "dynamictarget": "target",
    "dynamictransport": "target",
    "authentication": "security",
    "encryption": "security",
    "overrideblockrules": "bypass",
    "remotemachine": "remotecomputer",
    "edgetraversalpolicy": "edge",
    "policystore": "store",
    "gposession": "store",
}
"""Parameters of New-NetFirewallRule that are called otherwise than the values of netsh."""
_TAGS = {
    "interfacetype": "interfacetype",
    "rmtcomputergrp": "remotecomputer",
    "rmtusrgrp": "remoteuser",
    "localuser": "localuser",
}
_SAME = frozenset(
    {"profile", "protocol", "localport", "remoteport", "action", "program", "service", "package"}
    | {"interfacetype", "localuser", "remoteuser", "description", "group"}
)
_MAY_HAVE_VARIABLES = WITHOUT_EFFECT | {"name", "program"}
"""Values of which it does not matter what they are."""
_ABOUT_COMMAND = frozenset(
    {"erroraction", "confirm", "whatif", "cimsession", "throttlelimit", "asjob", "verbose"}
)
_LISTS = frozenset({"profile", "localip", "remoteip", "localport", "remoteport"})
_WORDS_IN_ORDER = ("firewall", "add", "rule")
_WHAT_TO_DO = "write what it does as New-NetFirewallRule or netsh lines, or as a rule of the policy"


@dataclass(slots=True)
class Script:
    """What commands come to, one after the other."""

    rules: list[Rule] = field(default_factory=list)
    profiles: dict[str, Profile] = field(default_factory=dict)
    unread: list[Unread] = field(default_factory=list)
    other_lines: int = 0

    def read(self, file: InputFile) -> None:
        """Carry out the commands of a file; raises ``InvalidInput`` with file and line."""
        for line in logical_lines(file):
            if not line.text or _COMMENT.match(line.text):
                continue
            try:
                self._take(line)
            except Unreadable as error:
                weaker = not re.search(r"action[= ]\"?allow", line.text, re.IGNORECASE)
                self.unread.append(Unread(line, str(error), _WHAT_TO_DO, weaker))

    def _take(self, line: Line) -> None:
        netsh, cmdlet = _NETSH.match(line.text), _CMDLET.match(line.text)
        if netsh:
            self._netsh(cmd_words(netsh[1]), line)
        elif cmdlet:
            self._cmdlet(cmdlet[1].lower(), cmdlet[2], line)
        elif _ABOUT.search(line.text):
            raise Unreadable("it is about the firewall, and no command that is known here")
        else:
            self.other_lines += 1

    def _netsh(self, words: list[str], line: Line) -> None:
        kept = [word.lower() for word in words]
        if _begins(kept, "set", "profile") or (kept[:1] == ["set"] and len(kept) > 1):
            self._set_profile(kept[1], [word.strip('"') for word in kept[2:]])
        elif _begins(kept, *_WORDS_IN_ORDER):
            self.rules.append(rule_of(_tags(words[3:], line), line))
        elif _begins(kept, "firewall", "delete", "rule"):
            given = _tags(words[3:], line)
            if set(given) - {"name"}:
                raise Unreadable("it deletes by more than the name")
            self._delete("".join(given.get("name", [])))
        elif not _begins(kept, "firewall", "show") and not _begins(kept, "show"):
            raise Unreadable("it does something else than to add or delete a rule")

    def _cmdlet(self, name: str, rest: str, line: Line) -> None:
        if name == "new-netfirewallrule":
            self.rules.append(rule_of(_properties(parameters(rest), line), line))
        elif name == "remove-netfirewallrule":
            given = parameters(rest)
            names = given.pop("displayname", None)
            if names is None or set(given) - _ABOUT_COMMAND:
                raise Unreadable("it deletes by more than the name")
            for one in names:
                self._delete(one)
        elif name == "set-netfirewallprofile":
            self._set_by_cmdlet(parameters(rest))
        elif not name.startswith("get-"):
            raise Unreadable("it does something else than to add or delete a rule")

    def _delete(self, name: str) -> None:
        if "*" in name or name.lower() == "all":
            raise Unreadable("it deletes more than one name")
        self.rules = [rule for rule in self.rules if rule.name.lower() != name.lower()]

    def _set_profile(self, which: str, words: list[str]) -> None:
        named = which.removesuffix("profile").removesuffix("profiles")
        profiles = PROFILES if named in {"all", "allprofiles", "current"} else (named,)
        if not set(profiles) <= set(PROFILES) or len(words) != 2:
            raise Unreadable("it sets something else than the state or the policy of a profile")
        for one in profiles:
            before = self.profiles.get(one, Profile())
            if words[0] == "state" and words[1] in {"on", "off"}:
                changed = Profile(words[1] == "on", before.inbound, before.blocks_outbound)
            elif words[0] == "firewallpolicy":
                changed = profile_of(words[1], is_on=before.is_on)
            else:
                raise Unreadable("it sets something else than the state or the policy of a profile")
            self.profiles[one] = changed

    def _set_by_cmdlet(self, given: dict[str, list[str]]) -> None:
        texts = given.get("profile") or given.get("name") or ["any"]
        words = {part.strip().lower() for text in texts for part in text.split(",")}
        profiles = PROFILES if words & {"any", "all"} else tuple(words)
        if not set(profiles) <= set(PROFILES):
            raise Unreadable("it sets profiles that are not known")
        for one in profiles:
            before = self.profiles.get(one, Profile())
            inbound = "".join(given.get("defaultinboundaction", [])).lower()
            outbound = "".join(given.get("defaultoutboundaction", [])).lower()
            enabled = "".join(given.get("enabled", [])).lower()
            self.profiles[one] = Profile(
                before.is_on if not enabled else enabled in {"true", "1"},
                Inbound(inbound) if inbound in {"block", "allow"} else before.inbound,
                before.blocks_outbound if not outbound else outbound == "block",
            )


def _begins(words: list[str], *wanted: str) -> bool:
    """Whether words are those that are wanted, each perhaps cut short."""
    return len(words) >= len(wanted) and all(
        word and full.startswith(word) for word, full in zip(words, wanted, strict=False)
    )


def _tags(words: list[str], line: Line) -> dict[str, list[str]]:
    """The ``tag=value`` words of netsh."""
    found: dict[str, list[str]] = {}
    for word in words:
        tag, sign, value = word.replace('"', "").partition("=")
        name = _TAGS.get(tag.strip().lower(), tag.strip().lower())
        if not sign or name not in KNOWN | WITHOUT_EFFECT:
            raise InvalidInput(
                f"{quote(word)} is no value of a rule",
                "write it as netsh advfirewall firewall add rule ? shows",
                source=line.file,
                line=line.number,
            )
        if "%" in value and name not in _MAY_HAVE_VARIABLES:
            raise Unreadable("it has variables")
        found[name] = value.split(",") if name in _LISTS else [value]
    return found


def _properties(given: dict[str, list[str]], line: Line) -> dict[str, list[str]]:
    """The parameters of New-NetFirewallRule by the names that netsh has for them."""
    found: dict[str, list[str]] = {"dir": ["inbound"], "action": ["allow"]}
    for parameter, values in given.items():
        # -Name is the key of a rule, and not the name that people see.
        name = _VALUES.get(parameter, parameter if parameter in _SAME else "")
        if parameter == "name":
            found.setdefault("name", values)
        elif name:
            parts = [part for value in values for part in value.split(",")]
            found[name] = parts if name in _LISTS | {"icmp"} else values
        elif parameter not in _ABOUT_COMMAND:
            raise InvalidInput(
                f"parameter -{parameter} is not known",
                "write parameters of New-NetFirewallRule by their whole names",
                source=line.file,
                line=line.number,
            )
    return found
