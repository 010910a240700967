"""The engine without a kernel: dynamic rules, DNS names, the last good policy, stop and start."""

from __future__ import annotations

import errno
import os
from math import inf
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.base import Observation
from ipsecd.backend.memory import MemoryBackend
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.config import Boot, Config, Limits
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, InvalidInput, LimitExceeded, Refused, StoreFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.values import ALWAYS, Action, Policy, Rule
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.files import Disk
from tests.engine.site import Site


def rule(name: str, text: str, deadline: float = inf) -> DynamicRule:
    return DynamicRule(name, (parse_filter(text),), Action.BLOCK, ALWAYS, deadline)


def policy(*texts: str) -> Policy:
    return Policy("P", (Rule("R", tuple(map(parse_filter, texts)), Action.BLOCK),))


def test_two_rules_with_one_filter_share_it(site: Site) -> None:
    """What two rules block stays blocked until both are gone."""
    site.engine.add_dynamic(rule("a", "*=0:1:UDP"))
    site.engine.add_dynamic(rule("b", "*=0:1:UDP", site.clock.now + 10))
    site.engine.remove_dynamic([site.engine.dynamic.select("a")[0]])
    assert site.blocks(1)
    site.clock.now += 11
    assert not site.blocks(1)
    site.engine.expire()
    assert len(site.engine.dynamic) == 0
    assert site.engine.volatile.tables == ()


def test_a_rule_of_the_same_name_is_replaced(site: Site) -> None:
    """A second rule of a name takes the place of the first, in the store and in force."""
    site.engine.add_dynamic(rule("a", "*=0:1:UDP"))
    site.engine.add_dynamic(rule("a", "*=0:2:UDP"))
    assert not site.blocks(1)
    assert site.blocks(2)
    assert len(site.engine.dynamic) == 1


def test_a_dynamic_change_that_the_kernel_refuses_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused add, replacement or removal leaves store, entries and kernel as they were."""
    site.engine.add_dynamic(rule("a", "*=0:1:UDP"))

    def refuse(_delta: Delta, _volatile: Volatile) -> None:
        raise BackendFailed("no", "")

    monkeypatch.setattr(site.backend, "change", refuse)
    for new in (rule("a", "*=0:2:UDP"), rule("b", "*=0:3:UDP")):
        with pytest.raises(BackendFailed):
            site.engine.add_dynamic(new)
    with pytest.raises(BackendFailed):
        site.engine.flush()
    entries = list(site.engine.volatile.entries())
    monkeypatch.undo()
    assert [dynamic.name for dynamic in site.engine.dynamic] == ["a"]
    assert len(entries) == 2
    assert site.blocks(1)
    site.engine.flush()
    assert not site.blocks(1)


def test_rules_are_found_by_name_filter_and_address(site: Site) -> None:
    """A selector is a name first, then a filter, then an address in any filter."""
    site.engine.add_dynamic(rule("a", "203.0.113.7=0:1:UDP"))
    site.engine.add_dynamic(rule("b", "0+203.0.113.7"))
    site.engine.add_dynamic(rule("203.0.113.8", "*=0:9:UDP"))
    site.engine.add_dynamic(rule("c", "203.0.113.8=0"))

    def selected(selector: str) -> list[str]:
        return [each.rule.name for each in site.engine.dynamic.select(selector)]

    assert selected("a") == ["a"]
    assert selected("203.0.113.7 = 0 : 1 : udp") == ["a"]
    assert selected("203.0.113.7") == ["a", "b"]
    assert selected("203.0.113.8") == ["203.0.113.8"]
    assert selected("203.0.113.9") == []
    assert selected("no such thing") == []


def test_there_is_a_limit_to_dynamic_rules(tmp_path: Path) -> None:
    """One rule too many is refused with what to do; replacing one is not."""
    site = Site(tmp_path, Limits(dynamic_rules=1))
    site.engine.add_dynamic(rule("a", "*=0:1:UDP"))
    with pytest.raises(LimitExceeded, match="dynamic rules"):
        site.engine.add_dynamic(rule("b", "*=0:2:UDP"))
    site.engine.add_dynamic(rule("a", "*=0:3:UDP"))
    assert site.blocks(3)


def test_a_filter_from_this_host_to_itself_is_refused(site: Site) -> None:
    """Traffic on the loopback interface is not filtered, so such a rule would do nothing."""
    with pytest.raises(InvalidInput, match="to itself"):
        site.engine.add_dynamic(rule("a", "0=0:1:UDP"))


def test_names_are_kept_with_the_addresses_they_had(site: Site) -> None:
    """A DNS name is enforced as it was resolved, after a restart too, and never looked up there."""
    address = (Network(Family.IPV4, 0xCB007107, 32),)
    with pytest.raises(Refused, match="has not been resolved"):
        site.engine.change(put=[policy("bad.example=0:1:UDP")], assign="P")
    assert site.engine.loaded.policies == {}
    site.engine.change(
        put=[policy("bad.example=0:1:UDP")], assign="P", names={"bad.example": address}
    )
    assert site.blocks(1)
    assert not site.blocks(1, 0xCB007108)
    site.again()
    assert site.blocks(1)
    site.engine.reload({"bad.example": (Network(Family.IPV4, 0xCB007108, 32),)})
    assert not site.blocks(1)
    assert site.blocks(1, 0xCB007108)


def test_a_policy_broken_at_start_leaves_the_last_good_one(site: Site, tmp_path: Path) -> None:
    """The last good policy is in force and explained, and the failure told, until it is mended."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    file = next((tmp_path / "etc/policies").iterdir())
    good = file.read_text()
    file.write_text("policy: P\nrules: nonsense\n")
    site.again()
    assert site.engine.loaded_from == "last-good"
    assert str(file) in site.engine.failures[0]
    assert site.blocks(1)
    assert [flt.origin.rule for flt in site.engine.in_force()] == ["R"]
    file.write_text(good.replace("0:1:", "0:2:"))
    site.engine.reload({})
    assert site.engine.failures == ()
    assert site.blocks(2)


