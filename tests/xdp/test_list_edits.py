"""Lists change in the memory that programs read, at a cost that goes by the change."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from ipsecd.backend.base import Observation
from ipsecd.backend.xdp import abi, libbpf, list_edits
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.backend.xdp.list_ranges import Edit
from ipsecd.backend.xdp.programs import Programs
from ipsecd.backend.xdp.range_edits import Memory
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.lists import AddressList, listed
from ipsecd.model.packing import changed
from ipsecd.model.values import Action, InForce, Origin
from tests.netns.site import needs_isolation

pytestmark = pytest.mark.netns

T = TypeVar("T")
DIRECTORY = Path("/sys/fs/bpf/ipsecd-lists")
NOTHING = AddressList()
CARRY_OUT = "ipsecd.backend.xdp.programs.carry_out"


@pytest.fixture
def backend() -> Iterator[XdpBackend]:
    """Programs beside somebody who judges what they let pass."""
    needs_isolation()
    made = XdpBackend(DIRECTORY, alone=False)
    made.apply(Classifier(), Volatile())
    yield made
    made.remove()
    made.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of libbpf since the test began, by name; each asks the kernel to do something."""
    made: list[str] = []
    call = libbpf._call

    def noted(name: str, *arguments: object) -> int:
        made.append(name)
        return call(name, *arguments)

    monkeypatch.setattr(libbpf, "_call", noted)
    return made


def policy(
    lists: Mapping[str, AddressList], *texts: str, permitted: tuple[str, ...] = ()
) -> Classifier:
    """A policy that blocks what `texts` say, and permits other filters."""
    rules = [
        InForce(Origin("static", "P", text), parse_filter(text), action)
        for action, filters in ((Action.BLOCK, texts), (Action.PERMIT, permitted))
        for text in filters
    ]
    return compile_filters(rules, lists=lists)


def hosts(first: int, count: int, step: int = 256) -> AddressList:
    return listed(Network(Family.IPV4, first + step * n, 32) for n in range(count))


def host(address: int) -> AddressList:
    return listed([Network(Family.IPV4, address, 32)])


def at_once(work: Callable[[], T]) -> T:
    return work()


def put(backend: XdpBackend, wanted: Classifier) -> None:
    """Put a policy in force as the engine does."""
    backend.prepare(wanted, at_once)
    backend.apply(wanted, Volatile())
    assert backend.observe() == Observation(wanted.digest)


@pytest.mark.parametrize("goes", [False, True])
def test_one_entry_costs_the_same_in_a_short_list_and_in_a_long_one(
    backend: XdpBackend, calls: list[str], monkeypatch: pytest.MonkeyPatch, *, goes: bool
) -> None:
    """No map is made, the kernel is asked for nothing, and a few bytes are written.

    The entries that are packed stay the same object: none of them but the one is looked at.
    """
    edits: list[Edit] = []
    carry_out = list_edits.carry_out

    def noted(of_now: list[Edit], memory: Callable[[int], Memory]) -> None:
        edits.extend(of_now)
        carry_out(of_now, memory)

    monkeypatch.setattr(CARRY_OUT, noted)
    written = []
    for count in (10, 50_000):
        present = hosts(10 << 24, count)
        put(backend, policy({"l": present}, "@l=0"))
        of_one = host((10 << 24) + 256 * 3 + (0 if goes else 1))
        new = changed(present, *((of_one, NOTHING) if goes else (NOTHING, of_one)))
        wanted = policy({"l": new}, "@l=0")
        calls.clear()
        edits.clear()
        backend.prepare(wanted, at_once)
        backend.apply(wanted, Volatile())
        assert calls == []
        (form,) = new.entries
        assert new.layers.base[form] is present.layers.base[form]
        written.append([[len(data) for _, data in edit.writes] for edit in edits])
        assert backend.observe() == Observation(wanted.digest)
    assert written == 2 * [[[4]] if goes else [[16, 4]]]


