"""A backend refuses by name what it cannot express, and never weakens a rule."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product

import pytest

from ipsecd.compiler.policy import compile_filters
from ipsecd.errors import IpsecdError, LimitExceeded, Refused
from ipsecd.model.values import Conditions, InForce, InterfaceType, Origin
from tests.conformance.refusals import error_of
from tests.conformance.stages import PORTS, Stage, block, permit
from tests.conformance.wire import Datagram


def ranges(count: int) -> tuple[InForce, ...]:
    """So many filters for ranges of ports, each of which needs a look-up of its own."""
    pairs = product(range(1, 60000, 900), range(1, 70))
    return tuple(
        block(f"*=0:{first}-{first + width}:UDP", f"{first} {width}")
        for first, width in islice(pairs, count)
    )


HARD: dict[str, tuple[InForce, ...]] = {
    "many ranges": ranges(200),
    "who sends it": (
        block("0=*:1434:UDP"),
        block("cgroup:/nobody-is-here=*:1435:UDP"),
        permit("cgroup:/nobody-is-here=*:1434:UDP"),
    ),
    "kinds of links": (
        replace(block("*=0:1434:UDP"), conditions=Conditions(InterfaceType.LAN)),
        replace(block("*=0:1435:UDP"), conditions=Conditions(InterfaceType.DIALUP)),
    ),
}


def assert_named(error: IpsecdError | OSError | None) -> None:
    """The refusal says what was refused, and what to do."""
    if error:
        assert isinstance(error, Refused | LimitExceeded)
        assert error.message
        assert error.hint


SENT = tuple(Datagram(port, outgoing=outgoing) for port in PORTS for outgoing in (False, True))


@pytest.mark.parametrize("name", HARD)
def test_it_is_refused_by_name_or_enforced(stage: Stage, name: str) -> None:
    """If the check raises, it says what and what to do; if not, packets are really filtered."""
    rules = HARD[name]
    stage.put(block("*=0:1436:UDP"))
    assert_named(error_of(lambda: stage.put(*rules)))
    assert stage.is_in_force(SENT)


@pytest.mark.parametrize("name", HARD)
def test_so_it_is_with_dynamic_rules(stage: Stage, name: str) -> None:
    """Dynamic rules are checked, as a policy of their own, before they are added."""
    stage.put(block("*=0:1436:UDP"))
    rules = [replace(rule, origin=Origin("dynamic", "", rule.origin.rule)) for rule in HARD[name]]
    refused = error_of(lambda: stage.backend.check(compile_filters(rules)))
    assert_named(refused)
    if not refused:
        stage.change([], rules)
    assert stage.is_in_force(SENT)


def test_what_is_too_large_is_refused_before_anything_is_changed(stage: Stage) -> None:
    """If the check raises, it says what and what to do, and the old policy stays in force."""
    stage.put(block("*=0:1436:UDP"))
    assert_named(error_of(lambda: stage.backend.check(compile_filters(ranges(4500)))))
    assert stage.is_in_force()