def test_a_damaged_last_good_file_is_no_harm(site: Site, tmp_path: Path) -> None:
    """What cannot be read is compiled anew."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    kept = tmp_path / "lib/last-good"
    kept.write_bytes(kept.read_bytes()[:-3])
    site.again()
    assert site.blocks(1)
    assert site.engine.failures == ()


def test_stop_and_start(site: Site) -> None:
    """Stopped, nothing is in force and dynamic rules are refused; started, the policy is back."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    site.engine.add_dynamic(rule("a", "*=0:2:UDP"))
    site.engine.stop()
    assert not site.blocks(1)
    assert site.engine.in_force() == ()
    with pytest.raises(Refused, match="stopped"):
        site.engine.add_dynamic(rule("a", "*=0:2:UDP"))
    site.engine.start()
    assert site.blocks(1)
    assert not site.blocks(2)


def test_two_files_with_one_name_are_told(site: Site, tmp_path: Path) -> None:
    """The second file of a name is reported, and the first one counts."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    (tmp_path / "etc/policies/zz.yaml").write_text("policy: P\n")
    changed, failures = site.engine.reload({})
    assert not changed
    assert "is also in" in failures[0]
    assert site.blocks(1)


def test_nothing_is_opened_when_nothing_can_be_loaded(site: Site, tmp_path: Path) -> None:
    """A broken policy without a last good one leaves in force what an earlier daemon enforced."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    file = next((tmp_path / "etc/policies").iterdir())
    good = file.read_text()
    file.write_text("nonsense")
    (tmp_path / "lib/last-good").unlink()
    site.again()
    assert site.blocks(1)
    with pytest.raises(Refused, match="what the kernel holds"):
        site.engine.add_dynamic(rule("a", "*=0:2:UDP"))
    assert site.engine.flush() == 0
    file.write_text(good.replace("0:1:", "0:3:"))
    site.engine.reload({})
    assert not site.blocks(1)
    assert site.blocks(3)
    site.engine.add_dynamic(rule("a", "*=0:2:UDP"))
    assert site.blocks(2)


def test_a_rule_of_several_filters_for_one_address_can_be_removed(site: Site) -> None:
    """It is found by its name and by the address, and then it is gone."""
    several = DynamicRule(
        "a",
        (parse_filter("10.0.0.2=0:1:UDP"), parse_filter("10.0.0.2+0:2:UDP")),
        Action.BLOCK,
    )
    for selector in ("a", "10.0.0.2"):
        site.engine.add_dynamic(several)
        site.engine.remove_dynamic(site.engine.dynamic.select(selector))
        assert len(site.engine.dynamic) == 0


def booted(site: Site, boot: Boot, error: InvalidInput | None = None) -> bool:
    """Boot as the first unit does, over a kernel that holds nothing."""
    site.backend = MemoryBackend(site.clock)
    engine = Engine(Config(boot=boot), site.directories, lambda: site.backend, clock=site.clock)
    done = engine.boot(error)
    engine.close()
    return done


