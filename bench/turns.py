"""Owns the taking of turns: rounds in which each contestant is measured, and how long that may be.

Whoever fails or takes too long is absent, with the reason, and does not keep the others from being
measured. Must not know what is measured.
"""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from bench.figures import Figure, keep

PATIENCE_S = 60.0
"""How long one turn of one contestant may take."""
LIMIT_S = 30.0
"""How long the rounds of a figure may take: there are fewer then, and one at least."""


class AbsentError(Exception):
    """Why a contestant takes no part."""


@contextmanager
def patience(seconds: float = PATIENCE_S) -> Iterator[None]:
    """Make whatever fails or takes longer an `AbsentError`; blocks do not lie in one another."""

    def over(*_: object) -> None:
        raise AbsentError(f"took longer than {seconds:.3g} seconds, and was ended")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except AbsentError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise AbsentError(f"failed when it was measured ({type(error).__name__})") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_turn(
    contestants: Mapping[str, Callable[[], float]], rounds: int, absent: dict[str, str]
) -> dict[str, list[float]]:
    """What each contestant gives in each round; every round begins with another of them.

    Whoever raises `AbsentError`, fails or takes too long is noted in `absent`, and left out.
    """
    values: dict[str, list[float]] = {name: [] for name in contestants}
    begun = time.monotonic()
    for turn in range(rounds):
        names = list(values)
        first = turn % max(len(names), 1)
        for name in names[first:] + names[:first]:
            try:
                with patience():
                    values[name].append(contestants[name]())
            except AbsentError as reason:
                absent[name] = str(reason)
                del values[name]
        passed = time.monotonic() - begun
        if passed + passed / (turn + 1) > LIMIT_S:
            break
    return values


def measure(
    name: str, steps: Sequence[Callable[[], Iterable[Figure]]], facts: Callable[[], dict[str, str]]
) -> None:
    """Take each step, and keep its figures at once, for whom the next one does not end."""
    figures: list[Figure] = []
    failed: list[str] = []
    for number, step in enumerate(steps, 1):
        try:
            for figure in step():
                figures.append(figure)
                middles = {each: float(f"{figure.middle(each):.3g}") for each in figure.rounds}
                print(figure.table, figure.case, figure.unit, middles, figure.absent, flush=True)
        except Exception as error:
            traceback.print_exc()
            failed.append(f"step {number} of {name} failed ({type(error).__name__})")
        known = facts()
        if failed:
            known["not measured this time"] = "; ".join(failed)
        keep(name, figures, known)
    sys.stdout.flush()
