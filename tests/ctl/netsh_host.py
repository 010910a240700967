"""A host for the tests of netsh: what the daemon keeps, in memory, and what it would decide."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ipsecctl.netsh import Answer, Session, carry_out
from ipsecctl.netsh.calling import carry_out_lines
from ipsecctl.netsh.command import as_one_change
from ipsecctl.netsh.lines import command_lines
from ipsecctl.workspace.dynamic_rules import DynamicRule
from ipsecd.errors import Changed, NotFound
from ipsecd.language.address_lists import read_addresses
from ipsecd.language.documents import parse_policy
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.language.list_entries import format_list
from ipsecd.language.packets import parse_packet
from ipsecd.language.seen import assumed_types, to_packet
from ipsecd.language.shared_filters import parse_shared_filters
from ipsecd.model.addresses import Family, Network
from ipsecd.model.decide import decide
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.lists import listed
from ipsecd.model.packets import Host, Packet
from ipsecd.model.shared_filters import ServerKind, Servers, SharedFilters
from ipsecd.model.values import Action, InForce, Origin, Policy, Store, filters_of

SCRIPTS = Path(__file__).parents[1] / "data" / "scripts" / "netsh"
WANTED: dict[str, list[tuple[str, str]]] = yaml.safe_load((SCRIPTS / "wanted.yaml").read_text())
CLEANS_UP = {"13-country-block.bat": 2, "20-ranges.bat": 2}
"""Scripts with how many lines at their end, before which one has to look."""
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')


HOST = Host(frozenset({(Family.IPV4, 0x0A090002)}))
"""10.9.0.2."""


def packet_of(text: str) -> Packet:
    """A packet as this host sees it."""
    parsed = parse_packet(text)
    return to_packet(parsed, HOST, assumed_types(parsed.interface))


def netsh_lines(script: str) -> list[str]:
    """The lines of a script that are for netsh, without what is for the shell of Windows."""
    text = (SCRIPTS / script).read_text()
    lines = [line for _, line in command_lines(text)]
    lines = lines[: -CLEANS_UP[script]] if script in CLEANS_UP else lines
    lines = [re.split(r"&&|\||>", line)[0] for line in lines]
    return [line for line in lines if re.match(r"\s*(netsh(\.exe)?|ipsec)\s", line, re.IGNORECASE)]


def words_of(line: str) -> list[str]:
    """The words of a line as the shell of Windows takes it apart."""
    return [word.replace('"', "") for word in _WORD.findall(line)]


def found_servers(kind: ServerKind) -> Servers:
    """Servers for the tests: 192.0.2.1 for DNS and so on."""
    number = 1 + list(ServerKind).index(kind)
    return Servers(kind, (Network(Family.IPV4, 0xC0000200 + number, 32),))


class NetshHost:
    """Answers as the daemon does to whoever changes a workspace."""

    def __init__(self) -> None:
        self.documents: dict[str, str] = {}
        self.assigned: str | None = None
        self.shared_text = ""
        self.dynamic: dict[str, DynamicRule] = {}
        self.lists: dict[str, set[Network]] = {}
        self.ending: dict[str, list[str]] = {}
        """Entries of lists that end by themselves."""
        self.version = 0
        self.asked: list[str] = []
        """The methods that were called."""
        self.changes = 0
        """How many times something was changed."""

    def call(
        self,
        method: str,
        parameters: dict[str, Any] | None = None,
        descriptor: int | None = None,
    ) -> dict[str, Any]:
        """What is answered to `method`."""
        assert descriptor is None
        given = parameters or {}
        self.asked.append(method)
        if method == "GetWorkspace":
            return {
                "fingerprint": str(self.version),
                "policies": [{"name": n, "document": d} for n, d in self.documents.items()],
                "assigned": self.assigned,
                "shared_filters": self.shared_text or None,
                "dynamic": [rule.answer() for rule in self.dynamic.values()],
            }
        if method == "ListFilters":
            return {"filters": [_listed(each) for each in self.in_force()]}
        if method == "ListLists":
            return {"lists": [{"name": name} for name in self.lists]}
        if method == "GetList":
            return self._list(given["name"])
        assert method == "ChangeTogether", method
        if given["fingerprint"] != str(self.version):
            raise Changed("somebody else has changed something")
        for difference in given["lists"]:
            self._change_list(difference)
        for put in given["put"]:
            parse_policy(put["document"])
            self.documents[put["name"]] = put["document"]
        for name in given["delete"]:
            del self.documents[name]
        if given["unassign"] or self.assigned not in self.documents:
            self.assigned = None
        if given["assign"]:
            self.assigned = given["assign"]
        if given["shared_filters"] is not None:
            self.shared_text = given["shared_filters"]
        for rule in given["put_rules"]:
            made = DynamicRule.made(
                rule["name"], rule["action"], rule["filters"], rule.get("interface")
            )
            self.dynamic[made.name] = made
        for name in given["remove_rules"]:
            del self.dynamic[name]
        self.version += 1
        self.changes += 1
        return {"outcome": {"changed": True, "warnings": [], "assigned": self.assigned}}

    def _list(self, name: str) -> dict[str, Any]:
        if name not in self.lists:
            raise NotFound(f"there is no list {name!r}")
        return {
            "entries": [*format_list(listed(self.lists[name]))],
            "ending": self.ending.get(name, []),
        }

    def _change_list(self, difference: dict[str, Any]) -> None:
        name = difference["name"]
        added, removed = (
            set(read_addresses(difference[key]).networks()) for key in ("add", "remove")
        )
        assert not difference["create"] or name not in self.lists
        there = self.lists.setdefault(name, set())
        assert removed <= there
        there -= removed
        there |= added
        if difference["delete"]:
            assert not removed or not there
            del self.lists[name]

    def line(self, line: str | Sequence[str]) -> Answer:
        """What one process with these words comes to."""
        words = words_of(line) if isinstance(line, str) else list(line)
        return self.change(lambda session: carry_out(session, words))

    def file(self, text: str) -> Answer:
        """What a file with this text comes to."""
        return self.change(lambda session: carry_out_lines(session, command_lines(text)))

    def change(self, act: Callable[[Session], Answer]) -> Answer:
        """What something that a session does comes to, as one change."""
        return as_one_change(self, act, found_servers)  # type: ignore[arg-type]

    def policy(self, name: str) -> Policy:
        """A policy as it is kept."""
        return parse_policy(self.documents[name])

    @property
    def shared(self) -> SharedFilters:
        """The filter lists and filter actions as they are kept."""
        return parse_shared_filters(self.shared_text)

    def in_force(self) -> list[InForce]:
        """All filters in force."""
        filters: list[InForce] = []
        if self.assigned is not None:
            filters += filters_of(self.policy(self.assigned), Store.STATIC)
        for rule in self.dynamic.values():
            origin = Origin(Store.DYNAMIC.value, "", rule.name)
            filters += [
                InForce(origin, parse_filter(text), Action(rule.action)) for text in rule.filters
            ]
        return filters

    def verdict(self, packet: str) -> str:
        """What is decided about a packet; this host is 10.9.0.2."""
        lists = {name: listed(entries) for name, entries in self.lists.items()}
        host = replace(HOST, lists=lists)
        return decide(self.in_force(), packet_of(packet), host, ESSENTIALS).action.value


def _listed(each: InForce) -> dict[str, Any]:
    return {
        "store": each.origin.store,
        "policy": each.origin.policy,
        "rule": each.origin.rule,
        "filter": format_filter(each.filter),
        "action": each.action.value,
        "interface": each.conditions.interface_text,
    }