def written(path: Path) -> dict[Path, bytes]:
    """All files below a directory, with their content."""
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_boot_enforces_and_writes_nothing(site: Site, tmp_path: Path) -> None:
    """The assigned policy is in force afterwards, and no file was touched."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    (tmp_path / "lib/last-good").unlink()
    before = written(tmp_path)
    assert booted(site, Boot.PERMIT)
    assert site.blocks(1)
    assert not site.blocks(2)
    assert written(tmp_path) == before
    site.again()
    assert site.blocks(1)


def test_boot_blocks_everything_until_the_policy_is_in_force(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With boot: block the first state has no hole, and the policy is the second."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    verdicts = []
    apply = MemoryBackend.apply

    def noted(backend: MemoryBackend, *state: Any) -> None:
        apply(backend, *state)
        verdicts.append((site.blocks(1), site.blocks(2)))

    monkeypatch.setattr(MemoryBackend, "apply", noted)
    assert booted(site, Boot.BLOCK)
    assert verdicts == [(True, True), (True, False)]
    verdicts.clear()
    assert booted(site, Boot.PERMIT)
    assert verdicts == [(True, False)]


@pytest.mark.parametrize("boot", Boot)
def test_boot_with_a_broken_policy_and_no_last_good_one(
    site: Site, tmp_path: Path, boot: Boot
) -> None:
    """The setting decides; the daemon that follows keeps that up until the file is mended."""
    broken_and_held(site, tmp_path)
    assert not booted(site, boot)
    assert site.blocks(1) == site.blocks(2) == (boot is Boot.BLOCK)
    site.config = Config(boot=boot)
    site.again()
    assert site.blocks(2) == (boot is Boot.BLOCK)
    assert site.engine.failures
    text = "policy: P\nrules: [{rule: R, action: block, filters: ['*=0:3:UDP']}]\n"
    next((tmp_path / "etc/policies").iterdir()).write_text(text)
    site.engine.reload({})
    assert site.blocks(3)
    assert not site.blocks(2)


def test_boot_with_settings_that_cannot_be_used(site: Site) -> None:
    """What was in force last has the settings in it, and is enforced."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    error = InvalidInput("the configuration has no key 'x'")
    assert not booted(site, Boot.PERMIT, error)
    assert site.blocks(1)


def test_boot_with_neither_settings_nor_a_last_good_policy(site: Site, tmp_path: Path) -> None:
    """The assigned policy is enforced with the default settings."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    (tmp_path / "lib/last-good").unlink()
    assert not booted(site, Boot.PERMIT, InvalidInput("the configuration has no key 'x'"))
    assert site.blocks(1)
    assert not site.blocks(2)


def test_boot_without_the_addresses_of_names(site: Site, tmp_path: Path) -> None:
    """Filters by DNS names are left out, and all others of the policy are in force."""
    names = {"worm.example.com": (Network(Family.IPV4, 0xCB007107, 32),)}
    site.engine.change(put=[policy("*=0:1:UDP", "worm.example.com=0")], assign="P", names=names)
    for name in ("last-good", "names"):
        (tmp_path / "lib" / name).unlink()
    assert not booted(site, Boot.PERMIT)
    assert site.blocks(1)
    assert not site.blocks(2)


def broken_and_held(site: Site, tmp_path: Path) -> None:
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    next((tmp_path / "etc/policies").iterdir()).write_text("nonsense")
    (tmp_path / "lib/last-good").unlink()
    site.again()


def test_an_unrelated_change_does_not_open_what_is_held(site: Site, tmp_path: Path) -> None:
    """While nothing can be loaded, other policies can be stored, and nothing else happens."""
    broken_and_held(site, tmp_path)
    site.engine.change(put=[Policy("Unrelated")])
    assert site.blocks(1)
    assert site.engine.held
    assert site.engine.failures


def test_policies_that_could_not_be_read_are_not_taken_for_none(site: Site, tmp_path: Path) -> None:
    """A directory that is not mounted yet at start is no reason to change anything later."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    policies = tmp_path / "etc/policies"
    policies.rename(tmp_path / "elsewhere")
    policies.symlink_to(tmp_path / "nowhere/at/all")
    site.again()
    assert site.blocks(1)
    policies.unlink()
    (tmp_path / "elsewhere").rename(policies)
    with pytest.raises(Refused, match="could not be read"):
        site.engine.change(put=[Policy("X")])
    assert site.blocks(1)
    assert site.engine.failures
    site.engine.reload({})
    site.engine.change(put=[Policy("X")])
    assert site.blocks(1)
    assert not site.engine.failures


def test_assigned_must_be_a_link(site: Site, tmp_path: Path) -> None:
    """A copy of the policy in the place of the link is a failure, not an absence."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    link = tmp_path / "etc/assigned"
    content = link.read_text()
    link.unlink()
    link.write_text(content)
    site.again()
    assert site.blocks(1)
    assert "is not a symbolic link" in site.engine.failures[0]


def test_assigned_may_be_an_absolute_link(site: Site, tmp_path: Path) -> None:
    """However the link is written, it leads to the file that it leads to."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    link = tmp_path / "etc/assigned"
    target = link.resolve()
    link.unlink()
    link.symlink_to(target)
    site.again()
    assert site.engine.failures == ()
    assert site.engine.loaded.assigned == "P"


