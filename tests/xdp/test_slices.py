"""Attachments are looked at a few at a time, and each in its turn."""

from __future__ import annotations

from itertools import count
from math import inf
from pathlib import Path

import pytest

from ipsecd.backend.xdp.links import Attachment, Link, Links


class Looked(Links):
    """Attachments that are all there but some, and say which were looked at."""

    def __init__(self, number: int) -> None:
        super().__init__(Path("/nowhere"))
        self._links = {(index, "receive"): Link("native", "p") for index in range(number)}
        self.looked: list[int] = []
        self.gone: set[int] = set()

    def _is_attached(self, index: int, hook: str, link: Link) -> bool:
        self.looked.append(index)
        assert (hook, link.mode) == ("receive", "native")
        return index not in self.gone


@pytest.mark.parametrize("number", [0, 1, 3, 7, 8])
def test_every_attachment_has_its_turn(number: int) -> None:
    """However many there are, and no more of them than were asked for at once."""
    links = Looked(number)
    rounds = -(-number // 3) + 1
    for _ in range(rounds):
        before = len(links.looked)
        links.lost_among(3, inf)
        assert len(links.looked) - before == min(3, number)
    assert set(links.looked) == set(range(number))


def test_what_is_lost_is_found_in_its_turn() -> None:
    """Also when there are fewer attachments than at the last look."""
    links = Looked(8)
    links.gone = {5}
    lost: list[list[Attachment]] = [links.lost_among(3, inf) for _ in range(3)]
    assert lost == [[], [(5, "receive")], []]
    for index in range(1, 8):
        del links._links[index, "receive"]
    links.gone = {0}
    assert links.lost_among(3, inf) == [(0, "receive")]


def test_a_look_ends_when_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel keeps each look waiting, one is enough, and the others have their turn."""
    seconds = count()
    monkeypatch.setattr("ipsecd.backend.xdp.links.monotonic", lambda: next(seconds))
    links = Looked(4)
    for _ in range(2):
        links.lost_among(3, 0.5)
    assert links.looked == [0, 1]
    links.lost_among(3, 2)
    assert links.looked == [0, 1, 2, 3]
