"""Owns making of an ordered list filters of which the most specific decides; knows no source.

The steps are taken from the last to the first. A step is put on top of what is there: it becomes
filters for its own region, and where something there decides otherwise about a part of that region
and is not less specific, filters for just this part. Those are at least as specific in each field,
so they decide there; what lies wholly in the region of the step goes. So what is decided is what
the list says, at every step, and ``proving`` has it judged by others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ipsecctl.importing.boxes import Box, CannotSay, common_box, is_within
from ipsecctl.importing.source import Line
from ipsecd.model.kinds import Action
from ipsecd.model.precedence import Rank

MAX_FILTERS = 20_000
"""Boxes in one translation: more is too much to be read, and takes too long to be made."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an ordered list, as boxes of one action."""

    boxes: tuple[Box, ...]
    action: Action
    line: Line
    set_name: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A box that is part of the policy, by the step that it is of."""

    box: Box
    action: Action
    line: Line
    set_name: str
    least: Rank
    greatest: Rank


class Failed:
    """A step for which there are no filters, and why."""

    __slots__ = ("reason", "step")

    def __init__(self, step: Step, reason: str) -> None:
        self.step = step
        self.reason = reason


class MostSpecific:
    """The filters so far. What no filter matches passes."""

    def __init__(self) -> None:
        self.placed: list[Placed] = []
        self.failed: list[Failed] = []

    def put_all(self, steps: Iterable[Step]) -> None:
        """Put an ordered list on top, from its last step to its first."""
        for step in reversed(list(steps)):
            self.put(step)

    def put(self, step: Step) -> None:
        """Have all packets of a step decided by it; or note that it failed, and change nothing."""
        before = list(self.placed)
        try:
            for box in step.boxes:
                self._put(box, step)
        except CannotSay as error:
            self.placed = before
            self.failed.append(Failed(step, str(error)))

    def _put(self, box: Box, step: Step) -> None:
        if len(self.placed) > MAX_FILTERS:
            raise CannotSay(f"the rules become more than {MAX_FILTERS:,} filters")
        least = box.rank(step.action, least=True)
        others = [one for one in self.placed if one.action is not step.action]
        against = [(one, both) for one in others if (both := _met(box, one, step.action, least))]
        if self._is_there(box, step, [one for one, _ in against]):
            return
        kept = [one for one in self.placed if not is_within(one.box, box)]
        gone = {id(one) for one in self.placed} - {id(one) for one in kept}
        parts = [
            both
            for one, both in against
            if id(one) not in gone and least <= one.greatest and isinstance(both, Box)
        ]
        new = dict.fromkeys((box, *parts))
        for one in against:
            if isinstance(one[1], CannotSay) and id(one[0]) not in gone:
                raise one[1]
        self.placed = kept + [_placed(each, step) for each in new]

    def _is_there(self, box: Box, step: Step, against: list[Placed]) -> bool:
        """Whether all packets of `box` are decided so already."""
        if not against and step.action is Action.PERMIT:
            return True
        return any(
            one.action is step.action
            and is_within(box, one.box)
            and all(one.least > other.greatest for other in against)
            for one in self.placed
        )


def _met(box: Box, placed: Placed, action: Action, least: Rank) -> Box | CannotSay | None:
    try:
        return common_box(box, placed.box, action)
    except CannotSay as error:
        # Where the step is more specific in any case, no filter for the part is needed.
        return box if least > placed.greatest else error


def _placed(box: Box, step: Step) -> Placed:
    return Placed(
        box,
        step.action,
        step.line,
        step.set_name,
        box.rank(step.action, least=True),
        box.rank(step.action, least=False),
    )
