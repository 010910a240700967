"""A long list is loaded while its text is still being read, and what comes of it is exact."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.combined import NftablesWithPrograms
from ipsecd.backend.nftables.ahead import ListAhead
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.lists import ListForm, ListSet, least_size
from ipsecd.backend.nftables.new_sets import NewSets
from ipsecd.backend.nftables.wire import Message
from ipsecd.config import Config, Directories
from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, IpsecdError, LimitExceeded, Refused
from ipsecd.language.address_lists import read_list
from ipsecd.model.addresses import Family
from ipsecd.model.lists import AddressList, Form, split
from ipsecd.service.engine_lines import EngineLines
from tests.netns import site
from tests.netns.test_lists import sets

pytestmark = pytest.mark.netns
POLICY = 'policy: P\nrules:\n  - {rule: drop, action: block, filters: ["@drop=0"]}\n'
MANY = 30_000


class Host:
    """An engine in lines of its own, with one list that a policy blocks, and the calls it takes."""

    def __init__(self, root: Path, backend: str = "nftables") -> None:
        for name in ("etc/lists", "etc/policies"):
            (root / name).mkdir(parents=True)
        (root / "etc/lists/drop").write_text("192.0.2.1\n")
        (root / "etc/policies/P.yaml").write_text(POLICY)
        (root / "etc/assigned").symlink_to("policies/P.yaml")
        directories = Directories(root / "etc", root / "lib", root / "run", site.BPFFS)
        self.engine = Engine(Config(backend=backend), directories)
        self.control = Control(self.engine)
        self.lines = EngineLines(self.control)
        self.lines.at_once(self.engine.start)
        enforcing = self.engine.backend
        if isinstance(enforcing, NftablesWithPrograms):
            assert not enforcing.failures
            enforcing = enforcing.nftables
        assert isinstance(enforcing, NftablesBackend)
        self.backend = enforcing

    def close(self) -> None:
        self.lines.at_once(self.engine.backend.remove)
        self.engine.close()
        self.lines.shut_down()

    def replace(self, text: str, **options: object) -> dict[str, Any]:
        parameters: dict[str, object] = dict.fromkeys(("source", "format", "accept", "dry_run"))
        parameters |= {"name": "drop", **options}
        reply = self.control.call("ReplaceList", parameters, "me", {}, text.encode())
        outcome: dict[str, Any] = reply["outcome"]
        return outcome

    def elements(self) -> dict[Form, set[bytes]]:
        """What the sets of the list hold in the kernel, by their forms."""
        return {
            form.of_entries: {key for key, _ in self.backend._reader.elements(held.set_name)}
            for form, held in self.backend._held.lists.items()
        }

    def must_hold(self, text: str) -> None:
        """Assert that what is in force is what the text says, and that nothing else is left."""
        wanted = read_list(text.encode(), "text").addresses
        assert self.elements() == {
            form: set(split(packed, form.width)) for form, packed in wanted.entries.items()
        }
        assert set(sets()) == {held.set_name for held in self.backend._held.lists.values()}
        assert not self.engine.observe().drift


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a short text loaded ahead, in pieces that are shorter still."""
    site.needs_isolation()
    monkeypatch.setattr("ipsecd.backend.nftables.beforehand.LEAST_BYTES", 1 << 10)
    monkeypatch.setattr("ipsecd.language.address_lists.BLOCK", 1 << 16)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.close()


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[ListForm]:
    """The forms whose sets were filled ahead and taken."""
    forms = []
    original = ListAhead.loaded

    def noting(self: ListAhead, form: ListForm, members: AddressList) -> ListSet | None:
        outcome = original(self, form, members)
        if outcome:
            forms.append(form)
        return outcome

    monkeypatch.setattr(ListAhead, "loaded", noting)
    return forms


def address(number: int) -> str:
    return socket.inet_ntoa(number.to_bytes(4, "big"))


def lines(seed: int, count: int = MANY) -> list[str]:
    chance = random.Random(seed)
    return [address(chance.randrange(11 << 24, 100 << 24)) for _ in range(count)]


