"""Owns the lines of a policy that are written to memory before any step looks into them.

1. What is made here is no part of any state, and no map refers to it: closing it is all there is to
   undo, and the kernel does so if this process dies.
2. It is made in another thread than it is used in. Until it is ready that thread alone uses it, and
   looks from time to time whether it has been given up; after that only the other one does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from ipsecd.backend.base import Line
from ipsecd.backend.failures import not_taken
from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.images import Image
from ipsecd.backend.xdp.list_edits import ListPlan
from ipsecd.backend.xdp.numbering import NextNumbers, RuleNumbers
from ipsecd.backend.xdp.program import all_groups, missing_entries, place_group
from ipsecd.compiler.classifier import Classifier
from ipsecd.model.packets import Point
from ipsecd.progress import Phase, Progress, Tell

SPARE_LINES = 512
"""Room in an image for tables that come while it is made, such as those of containers."""
RESET_AT_ONCE = 500


class EarlyLines:
    """What is ready of a policy."""

    def __init__(self, image: Image, rules: NextNumbers, plan: ListPlan) -> None:
        """`image` is an empty one, `rules` are those of the policy, and `plan` is for its lists."""
        self.image, self.rules, self.plan = image, rules, plan
        self._is_given_up = False
        self._is_made = False
        self._is_ready = False
        self._descriptor = -1

    def reset_counters(self, numbers: RuleNumbers, run: Line) -> None:
        """Have the counters of new rules begin at zero, some at a time with `run`."""
        used = numbers.used(self.rules)
        for start in range(0, len(used), RESET_AT_ONCE):
            run(partial(self._reset, numbers, used[start : start + RESET_AT_ONCE]))

    def _reset(self, numbers: RuleNumbers, used: Sequence[int]) -> None:
        if not self._is_given_up:
            numbers.reset(used)

    def make(self, classifier: Classifier, points: frozenset[Point], tell: Tell) -> None:
        """Write the lines of `classifier`, unless it is given up meanwhile.

        `tell` is told how many entries are done. Raises ``BackendFailed``.
        """
        _ = self.rules.lines_at_switch, self.rules.lines_after
        groups, rules, lists = all_groups(classifier, points), self.rules.numbers, classifier.lists
        missing = missing_entries(groups, self.image, rules, lists)
        done = 0
        for group, entries in zip(groups, missing, strict=True):
            if self._is_given_up:
                return
            place_group(self.image, group, rules, lists)
            done += entries
            tell(Progress(Phase.LOADING, done, sum(missing)))
        if self.image.is_needed:
            self._descriptor = new_image(self.image, spare=SPARE_LINES)
            self.image.chunks.clear()
        self._is_made = True

    def hand_over(self) -> None:
        """Be ready for use, or gone if it has been given up; called in the thread that uses it."""
        self._is_ready = self._is_made and not self._is_given_up
        if not self._is_ready:
            self._close()

    def give_up(self) -> None:
        """Be gone, or not become ready; called in the thread that uses it."""
        self._is_given_up = True
        if self._is_ready:
            self._is_ready = False
            self._close()

    def _close(self) -> None:
        """Free the lines that no state looks into; those that are in force stay."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def suits(self, classifier: Classifier) -> bool:
        """Whether it is ready and enough of it is of use for `classifier`."""
        return self._is_ready and (
            not self.image.is_needed or 2 * self.image.share_used(classifier) >= 1
        )

    def has_room(self, image: Image) -> bool:
        """Whether an image that begins with these lines fits into their memory."""
        return image.lines <= self.image.lines + SPARE_LINES

    def finish(self, image: Image) -> int:
        """Write the lines that `image` has after these, and freeze all if no list is edited there.

        Returns a descriptor, which the caller closes; with this it has been used up. Raises
        ``BackendFailed``.
        """
        descriptor, self._descriptor, self._is_ready = self._descriptor, -1, False
        content = b"".join(image.chunks)
        try:
            if content:
                at = self.image.lines * abi.LINE
                with libbpf.map_lines(descriptor, self.image.lines + SPARE_LINES) as memory:
                    memory[at : at + len(content)] = content
            if not image.own_lists:
                libbpf.freeze_lines(descriptor)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                raise not_taken(error.strerror) from error
            raise
        return descriptor


def new_image(image: Image, *, spare: int = 0) -> int:
    """A descriptor of the lines of `image`, with room for `spare` ones after them.

    They are frozen if there is none, and no list is edited there. The caller closes it. Raises
    ``BackendFailed``.
    """
    content = b"".join(image.chunks)
    try:
        return libbpf.create_lines(
            "ipsecd_image", content, freeze=not (spare or image.own_lists), spare=spare
        )
    except OSError as error:
        raise not_taken(error.strerror) from error
