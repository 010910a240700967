"""Owns how dynamic rules are found by the addresses of their filters; must not know commands."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ipsecctl.netsh.filters import Agreement, place_of
from ipsecctl.workspace.dynamic_rules import DynamicRule
from ipsecd.errors import InvalidInput
from ipsecd.language.shared_filters import parse_shared_filter
from ipsecd.model.shared_filters import SharedFilter

NAMED = "netsh "
"""What the name of a rule begins with that is made here; the text of its filter follows."""
_NAME = re.compile(rf"{NAMED}(\S.*?)(?: inbound| outbound)?(?: on (?:lan|dialup))?")


class Places:
    """The dynamic rules by the addresses of their filters, each with the filter it is found by."""

    def __init__(self, rules: Iterable[DynamicRule]) -> None:
        self._by_place: dict[tuple[object, object], dict[str, SharedFilter]] = {}
        for rule in rules:
            self.add(rule)

    def add(self, rule: DynamicRule) -> None:
        """Have a rule here, if one filter says what it is."""
        flt = _filter_of_rule(rule)
        if flt is not None:
            self._by_place.setdefault(_place(flt), {})[rule.name] = flt

    def agreeing(self, agreement: Agreement) -> list[str]:
        """The names of the rules that agree."""
        there = self._by_place.get(agreement.places, {})
        return [name for name, flt in there.items() if agreement.is_with(flt)]

    def remove(self, agreement: Agreement, name: str) -> None:
        """Have a rule here no more."""
        self._by_place[agreement.places].pop(name, None)


def _filter_of_rule(rule: DynamicRule) -> SharedFilter | None:
    """The filter that a rule is found by: that of its name, or the only one that it has."""
    named = _NAME.fullmatch(rule.name)
    for text in (*([named[1]] if named else []), *rule.filters[:1]):
        try:
            flt = parse_shared_filter(text)
        except InvalidInput:
            continue
        if named or len(rule.filters) == 1:
            return flt
    return None


def _place(flt: SharedFilter) -> tuple[object, object]:
    return place_of(flt.source.address), place_of(flt.destination.address)
