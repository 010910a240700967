"""Nothing leaks while policies, dynamic rules and the daemon itself are replaced."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.moments.changes import Changes, flush_ruleset, has_owners
from tests.moments.flood import LEAST_RATE, Target
from tests.moments.moments import moments, perform, possible
from tests.moments.stage import LONGEST_OUTAGE_S, STATES, Stage, repetitions, stage
from tests.netns.site import BACKENDS, HERE4, HERE6

pytestmark = pytest.mark.netns

TARGETS = (Target("wire1", HERE4), Target("wire1", HERE6))
CHANGES = (
    *("apply", "turn_dynamic", "hand_block_over", "replace_dynamic", "move_ranking"),
    "exchange_backend",
)


@pytest.fixture(scope="module", params=BACKENDS)
def host(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("changes"), request.param, seed=1434) as staged:
        yield staged


@pytest.fixture
def changes(host: Stage) -> Changes:
    """The changes, with a policy in force to begin with."""
    connection = Changes(host.daemon, host.chance)
    connection.apply()
    return connection


def hold(host: Stage, happen: Callable[[], object], count: int) -> None:
    """Fail if anything leaks, or what is permitted is cut, while something happens so often."""

    def repeat() -> None:
        for _ in range(count):
            happen()

    result = host.under_flood(TARGETS, repeat)
    assert result.leaked == 0, str(result)
    assert result.passed > 0, str(result)
    assert result.outage_s < LONGEST_OUTAGE_S, str(result)


def test_the_flood_is_one(host: Stage) -> None:
    """At least once in a few tries, as others use the processors too, it has the rate it should."""
    rates = []
    for _ in range(10):
        rates.append(host.under_flood(TARGETS, lambda: time.sleep(0.2)).rate)
        if rates[-1] >= LEAST_RATE:
            return
    pytest.fail(f"packets a second: {rates}")


@pytest.mark.parametrize("name", CHANGES)
def test_nothing_leaks_while_rules_are_replaced(host: Stage, changes: Changes, name: str) -> None:
    """Policies and dynamic rules, one in the place of another, while the flood stays blocked."""
    hold(host, getattr(changes, name), repetitions(15))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1], ids=lambda n: n.name)
def test_nothing_leaks_while_the_daemon_is_replaced(
    host: Stage, changes: Changes, number: signal.Signals
) -> None:
    """It crashes or hands over, and the next one starts."""
    hold(host, lambda: changes.restart(number), repetitions(4))


@pytest.mark.parametrize("state", STATES)
def test_nothing_leaks_while_others_flush_all_rules(
    host: Stage, changes: Changes, state: str, request: pytest.FixtureRequest
) -> None:
    """``nft flush ruleset``, with the daemon alive, stopped, or dead."""
    if state == "dead" and host.daemon.backend == "nftables" and has_owners():
        reason = "a table whose owner is dead can be flushed: a limit that docs/design.md names"
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    # Programs, which hold while the table is away, do not know connections.
    changes.apply_one(opening=False)
    host.settle()
    host.enter(state)
    try:
        hold(host, flush_ruleset, repetitions(20))
    finally:
        host.enter("alive")


def test_the_daemon_starts_whatever_changed_while_it_was_dead(host: Stage) -> None:
    """Links have gone, come, moved away and been renamed, addresses too: it starts, and covers."""
    chosen = tuple(moment for moment in moments() if possible(moment))
    targets = tuple(target for moment in chosen for target in moment.targets)
    host.prepare(chosen)
    for direction in ("there", "back"):
        host.enter("dead")
        for moment in chosen:
            perform(getattr(moment, direction), host.counters)
        host.enter("alive")
        host.settle()
        result = host.under_flood(targets, lambda: time.sleep(0.2))
        assert result.leaked == 0, f"{direction}: {result}"
        assert result.passed > 0, f"{direction}: {result}"
