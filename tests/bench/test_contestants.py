"""All contestants can be put in force side by side, and each drops what it must and nothing else.

What a bench would say of somebody who fails is a reason of absence; here it is an error.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bench import changes
from bench.figures import NO_RULES, Figure
from bench.packets import WORM, Sizes, compare, of_ports
from bench.stretches import FRAMES
from tests.netns.site import needs_isolation

pytestmark = pytest.mark.netns

SMALL = Sizes(rounds=1, frames=FRAMES, ports=2, mixed=8, addresses=10, prefixes=10)


@pytest.fixture(autouse=True)
def _isolated() -> None:
    needs_isolation()


def failures(figures: Iterable[Figure]) -> list[tuple[str, str, str]]:
    """Who was to be measured and could not."""
    return [
        (figure.table, name, reason)
        for figure in figures
        for name, reason in figure.absent.items()
        if reason.startswith(("failed", "took"))
    ]


def test_each_drops_the_worm_and_nothing_else() -> None:
    figures = compare(of_ports("the worm", [WORM], SMALL, 4), SMALL)
    assert failures(figures) == []
    dropped, passes = figures
    assert {"ipsecd, nftables", "ipsecd, XDP"} < set(dropped.rounds)
    assert NO_RULES in dropped.absent
    assert NO_RULES in passes.rounds


def test_each_bans_and_ends_a_ban() -> None:
    assert failures(changes.bans([10], 1)) == []
