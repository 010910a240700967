"""Sets that an earlier process left: they stay only where they hold just what is wanted."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from errno import ERESTART
from typing import TypeVar

import pytest

from ipsecd.backend.nftables import backend as backend_module
from ipsecd.backend.nftables import contents, reading
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.adoption import LeftSets
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.early import LARGE
from ipsecd.backend.nftables.naming import CONTENTS
from ipsecd.backend.nftables.reading import SetDescription
from ipsecd.backend.nftables.wire import KernelError, Message, NftSocket
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from tests.engine.test_lists import entries
from tests.netns import site
from tests.netns.site import run
from tests.netns.test_early import many
from tests.netns.test_lists import blocking, hosts, sets

pytestmark = pytest.mark.netns
T = TypeVar("T")

DROP = entries("10.1.0.1", "10.1.0.2", "10.2.0.0/16", "[2001:db8::]/32")


class Record:
    """What one process keeps for the next."""

    def __init__(self) -> None:
        self.content: tuple[int, int] | None = None

    def read(self) -> tuple[int, int] | None:
        return self.content

    def write(self, namespace: int, generation: int) -> None:
        self.content = namespace, generation


class Processes:
    """Processes one after the other, and how many bytes of elements were sent to which sets."""

    def __init__(self) -> None:
        self.record = Record()
        self.sent: Counter[str] = Counter()
        self.bytes_sent = 0
        self.now = self._begin()

    def _begin(self, owner: socket.socket | None = None) -> NftablesBackend:
        return NftablesBackend(owner=owner, record=self.record)

    def apply(self, classifier: Classifier) -> None:
        self.sent.clear()
        self.bytes_sent = 0
        self.now.apply(classifier, Volatile())
        assert self.now.observe().drift == ()

    def die(self) -> None:
        """As by SIGKILL: nothing is done any more, and the kernel closes the socket."""
        self.now._socket.close()

    def follow(self) -> None:
        """The next process, after one that died."""
        self.die()
        self.now = self._begin()

    def follow_with_socket(self) -> None:
        """The next process, which gets the socket that the service manager has held."""
        held = os.dup(self.now.owner_fd())
        self.die()
        self.now = self._begin(socket.socket(fileno=held))

    def note(self, messages: Sequence[Message]) -> None:
        self.bytes_sent += sum(len(message.attributes) for message in messages)
        for message in messages:
            name = message.what.removeprefix("elements of set ")
            if message.kind == nft.NEWSETELEM and name.startswith(("list_", "policy_")):
                self.sent[name.rpartition("_g")[0]] += len(message.attributes)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    site.needs_isolation()
    begun = Processes()
    if not begun.now.is_protected:
        begun.die()
        pytest.skip("this kernel has no tables with owners")
    commit = NftSocket.commit

    def noted(self: NftSocket, messages: Sequence[Message], generation: int | None = None) -> None:
        commit(self, messages, generation)
        begun.note(messages)

    monkeypatch.setattr(NftSocket, "commit", noted)
    yield begun
    begun.now.remove()
    begun.die()


def named_contents() -> set[bytes]:
    """What the kernel says of the contents of sets."""
    with closing(NftablesBackend(protect=False)) as other:
        return {key for key, _ in other._reader.elements(CONTENTS)}


@pytest.mark.parametrize("how", [Processes.follow, Processes.follow_with_socket])
def test_nothing_is_sent_of_what_has_not_changed(
    processes: Processes, how: Callable[[Processes], None]
) -> None:
    """Neither of lists nor of policies, by the first next process or the second."""
    wanted = blocking({"drop": DROP}, "@drop=0", "0=@drop", "192.0.2.0/24=0", "*=0:1434:UDP")
    processes.apply(wanted)
    assert len(processes.sent) > 4
    before = sets()
    for _ in range(2):
        how(processes)
        processes.apply(wanted)
        assert not processes.sent
        assert sets() == before


def ban(address: str) -> tuple[Delta, Volatile]:
    """What a ban of an address comes to, where there is none before."""
    volatile = Volatile()
    origin = Origin("dynamic", "", address)
    block = InForce(origin, parse_filter(f"{address}=0"), Action.BLOCK)
    return volatile.change(add=rows_of([block])), volatile


def test_bans_are_noted_when_they_pause(processes: Processes) -> None:
    """What nobody has changed since is relied on; if the process dies before, all is sent anew."""
    wanted = blocking({"drop": DROP}, "@drop=0", "192.0.2.0/24=0")
    processes.apply(wanted)
    processes.now.change(*ban("198.51.100.1"))
    noted = processes.record.content
    delta, volatile = ban("198.51.100.2")
    processes.now.change(delta, volatile)
    assert processes.record.content == noted
    processes.now.is_stale()
    assert processes.record.content != noted
    processes.follow()
    processes.apply(wanted)
    assert not processes.sent
    processes.now.change(*ban("198.51.100.3"))
    processes.now.change(*ban("198.51.100.4"))
    processes.follow()
    processes.apply(wanted)
    assert processes.sent


def test_a_long_list_costs_a_start_what_a_short_one_does(processes: Processes) -> None:
    """What is sent in all does not depend on how many entries there are."""
    sums = []
    for count in (10, 100_000):
        wanted = blocking({"drop": hosts(10 << 24, count)}, "@drop=0")
        processes.apply(wanted)
        processes.follow()
        processes.apply(wanted)
        sums.append(processes.bytes_sent)
    assert sums[0] == sums[1]


def test_of_a_list_that_changed_only_that_part_is_sent(processes: Processes) -> None:
    """Of one length and IP version, as a set has it; with the policy that names it likewise."""
    processes.apply(blocking({"drop": DROP}, "@drop=0", "192.0.2.0/24=0"))
    processes.follow()
    changed = entries("10.1.0.1", "10.1.0.3", "10.2.0.0/16", "[2001:db8::]/32")
    processes.apply(blocking({"drop": changed}, "@drop=0", "192.0.3.0/24=0"))
    assert {name for name in processes.sent if name.startswith("list_")} == {"list_drop_ip4_32"}
    assert len([name for name in processes.sent if name.startswith("policy_")]) == 1
    ours = {name.rpartition("_g")[0]: elements for name, elements in sets().items()}
    assert set(map(str, ours["list_drop_ip4_32"])) == {"10.1.0.1", "10.1.0.3"}


def test_what_changed_in_place_is_relied_on_as_it_is(processes: Processes) -> None:
    """The name of the content goes and comes with the elements."""
    after = entries("10.1.0.1", "10.1.0.3", "10.3.0.0/16", "[2001:db8::]/32")
    processes.apply(blocking({"drop": DROP}, "@drop=0"))
    processes.apply(blocking({"drop": after}, "@drop=0"))
    processes.follow()
    processes.apply(blocking({"drop": after}, "@drop=0"))
    assert not processes.sent
    processes.follow()
    processes.apply(blocking({"drop": DROP}, "@drop=0"))
    assert set(processes.sent) == {"list_drop_ip4_32", "list_drop_ip4_16"}


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("wanted", ["before", "after"])
def test_a_change_that_was_cut_in_the_middle_is_not_relied_on(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, wanted: str, *, counted: bool
) -> None:
    """Between the transactions of a change the set holds neither the old nor the new content.

    Not where the kernel does not say how many elements a set has either.
    """
    if not counted:
        monkeypatch.setattr(reading, "_SET_COUNT", -1)
    states = {
        "before": blocking({"drop": entries("10.1.0.1", "10.1.0.2")}, "@drop=0"),
        "after": blocking({"drop": entries("10.1.0.1", "10.1.0.3")}, "@drop=0"),
    }

    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    processes.apply(states["before"])
    with monkeypatch.context() as patched:
        patched.setattr(backend_module, "wait_for_packets", kill)
        with pytest.raises(Killed):
            processes.apply(states["after"])
    ((_, elements),) = sets().items()
    assert len(elements) == 3
    processes.follow()
    processes.apply(states[wanted])
    assert set(processes.sent) == {"list_drop_ip4_32"}
    ((_, elements),) = sets().items()
    assert len(elements) == 2


@pytest.mark.parametrize("parts", [3, 4])
def test_a_set_that_is_half_full_is_not_relied_on(processes: Processes, parts: int) -> None:
    """A process that dies while it loads a large set beforehand leaves a part of it."""

    class Killed(BaseException):
        pass

    def until_killed(work: Callable[[], T]) -> T:
        nonlocal parts
        result = work()
        parts -= 1
        if parts < 0:
            raise Killed
        return result

    processes.apply(blocking({}, "@drop=0"))
    wanted = blocking({"drop": hosts(10 << 24, 8 * LARGE)}, "@drop=0")
    with pytest.raises(Killed):
        processes.now.prepare(wanted, until_killed)
    ((_, elements),) = sets().items()
    assert 0 < len(elements) < 8 * LARGE
    processes.follow()
    processes.apply(wanted)
    assert "list_drop_ip4_32" in processes.sent
    ((_, elements),) = sets().items()
    assert len(elements) == 8 * LARGE


@pytest.mark.parametrize("wanted", [many(3 * LARGE, 1), many(3 * LARGE, 50)], ids=["plain", "map"])
def test_sets_of_policies_stay_too(processes: Processes, wanted: Classifier) -> None:
    """Those of several rules, which map keys to counters, and those of one."""
    processes.apply(wanted)
    processes.follow()
    processes.apply(wanted)
    assert not processes.sent
    other = many(3 * LARGE, len(wanted.origins), start=(10 << 24) + 1)
    processes.follow()
    processes.apply(other)
    assert processes.sent


def test_what_was_loaded_beforehand_is_relied_on(processes: Processes) -> None:
    """It is complete with its last part, whether rules used it or not."""
    wanted = blocking({"drop": hosts(10 << 24, 3 * LARGE)}, "@drop=0")
    processes.apply(blocking({}, "@drop=0"))
    processes.now.prepare(wanted, lambda work: work())
    processes.follow()
    processes.apply(wanted)
    assert "list_drop_ip4_32" not in processes.sent


def disturb() -> None:
    """Exchange an element for another while nobody owns the table: the number stays the same."""
    (name,) = (name for name in sets() if name.startswith("list_drop_ip4_32"))
    run("nft", "delete", "element", "inet", "ipsecd", name, "{ 10.1.0.1 }")
    run("nft", "add", "element", "inet", "ipsecd", name, "{ 10.1.0.9 }")


def test_what_somebody_changed_meanwhile_is_filled_anew(processes: Processes) -> None:
    """While no process owned the table anybody could."""
    wanted = blocking({"drop": DROP}, "@drop=0")
    processes.apply(wanted)
    processes.die()
    disturb()
    processes.follow()
    processes.apply(wanted)
    assert "list_drop_ip4_32" in processes.sent
    assert "10.1.0.9" not in str(sets())


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_somebody_changes_while_the_table_is_taken_is_filled_anew(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Whether just before the record is read, or just after."""
    wanted = blocking({"drop": DROP}, "@drop=0")
    processes.apply(wanted)
    processes.follow()
    read = processes.record.read

    def disturbed() -> tuple[int, int] | None:
        if moment == "before":
            disturb()
        content = read()
        if moment == "after":
            disturb()
        return content

    monkeypatch.setattr(processes.record, "read", disturbed)
    processes.apply(wanted)
    assert "list_drop_ip4_32" in processes.sent
    assert "10.1.0.9" not in str(sets())


