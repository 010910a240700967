"""Owns what is said of an import, for people and for programs; must not know how it was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ipsecctl.importing.proving import MAX_DIFFERENCES, Difference, Proof
from ipsecctl.importing.source import Kind, Note
from ipsecctl.importing.translating import Translation
from ipsecd.language.addresses import format_value
from ipsecd.language.documents import format_policy
from ipsecd.language.list_entries import format_list
from ipsecd.model.kinds import Action
from ipsecd.quoting import count, few, visible

_HEADINGS = {
    Kind.LEFT_OUT: "NOT TRANSLATED",
    Kind.CHANGED: "translated in another way",
    Kind.ASSUMED: "taken for true",
    Kind.NO_BLOCKING: "not about blocking",
}


def lines_of(translation: Translation, proof: Proof, *, thorough: bool) -> Iterator[str]:
    """The report in lines: the outcome, what is not as it was, and the differences."""
    written = translation.written
    filters = sum(len(rule.filters) for rule in written.policy.rules)
    yield (
        f"{count(translation.rules, 'rule')} read; the policy has "
        f"{count(len(written.policy.rules), 'rule')} with {count(filters, 'filter')}"
        + (f", and {count(len(written.lists), 'list')}" if written.lists else "")
    )
    if translation.assumed:
        own = sorted(translation.assumed)
        yield "taken for addresses of this host: " + few([format_value(f, v) for f, v in own])
    for kind, heading in _HEADINGS.items():
        notes = [note for note in translation.notes if note.kind is kind]
        if kind is Kind.NO_BLOCKING and notes:
            yield f"{count(len(notes), 'rule')} not about blocking, such as {_place(notes[0])}"
            continue
        groups: dict[tuple[str, str, bool], list[Note]] = {}
        for note in notes:
            groups.setdefault((note.reason, note.hint, note.weaker), []).append(note)
        for (reason, hint, weaker), members in groups.items():
            yield from (f"{heading}: {_place(note)}" for note in members)
            yield f"    {reason}"
            yield f"    what to do: {hint}"
            if weaker:
                yield "    WEAKER: the policy lets more pass"
    if translation.weaker:
        yield (
            f"WEAKER THAN THE ORIGINAL in {count(len(translation.weaker), 'place')}: "
            "keep those rules where they are until something stands in for them"
        )
    yield from _differences(proof, thorough=thorough)


def _differences(proof: Proof, *, thorough: bool) -> Iterator[str]:
    shown: Sequence[Difference] = proof.differences if thorough else proof.unknown
    for one in shown[:MAX_DIFFERENCES]:
        yield f"DIFFERENT: {one.packet}{_aside(one)}"
        yield f"    original: {_theirs(one)}"
        by = f"by rule {one.rule!r}" if one.rule else "no rule is about it"
        yield f"    policy: {'permits' if one.ours is Action.PERMIT else 'blocks'}, {by}"
        yield f"    {'as said: ' + one.note.reason if one.note else 'THIS WAS NOT FORESEEN'}"
    if len(shown) > MAX_DIFFERENCES:
        yield f"and {len(shown) - MAX_DIFFERENCES:,} more differences"
    yield summary(proof)


def summary(proof: Proof) -> str:
    """What the comparison is worth, and what it found."""
    if proof.complete:
        what = f"proven: all {proof.classes:,} classes of packets were judged by both"
    else:
        what = (
            f"a sample, no proof: {proof.judged:,} packets of {proof.classes:,} classes were judged"
        )
    if not proof.differences:
        return f"{what}, and decided alike"
    named = len(proof.differences) - len(proof.unknown)
    return (
        f"{what}; {count(len(proof.differences), 'difference')}, "
        f"of which {named:,} by what is said above"
    )


def _place(note: Note) -> str:
    return f"{visible(note.line.where)}: {visible(' '.join(note.line.text.split()))}"


def _aside(one: Difference) -> str:
    out = f", out {one.out_link}" if one.out_link else ""
    return f" ({one.state}{out})"


def _theirs(one: Difference) -> str:
    words = []
    for outcome in one.theirs:
        verb = "permits" if outcome.action is Action.PERMIT else "blocks"
        by = f"{outcome.line.where}: {outcome.line.text}" if outcome.line else "its default"
        words.append(f"{verb}, {visible(' '.join(by.split()))}")
    if one.unsure:
        words.append(f"which depends on {visible(one.unsure[0].where)}")
    return "; ".join(words)


def report_to_json(translation: Translation, proof: Proof) -> dict[str, Any]:
    """The report for programs, with the policy and the lists."""
    written = translation.written
    return {
        "rules": translation.rules,
        "policy": format_policy(written.policy),
        "lists": {name: list(format_list(entries)) for name, entries in written.lists.items()},
        "weaker": bool(translation.weaker),
        "assumed": [format_value(f, v) for f, v in sorted(translation.assumed)],
        "notes": [
            {
                "file": note.line.file,
                "line": note.line.number,
                "text": note.line.text,
                "kind": note.kind.value,
                "reason": note.reason,
                "hint": note.hint,
                "weaker": note.weaker,
            }
            for note in translation.notes
        ],
        "proof": {
            "complete": proof.complete,
            "classes": proof.classes,
            "judged": proof.judged,
            "differences": [_difference(one) for one in proof.differences[:MAX_DIFFERENCES]],
        },
    }


def _difference(one: Difference) -> dict[str, Any]:
    return {
        "packet": one.packet,
        "state": one.state,
        "out_link": one.out_link,
        "original": [
            {
                "verdict": outcome.action.value,
                "file": outcome.line.file if outcome.line else "",
                "line": outcome.line.number if outcome.line else 0,
                "text": outcome.line.text if outcome.line else "",
            }
            for outcome in one.theirs
        ],
        "depends_on": [line.where for line in one.unsure],
        "verdict": one.ours.value,
        "rule": one.rule,
        "said_before": one.note is not None,
        "packets": one.packets,
    }
