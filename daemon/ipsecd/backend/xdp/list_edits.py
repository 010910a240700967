"""Owns which ranges of lists stay where they are for the next state, edited for it where need be.

It must not know when no packet looks into them: whoever has edits carried out sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ipsecd.backend.xdp.images import Image
from ipsecd.backend.xdp.list_looks import wanted
from ipsecd.backend.xdp.list_ranges import Edit, ListKey, ListRanges
from ipsecd.backend.xdp.program import all_groups
from ipsecd.backend.xdp.range_edits import Memory, edited
from ipsecd.compiler.classifier import Classifier
from ipsecd.model.lists import NO_ENTRIES, AddressList
from ipsecd.model.packets import Point
from ipsecd.model.values import Origin


@dataclass(frozen=True, slots=True)
class ListPlan:
    """Which ranges may stay where they are for a state, and how each is edited for it."""

    edits: Mapping[ListKey, Edit] = field(default_factory=dict)

    @property
    def ranges(self) -> dict[ListKey, ListRanges]:
        """The ranges that may stay, by the key that they have then."""
        return {key: edit.ranges for key, edit in self.edits.items()}

    def due_for(self, image: Image) -> list[Edit]:
        """Those edits of ranges in `image` that change something, if only what the list is."""
        return [
            edit
            for key, edit in self.edits.items()
            if image.lists.get(key) is edit.ranges and not edit.is_of_now
        ]

    def of(self, key: ListKey, ranges: ListRanges, members: AddressList) -> Edit | None:
        """The edit that makes `ranges` those of other entries, if it is here and still due."""
        edit = self.edits.get(key)
        is_it = edit and edit.ranges is ranges and edit.members is members and edit.is_due
        return edit if is_it else None


def plan(
    classifier: Classifier,
    rules: Mapping[Origin, int],
    points: frozenset[Point],
    image: Image,
    memory: Callable[[int], Memory],
    *,
    earlier: ListPlan | None = None,
    in_place: bool,
) -> ListPlan:
    """Which of the ranges that the state of `image` has may stay for `classifier` at `points`.

    `memory` says where the image of a slot lies. What was worked out `earlier` is taken where it is
    still right. Without `in_place` only ranges stay whose entries do.
    """
    edits: dict[ListKey, Edit] = {}
    left = set(image.lists.values())
    # Those that have the lengths which are wanted come first: others may have them only next.
    keys = wanted(all_groups(classifier, points), rules)
    for key in sorted(keys, key=lambda key: key not in image.lists):
        ranges = _nearest(key, left)
        members = classifier.lists.get(key.name, NO_ENTRIES)
        if ranges is None or not (in_place or ranges.is_of(key, members)):
            continue
        edit = earlier.of(key, ranges, members) if earlier else None
        edit = edit or edited(ranges, key, members, memory(ranges.slot))
        if edit:
            edits[key] = edit
            left.remove(ranges)
    return ListPlan(edits)


def carry_out(edits: Iterable[Edit], memory: Callable[[int], Memory]) -> None:
    """Write what edits say."""
    for edit in edits:
        of_slot = memory(edit.ranges.slot)
        for at, data in edit.writes:
            of_slot[at : at + len(data)] = data
        edit.note()


def _nearest(key: ListKey, present: Iterable[ListRanges]) -> ListRanges | None:
    """The ranges of the same list that share most lengths with `key`; None if none shares any."""
    sharing = [
        (len(lengths), ranges.key, ranges)
        for ranges in present
        if ranges.key[:2] == key[:2] and (lengths := set(ranges.key.lengths) & set(key.lengths))
    ]
    exact = [ranges for _, of_key, ranges in sharing if of_key == key]
    if exact or not sharing:
        return exact[0] if exact else None
    return max(sharing, key=lambda each: each[:2])[2]
