"""Owns what ``ipsecctl import windows-firewall`` reads, for the framework; knows no command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ipsecctl.importing.gathering import Gathered
from ipsecctl.importing.regions import Links
from ipsecctl.importing.source import Given, Hook, InputFile, Mention, Ordered
from ipsecctl.importing.windows_firewall import PROFILES, Profile, Rule, WindowsFirewall
from ipsecctl.importing.windows_firewall_evaluating import WindowsEvaluator
from ipsecctl.importing.windows_firewall_listings import is_listing, profiles_in, rules_in
from ipsecctl.importing.windows_firewall_ordering import LINKS, clauses_of, notes_of
from ipsecctl.importing.windows_firewall_scripts import Script
from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Family
from ipsecd.quoting import quote, quote_path


def paths(argument: str) -> list[str]:
    """The file that an argument names."""
    return [argument]


def read(files: Sequence[InputFile], given: Given) -> WindowsSource:
    """The rules in listings and scripts; raises ``InvalidInput`` with file and line."""
    profile = given.profile.lower()
    if profile and profile not in PROFILES:
        raise InvalidInput(
            f"{quote(given.profile)} is no profile of Windows",
            f"it is one of {', '.join(PROFILES)}",
        )
    script = Script()
    rules: list[Rule] = []
    profiles: dict[str, Profile] = {}
    for file in files:
        if is_listing(file):
            rules += rules_in(file)
            profiles |= profiles_in(file)
        else:
            script.read(file)
    if not rules and not profiles and not (script.rules or script.unread or script.profiles):
        raise InvalidInput(
            f"no rule of the firewall of Windows is in {quote_path(files[0].path)}",
            "give what netsh advfirewall firewall show rule name=all verbose prints where the "
            "language of the display is English, or a script that adds rules",
            source=files[0].path,
            line=1,
        )
    return WindowsSource(
        WindowsFirewall(
            (*rules, *script.rules),
            profiles | script.profiles,
            tuple(script.unread),
            script.other_lines,
            profile,
        )
    )


@dataclass(frozen=True)
class WindowsSource:
    """The firewall of Windows as the framework takes it."""

    firewall: WindowsFirewall

    @property
    def rules(self) -> int:
        """How many rules were read, or seen and not read."""
        return len(self.firewall.rules) + len(self.firewall.unread)

    def evaluator(self) -> WindowsEvaluator:
        """Who judges packets as Windows does."""
        return WindowsEvaluator(self.firewall)

    def ordered(self) -> Ordered:
        """The rules as ordered clauses, and what is not among these."""
        judged = frozenset((hook, family) for hook in (Hook.IN, Hook.OUT) for family in Family)
        return Ordered(
            tuple(self._gathered.clauses),
            self.links,
            judged,
            tuple(notes_of(self.firewall)),
            self._gathered.lists,
        )

    def mentions(self) -> Iterator[Mention]:
        """What each rule asks of packets."""
        for clause in self._gathered.clauses:
            yield Mention(clause.hook, clause.family, clause.region)

    @property
    def links(self) -> Links:
        """Only the loopback interface is told from others."""
        return LINKS

    @cached_property
    def _gathered(self) -> Gathered:
        return Gathered(clauses_of(self.firewall), "windows")
