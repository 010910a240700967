"""The file of dynamic rules: what is written is read again, and any bytes harm nothing else."""

from __future__ import annotations

import errno
import os
import shutil
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.language.addresses import parse_address
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Keyword, Network, Selector
from ipsecd.model.quarantine import Quarantine
from ipsecd.model.values import ALWAYS, Action
from ipsecd.sources import record_file
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.dynamic_file import BOOT_VARIABLE, DynamicFile, SavedDynamic, name_of_boot
from ipsecd.sources.files import Disk
from ipsecd.sources.names import with_addresses
from tests.strategies import conditions, rule_names, wide_filters

BOOT = "0123456789abcdef" * 2
NAMES = {"worm.example": (Network(Family.IPV4, 0xCB007107, 32), Network(Family.IPV6, 7, 128))}


def rule(name: str, text: str = "*=0:1:UDP", ends: float = inf) -> DynamicRule:
    filters = (with_addresses(parse_filter(text), NAMES),)
    return DynamicRule(name, filters, Action.BLOCK, ALWAYS, ends, 1.5, "uid 0 (root) pid 7")


def opened(path: Path, disk: Disk | None = None, boot: str = BOOT) -> DynamicFile:
    return DynamicFile(path, disk, boot)


def read(path: Path, boot: str = BOOT) -> list[DynamicRule]:
    """What the next daemon finds."""
    return list(opened(path, boot=boot).load(0).rules)


class FullDisk(Disk):
    """Takes so many more bytes, and then none; of the last piece it takes the beginning."""

    def __init__(self) -> None:
        self.bytes_left = 1 << 30

    def append(self, path: Path, content: bytes) -> None:
        super().append(path, content[: self.bytes_left])
        self._take(content)

    def write_for_this_boot(self, path: Path, content: bytes) -> None:
        path.write_bytes(content[: self.bytes_left])
        self._take(content)

    def _take(self, content: bytes) -> None:
        self.bytes_left -= len(content)
        if self.bytes_left < 0:
            self.bytes_left = 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


dynamic_rules = st.builds(
    DynamicRule,
    rule_names,
    st.lists(wide_filters(names=False), min_size=1, max_size=3).map(tuple),
    st.sampled_from(Action),
    conditions(),
    st.floats(0.5, 1e9) | st.just(inf),
    st.floats(0, 1e12),
    st.text(max_size=20),
)


@given(
    changes=st.lists(
        st.tuples(st.just("add"), dynamic_rules)
        | st.tuples(st.just("remove"), st.lists(rule_names, max_size=3))
        | st.tuples(st.just("clear"), st.none())
    ),
    spare=st.sampled_from([0, 1000]),
)
def test_the_next_daemon_reads_what_this_one_had(
    changes: list[tuple[str, object]], spare: int
) -> None:
    """Rules added, replaced and removed in any order, with every write anew or with none."""
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_file, "SPARE_LINES", spare)
        file, had = opened(Path(name)), dict[str, DynamicRule]()
        for what, subject in changes:
            if isinstance(subject, DynamicRule):
                file.added(subject)
                had[subject.name] = subject
            elif isinstance(subject, list):
                file.removed(subject)
                had = {key: rule for key, rule in had.items() if key not in subject}
            else:
                assert what == "clear"
                file.clear()
                had = {}
        assert not file.warnings
        assert sorted(read(Path(name)), key=lambda rule: rule.name) == sorted(
            had.values(), key=lambda rule: rule.name
        )


def test_names_keep_the_addresses_they_had(tmp_path: Path) -> None:
    """A DNS name is not looked up again: no server need answer after a crash."""
    kept = rule("worm", "worm.example=0:2:UDP", 77.25)
    opened(tmp_path).added(kept)
    assert read(tmp_path) == [kept]


@pytest.mark.parametrize("who", ["0", "container:web", "container:web@front", "label:app=shop"])
def test_quarantines_are_kept_beside_rules(tmp_path: Path, who: str) -> None:
    """With what the operator permits, and their ends."""
    cut_off = parse_address(who)
    assert cut_off is Keyword.ME or isinstance(cut_off, Selector)
    permits = (*rule("a", "worm.example+0:22:TCP").filters, parse_filter("10.0.0.0/8+0"))
    kept = Quarantine(who, cut_off, permits, 9.5, 1.5, "uid 0")
    file = opened(tmp_path)
    file.imposed(Quarantine(who, cut_off))
    file.imposed(kept)
    file.imposed(Quarantine("other", Keyword.ME))
    file.added(rule("other"))
    file.released(["other", "none"])
    assert opened(tmp_path).load(9) == SavedDynamic((rule("other"),), (kept,))
    assert opened(tmp_path).load(9.5) == SavedDynamic((rule("other"),))


