"""The record of what was dropped: by minute, rule and source, with some packets."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import recorded
from ipsecd.engine.recorder import dropped as dropped_module
from ipsecd.engine.recorder import drops as drops_module
from ipsecd.engine.recorder import minutes as minutes_module
from ipsecd.engine.recorder.minutes import Counts
from ipsecd.errors import InvalidInput
from ipsecd.language.addresses import format_value
from ipsecd.language.moments import format_moment
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action
from ipsecd.model.packets import Packet, Point
from ipsecd.model.sightings import LINK_RAW, Sighting
from ipsecd.model.values import Origin
from ipsecd.sources.ring import Json
from tests.engine.recorded_host import ME, SECOND, RecordedHost
from tests.engine.test_recorder import NoRoom, NoSync

WORM, OTHER = "worm", "other\x1b[2J"
MINUTE = 61 * SECOND


def sighting(source: str, rule: str | None = WORM, length: int = 100, at: int = 0) -> Sighting:
    address = ip_address(source)
    family = Family(address.version)
    packet = Packet(Point.ARRIVING, family, int(address), ME, 17, 4000, 1434)
    origin = Origin("dynamic", "", rule) if rule else None
    return Sighting(
        at, Action.BLOCK, origin, None, "", None, Point.ARRIVING, "eth0", packet, "", length, b"",
        LINK_RAW,
    )  # fmt: skip


def sample(seen: Sighting) -> Json:
    """A packet as a type of the interface would have it, of which only this is looked at."""
    nothing = dict.fromkeys(
        ("filter", "list", "entry", "interface", "icmp", "flags", "process", "container")
    )
    origin = seen.origin
    return {
        **nothing,
        "at": format_moment(seen.at_ns),
        "action": seen.action.value,
        "store": origin.store if origin else None,
        "policy": origin.policy if origin else None,
        "rule": origin.rule if origin else None,
        "direction": "in",
        "packet": "udp",
        "protocol": "udp",
        "source": format_value(seen.packet.family, seen.packet.source),
        "source_port": 4000,
        "destination": "10.9.0.1",
        "destination_port": 1434,
        "length": seen.length,
        "head": "",
        "link_type": 101,
    }


class DroppingHost(RecordedHost):
    """A host whose recorder is told of packets, and whose rules count what they drop."""

    counts: Counts | None = None

    def recording(self) -> None:
        self.begun = self.now
        super().recording()
        self.engine.recorder.drops.to_json = sample

    def counted(self) -> Counts | None:
        return self.counts

    def tell(self, sightings: Iterable[Sighting], blocked: int = 0, lost: int = 0) -> None:
        self.engine.recorder.drops.take(tuple(sightings), blocked, lost)

    def minute(self) -> None:
        """Have a minute be over and written."""
        self.write()
        self.clocks.tick(MINUTE)
        self.write()

    def drops(self, since: int | None = None, **given: Any) -> dict[str, Any]:
        at = self.begun if since is None else since
        parameters = {"until": format_moment(self.now), "rule": None, "address": None, **given}
        return self.call("Drops", since=format_moment(at), **parameters)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DroppingHost:
    return DroppingHost(tmp_path, monkeypatch)


LONG_AGO, IN_THIS_MINUTE = 0.0, 4e9


def worm(packets: int, size: int, store: str = "dynamic", since: float = LONG_AGO) -> Counts:
    return {("block", store, "", WORM): (packets, size, since)}


def test_a_minute_ends_when_somebody_asks(host: DroppingHost) -> None:
    """What was dropped a moment ago is told, and not told twice when the minute is over."""
    host.counts = worm(1000, 100_000)
    host.minute()
    host.counts = worm(1003, 100_300)
    host.tell([sighting("203.0.113.7")] * 3, blocked=3)
    host.engine.recorder.drops.end_minute()
    host.write()
    assert [period["packets"] for period in host.drops()["periods"]] == [3]
    host.minute()
    assert [period["packets"] for period in host.drops()["periods"]] == [3]


def test_asking_again_and_again_pushes_nothing_out(host: DroppingHost) -> None:
    """Whoever may only look cannot have so many minutes written that the older ones go."""
    host.write()
    for number in range(1000):
        host.tell([sighting("203.0.113.7")], blocked=number + 1)
        host.clocks.tick(SECOND // 10)
        host.engine.recorder.drops.end_minute()
        host.write()
    ring = host.engine.recorder.drops.ring
    written = [r for n in ring.numbers for r in ring.contents(n).records if r["kind"] == "minute"]
    assert 30 <= len(written) <= 30 + 100 // 20 + 100 // 60
    host.minute()
    assert host.drops()["blocked"] == 1000


def test_samples_of_many_rules_take_no_more_room(
    host: DroppingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host with thousands of bans has samples of each; few are held while they are read."""
    for number in range(20):
        rules = [f"dynamic-{number * 30 + each}" for each in range(60)]
        seen = [sighting("203.0.113.7", rule, at=host.now) for rule in rules for _ in range(3)]
        host.tell(seen, blocked=(number + 1) * len(seen))
        host.minute()
    everything = host.drops()["samples"]
    held: list[int] = []
    latest = dropped_module._latest

    def counted(samples: Any) -> Any:
        held.append(sum(map(len, samples.values())))
        return latest(samples)

    monkeypatch.setattr(dropped_module, "_latest", counted)
    monkeypatch.setattr(dropped_module, "MOST_HELD", 300)
    assert host.drops()["samples"] == everything
    assert len(everything) == dropped_module.MOST_SAMPLES
    assert len(held) > 5
    assert max(held) <= 300 + dropped_module.MOST_SAMPLES


