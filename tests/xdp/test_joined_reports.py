"""Reports of several parts are read as those of one, and none keeps another from being heard."""

from __future__ import annotations

import pytest

from ipsecd.backend.joined_reports import JoinedReports
from ipsecd.backend.reporting import Report
from ipsecd.errors import BackendFailed
from ipsecd.model.packets import Point
from ipsecd.model.values import Action


def report(at_ns: int) -> Report:
    return Report(at_ns, Action.BLOCK, Point.ARRIVING, 1, 20, b"", b"E", 1)


class Part:
    """What one part has to tell, and what it was asked for."""

    def __init__(self, descriptor: int, *times: int) -> None:
        self.waiting = [report(at) for at in times]
        self.budgets: list[int] = []
        self._descriptor = descriptor
        self.refuses = False

    def set_budget(self, packets_per_second: int) -> None:
        self.budgets.append(packets_per_second)
        if self.refuses and packets_per_second:
            raise BackendFailed("it cannot", "do without")

    def descriptors(self) -> tuple[int, ...]:
        return (self._descriptor,)

    def read(self, most: int) -> list[Report]:
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        return taken

    def blocked(self) -> int:
        return 10 + self._descriptor


def test_reports_of_all_parts_are_read_in_the_order_of_time() -> None:
    """Descriptors are those of all, and what they have dropped is added up."""
    joined = JoinedReports((Part(1, 10, 30), Part(2, 20, 40)))
    assert [each.at_ns for each in joined.read(10)] == [10, 20, 30, 40]
    assert (joined.descriptors(), joined.blocked()) == ((1, 2), 23)
    assert joined.read(10) == []


def test_a_part_that_has_much_leaves_room_for_the_others() -> None:
    """No more than asked for; and what one does not need the next one has."""
    flooded, quiet = Part(1, *range(1000)), Part(2, 5, 6, 7)
    joined = JoinedReports((flooded, quiet))
    for _ in range(2):
        assert len(joined.read(4)) <= 4
    assert not quiet.waiting
    assert len(JoinedReports((quiet, flooded)).read(100)) == 100
    assert len(joined.read(1)) == 1


def test_each_part_has_the_whole_budget_or_none_has_any() -> None:
    """A part that cannot report says so, and the others are switched off again."""
    first, second = Part(1), Part(2)
    joined = JoinedReports((first, second))
    joined.set_budget(100)
    joined.set_budget(0)
    assert first.budgets == second.budgets == [100, 0]
    second.refuses = True
    with pytest.raises(BackendFailed):
        joined.set_budget(100)
    assert first.budgets == second.budgets == [100, 0, 100, 0]