def test_rules_that_have_ended_are_left_out(tmp_path: Path) -> None:
    """And the file forgets them with the next change."""
    first = opened(tmp_path)
    for name, ends in ("a", 5.0), ("b", 6.0), ("c", inf):
        first.added(rule(name, ends=ends))
    later = opened(tmp_path)
    assert [kept.name for kept in later.load(5.0).rules] == ["b", "c"]
    later.removed(["c"])
    assert (tmp_path / "dynamic").read_bytes().count(b"\n") == 2
    assert read(tmp_path) == [rule("b", ends=6.0)]


def test_rules_of_another_boot_are_none(tmp_path: Path) -> None:
    """Their ends are by another clock, and a reboot forgets them."""
    opened(tmp_path).added(rule("old"))
    later = opened(tmp_path, boot=BOOT[::-1])
    assert later.load(0) == SavedDynamic()
    assert not later.warnings
    later.added(rule("new"))
    assert read(tmp_path, BOOT[::-1]) == [rule("new")]
    assert read(tmp_path) == []


def test_the_file_stays_in_proportion(tmp_path: Path) -> None:
    """Rules that come and go do not pile up."""
    file = opened(tmp_path)
    sizes, had = [], set[str]()
    for number in range(5000):
        file.added(rule(f"r{number % 7}"))
        file.removed([f"r{number % 5}"])
        had = (had | {f"r{number % 7}"}) - {f"r{number % 5}"}
        sizes.append((tmp_path / "dynamic").stat().st_size)
    assert max(sizes) < 300_000
    assert {kept.name for kept in read(tmp_path)} == had


