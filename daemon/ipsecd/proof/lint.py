"""Owns what of filters has no effect: proven, each with what decides in its place.

A filter that never decides can be taken out, and so can an audit that never counts, and all of them
together: what decides in their place stays. Names must be resolved; lists have the entries that the
host has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from ipsecd.compiler.merge import merged_rows
from ipsecd.compiler.rows import Row, rows_of
from ipsecd.language.explanations import reference
from ipsecd.language.filters import format_filter
from ipsecd.language.packets import format_packet
from ipsecd.model.list_names import with_lengths
from ipsecd.model.packets import Packet
from ipsecd.model.values import Action, InForce, Origin
from ipsecd.proof.changes import Surroundings, decided, spaces, told_apart
from ipsecd.proof.clauses import clauses_of
from ipsecd.proof.search import Budget, find_deciders
from ipsecd.quoting import quote

MAX_TOLD_APART = 5_000
"""Of so many filters each is looked at by itself; of more, those of a rule together."""


class Kind(Enum):
    """What is found of a filter, or of a whole rule. An audit that never counts never decides."""

    EQUALS_BLOCK = "equals a block"
    """A permit of exactly what another filter blocks, which decides then."""
    NEVER_DECIDES = "never decides"
    MATCHES_NOTHING = "matches nothing"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something without effect.

    ``of`` is a filter, and with ``whole_rule`` all that is said of it is so of its rule. ``packet``
    is one that it matches, and ``by`` what decides that, None for an exemption.
    """

    kind: Kind
    of: InForce
    whole_rule: bool = False
    packet: Packet | None = None
    by: InForce | None = None


def lint(filters: Iterable[InForce], surroundings: Surroundings) -> tuple[Finding, ...]:
    """What of `filters` has no effect, in their order.

    Raises ``LimitExceeded`` where a proof would take minutes.
    """
    given = tuple(filters)
    apart = told_apart(given) if len(given) <= MAX_TOLD_APART else given
    host = surroundings.host
    rows = [*rows_of(with_lengths(apart, host.lists))]
    matching = {row.filter_in_force.origin for row in rows}
    audits = {one.origin for one in apart if one.action is Action.AUDIT}
    budget = Budget()
    # Audits count where they would decide as blocks, and the others decide as without them.
    effective = _deciders(
        [r for r in rows if r.filter_in_force.origin not in audits], surroundings, budget
    )
    if audits:
        effective |= _deciders(rows, surroundings, budget) & audits
    kinds: dict[int, Kind] = {}
    blocks = {_match(one) for one in given if one.action is Action.BLOCK}
    for number, one in enumerate(apart):
        if one.origin not in matching:
            kinds[number] = Kind.MATCHES_NOTHING
        elif one.origin not in effective:
            is_equal = one.action is Action.PERMIT and _match(one) in blocks
            kinds[number] = Kind.EQUALS_BLOCK if is_equal else Kind.NEVER_DECIDES
    return tuple(_findings(given, kinds, surroundings))


def _deciders(rows: Iterable[Row], surroundings: Surroundings, budget: Budget) -> set[Origin]:
    """The rules of rows that decide about some packet, if audits do so as blocks do."""
    tables = merged_rows(rows)
    found: set[Origin] = set()
    for space in spaces([tables], surroundings):
        clauses = clauses_of(space, {}, tables, surroundings.exemptions)
        found |= find_deciders(space, clauses, budget)
    return found


def _match(one: InForce) -> tuple[object, ...]:
    return one.filter, one.conditions, one.origin.volatile, one.origin.protected


def _findings(
    filters: Sequence[InForce], kinds: dict[int, Kind], surroundings: Surroundings
) -> Iterable[Finding]:
    """One for a rule of which all filters are alike, and else one for each filter."""
    of_rules: dict[Origin, set[Kind | None]] = {}
    for number, one in enumerate(filters):
        of_rules.setdefault(one.origin, set()).add(kinds.get(number))
    told: set[Origin] = set()
    found: list[Finding] = []
    for number, kind in kinds.items():
        one = filters[number]
        whole = len(of_rules[one.origin]) == 1
        if one.origin in told:
            continue
        if whole:
            told.add(one.origin)
        is_matching = kind is not Kind.MATCHES_NOTHING
        found.append(
            Finding(kind, one, whole, _matched(one, surroundings) if is_matching else None)
        )
    packets = [each.packet for each in found if each.packet]
    decisions = iter(decided(filters, packets, surroundings))
    for each in found:
        if each.packet is None:
            yield each
            continue
        decision = next(decisions)
        counts = decision.audited if each.of.action is Action.AUDIT else None
        yield replace(each, by=counts or decision.by)


def _matched(one: InForce, surroundings: Surroundings) -> Packet | None:
    """A packet that a filter matches."""
    tables = merged_rows(rows_of(with_lengths([one], surroundings.host.lists)))
    for space in spaces([tables], surroundings):
        for clause in clauses_of(space, {}, tables):
            if clause.now == one.origin:
                wide = {dimension.name: ((0, dimension.last),) for dimension in space.dimensions}
                chosen = {
                    name: min(space.choose(name, span) for span in spans[:8])[1]
                    for name, spans in {**wide, **clause.sets}.items()
                }
                return space.packet(chosen)
    return None


def sentence(finding: Finding, surroundings: Surroundings) -> str:
    """A finding in a sentence for people."""
    one = finding.of
    filter_text = f"{one.action.value} {format_filter(one.filter)}"
    what = f"filter {filter_text} of {_rule(one.origin)}"
    if finding.whole_rule:
        what = _rule(one.origin)
    if finding.kind is Kind.MATCHES_NOTHING:
        return f"{what} matches nothing here"
    if finding.kind is Kind.EQUALS_BLOCK:
        rule = _rule(finding.by.origin) if finding.by else "another rule"
        return f"{what} never decides: {rule} blocks exactly what it permits"
    words = f"{what} never {'counts' if one.action is Action.AUDIT else 'decides'}"
    if finding.packet is None:
        return words
    packet = format_packet(finding.packet.arrived or finding.packet, host=surroundings.host)
    if finding.by is None:
        return f"{words}: {packet} passes before any filter"
    by = f"{finding.by.action.value} {format_filter(finding.by.filter)}"
    done = "counted" if finding.by.action is Action.AUDIT else "decided"
    return f"{words}: {packet} is {done} by {by} of {_rule(finding.by.origin)}"


def _rule(origin: Origin) -> str:
    """A rule in words. What the settings protect is no rule of a policy."""
    words = f"rule {quote(origin.rule)}"
    return f"{words} of the {origin.store}" if origin.protected else words


def findings_to_json(
    findings: Iterable[Finding], surroundings: Surroundings
) -> list[dict[str, Any]]:
    """Findings, each as the type ``Finding`` of the interface."""
    return [
        {
            "kind": one.kind.value,
            "of": reference(one.of),
            "whole_rule": one.whole_rule,
            "message": sentence(one, surroundings),
        }
        for one in findings
    ]