def test_a_table_that_was_changed_and_then_only_held_is_filled_anew(processes: Processes) -> None:
    """A process without a policy protects the table, and leaves its socket to the next one."""
    wanted = blocking({"drop": DROP}, "@drop=0")
    processes.apply(wanted)
    processes.die()
    disturb()
    processes.follow()
    processes.now.adopt()
    assert "10.1.0.9" in str(sets())
    processes.follow_with_socket()
    processes.apply(wanted)
    assert "list_drop_ip4_32" in processes.sent
    assert "10.1.0.9" not in str(sets())


def test_a_table_that_was_only_held_is_relied_on(processes: Processes) -> None:
    """Where nobody has changed it before that."""
    wanted = blocking({"drop": DROP}, "@drop=0")
    processes.apply(wanted)
    processes.follow()
    processes.now.adopt()
    processes.follow_with_socket()
    processes.apply(wanted)
    assert not processes.sent


def test_transactions_of_others_are_followed_while_the_table_is_owned(
    processes: Processes,
) -> None:
    """They cannot have been about ours, so they do not matter."""
    wanted = blocking({"drop": DROP}, "@drop=0")
    processes.apply(wanted)
    run("nft", "add", "table", "inet", "other")
    processes.now.is_stale()
    processes.follow()
    processes.apply(wanted)
    assert not processes.sent
    run("nft", "delete", "table", "inet", "other")
    processes.follow()
    processes.apply(wanted)
    assert processes.sent