def test_counters_say_how_much_and_sightings_from_where(host: DroppingHost) -> None:
    """What was before the counters were read first is not told as dropped since."""
    host.counts = worm(1000, 100_000)
    host.minute()
    host.counts = worm(1500, 150_000)
    many, few = sighting("203.0.113.7"), sighting("203.0.113.9", length=50)
    host.tell([many] * 30 + [few] * 10, 500, 460)
    host.minute()
    reply = host.drops()
    (period,) = reply["periods"]
    assert (period["rule"], period["packets"], period["bytes"]) == (WORM, 500, 50_000)
    assert (period["seen"], period["seen_bytes"]) == (40, 3500)
    assert [(each["source"], each["packets"], each["bytes"]) for each in reply["sources"]] == [
        ("203.0.113.7", 30, 3000),
        ("203.0.113.9", 10, 500),
    ]
    assert (reply["blocked"], reply["lost"]) == (500, 460)


def test_a_rule_or_an_address_can_be_asked_for(host: DroppingHost) -> None:
    """Of an address only what was seen is known; a network has all of its addresses."""
    host.minute()
    host.tell(
        [
            *[sighting("203.0.113.7")] * 3,
            *[sighting("203.0.114.7", OTHER)] * 2,
            sighting("2001:db8::7", None),
        ],
        6,
    )
    host.minute()
    assert {each["rule"]: each["seen"] for each in host.drops()["periods"]} == {
        WORM: 3,
        OTHER: 2,
        None: 1,
    }
    of_rule = host.drops(rule=OTHER)
    assert [each["source"] for each in of_rule["sources"]] == ["203.0.114.7"]
    assert {each["rule"] for each in of_rule["samples"]} == {OTHER}
    for address, rules in (
        ("203.0.113.7", [WORM]),
        ("203.0.113.0/24", [WORM]),
        ("2001:db8::/32", [None]),
        ("[2001:db8::7]", [None]),
        ("0.0.0.0/0", [WORM, OTHER]),
        ("198.51.100.1", []),
    ):
        reply = host.drops(address=address)
        assert sorted(str(each["rule"]) for each in reply["periods"]) == sorted(map(str, rules))
        assert {each["rule"] for each in reply["samples"]} == set(rules)
    for wrong in ("me", "@drop", "x", "203.0.113.7/33"):
        with pytest.raises(InvalidInput):
            host.drops(address=wrong)
    with pytest.raises(InvalidInput, match="is not after"):
        host.drops(since=host.now + SECOND)


def test_a_time_has_the_minutes_that_share_any_of_it(host: DroppingHost) -> None:
    """It is divided into few periods, and times before and after it do not count."""
    moments = []
    for number in range(4):
        host.tell([sighting("203.0.113.7")] * (number + 1))
        moments.append(host.now)
        host.minute()
    assert [each["seen"] for each in host.drops()["periods"]] == [1, 2, 3, 4]
    assert [each["seen"] for each in host.drops(since=moments[2])["periods"]] == [3, 4]
    until = format_moment(moments[1])
    assert [each["seen"] for each in host.drops(until=until)["periods"]] == [1, 2]
    day = host.drops(since=host.begun - 86_400 * SECOND)
    assert (day["period_s"], sum(each["seen"] for each in day["periods"])) == (3600, 10)


