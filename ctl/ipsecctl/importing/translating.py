"""Owns the way from what a source has read to a policy; must not know any source.

The result is not taken on trust: ``proving`` compares it with what the source's evaluator says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from ipsecctl.importing.boxes import ME, CannotSay
from ipsecctl.importing.forms import Forms
from ipsecctl.importing.layers import Layered
from ipsecctl.importing.regions import Spans, spans
from ipsecctl.importing.source import Clause, Given, Hook, Kind, Line, Note, Ordered, Parsed
from ipsecctl.importing.specific import MostSpecific, Placed, Step
from ipsecctl.importing.writing import Written, write
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action

ORDER = (Hook.FORWARD, Hook.OUT, Hook.IN, Hook.OUT)
"""What is forwarded is put first, as its filters match more than that. What is sent is put twice: a
filter for a group that this host listens to matches what it sends there too."""
DEFAULT = Line("default", 0, "What no rule is about passes")


@dataclass(frozen=True, slots=True)
class Translation:
    """A source as a policy, with all that has to be known of it.

    ``assumed`` are addresses that were taken for this host's.
    """

    written: Written
    ordered: Ordered
    notes: tuple[Note, ...]
    rules: int
    assumed: frozenset[tuple[Family, int]]

    @property
    def weaker(self) -> tuple[Note, ...]:
        """The notes by which the policy may let more pass than the source."""
        return tuple(note for note in self.notes if note.weaker)


def translate(parsed: Parsed, name: str, given: Given, source: str) -> Translation:
    """The policy called `name` that does what the rules that were read do.

    Raises ``LimitExceeded`` if they become too many filters.
    """
    ordered = parsed.ordered()
    notes = list(ordered.notes)
    forms = Forms(ordered.links, given.own)
    filters = MostSpecific()
    forms.take_for_own(ordered.clauses)
    families = {family for _, family in ordered.judged}
    lists = {
        (hook, family): _steps(hook, family, ordered, given, forms, notes)
        for hook, family in product(Hook, Family)
        if family in families
    }
    for hook, family in product(ORDER, Family):
        filters.put_all(lists.get((hook, family), []))
    for failed in filters.failed:
        _note_failure(notes, failed.step.line, failed.step.action, failed.reason)
    _note_silence(notes, ordered)
    _note_masquerading(notes, filters.placed)
    own = tuple(dict.fromkeys(notes))
    written = write(name, filters.placed, own, source, ordered)
    return Translation(written, ordered, own, parsed.rules, frozenset(forms.assumed))


def _steps(
    hook: Hook, family: Family, ordered: Ordered, given: Given, forms: Forms, notes: list[Note]
) -> list[Step]:
    """The ordered list of one hook and IP version: what opens connections before all else."""
    mine = [c for c in ordered.clauses if c.hook is hook and c.family is family]
    networks = {name: _of_family(entries, family) for name, entries in given.networks.items()}
    layered = Layered(hook, family, ordered.links, networks, forms.own | forms.assumed, notes)
    opening, known = layered.run(mine)
    steps = []
    for clauses, of_opening in ((opening, known is not None), (known or [], False)):
        for clause in clauses:
            try:
                boxes = forms.boxes(clause, opening=of_opening)
            except CannotSay as error:
                for line in (clause.line, *clause.also):
                    _note_failure(notes, line, clause.action, str(error))
                continue
            steps.append(Step(boxes, clause.action, clause.line, clause.set_name))
        if (clauses or not steps) and not (clauses and not clauses[-1].region):
            # What no clause holds passes, whatever stands below.
            whole = Clause(hook, family, {}, Action.PERMIT, DEFAULT)
            boxes = forms.boxes(whole, opening=of_opening)
            steps.append(Step(boxes, whole.action, whole.line))
    return steps


def _of_family(entries: Sequence[tuple[Family, int, int]], family: Family) -> Spans:
    size = family.bits
    return spans(
        (value, value + (1 << size - length) - 1) for of, value, length in entries if of is family
    )


def _note_failure(notes: list[Note], line: Line, action: Action, reason: str) -> None:
    hint = "write a rule by hand that says what is meant, or keep this one where it is"
    notes.append(Note(line, Kind.LEFT_OUT, reason, hint, weaker=action is Action.BLOCK))


def _note_masquerading(notes: list[Note], placed: Sequence[Placed]) -> None:
    """Say that what this host may not send, what it forwards under its address may not either."""
    blocks = [one for one in placed if one.box.source is ME and one.action is Action.BLOCK]
    if blocks:
        notes.append(
            Note(
                blocks[0].line,
                Kind.ASSUMED,
                "what is forwarded and leaves under an address of this host, as packets of "
                "containers do, is judged like what this host sends, too",
                "permit by their own addresses what containers send",
            )
        )


def _note_silence(notes: list[Note], ordered: Ordered) -> None:
    """Say of which IP version the source says nothing."""
    if not ordered.judged:
        notes.append(
            Note(
                Line("the input", 0, "no chain that filters"),
                Kind.ASSUMED,
                "the input has no chain that packets are filtered in, so the policy is empty",
                "give the tables that filter",
            )
        )
    notes += [
        Note(
            Line("the input", 0, f"no rule for IPv{int(family)}"),
            Kind.ASSUMED,
            f"the input says nothing of IPv{int(family)}, so the policy blocks nothing of it",
            f"give the rules for IPv{int(family)} too, or block it",
        )
        for family in Family
        if ordered.judged and not any(of is family for _, of in ordered.judged)
    ]