def test_a_file_with_other_line_ends_can_be_changed(site: Site, tmp_path: Path) -> None:
    """CRLF is not an edit."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    file = next((tmp_path / "etc/policies").iterdir())
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    site.engine.reload({})
    site.engine.change(put=[policy("*=0:2:UDP")])
    assert site.blocks(2)


def test_a_failure_lasts_until_the_file_is_mended(site: Site, tmp_path: Path) -> None:
    """An unrelated change does not make a broken assigned file unseen."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    file = next((tmp_path / "etc/policies").iterdir())
    good = file.read_text()
    file.write_text("nonsense")
    with pytest.raises(InvalidInput):
        site.engine.reload({})
    site.engine.change(put=[Policy("Z")])
    assert site.engine.failures
    file.write_text(good)
    site.engine.reload({})
    assert not site.engine.failures


def test_a_refused_change_leaves_the_old_names(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that came with a change which the kernel refused are not there after a restart."""
    old, new = (Network(Family.IPV4, 0xCB007100 + n, 32) for n in (7, 8))
    site.engine.change(put=[policy("h.example=0:1:UDP")], assign="P", names={"h.example": (old,)})

    def refuse(*_: object) -> None:
        raise BackendFailed("no", "")

    with monkeypatch.context() as patch:
        patch.setattr(site.backend, "apply", refuse)
        with pytest.raises(BackendFailed):
            site.engine.change(put=[policy("h.example=0:2:UDP")], names={"h.example": (new,)})
    site.again()
    assert site.engine.names["h.example"] == (old,)
    assert site.blocks(1)


def test_rules_that_could_not_be_ended_are_ended_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure to remove what has ended does not make it unending."""
    site.engine.add_dynamic(rule("a", "*=0:1:UDP", site.clock.now + 5))
    site.clock.now += 6

    def refuse(*_: object) -> None:
        raise BackendFailed("no", "")

    with monkeypatch.context() as patch:
        patch.setattr(site.backend, "change", refuse)
        with pytest.raises(BackendFailed):
            site.engine.expire()
    site.engine.expire()
    assert len(site.engine.dynamic) == 0


def test_deadlines_of_rules_that_are_gone_do_not_pile_up(site: Site) -> None:
    """Renewing one rule for ever costs no memory."""
    for number in range(5000):
        site.engine.add_dynamic(rule("a", "*=0:1:UDP", site.clock.now + 1e6 + number))
    assert len(site.engine._dynamic.deadlines) < 1100
    assert site.engine.next_expiry() == site.clock.now + 1e6 + 4999


def test_a_repair_that_failed_is_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """News of a foreign change are read once; the repair is due until it is done."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    news = [True]
    monkeypatch.setattr(site.backend, "changed", lambda: bool(news and news.pop()))
    monkeypatch.setattr(
        site.backend, "observe", lambda: Observation(None, ("the table is missing",))
    )

    def refuse(*_: object) -> None:
        raise BackendFailed("no", "")

    applied: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(site.backend, "apply", refuse)
        with pytest.raises(BackendFailed):
            site.engine.watch()
    monkeypatch.setattr(site.backend, "apply", lambda *_: applied.append(1))
    site.engine.watch()
    site.engine.watch()
    assert len(applied) == 1


class FullDisk(Disk):
    """Takes so many effects, and then has no space for anything."""

    def __init__(self, writes_left: int) -> None:
        self.writes_left = writes_left

    def write(self, path: Path, content: bytes, like: Path | None = None) -> None:
        self.writes_left -= 1
        if self.writes_left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        super().write(path, content, like)


@pytest.mark.parametrize("writes_left", range(4))
def test_a_change_refused_by_a_full_disk_does_not_come_back(site: Site, writes_left: int) -> None:
    """What was refused for want of space is not carried out at the next start or reload."""
    site.engine.change(put=[policy("*=0:1:UDP")], assign="P")
    full = FullDisk(writes_left)
    engine = Engine(site.config, site.directories, lambda: site.backend, full, site.clock)
    engine.start()
    full.writes_left = writes_left
    try:
        engine.change(put=[policy("*=0:2:UDP"), Policy("Q")])
    except StoreFailed:
        site.again()
        assert site.blocks(1)
        assert not site.blocks(2)
        assert set(site.engine.loaded.policies) == {"P"}
    else:
        assert writes_left == 3
