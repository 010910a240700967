"""Owns making of an ordered list filters of which the most specific decides; knows no source.

The steps are taken from the last to the first. A step is put on top of what is there: it becomes
filters for its own region, and where something there decides otherwise about a part of that region
and is not less specific, filters for just this part. Those are at least as specific in each field,
so they decide there; what lies wholly in the region of the step goes. So what is decided is what
the list says, at every step, and ``proving`` has it judged by others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ipsecctl.importing.blocks import Blocks, Names, nearest
from ipsecctl.importing.boxes import ME, Box, CannotSay, Span, common_box, is_within
from ipsecctl.importing.source import Hook, Line
from ipsecd.model.addresses import Family
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


class _Filters:
    """The filters so far by number, in the order in which they came; found by what they match."""

    def __init__(self) -> None:
        self._by_number: dict[int, Placed] = {}
        self._next = 0
        self._dimensions: dict[tuple[Family, frozenset[Hook]], tuple[Blocks, ...]] = {}
        self._links = Names()
        self._undone: list[tuple[int, Placed]] = []
        """What was put in and taken away since the last mark, by its number."""

    def __len__(self) -> int:
        return len(self._by_number)

    def all(self) -> list[Placed]:
        """All of them, in order."""
        return [one for _, one in sorted(self._by_number.items(), key=lambda item: item[0])]

    def mark(self) -> None:
        """From here on changes can be taken back."""
        self._undone.clear()

    def take_back(self) -> None:
        """Have all be as it was at the last mark."""
        for number, one in reversed(self._undone):
            if number in self._by_number:
                self._drop(number)
            else:
                self._keep(number, one)
        self._undone.clear()

    def near(self, box: Box) -> dict[int, Placed]:
        """All that match packets at the hook of a box which it matches too, and perhaps others."""
        numbers = [
            number
            for (family, hooks), dimensions in self._dimensions.items()
            if family is box.family and box.hook in hooks
            for number in nearest(dimensions, self._spans(box))
        ]
        return {number: self._by_number[number] for number in sorted(numbers)}

    def add(self, one: Placed) -> None:
        """Put one behind the others."""
        self._undone.append((self._next, one))
        self._keep(self._next, one)
        self._next += 1

    def remove(self, number: int) -> None:
        """Take one away."""
        self._undone.append((number, self._by_number[number]))
        self._drop(number)

    def _keep(self, number: int, one: Placed) -> None:
        self._by_number[number] = one
        for blocks, span in zip(self._of(one.box), self._spans(one.box), strict=True):
            blocks.add(number, span)

    def _drop(self, number: int) -> None:
        box = self._by_number.pop(number).box
        for blocks, span in zip(self._of(box), self._spans(box), strict=True):
            blocks.remove(number, span)

    def _of(self, box: Box) -> tuple[Blocks, ...]:
        key, bits = (box.family, box.hooks), box.family.bits
        if key not in self._dimensions:
            self._dimensions[key] = tuple(map(Blocks, (bits, bits, 16, 16, Names.BITS)))
        return self._dimensions[key]

    def _spans(self, box: Box) -> tuple[Span | None, ...]:
        """What a box matches in each dimension in which it is found; None for this host."""
        return (
            *(end.span if end is not ME else None for end in (box.source, box.destination)),
            *(box.source_ports, box.destination_ports, self._links.span(box.link)),
        )


class MostSpecific:
    """The filters so far. What no filter matches passes."""

    def __init__(self) -> None:
        self._filters = _Filters()
        self.failed: list[Failed] = []

    @property
    def placed(self) -> list[Placed]:
        """The filters, in the order in which they were put there."""
        return self._filters.all()

    def put_all(self, steps: Iterable[Step]) -> None:
        """Put an ordered list on top, from its last step to its first."""
        for step in reversed(list(steps)):
            self.put(step)

    def put(self, step: Step) -> None:
        """Have all packets of a step decided by it; or note that it failed, and change nothing."""
        self._filters.mark()
        try:
            for box in step.boxes:
                self._put(box, step)
        except CannotSay as error:
            self._filters.take_back()
            self.failed.append(Failed(step, str(error)))

    def _put(self, box: Box, step: Step) -> None:
        if len(self._filters) > MAX_FILTERS:
            raise CannotSay(f"the rules become more than {MAX_FILTERS:,} filters")
        near = self._filters.near(box)
        least = box.rank(step.action, least=True)
        against = [
            (number, one, both)
            for number, one in near.items()
            if one.action is not step.action and (both := _met(box, one, step.action, least))
        ]
        if self._is_there(box, step, near.values(), [one for _, one, _ in against]):
            return
        gone = [number for number, one in near.items() if is_within(one.box, box)]
        there = near.keys() - set(gone)
        new = dict.fromkeys([box])
        for number, one, both in against:
            if number in there and isinstance(both, CannotSay):
                raise both
            if number in there and least <= one.greatest and isinstance(both, Box):
                new[both] = None
        for number in gone:
            self._filters.remove(number)
        for each in new:
            self._filters.add(_placed(each, step))

    def _is_there(
        self, box: Box, step: Step, near: Iterable[Placed], against: Sequence[Placed]
    ) -> bool:
        """Whether all packets of `box` are decided so already."""
        if not against and step.action is Action.PERMIT:
            return True
        return any(
            one.action is step.action
            and is_within(box, one.box)
            and all(one.least > other.greatest for other in against)
            for one in near
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
