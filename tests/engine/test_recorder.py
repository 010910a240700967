"""The flight recorder: what was in force at any moment, since when, and by whom."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipsecd.config import Config
from ipsecd.control import Control
from ipsecd.control import explain as explain_module
from ipsecd.engine.caller import Caller, ChangeOptions
from ipsecd.engine.recorder import journal as journal_module
from ipsecd.engine.recorder.past import past_at
from ipsecd.errors import InvalidInput, IpsecdError, NotFound, Refused
from ipsecd.language.addresses import parse_address
from ipsecd.language.documents import format_policy
from ipsecd.language.moments import format_moment
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.lists import AddressList, Form, listed
from ipsecd.sources.files import Disk
from ipsecd.sources.ring import is_over
from tests.engine.changing_host import policy
from tests.engine.effects import Crash, Fate, FatefulDisk
from tests.engine.recorded_host import ME, NOON, OTHER_ME, SECOND, Clocks, RecordedHost, around

PACKETS = (
    "udp 203.0.113.7:4000 > 10.9.0.1:1",
    "udp 203.0.113.7:4000 > 10.9.0.2:2",
    "tcp 203.0.113.9 > 10.9.0.1:3 in eth0",
    "tcp 10.9.0.1:4 > 203.0.113.7:2",
    "udp 10.88.0.2:4 > 203.0.113.7:2 in eth0",
    "icmp 203.0.113.8 > 10.9.0.1",
)
FILTERS = (
    *(f"*=0:{port}:{protocol}" for port in (1, 2, 3) for protocol in ("UDP", "TCP")),
    "203.0.113.7=0",
    "203.0.113.0/24+0",
    "@drop=0",
    "@other=*:2:UDP",
    "container:web=*:2:UDP",
    "0=*:2:TCP",
)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedHost:
    return RecordedHost(tmp_path, monkeypatch)


def entries(luck: Random) -> AddressList:
    lasts = luck.sample(range(5, 12), luck.randint(0, 4))
    return listed(Network(Family.IPV4, 0xCB007100 + last, 32) for last in lasts)


def inventory(luck: Random) -> Inventory:
    addresses = (Network(Family.IPV4, 0x0A580000 + luck.randint(1, 3), 32),)
    return Inventory((Container("a" * 64, "web", networks={"front": addresses}),))


def expire(host: RecordedHost) -> None:
    host.wait(6)
    host.engine.expire()


def kill(host: RecordedHost) -> None:
    host.write()
    host.killed()


def change(host: RecordedHost, luck: Random) -> None:
    """One change of those that decide about packets; some are refused."""
    text = luck.choice(FILTERS)
    action = luck.choice(("block", "permit"))
    kinds: tuple[Callable[[], object], ...] = (
        lambda: host.block(text),
        lambda: host.block(text, luck.choice((5.0, 50.0))),
        lambda: host.call(
            "AddDynamicRules",
            name=luck.choice("abc"),
            filters=luck.sample(FILTERS, 2),
            action=action,
            existing="replace",
            ttl_s=None,
            until=None,
        ),
        lambda: host.call("RemoveDynamic", selector=text),
        lambda: host.call("RemoveDynamic", selector=luck.choice("abc")),
        lambda: host.call("FlushDynamic") if luck.random() < 0.2 else None,
        lambda: host.apply(policy(luck.choice("AB"), *luck.sample(FILTERS, 3)), None),
        lambda: host.call("UnassignPolicy", name=None) if luck.random() < 0.3 else None,
        lambda: host.engine.list_changes.change({luck.choice(("drop", "other")): entries(luck)}),
        lambda: host.engine.list_changes.change({luck.choice(("drop", "other")): None}),
        lambda: host.engine.set_container_engine("podman", inventory(luck), "following", 0.0),
        lambda: host.move(around(*luck.sample((ME, OTHER_ME), luck.randint(1, 2)))),
        lambda: expire(host),
        lambda: host.call("Stop") if luck.random() < 0.2 else host.call("Start"),
        host.write,
        lambda: kill(host) if luck.random() < 0.2 else None,
    )
    try:
        luck.choice(kinds)()
    except IpsecdError:
        return


@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 1 << 32))
def test_what_is_answered_later_is_what_was_answered_then(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """After a thousand changes, of any moment; whole files and differences say the same."""
    luck = Random(seed)
    monkeypatch.setattr("ipsecd.engine.recorder.journal.FILE_BYTES", luck.choice((1, 4000)))
    host = RecordedHost(tmp_path_factory.mktemp("host"), monkeypatch)
    answers: list[tuple[int, str, Any]] = []
    for _ in range(1000):
        change(host, luck)
        packet = luck.choice(PACKETS)
        answers.append((host.now, packet, answer(lambda: host.explain(packet))))  # noqa: B023
        host.clocks.tick(luck.randint(0, SECOND))
    for at, packet, told in luck.sample(answers, 150):
        assert answer(lambda: host.explain_at(at, packet)["explanation"]) == told  # noqa: B023


def answer(ask: Callable[[], Any]) -> Any:
    """What is answered, or why nothing is."""
    try:
        return ask()
    except IpsecdError as error:
        return error.message


WORM = "udp 203.0.113.7:4000 > 10.9.0.1:1"


def decision(host: RecordedHost, at: int, packet: str = WORM) -> str:
    verdict: str = host.explain_at(at, packet)["explanation"]["decision"]
    return verdict


def test_it_says_since_when_and_by_whom(host: RecordedHost) -> None:
    """The last change before the moment, and since when what decides was as it was."""
    before = host.now
    options = ChangeOptions(message="ticket 7", command="ipsecctl")
    caller = Caller(0, 12, "root", options, 1000, "ann", "ipsecctl")
    document = format_policy(policy("A", "*=0:1:UDP")).encode()
    parameters = {"assign": True, "dry_run": False}
    Control(host.engine).call("ApplyPolicy", parameters, "x", {}, document, caller=caller)
    applied = host.now
    host.block("203.0.113.99=0")
    blocked = host.now
    assert decision(host, before) == "permit"
    told = host.explain_at(applied, WORM)
    assert (told["change"]["by"], told["change"]["message"]) == (
        "uid 0 (root) pid 12 login ann ipsecctl",
        "ticket 7",
    )
    assert told["change"]["method"] == "ApplyPolicy"
    assert told["change"]["what"] == ["policy 'A' (static) is in force"]
    later = host.explain_at(blocked, WORM)
    assert later["change"]["what"] == ["block 203.0.113.99=0 as '203.0.113.99=0'"]
    assert later["decided"]["what"] == "policy 'A' (static)"
    assert later["decided"]["since"] == told["since"]
    assert later["decided"]["change"] == told["change"]
    of_rule = host.explain_at(blocked, "udp 203.0.113.99:1 > 10.9.0.1:9")["decided"]
    assert (of_rule["what"], of_rule["by"]) == ("rule '203.0.113.99=0'", "uid 0 (root)")


def test_what_changes_before_the_first_writing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine writes late, and what was in force since the start is known all the same."""
    host = RecordedHost(tmp_path, monkeypatch)
    with monkeypatch.context() as late:
        late.setattr(host, "write", lambda: None)
        host.clocks.tick(SECOND)
        host.killed()
        before = host.now
        host.block("*=0:1:UDP")
        blocked = host.now
    host.write()
    assert host.explain_at(before, WORM)["explanation"]["decision"] == "permit"
    assert host.explain_at(blocked, WORM)["explanation"]["decision"] == "block"