@pytest.mark.parametrize("what", ["a bit", "a cut", "a line twice", "a line gone", "nonsense"])
def test_damage_takes_only_what_cannot_be_read(tmp_path: Path, what: str) -> None:
    """Every byte in turn; what is left out is told, and the next change makes the file whole."""
    wanted = [rule(f"r{number}", f"*=0:{number + 1}:UDP") for number in range(3)]
    file = opened(tmp_path / "whole")
    for dynamic in wanted:
        file.added(dynamic)
    whole = (tmp_path / "whole/dynamic").read_bytes()
    lines = whole.splitlines(keepends=True)
    header = len(lines[0])
    path = tmp_path / "run"
    path.mkdir()
    for place in range(0, len(whole), 1 if what in ("a bit", "a cut") else 40):
        at = max(place, header)
        number = whole[:at].count(b"\n")
        content = {
            "a bit": whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :],
            "a cut": whole[:at],
            "a line twice": b"".join((*lines, lines[number])),
            "a line gone": b"".join(lines[:number] + lines[number + 1 :]),
            "nonsense": whole[:at] + b"\x00\xff{}\n" + whole[at:],
        }[what]
        (path / "dynamic").write_bytes(content)
        file = opened(path)
        loaded = list(file.load(0).rules)
        assert all(dynamic in wanted for dynamic in loaded), (what, at)
        lost = {"a cut": 4 - number, "a line twice": 0}.get(what, 2)
        assert len(loaded) >= 3 - lost, (what, at)
        if len(loaded) < 3 and what not in ("a line gone", "a cut"):
            assert "cannot be used: line" in file.warnings[0], (what, at)
        file.added(rule("more"))
        assert sorted(dynamic.name for dynamic in read(path)) == sorted(
            [*(dynamic.name for dynamic in loaded), "more"]
        )
        file.mend()
        assert not file.warnings


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not begin with a header"),
        (b"\x00" * 5000, "does not begin with a header"),
        (b"ipsecd names 1 " + BOOT.encode() + b"\n", "does not begin with a header"),
        (b"ipsecd dynamic 2 " + BOOT.encode() + b"\n", "another version of ipsecd wrote it"),
        (None, "not a regular file"),
    ],
)
def test_a_file_that_is_none_of_ours(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """It is told by name, and is no obstacle."""
    if content is None:
        (tmp_path / "dynamic").mkdir()
    else:
        (tmp_path / "dynamic").write_bytes(content)
    told: list[str] = []
    file = DynamicFile(tmp_path, None, BOOT, lambda message, _: told.append(message))
    assert file.load(0) == SavedDynamic()
    assert reason in told[0]
    assert reason in file.warnings[0]
    if content is not None:
        file.added(rule("a"))
        assert read(tmp_path) == [rule("a")]


OTHERS: tuple[object, ...] = (None, True, -1, 1e300, "x", "", [], [[]], {}, {"x": 1})


def test_records_of_any_shape(tmp_path: Path) -> None:
    """With a right checksum too: the record is left out by name, those beside it are not."""
    good = rule("good")
    file = opened(tmp_path)
    file.added(good)
    content = dict(file._file.load().records["rule good"])
    shapes = [{**content, key: value} for key in content for value in OTHERS]
    shapes += [{k: v for k, v in content.items() if k != key} for key in content]
    shapes += [{**content, "filters": [value]} for value in OTHERS]
    for number, shape in enumerate(shapes):
        file._file.put(f"rule s{number}", shape)
    file._file.put("sorcery", content)
    file._file.put("rule ", content)
    file._file.put("quarantine x", content)
    file._file.put("quarantine y", {**content, "who": "10.0.0.1"})
    again = opened(tmp_path)
    loaded = again.load(0).rules
    assert good in loaded
    assert len(loaded) + len(again.warnings) > 1
    assert "'rule s" in again.warnings[0]
    assert "more" in again.warnings[0]
    assert len(again.warnings[0]) < 1500
    again.added(good)
    # The next one has nothing to tell.
    third = opened(tmp_path)
    assert set(third.load(0).rules) == set(loaded)
    assert not third.warnings


def test_a_full_disk_is_told_and_nothing_old_comes_back(tmp_path: Path) -> None:
    """No record is half there, and when there is room again all of them are."""
    for size in range(0, 900, 7):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        disk = FullDisk()
        file = opened(tmp_path / "run", disk)
        disk.bytes_left = size
        for name in ("a", "b", "c"):
            file.added(rule(name))
        file.removed(["b"])
        wanted = [rule("a"), rule("c")]
        if disk.bytes_left == 0:
            assert "No space left" in file.warnings[0]
            assert "would not survive" in file.warnings[0]
            assert read(tmp_path / "run") == []
            disk.bytes_left = 1 << 30
            file.mend()
        assert not file.warnings
        assert read(tmp_path / "run") == wanted


class SlowDisk(Disk):
    """One for which nobody waits."""

    def write(self, path: Path, content: bytes, like: Path | None = None) -> None:
        raise AssertionError(path, content, like)

    def sync_directory(self, path: Path) -> None:
        raise AssertionError(path)


def test_nothing_waits_for_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to add a record nor to write all of them anew: a reboot forgets them anyway."""
    monkeypatch.setattr(record_file, "SPARE_LINES", 0)
    file = opened(tmp_path, SlowDisk())
    for number in range(9):
        file.added(rule("a"))
        file.added(rule(f"r{number}"))
    assert not file.warnings
    assert len(read(tmp_path)) == 10


def test_a_full_disk_is_tried_again(tmp_path: Path) -> None:
    """Also without being asked, and not at every change when there are many rules."""
    disk = FullDisk()
    file = opened(tmp_path, disk)
    for number in range(50):
        file.added(rule(f"r{number}"))
    disk.bytes_left = 0
    file.added(rule("last"))
    assert file.warnings
    disk.bytes_left = 1 << 30
    for _ in range(60):
        file.added(rule("last"))
    assert not file.warnings
    assert len(read(tmp_path)) == 51


def test_a_directory_that_was_cleared_is_written_anew(tmp_path: Path) -> None:
    """Whoever deletes the file, or all of the directory, loses nothing of it but for a moment."""
    path = tmp_path / "run"
    file = opened(path)
    file.added(rule("a"))
    shutil.rmtree(path)
    file.added(rule("b"))
    assert read(path) == [rule("a"), rule("b")]


def test_the_boot_is_known_in_a_sandbox_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service manager tells it where the file is hidden."""
    assert name_of_boot({}) == name_of_boot({BOOT_VARIABLE: BOOT}) != BOOT
    monkeypatch.setattr("ipsecd.sources.dynamic_file.BOOT_ID", tmp_path / "none")
    assert name_of_boot({BOOT_VARIABLE: BOOT}) == BOOT
    assert name_of_boot({BOOT_VARIABLE: BOOT.upper()}) == BOOT
    assert name_of_boot({BOOT_VARIABLE: "nonsense"}) == name_of_boot({})
    assert len(name_of_boot({})) == 32