def text_of(*parts: list[str]) -> str:
    return "".join(f"{line}\n" for part in parts for line in part)


def test_what_is_loaded_while_it_is_read_is_what_the_text_says(
    host: Host, loaded: list[ListForm]
) -> None:
    """Repeated entries, bits behind a length, ranges and malformed lines make no difference."""
    chance = random.Random(7)
    first = lines(1)
    nets = [f"{line}/24" for line in lines(2)]
    sixes = [f"2001:db8:{chance.getrandbits(16):x}:{n:x}::1" for n in range(MANY)]
    odd = ["# comment", "", "10.0.0.1-10.0.0.6", "nonsense", "::ffff:192.0.2.9", "11.9.9.9/8"] * 99
    every = [*first, *first[:999], *nets, *sixes, *odd]
    chance.shuffle(every)
    text = text_of(every)
    host.replace(text)
    host.must_hold(text)
    assert {form.of_entries for form in loaded} == {
        Form(Family.IPV4, 32),
        Form(Family.IPV4, 24),
        Form(Family.IPV6, 128),
    }


def test_programs_hold_what_was_loaded_ahead_too(tmp_path: Path, loaded: list[ListForm]) -> None:
    """They are prepared while nftables is still being filled."""
    with site.wire():
        other = Host(tmp_path, "xdp")
        text = text_of(lines(1))
        other.replace(text)
        assert loaded
        other.must_hold(text)
        (block,) = other.engine.state.classifier.tables
        assert other.engine.backend.observe().digest == other.engine.state.classifier.digest
        assert block.id.listed
        other.close()


def test_the_next_process_relies_on_a_set_that_was_loaded_ahead(
    host: Host, loaded: list[ListForm]
) -> None:
    """The kernel is told what it holds, as of any other set."""
    text = text_of(lines(1))
    host.replace(text)
    assert loaded
    (name,) = sets()
    host.lines.at_once(host.backend._ownership.note)
    other = NftablesBackend(owner=socket.fromfd(host.backend.owner_fd(), socket.AF_NETLINK, 3, 12))
    state = host.engine.state
    other.apply(state.classifier, state.volatile)
    assert set(sets()) == {name}
    other.close()


def test_entries_can_be_added_to_a_set_that_was_loaded_ahead(
    host: Host, loaded: list[ListForm]
) -> None:
    """It has room, and they come in place."""
    host.replace(text_of(lines(1)))
    before = set(sets())
    added = lines(2, 200)
    parameters: dict[str, object] = dict.fromkeys(("ttl_s", "accept", "dry_run"))
    parameters |= {"name": "drop", "addresses": added}
    host.control.call("AddToList", parameters, "me", {}, None)
    assert loaded
    assert set(sets()) == before
    host.must_hold(text_of(lines(1), added))


def test_a_text_that_is_refused_leaves_nothing(host: Host) -> None:
    """The old entries stay in force, and the sets that were filled meanwhile are deleted."""
    before = set(sets())
    with pytest.raises(Refused, match="every IPv4 address"):
        host.replace(text_of(lines(1), ["0.0.0.0/0"]))
    assert set(sets()) == before
    host.must_hold("192.0.2.1")
    with pytest.raises(IpsecdError, match="longer than"):
        host.replace(text_of(lines(1)) + "x" * (1 << 17))
    assert set(sets()) == before
    host.must_hold("192.0.2.1")


def test_a_dry_run_loads_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be done is told without it."""
    monkeypatch.setattr(NftablesBackend, "load_ahead", lambda *_: pytest.fail("it was loaded"))
    assert host.replace(text_of(lines(1)), dry_run=True)["entries"] == len(set(lines(1)))
    host.must_hold("192.0.2.1")


def test_a_list_that_changes_little_is_changed_in_place(
    host: Host, loaded: list[ListForm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No set is filled for it, however long it is."""
    host.replace(text_of(lines(1)))
    assert len(loaded) == 1
    (name,) = sets()
    made: list[int] = []
    original = NewSets.for_entries_to_come

    def make(self: NewSets, form: ListForm, count: int) -> ListSet:
        made.append(count)
        return original(self, form, count)

    monkeypatch.setattr(NewSets, "for_entries_to_come", make)
    text = text_of(lines(1)[100:], lines(2, 100))
    host.replace(text)
    assert not made
    assert set(sets()) == {name}
    host.must_hold(text)