def test_a_moment_that_is_not_kept_is_refused_and_so_is_one_to_come(host: RecordedHost) -> None:
    with pytest.raises(NotFound, match="before what is kept"):
        host.explain_at(host.clocks.at - 3600 * SECOND, WORM)
    with pytest.raises(InvalidInput, match="still to come"):
        host.explain_at(host.clocks.at + 3600 * SECOND, WORM)
    with pytest.raises(InvalidInput, match="time zone"):
        host.call("ExplainAt", at="2026-11-24 14:03", packet=WORM)


def test_after_a_kill_it_says_from_when_to_when_nothing_was_recorded(host: RecordedHost) -> None:
    """What was in force before is answered, and that nobody knows better."""
    host.block("203.0.113.7=0")
    host.write()
    host.clocks.tick(60 * SECOND)
    killed = host.now
    host.clocks.tick(60 * SECOND)
    host.killed()
    told = host.explain_at(killed, WORM)
    assert told["explanation"]["decision"] == "block"
    assert "nothing was recorded from 2026-" in told["warnings"][0]
    assert "was not running, or had been killed: this is what was in force" in told["warnings"][0]
    assert not host.explain_at(host.now, WORM)["warnings"]


def test_while_a_change_is_not_written_nothing_is_said_of_what_came_after_it(
    host: RecordedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question waits for what was noted, but not for ever: then it is no answer from before."""
    before = host.now
    host.block("203.0.113.7=0")
    monkeypatch.setattr(host.engine.recorder, "written", lambda: None)
    assert decision(host, before) == "permit"
    with pytest.raises(Refused, match="has not written yet what changed before"):
        host.explain_at(host.now, WORM)

    def slow(noted: object, oldest: int) -> None:
        with pytest.raises(Refused, match="has not written yet"):
            host.explain_at(host.now, WORM)
        add(noted, oldest)

    journal = host.engine.recorder._journal
    add: Any = journal.add
    monkeypatch.setattr(journal, "add", slow)
    host.write()
    assert decision(host, host.now) == "block"


def test_a_rule_may_have_ended_while_nothing_was_recorded(host: RecordedHost) -> None:
    """The kernel ends rules by itself, so what the daemon left is not what there was later."""
    host.block("203.0.113.7=0", 30.0)
    host.write()
    assert not host.explain_at(host.now, WORM)["warnings"]
    host.clocks.tick(60 * SECOND)
    killed = host.now
    host.clocks.tick(60 * SECOND)
    host.killed()
    warnings = host.explain_at(killed, WORM)["warnings"]
    assert "rule '203.0.113.7=0' had an end, and may have ended by then" in warnings


def test_who_made_a_policy_is_known_after_the_daemon_was_started_again(
    host: RecordedHost,
) -> None:
    """As long as it is the same one; of another nobody knows who wrote it into the file."""
    host.apply(policy("A", "*=0:1:UDP"), None)
    told = host.explain_at(host.now, WORM)
    for _ in range(2):
        host.engine.close()
        host.killed()
        later = host.explain_at(host.now, WORM)
        assert later["decided"] == told["decided"]
        assert later["change"] is None
    host.engine.close()
    path = next((host.path / "etc/policies").glob("*.yaml"))
    path.write_text(path.read_text().replace("*=0:1:UDP", "*=0:1:udp"))
    host.killed()
    other = host.explain_at(host.now, WORM)["decided"]
    assert (other["what"], other["change"]) == ("policy 'A' (static)", None)
    assert other["since"] > told["decided"]["since"]


def test_after_a_stop_it_says_what_was_left_in_force(host: RecordedHost) -> None:
    host.block("203.0.113.7=0")
    host.engine.stop_on_purpose()
    host.engine.close()
    stopped = host.now
    host.killed()
    told = host.explain_at(stopped, WORM)
    assert told["explanation"]["decision"] == "permit"
    assert "had withdrawn everything when it ended" in told["warnings"][0]


def test_what_was_recorded_before_a_reboot_is_answered_after_it(host: RecordedHost) -> None:
    """Another boot has another clock of the boot, which begins anew."""
    host.block("203.0.113.7=0")
    blocked = host.now
    host.write()
    host.clocks.tick(300 * SECOND)
    host.clocks.boottime = 5 * SECOND
    host.reboot().start()
    host.recording()
    assert decision(host, blocked) == "block"
    assert decision(host, host.now) == "permit"


def test_a_clock_that_was_set_back_shows_a_moment_twice(host: RecordedHost) -> None:
    """The later of both is answered, and said to be that; what is over stays what it was."""
    host.block("203.0.113.7=0")
    host.clocks.tick(3600 * SECOND)
    blocked = host.now
    host.write()
    host.clocks.tick(600 * SECOND)
    ahead = host.now
    host.clocks.set(blocked - 600 * SECOND)
    host.call("RemoveDynamic", selector="203.0.113.7=0")
    host.clocks.tick(900 * SECOND)
    assert decision(host, blocked) == "permit"
    assert "showed that moment twice" in host.explain_at(blocked, WORM)["warnings"][0]
    assert decision(host, ahead - SECOND) == "block"
    assert decision(host, blocked - 900 * SECOND) == "block"


def test_a_clock_that_was_set_ahead_leaves_moments_that_never_were(host: RecordedHost) -> None:
    host.block("203.0.113.7=0")
    blocked = host.now
    host.write()
    host.clocks.set(blocked + 3600 * SECOND)
    host.call("RemoveDynamic", selector="203.0.113.7=0")
    told = host.explain_at(blocked + 1800 * SECOND, WORM)
    assert told["explanation"]["decision"] == "block"
    assert "the clock was set then" in told["warnings"][0]
    assert decision(host, host.now) == "permit"


def test_while_nothing_changes_it_is_written_that_nothing_did(host: RecordedHost) -> None:
    """So after a kill it is known to the minute how far the record goes."""
    host.clocks.tick(61 * SECOND)
    host.write()
    alive = host.clocks.at
    host.clocks.tick(3600 * SECOND)
    host.killed()
    warning = host.explain_at(alive + SECOND, WORM)["warnings"][0]
    assert f"from {format_moment(alive)[:19]}" in warning


def test_a_file_that_ends_at_any_byte_is_read_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers what was so when the part was written that is left, or that it is not kept."""
    host = RecordedHost(tmp_path, monkeypatch)
    marks = []
    for number in range(3):
        host.block(f"203.0.113.{number}=0")
        marks.append(host.now)
        host.write()
    (path,) = (tmp_path / "lib/recorder/states").iterdir()
    content = path.read_bytes()
    packets = [f"udp 203.0.113.{number}:4000 > 10.9.0.1:1" for number in range(3)]
    answers = set()
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        answers.add(tuple(answer_of(host, marks[-1], packet) for packet in packets))
    block, permit = "block", "permit"
    assert answers == {
        ("not kept",) * 3,
        (permit, permit, permit),
        (block, permit, permit),
        (block, block, permit),
        (block, block, block),
    }


def answer_of(host: RecordedHost, at: int, packet: str) -> str:
    recorder = host.engine.recorder
    try:
        past = past_at(recorder._ring, recorder._blobs, at, host.clocks.at)
    except NotFound:
        return "not kept"
    addresses = {
        each.filter.source.address for rule in past.state.dynamic for each in rule.in_force
    }
    return "block" if parse_address(packet.split()[1].partition(":")[0]) in addresses else "permit"


def test_any_damaged_byte_is_seen(host: RecordedHost, tmp_path: Path) -> None:
    """What is behind it is not read, and nothing else is made of it."""
    host.block("203.0.113.7=0")
    blocked = host.now
    host.write()
    (path,) = (tmp_path / "lib/recorder/states").iterdir()
    content = path.read_bytes()
    seen = set()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        seen.add(answer_of(host, blocked, WORM))
    assert seen == {"not kept", "permit"}


def test_a_killed_writer_leaves_the_record_before_it_or_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every effect on the disk, of a change and of another file that begins."""
    monkeypatch.setattr("ipsecd.engine.recorder.journal.FILE_BYTES", 1)
    number, seen = 0, set()
    while True:
        number += 1
        fate = Fate()
        host = RecordedHost(tmp_path / str(number), monkeypatch, FatefulDisk(fate))
        host.block("203.0.113.7=0")
        host.write()
        blocked = host.now
        for last in range(20, 30):
            host.block(f"203.0.113.{last}=0")
        host.apply(policy("A", "*=0:2:UDP"), None)
        host.engine.list_changes.change({"drop": listed([Network(Family.IPV4, 1 << 24, 8)])})
        applied = host.now
        fate.set(number, Crash(), after=bool(number % 2))
        try:
            host.write()
        except Crash:
            fate.set(0, Crash())
            host.clocks.tick(SECOND)
            host.killed()
            assert decision(host, blocked) == "block", number
            assert decision(host, host.now, "udp 198.51.100.1:1 > 10.9.0.1:2") == "block"
            seen.add(decision(host, applied, "udp 198.51.100.1:1 > 10.9.0.1:2"))
            continue
        break
    assert number > 4
    assert seen == {"block", "permit"}


def test_a_full_disk_is_told_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stretch without record is told later; what was there before is answered."""
    disk = NoRoom()
    host = RecordedHost(tmp_path, monkeypatch, disk)
    before = host.now
    disk.is_full = True
    host.block("203.0.113.7=0")
    host.write()
    missed = host.now
    assert "the flight recorder cannot write: No space left" in host.engine.warnings[0]
    assert host.explain(WORM)["decision"] == "block"
    disk.is_full = False
    host.clocks.tick(6 * SECOND)
    host.write()
    assert not host.engine.warnings
    assert decision(host, before) == "permit"
    assert decision(host, host.now) == "block"
    assert "could not write then" in host.explain_at(missed, WORM)["warnings"][0]


class NoRoom(Disk):
    """A disk on which the recorder finds no room."""

    is_full = False

    def append(self, path: Path, content: bytes) -> None:
        self._check(path)
        super().append(path, content)

    def write(self, path: Path, content: bytes, like: Path | None = None) -> None:
        self._check(path)
        super().write(path, content, like)

    def _check(self, path: Path) -> None:
        if self.is_full and "recorder" in path.parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class NoSync(Disk):
    """A disk that takes what the recorder writes, and then fails to keep it."""

    is_bad = False

    def append_durably(self, path: Path, content: bytes) -> None:
        if self.is_bad and "recorder" in path.parts:
            self.append(path, content)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        super().append_durably(path, content)


def test_long_contents_that_change_all_the_time_are_bounded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that names them is short, and they go with it."""
    host = RecordedHost(tmp_path, monkeypatch)
    host.engine.recorder._journal._most_bytes = 60_000
    luck, largest = Random(7), 0
    for number in range(60):
        numbers = luck.sample(range(1 << 16), 300)
        addresses = [f"203.0.{number >> 8}.{number & 255}=0" for number in numbers]
        host.apply(policy("A", "*=0:1:UDP", *addresses), None)
        at = host.now
        host.write()
        files = (tmp_path / "lib/recorder").rglob("*")
        largest = max(largest, sum(path.stat().st_size for path in files if path.is_file()))
        assert host.explain_at(at, WORM)["change"], number
    assert 30_000 < largest < 70_000


def test_a_boot_whose_clock_was_not_set_loses_nothing(host: RecordedHost) -> None:
    """As on a host whose clock has no battery."""
    host.block("203.0.113.7=0")
    before = host.now
    host.clocks.tick(61 * SECOND)
    host.write()
    known = host.clocks.at
    off = host.now
    host.clocks.set(0)
    host.killed()
    host.clocks.tick(10 * SECOND)
    host.clocks.set(known + 60 * SECOND)
    host.write()
    host.clocks.tick(100 * SECOND)
    host.write()
    answer = host.explain_at(before, WORM)
    assert answer["explanation"]["decision"] == "block"
    assert answer["warnings"] == []
    (warning,) = host.explain_at(off, WORM)["warnings"]
    assert warning.startswith(f"nothing was recorded from {format_moment(known)[:19]}")
    assert f"to {format_moment(host.clocks.at)[:13]}" in warning


@pytest.mark.parametrize(
    ("begins", "over"),
    [
        ([10], False),
        ([10, 40], True),
        ([10, 60], False),
        ([10, 0], False),
        ([10, 0, 60], False),
        ([10, 0, 40], True),
        ([900, 40, 60], True),
        ([900, 60], False),
        ([10, 900, 40], True),
    ],
)
def test_a_file_is_over_when_another_begins(begins: list[int], over: bool) -> None:
    """A clock that was wrong meanwhile does not say when; now is 100, and 50 is too old."""
    assert is_over(begins, 100, 50) is over


def test_the_oldest_goes_when_there_is_no_more_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is whole, and contents go that no record names any more."""
    monkeypatch.setattr("ipsecd.engine.recorder.journal.FILE_BYTES", 1)
    host = RecordedHost(tmp_path, monkeypatch)
    host.engine.recorder._journal._most_bytes = 8000
    first = host.now
    moments = []
    for number in range(60):
        host.apply(policy("A", f"*=0:{number + 1}:UDP"), None)
        moments.append((host.now, f"udp 203.0.113.7:4000 > 10.9.0.1:{number + 1}"))
        host.write()
    with pytest.raises(NotFound, match="before what is kept"):
        host.explain_at(first, WORM)
    size = sum(path.stat().st_size for path in (tmp_path / "lib/recorder").rglob("*"))
    assert size < 20_000
    assert all(decision(host, at, packet) == "block" for at, packet in moments[-10:])


def test_what_is_too_old_goes(host: RecordedHost, tmp_path: Path) -> None:
    first = host.now
    for _ in range(3):
        host.killed()
        host.clocks.tick(4 * 86400 * SECOND)
    host.killed()
    with pytest.raises(NotFound):
        host.explain_at(first, WORM)
    assert len([*(tmp_path / "lib/recorder/states").iterdir()]) == 3


def test_very_many_changes_become_one_that_says_so(
    host: RecordedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits to be written is bounded; each before the bound is a change of its own."""
    monkeypatch.setattr("ipsecd.engine.recorder.recorder.MOST_NOTED", 3)
    moments = []
    for last in range(9):
        host.block(f"203.0.113.{last}=0")
        moments.append(host.now)
    assert decision(host, moments[0], "udp 203.0.113.0:1 > 10.9.0.1:1") == "block"
    assert decision(host, moments[0], "udp 203.0.113.1:1 > 10.9.0.1:1") == "permit"
    assert decision(host, moments[8], "udp 203.0.113.8:1 > 10.9.0.1:1") == "block"
    assert host.explain_at(moments[8], WORM)["warnings"] == [
        "the last change before it stands for 7 that followed each other"
    ]


def test_a_long_list_costs_little_when_it_changes(host: RecordedHost, tmp_path: Path) -> None:
    """Its content is kept once, and then what differs, in other files too."""
    many = AddressList(
        {Form(Family.IPV4, 32): b"".join(n.to_bytes(4, "big") for n in range(1 << 18))}
    )
    host.engine.list_changes.change({"drop": many})
    host.block("@drop=0")
    host.write()
    kept = sum(path.stat().st_size for path in (tmp_path / "lib/recorder/contents").iterdir())
    changed = many
    for address in range(100):
        come = listed([Network(Family.IPV4, 0xCB007100 + address, 32)])
        changed = changed.changed_in_few(AddressList(), come)
        host.engine.list_changes.change({"drop": changed})
    moment = host.now
    host.write()
    host.killed()
    later = sum(path.stat().st_size for path in (tmp_path / "lib/recorder/contents").iterdir())
    states = sum(path.stat().st_size for path in (tmp_path / "lib/recorder/states").iterdir())
    assert later < 2 * kept + 100
    assert states < 30_000
    assert decision(host, moment, "udp 203.0.113.99:1 > 10.9.0.1:1") == "block"


def test_entries_that_come_and_go_are_there_between(host: RecordedHost) -> None:
    """Each by a difference from the one before, also in a file that begins with a difference."""
    worm, other = 0xCB007107, 0xCB007109
    packets = (WORM, WORM.replace("113.7", "113.9"))
    host.block("@drop=0")
    moments = []
    for addresses in ((), (worm,), (worm, other), (other,), ()):
        networks = (Network(Family.IPV4, address, 32) for address in addresses)
        host.engine.list_changes.change({"drop": listed(networks)})
        moments.append((host.now, addresses))
    host.write()
    latest = host.engine.recorder._latest
    assert latest
    host.engine.recorder._journal.begin(host.clocks(), latest, "size")
    host.engine.list_changes.change({"drop": listed([Network(Family.IPV4, worm, 32)])})
    moments.append((host.now, (worm,)))
    for at, addresses in moments:
        expected = ["block" if each in addresses else "permit" for each in (worm, other)]
        assert [decision(host, at, packet) for packet in packets] == expected


def test_where_the_settings_want_none_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.engine.changing_host.Config", lambda: Config(recorder_bytes=0))
    host = RecordedHost(tmp_path, monkeypatch)
    host.block("203.0.113.7=0")
    host.write()
    assert not (tmp_path / "lib/recorder").exists()
    with pytest.raises(NotFound, match="recorder: off"):
        host.explain_at(host.now, WORM)


def test_a_record_that_an_earlier_version_wrote_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of version 1 of the form, as they were on disk."""
    first, second = NOON + 19_000, NOON + 44_000
    shutil.copytree(Path(__file__).parents[1] / "data/recorder-1", tmp_path / "lib/recorder")
    monkeypatch.setattr(Clocks, "begin", NOON + 3600 * SECOND)
    host = RecordedHost(tmp_path, monkeypatch)
    packets = (
        "udp 203.0.113.7:4000 > 10.9.0.1:9",
        "udp 203.0.113.8:4000 > 10.9.0.1:9",
        "udp 203.0.113.9:4000 > 10.9.0.1:9",
        "udp 203.0.113.8:4000 > 10.9.0.2:9",
        "udp container:web:1 > 198.51.100.1:2",
    )
    assert [decision(host, first, each) for each in packets[:4]] == [
        "block",
        "permit",
        "block",
        "permit",
    ]
    assert [decision(host, second, each) for each in packets[:4]] == [
        "permit",
        "block",
        "permit",
        "block",
    ]
    assert decision(host, first, packets[4]) == "block"
    told = host.explain_at(second, WORM)
    assert told["change"]["what"] == ["unblock 203.0.113.9=0"]
    reply = host.call("Drops", since=format_moment(NOON), until=format_moment(NOON + 3600 * SECOND))
    assert [(each["packets"], each["seen"]) for each in reply["periods"]] == [(5, 2)]
    assert len(reply["samples"]) == 2


def test_a_bug_in_what_writes_is_a_gap_and_no_wrong_answer(
    host: RecordedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole moment comes next, so nothing that follows lacks what was not written."""
    before = host.now
    monkeypatch.setattr(journal_module, "what_differs", wrong)
    host.call("AddDynamicRules", name="a", filters=["203.0.113.7=0"], **ALL)
    host.engine.set_container_engine("podman", inventory(Random(1)), "following", 0.0)
    with pytest.raises(RuntimeError):
        host.write()
    missed = host.now
    monkeypatch.undo()
    host.patch.setattr(explain_module, "read_host", host._read_host)
    host.clocks.tick(6 * SECOND)
    host.write()
    assert decision(host, before) == "permit"
    assert "could not write then" in host.explain_at(missed, WORM)["warnings"][0]
    assert decision(host, host.now) == "block"


ALL: dict[str, Any] = {"action": "block", "existing": "replace", "ttl_s": None, "until": None}


def wrong(*_: object) -> list[str]:
    raise RuntimeError("a bug")


def test_a_bug_in_what_notes_fails_no_change(
    host: RecordedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipsecd.engine.recorder.recorder.deed_of_now", wrong)
    host.block("203.0.113.7=0")
    assert host.explain(WORM)["decision"] == "block"