def test_a_thousand_others_are_worked_out_once_and_make_no_map(
    backend: XdpBackend, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beforehand, and not again when they are put in force."""
    present = hosts(10 << 24, 20_000)
    put(backend, policy({"l": present}, "@l=0"))
    new = changed(present, hosts(10 << 24, 1000), hosts((10 << 24) + 5, 1000, 4096))
    wanted = policy({"l": new}, "@l=0")
    calls.clear()
    backend.prepare(wanted, at_once)
    monkeypatch.setattr(list_edits, "edited", None)
    monkeypatch.setattr("ipsecd.model.lists.difference", None)
    backend.apply(wanted, Volatile())
    assert calls == []
    assert backend.observe() == Observation(wanted.digest)


def test_no_packet_looks_into_ranges_while_they_are_edited(
    backend: XdpBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets pass from before to after, and those that were on their way are waited for."""
    put(backend, policy({"l": hosts(10 << 24, 100)}, "@l=0"))
    happened: list[str] = []

    def steps() -> bool:
        """Whether a packet that comes now looks at any step."""
        loaded = backend._programs
        assert loaded
        content = loaded._state.in_force()
        return any(
            struct.unpack_from("=I", content, head * abi.LINE + abi.STEPS_OFFSET)[0]
            for head in range(abi.HEADS)
        )

    carry_out = list_edits.carry_out

    def noted(edits: list[Edit], memory: Callable[[int], Memory]) -> None:
        if any(edit.writes for edit in edits):
            happened.append(f"edit, steps: {steps()}")
        carry_out(edits, memory)

    monkeypatch.setattr(CARRY_OUT, noted)
    monkeypatch.setattr(
        "ipsecd.backend.xdp.programs.wait_for_packets",
        lambda: happened.append(f"wait, steps: {steps()}"),
    )
    one, other = ("@l=0",), ("@l=0", "*=0:80:TCP")
    # With the same steps, without an edit, and with an edit and other steps.
    for first, filters, is_edit in ((0, one, True), (0, other, False), (1, one, True)):
        happened.clear()
        put(backend, policy({"l": hosts((10 << 24) + first, 99)}, *filters))
        assert happened == ["wait, steps: False", "edit, steps: False"] * is_edit
        assert steps()


def test_whatever_looks_into_a_list_sees_the_edit(backend: XdpBackend, calls: list[str]) -> None:
    """The ranges lie there once, also for rules of both actions, and with others beside."""
    filters = ("@l=0", "*=@l:80:TCP", "@l=0:53:UDP")
    present = hosts(10 << 24, 3000)
    put(backend, policy({"l": present}, *filters, permitted=("@l=0:22:TCP",)))
    # An image, origins of rules, and a state.
    assert calls.count("bpf_map_create") == 3
    loaded = backend._programs
    assert loaded
    assert len(loaded._image.lists) == 1
    calls.clear()
    for _ in range(2):
        present = changed(present, NOTHING, host((10 << 24) + 77))
        put(backend, policy({"l": present}, *filters, permitted=("@l=0:22:TCP",)))
        present = changed(present, host((10 << 24) + 77), NOTHING)
        put(backend, policy({"l": present}, *filters, permitted=("@l=0:22:TCP",)))
    assert "bpf_map_create" not in calls


def test_another_length_is_an_edit_and_other_steps(backend: XdpBackend, calls: list[str]) -> None:
    """The first prefix among many addresses does not have these laid out anew."""
    present = hosts(10 << 24, 3000)
    put(backend, policy({"l": present}, "@l=0"))
    calls.clear()
    net = listed([Network(Family.IPV4, 10 << 24, 22)])
    with_net = changed(present, NOTHING, net)
    put(backend, policy({"l": with_net}, "@l=0"))
    put(backend, policy({"l": changed(with_net, net, NOTHING)}, "@l=0"))
    assert "bpf_map_create" not in calls


def test_where_nobody_else_judges_lists_are_laid_out_anew() -> None:
    """No packet passes unjudged, and none meets half an edit."""
    needs_isolation()
    alone = Programs()
    try:
        alone.apply(policy({"l": hosts(10 << 24, 100)}, "@l=0"), Volatile())
        (before,) = alone._image.slots
        alone.apply(policy({"l": hosts(10 << 24, 99)}, "@l=0"), Volatile())
        (after,) = alone._image.slots
        assert before != after
    finally:
        alone.close()


def test_what_is_left_of_an_interrupted_edit_lets_packets_pass(
    backend: XdpBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that dies in one leaves programs that look at no step; then the next takes over."""
    wanted = policy({"l": hosts(10 << 24, 100)}, "@l=0")
    put(backend, wanted)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CARRY_OUT, crash)
    with pytest.raises(KeyboardInterrupt):
        backend.apply(policy({"l": hosts(10 << 24, 99)}, "@l=0"), Volatile())
    loaded = backend._programs
    assert loaded
    content = loaded._state.in_force()
    heads = [content[n * abi.LINE + abi.STEPS_OFFSET :][:4] for n in range(abi.HEADS)]
    assert set(heads) == {bytes(4)}
    monkeypatch.undo()
    other = XdpBackend(DIRECTORY, alone=False)
    try:
        other.apply(wanted, Volatile())
        assert other.observe() == Observation(wanted.digest)
    finally:
        other.close()