def test_a_set_that_turns_out_too_small_is_made_anew(host: Host, loaded: list[ListForm]) -> None:
    """The beginning of a text says how much is to come, and may be wrong; other sets are taken."""
    nets = [f"{line}/24" for line in lines(3)]
    text = text_of(lines(1, 500), nets, lines(2, 7 * MANY))
    host.replace(text)
    host.must_hold(text)
    assert [form.of_entries for form in loaded] == [Form(Family.IPV4, 24)]


def test_a_set_without_enough_room_is_made_anew(host: Host, loaded: list[ListForm]) -> None:
    """It would be full soon, and then an entry more would have all of it loaded again."""
    every = lines(1)
    for at in range(0, 6000, 6):
        every[at] = "# as long as that"
    text = text_of(every)
    host.replace(text)
    host.must_hold(text)
    (held,) = host.backend._held.lists.values()
    assert not loaded
    assert held.size >= least_size(len(held.members))


def failing(after: int, error: Exception) -> Callable[..., bool]:
    """A transaction for ``_load_early`` that fails after so many."""
    original, calls = NftablesBackend._load_early, iter(range(10_000))

    def load(self: NftablesBackend, early: Any, messages: list[Message], **named: bool) -> bool:
        if early.is_ahead and next(calls) == after:
            raise error
        return original(self, early, messages, **named)

    return load


@pytest.mark.parametrize("error", [BackendFailed("no memory", ""), LimitExceeded("full", "")])
def test_what_the_kernel_refuses_ahead_is_loaded_in_the_ordinary_way(
    host: Host, loaded: list[ListForm], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It is no failure of the change, and what was begun is deleted."""
    monkeypatch.setattr(NftablesBackend, "_load_early", failing(2, error))
    text = text_of(lines(1))
    host.replace(text)
    assert not loaded
    host.must_hold(text)


def test_a_bug_in_the_loading_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked for the change sees it; the old entries stay, and nothing waits for ever."""
    monkeypatch.setattr(NftablesBackend, "_load_early", failing(1, ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        host.replace(text_of(lines(1)))
    assert host.elements() == {Form(Family.IPV4, 32): {bytes((192, 0, 2, 1))}}
    assert len(sets()) == 1


@pytest.mark.parametrize("after", [0, 2])
def test_sets_that_are_given_up_meanwhile_are_made_anew(
    host: Host, loaded: list[ListForm], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """As when the whole state is put in force again while a list is read."""
    original, calls = NftablesBackend._load_early, iter(range(10_000))

    def load(self: NftablesBackend, early: Any, messages: list[Message], **named: bool) -> bool:
        if early.is_ahead and next(calls) == after:
            self.discard()
        return original(self, early, messages, **named)

    monkeypatch.setattr(NftablesBackend, "_load_early", load)
    text = text_of(lines(1))
    host.replace(text)
    assert not loaded
    host.must_hold(text)


def test_what_was_not_read_is_not_given(host: Host) -> None:
    """A set is compared with the list that is wanted, whatever it was filled with."""
    ahead = host.backend.load_ahead("drop", 1 << 20, host.lines.at_once)
    assert ahead
    form = ListForm("drop", Family.IPV4, 32)
    read = read_list(text_of(lines(1)).encode(), "text", "", ahead.take).addresses
    other = read_list(text_of(lines(1)[1:]).encode(), "text").addresses
    ahead.end(read)
    assert ahead.loaded(form, other) is None
    assert ahead.loaded(form._replace(length=24), read) is None
    filled = ahead.loaded(form, read)
    assert filled
    assert filled.members is read
    assert len(sets()) == 2
    ahead.close()
    assert len(sets()) == 1
