"""However many rules a policy has, each one is counted and can be told by name."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path

import pytest

from ipsecd.backend.base import Count
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.backend.xdp.counters import pinned_state
from ipsecd.backend.xdp.programs import SPARE_RULES, Programs
from ipsecd.compiler.classifier import Classifier, pack
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import IpsecdError, LimitExceeded
from ipsecd.language.filters import parse_filter
from ipsecd.model.kinds import InterfaceType
from ipsecd.model.values import Action, Conditions, InForce, Origin
from tests.counts import counts_of
from tests.netns.site import needs_isolation, rename, run
from tests.xdp.test_faults import Faults

pytestmark = pytest.mark.netns

DIRECTORY = Path("/sys/fs/bpf/ipsecd-rules")
BY_TYPE = Conditions(interface=InterfaceType.DIALUP)


def rule(number: int) -> Origin:
    return Origin("static", "P", f"rule {number}")


def policy(numbers: Iterable[int]) -> Classifier:
    """A rule for each number, which blocks an address of its own."""
    blocked = InForce(rule(0), parse_filter("10.0.0.0=0"), Action.BLOCK)
    (row,) = rows_of([blocked])
    entries = {(10 << 24 | number).to_bytes(4, "big"): rule(number) for number in numbers}
    return Classifier((pack(row.table, entries),))


@pytest.fixture
def backend() -> Iterator[XdpBackend]:
    """A backend with one link to be on."""
    needs_isolation()
    run("ip", "link", "add", "rules0", "type", "veth", "peer", "name", "rules1")
    programs = XdpBackend(DIRECTORY)
    yield programs
    programs.remove()
    programs.close()
    run("ip", "link", "delete", "rules0")


def in_force(backend: XdpBackend, classifier: Classifier) -> bool:
    observation = backend.observe()
    return (observation.digest, observation.drift) == (classifier.digest, ())


@pytest.mark.parametrize("count", [SPARE_RULES, 100_000])
@pytest.mark.timeout(280)
def test_as_many_rules_take_the_place_of_as_many_others(backend: XdpBackend, count: int) -> None:
    """Neither the first policy nor one of other rules is refused for their number."""
    before, after = policy(range(count)), policy(range(count, 2 * count))
    backend.check(before)
    for following in (before, after):
        backend.apply(following, Volatile())
        assert in_force(backend, following)
        assert counts_of(backend).keys() == following.origins
    assert len(list(DIRECTORY.glob("maps-*"))) == 1


def test_rules_that_stay_keep_their_counts_in_larger_maps(backend: XdpBackend) -> None:
    """When maps are replaced because there is no room, what was counted goes along."""
    backend.apply(policy(range(10)), Volatile())
    counted = {rule(n): Count(n, 100 * n) for n in range(10)}
    programs = backend._programs
    assert programs is not None
    programs.rules.restore(counted)
    many = policy(range(5, 3 * SPARE_RULES))
    backend.apply(many, Volatile())
    assert backend._programs is not programs
    counts = counts_of(backend)
    assert {rule(n): counts[rule(n)] for n in range(5, 10)} == {
        origin: count for origin, count in counted.items() if origin in many.origins
    }
    assert sum(count.packets for count in counts.values()) == sum(range(5, 10))


@pytest.mark.timeout(280)
def test_a_refused_call_while_maps_are_replaced_changes_nothing(
    backend: XdpBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever call the kernel refuses on the way to larger maps, the old policy is in force."""
    few, many = policy(range(2)), policy(range(2, SPARE_RULES + 4))
    faults = Faults(monkeypatch)
    backend.apply(few, Volatile())
    failures = 0
    for number in range(200):
        faults.calls_left, faults.error = number, OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        try:
            backend.apply(many, Volatile())
        except (IpsecdError, OSError):
            failures += 1
            faults.calls_left = -1
            assert in_force(backend, few)
            assert counts_of(backend).keys() == few.origins
        else:
            break
    faults.calls_left = -1
    assert failures > 3
    assert in_force(backend, many)


def test_every_rule_can_be_told_from_pinned_maps(backend: XdpBackend) -> None:
    """Names of any length lead back from a counter, for whoever has the maps and nothing else."""
    origins = [Origin("static", "P" * 1000, f"{number} {'ü' * 500}") for number in range(20)]
    classifier = compile_filters(
        InForce(origin, parse_filter(f"10.0.0.{number}=0"), Action.BLOCK)
        for number, origin in enumerate(origins)
    )
    backend.apply(classifier, Volatile())
    programs = backend._programs
    assert programs is not None
    counted = {origin: Count(n, n * n) for n, origin in enumerate(origins)}
    programs.rules.restore(counted)
    (pins,) = DIRECTORY.glob("maps-*")
    assert pinned_state(pins) == (classifier.digest, counted)
    backend.apply(policy(range(1)), Volatile())
    assert pinned_state(pins)[1] == {rule(0): Count()}


def test_a_number_that_is_given_again_counts_from_zero() -> None:
    """What a rule had counted is not told of the one that gets its number."""
    needs_isolation()
    programs = Programs()
    programs.apply(policy(range(SPARE_RULES - 1)), Volatile())
    programs.rules.restore({rule(0): Count(5, 500)})
    programs.apply(policy(range(1, SPARE_RULES)), Volatile())
    programs.apply(policy(range(1, SPARE_RULES + 1)), Volatile())
    assert set(programs.counts().values()) == {Count()}
    too_many = policy(range(SPARE_RULES + 1))
    assert not programs.has_room(too_many)
    with pytest.raises(LimitExceeded, match="1024 rules"):
        programs.apply(too_many, Volatile())
    programs.close()


@pytest.mark.parametrize("dynamic", [True, False])
def test_the_first_rule_by_type_loads_programs_for_links_that_become_that_type(
    backend: XdpBackend, monkeypatch: pytest.MonkeyPatch, dynamic: bool
) -> None:
    """A new name takes no program that is loaded only then: too much would be blocked meanwhile."""
    backend.apply(policy(range(2)), Volatile())
    block = InForce(rule(2), parse_filter("*=0:9:UDP"), Action.BLOCK, BY_TYPE)
    volatile = Volatile()
    if dynamic:
        backend.change(volatile.carry_out([], [(row, inf) for row in rows_of([block])]), volatile)
    else:
        backend.apply(compile_filters([block]), volatile)
    loaded: list[str] = []
    load = libbpf.BpfObject.load

    def note(obj: libbpf.BpfObject) -> None:
        loaded.append("program")
        load(obj)

    monkeypatch.setattr(libbpf.BpfObject, "load", note)
    rename("rules0", "wwan0")
    try:
        backend.follow()
        assert attached_to("wwan0") == "receive_dialup"
        assert loaded == []
    finally:
        rename("wwan0", "rules0")
    backend.follow()
    assert attached_to("rules0") == "receive_lan"


def attached_to(link: str) -> str:
    """The name of the program at XDP; the kernel keeps 15 characters of it."""
    (shown,) = json.loads(run("ip", "-d", "-j", "link", "show", link))
    return libbpf.program_name(shown["xdp"]["prog"]["id"])