def test_a_table_that_was_flushed_is_filled_anew(processes: Processes) -> None:
    """Also if one of the same name is there again."""
    wanted = blocking({"drop": DROP}, "@drop=0")
    processes.apply(wanted)
    processes.die()
    run("nft", "flush", "ruleset")
    run("nft", "add", "table", "inet", "ipsecd")
    processes.follow()
    processes.apply(wanted)
    assert "list_drop_ip4_32" in processes.sent


@pytest.mark.parametrize("content", [None, "another namespace"])
def test_without_a_record_that_fits_all_is_filled_anew(
    processes: Processes, content: str | None
) -> None:
    """The number of a transaction says something only in one network namespace."""
    wanted = blocking({"drop": DROP}, "@drop=0")
    processes.apply(wanted)
    assert processes.record.content is not None
    namespace, generation = processes.record.content
    processes.record.content = (namespace + 1, generation) if content else None
    processes.follow()
    processes.apply(wanted)
    assert "list_drop_ip4_32" in processes.sent


def test_where_tables_have_no_owners_all_is_filled_anew(processes: Processes) -> None:
    """Anybody may have changed anything, at any time."""
    wanted = blocking({"drop": DROP}, "@drop=0")
    for _ in range(2):
        processes.die()
        processes.now = NftablesBackend(protect=False, record=processes.record)
        processes.apply(wanted)
        assert "list_drop_ip4_32" in processes.sent
    assert processes.record.content is None


