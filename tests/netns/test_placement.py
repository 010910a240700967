"""Moving the ranking behind connection tracking and back, with an error at every transaction."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ipsecd.backend.base import Observation
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.naming import TRACKED_HOOKS
from ipsecd.backend.nftables.wire import Message
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import BackendFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import ALWAYS, Action, Conditions, InForce, Origin
from tests.netns import site
from tests.netns.site import HERE4, delivered

pytestmark = pytest.mark.netns

BLOCKED = "*=0:1434:UDP"


def policy(*, opening: bool) -> Classifier:
    """Blocks a port, and with `opening` another one for what opens a connection."""
    conditions = Conditions(opening=True) if opening else ALWAYS
    rules = ((BLOCKED, ALWAYS), ("*=0:1435:UDP", conditions))
    return compile_filters(
        [
            InForce(Origin("static", "P", f"r{n}"), parse_filter(text), Action.BLOCK, condition)
            for n, (text, condition) in enumerate(rules)
        ]
    )


class FailingBackend(NftablesBackend):
    """A backend one of whose transactions fails: the one of that number, 0 for none."""

    failing = 0

    def _commit(self, steps: list[Message]) -> None:
        self.failing -= 1
        if self.failing == 0:
            raise BackendFailed("this transaction fails")
        super()._commit(steps)


@pytest.fixture
def backend() -> Iterator[FailingBackend]:
    site.needs_isolation()
    with site.wire():
        made = FailingBackend()
        yield made
        made.failing = 0
        made.remove()
        made.close()


def places() -> set[str]:
    """The base chains that are there while the ranking stands behind connection tracking."""
    listed = site.run("nft", "list", "chains", "inet")
    return {name for name in TRACKED_HOOKS if f"chain {name} " in listed}


@pytest.mark.parametrize("opening", [True, False])
def test_a_transaction_that_fails_leaves_one_state(
    backend: FailingBackend, *, opening: bool
) -> None:
    """The old one if that is told, and else the new one; the next change tidies up."""
    before, after = policy(opening=not opening), policy(opening=opening)
    transactions = 0
    for failing in range(1, 9):
        backend.failing = 0
        backend.apply(before, Volatile())
        assert backend.observe() == Observation(before.digest)
        assert bool(places()) is not opening
        backend.failing = failing
        told = False
        try:
            backend.apply(after, Volatile())
        except BackendFailed:
            told = True
        all_done = backend.failing > 0
        backend.failing = 0
        in_force = before if told else after
        assert backend.observe() == Observation(in_force.digest)
        assert [delivered(HERE4, port) for port in (1434, 1435)] == [0, 0]
        if told:
            assert bool(places()) is not opening
        if all_done:
            assert bool(places()) is opening
            break
        transactions += 1
    assert 2 <= transactions < 8