def test_a_flood_does_not_push_out_what_is_rare(host: DroppingHost) -> None:
    """Sources and samples are shared by the rules, and the heaviest sources of a rule stay."""
    flood = [sighting(f"10.0.{n >> 8 & 255}.{n & 255}") for n in range(9000)]
    heavy = [sighting("203.0.113.7")] * 500
    host.tell([*flood[:4500], *heavy, *flood[4500:], sighting("203.0.113.9", OTHER)])
    host.minute()
    reply = host.drops()
    assert sum(each["seen"] for each in reply["periods"]) == 9501
    sources = {(each["rule"], each["source"]): each["packets"] for each in reply["sources"]}
    assert len(sources) == 1000
    assert (sources[WORM, "203.0.113.7"], sources[OTHER, "203.0.113.9"]) == (500, 1)
    rules = [each["rule"] for each in reply["samples"]]
    assert (rules.count(WORM), rules.count(OTHER)) == (20, 1)


def test_what_waits_is_bounded_and_the_rest_is_lost(
    host: DroppingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever tells of packets is never kept waiting; the loss is told."""
    monkeypatch.setattr(drops_module, "MOST_WAITING", 5)
    host.tell([sighting("203.0.113.7")] * 9, 9)
    host.minute()
    reply = host.drops()
    assert (reply["periods"][0]["seen"], reply["blocked"], reply["lost"]) == (5, 9, 4)


def test_of_very_many_rules_only_the_counters_say(
    host: DroppingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minutes_module, "MOST_RULES", 2)
    host.counts = {}
    host.minute()
    names = [f"r{number}" for number in range(4)]
    host.counts = {("block", "dynamic", "", name): (1, 100, IN_THIS_MINUTE) for name in names}
    host.tell(sighting("203.0.113.7", name) for name in names)
    host.minute()
    rows = {each["rule"]: (each["packets"], each["seen"]) for each in host.drops()["periods"]}
    assert rows == {"r0": (1, 1), "r1": (1, 1), "r2": (1, 0), "r3": (1, 0)}


def test_counters_that_begin_anew_count_from_nothing(host: DroppingHost) -> None:
    """As after a reboot, or with a rule that was removed and made again."""
    host.counts = worm(1000, 100_000)
    host.minute()
    host.counts = worm(10, 1000)
    host.minute()
    assert host.drops()["periods"][0]["packets"] == 10


def test_a_rule_that_comes_back_with_its_count_is_not_counted_again(host: DroppingHost) -> None:
    """Counts are kept while a policy is not assigned."""
    host.counts = worm(1000, 100_000, "static")
    host.minute()
    host.counts = {}
    host.minute()
    host.counts = worm(1003, 100_300, "static")
    host.minute()
    assert [each["packets"] for each in host.drops()["periods"]] == [3]


def test_a_count_that_was_kept_from_long_ago_is_not_told_as_of_now(host: DroppingHost) -> None:
    """As of a policy that is assigned again, which was not when the daemon was started."""
    host.counts = {}
    host.minute()
    host.counts = worm(1_000_000, 100_000_000, "static")
    host.tell([sighting("203.0.113.7")], 1)
    host.minute()
    assert [(each["packets"], each["seen"]) for each in host.drops()["periods"]] == [(None, 1)]
    host.counts = worm(1_000_003, 100_000_300, "static")
    since = host.now
    host.minute()
    assert [each["packets"] for each in host.drops(since)["periods"]] == [3]


def test_a_dynamic_rule_that_was_left_out_for_a_while_is_not_counted_from_before(
    host: DroppingHost,
) -> None:
    """As where they had become very many."""
    host.counts = worm(1000, 100_000)
    host.minute()
    host.counts = {}
    host.minute()
    host.counts = worm(5000, 500_000)
    host.minute()
    assert host.drops()["periods"] == []
    host.counts = worm(5002, 500_200)
    host.minute()
    assert [each["packets"] for each in host.drops()["periods"]] == [2]


def test_a_rule_that_was_made_again_counts_from_nothing(host: DroppingHost) -> None:
    """Even if it has matched more than the one before it."""
    host.counts = worm(5, 500)
    host.minute()
    host.counts = worm(100, 10_000, since=IN_THIS_MINUTE)
    host.minute()
    assert [each["packets"] for each in host.drops()["periods"]] == [100]


def test_counters_that_cannot_be_read_leave_what_was_seen(host: DroppingHost) -> None:
    host.tell([sighting("203.0.113.7")], 1)
    host.minute()
    assert (host.drops()["periods"][0]["packets"], host.drops()["periods"][0]["seen"]) == (None, 1)


def test_a_quiet_minute_takes_no_room(host: DroppingHost, tmp_path: Path) -> None:
    for _ in range(5):
        host.minute()
    assert not (tmp_path / "lib/recorder/drops").exists()


def test_the_record_outlives_the_daemon(host: DroppingHost) -> None:
    """What there is of the last minute is written when it ends."""
    begun = host.begun
    host.tell([sighting("203.0.113.7")], 1)
    host.minute()
    host.tell([sighting("203.0.113.8")], 2)
    host.engine.close()
    host.killed()
    sources = [each["source"] for each in host.drops(since=begun)["sources"]]
    assert sorted(sources) == ["203.0.113.7", "203.0.113.8"]
    host.tell([sighting("203.0.113.9")], 1)
    host.minute()
    reply = host.drops(since=begun)
    assert (len(reply["sources"]), reply["blocked"]) == (3, 3)


def test_a_full_disk_loses_minutes_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = NoRoom()
    host = DroppingHost(tmp_path, monkeypatch, disk)
    host.tell([sighting("203.0.113.7")], 1)
    host.write()
    disk.is_full = True
    host.minute()
    assert "the flight recorder cannot write" in host.engine.warnings[0]
    disk.is_full = False
    host.tell([sighting("203.0.113.8")], 2)
    host.minute()
    host.minute()
    assert not host.engine.warnings
    assert [each["source"] for each in host.drops()["sources"]] == ["203.0.113.8"]


def test_a_disk_that_cannot_write_to_the_end_is_not_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each minute that could not be written nothing stays."""
    disk = NoSync()
    host = DroppingHost(tmp_path, monkeypatch, disk)
    disk.is_bad = True
    for _ in range(5):
        host.tell([sighting("203.0.113.7")])
        host.minute()
        host.clocks.tick(6 * SECOND)
    assert [*(tmp_path / "lib/recorder/drops").iterdir()] == []
    assert len([*(tmp_path / "lib/recorder/states").iterdir()]) == 1
    assert "cannot write" in host.engine.warnings[0]
    disk.is_bad = False
    host.clocks.tick(6 * SECOND)
    host.tell([sighting("203.0.113.8")])
    host.minute()
    assert [each["source"] for each in host.drops()["sources"]] == ["203.0.113.8"]
    assert not host.engine.warnings


def test_minutes_before_a_boot_whose_clock_was_not_set_are_kept(host: DroppingHost) -> None:
    """As on a host whose clock has no battery."""
    host.tell([sighting("203.0.113.7")])
    host.minute()
    known = host.clocks.at
    host.clocks.set(0)
    host.killed()
    for last, at in ((8, 0), (9, known)):
        host.clocks.set(at + 120 * SECOND)
        host.tell([sighting(f"203.0.113.{last}")])
        host.minute()
    assert "203.0.113.7" in {each["source"] for each in host.drops()["sources"]}


def test_a_minute_whose_end_is_torn_is_as_if_it_had_never_been(
    host: DroppingHost, tmp_path: Path
) -> None:
    """At every byte; those before it are read."""
    for last in (7, 8):
        host.tell([sighting(f"203.0.113.{last}")])
        host.minute()
    (path,) = (tmp_path / "lib/recorder/drops").iterdir()
    content = path.read_bytes()
    seen = set()
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        seen.add(len(host.drops()["sources"]))
    assert seen == {0, 1, 2}
    for at in range(0, len(content), 3):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        assert len(host.drops()["sources"]) < 2


def test_the_oldest_minutes_go_when_there_is_no_more_room(
    host: DroppingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drops_module, "FILE_BYTES", 1)
    host.engine.recorder.drops._most_bytes = 3000
    for last in range(30):
        host.tell([sighting(f"203.0.113.{last}")])
        host.minute()
    sources = {each["source"] for each in host.drops()["sources"]}
    assert 1 < len(sources) < 29
    assert "203.0.113.29" in sources
    size = sum(path.stat().st_size for path in (tmp_path / "lib/recorder/drops").iterdir())
    assert size <= 3000


def test_the_counters_of_rules_that_drop_are_read(
    host: DroppingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many dynamic rules they are left out; what permits never counts."""
    host.block("203.0.113.7=0")
    permit: dict[str, Any] = {"filters": ["203.0.113.8=0"], "action": "permit"}
    permit |= {"ttl_s": None, "until": None}
    host.call("AddDynamicRules", name="p", existing="replace", **permit)
    of = ("block", "dynamic", "", "203.0.113.7=0")
    (blocks, _) = host.engine.dynamic
    since = blocks.created
    assert recorded.counted(host.engine) == {of: (0, 0, since)}
    monkeypatch.setattr(recorded, "MOST_DYNAMIC_RULES", 1)
    assert recorded.counted(host.engine) == {}
    host.call("Stop")
    assert recorded.counted(host.engine) == {}