def test_what_is_gone_is_not_named_any_more(processes: Processes) -> None:
    """A later set may have the same name, and hold something else."""
    processes.apply(blocking({"drop": DROP}, "@drop=0"))
    processes.apply(blocking({}, "*=0:1434:UDP"))
    tables = run("nft", "list", "sets", "inet")
    names = {word for word in tables.split() if word.startswith(("list_", "policy_"))}
    assert names
    assert {key[:16] for key in named_contents()} == set(map(contents.name_part, names))


def test_drift_has_all_filled_anew(processes: Processes) -> None:
    """What a process itself found changed it does not rely on."""
    wanted = blocking({"drop": DROP}, "@drop=0")
    processes.apply(wanted)
    processes.now._drifted = True
    processes.apply(wanted)
    assert "list_drop_ip4_32" in processes.sent
    processes.follow()
    processes.apply(wanted)
    assert not processes.sent


def test_the_kernel_takes_a_transaction_only_with_the_number_that_is_said(
    processes: Processes,
) -> None:
    """Another one in between, of anybody, and it changes nothing."""
    processes.apply(blocking({}, "*=0:1434:UDP"))
    generation = processes.now._reader.generation()
    run("nft", "add", "table", "inet", "other")
    chain = nft.new_chain("ipsecd", "late")
    with pytest.raises(KernelError) as refused:
        processes.now._socket.commit([chain], generation)
    assert refused.value.errno == ERESTART
    assert "late" not in processes.now._reader.chains()
    processes.now._socket.commit([chain], generation + 1)
    assert "late" in processes.now._reader.chains()


@pytest.mark.parametrize(("elements", "stays"), [(2, True), (None, True), (1, False), (3, False)])
def test_a_set_of_another_number_of_elements_is_not_taken(
    elements: int | None, *, stays: bool
) -> None:
    """Where the kernel says the number, it has to be right."""
    wanted = blocking({"drop": entries("10.1.0.1", "10.1.0.2")}, "@drop=0")
    name = "list_drop_ip4_32_g7"
    (form,) = wanted.lists["drop"].entries
    named = {contents.key_of(name, wanted.lists["drop"].digest_of(form))}
    held = LeftSets({name: SetDescription(2000, elements)}, named).held(wanted, ())
    assert [(s.set_name, s.size) for s in held.lists.values()] == ([(name, 2000)] if stays else [])


def test_two_lists_never_share_a_set() -> None:
    """Though nft has one name for both, and they hold the same now."""
    same = entries("10.1.0.1")
    wanted = blocking({"a-b": same, "a_b": same}, "@a-b=0", "@a_b=0")
    (form,) = same.entries
    names = ["list_a_b_ip4_32_g1", "list_a_b_ip4_32_g2"]
    named = {contents.key_of(name, same.digest_of(form)) for name in names}
    for there in (names[:1], names):
        described = {name: SetDescription(1025, 1) for name in there}
        held = LeftSets(described, named).held(wanted, ())
        assert sorted(s.set_name for s in held.lists.values()) == there
