"""Dynamic rules outlive the daemon that had them, unless it ended on purpose."""

from __future__ import annotations

import errno
import os
from math import inf
from pathlib import Path

import pytest

from ipsecd.backend.memory import MemoryBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.config import Boot, Config, OnStop
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, Refused
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.values import ALWAYS, Action, Policy, Rule
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.files import Disk
from ipsecd.sources.names import with_addresses
from tests.engine.site import Site

PEER = Network(Family.IPV4, 0xCB007107, 32)


def rule(name: str, text: str, deadline: float = inf, action: Action = Action.BLOCK) -> DynamicRule:
    filters = (with_addresses(parse_filter(text), {"worm.example": (PEER,)}),)
    return DynamicRule(name, filters, action, ALWAYS, deadline, 1.5, "uid 0 (root) pid 7")


def policy(*texts: str) -> Policy:
    return Policy("P", (Rule("R", tuple(map(parse_filter, texts)), Action.BLOCK),))


def crash(site: Site) -> Engine:
    """The process ends without another word, and the next one starts."""
    site.engine.close()
    return site.again()


def test_rules_are_taken_over_with_their_ends(site: Site) -> None:
    """All that a rule is: by DNS name too, and with the time that is left of it."""
    rules = [
        rule("a", "*=0:1:UDP"),
        rule("b", "worm.example=0:2:UDP", site.clock.now + 10),
        rule("c", "0+*:3-9", inf, Action.PERMIT),
    ]
    for dynamic in rules:
        site.engine.add_dynamic(dynamic)
    site.clock.now += 4
    engine = crash(site)
    assert list(engine.dynamic) == rules
    assert engine.taken_over == 3
    assert engine.next_expiry() == site.clock.now + 6
    assert site.blocks(1)
    assert site.blocks(2)
    site.clock.now += 6
    assert not site.blocks(2)
    engine.expire()
    assert [dynamic.name for dynamic in crash(site).dynamic] == ["a", "c"]


def test_the_first_state_that_is_enforced_has_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel holds them while no daemon runs: a state without them would let something in."""
    site.engine.change(put=[policy("*=0:9:UDP")], assign="P")
    site.engine.add_dynamic(rule("a", "*=0:1:UDP"))
    applied = []
    apply = MemoryBackend.apply

    def noted(backend: MemoryBackend, classifier: Classifier, volatile: Volatile) -> None:
        apply(backend, classifier, volatile)
        applied.append(site.blocks(1) and site.blocks(9))

    monkeypatch.setattr(MemoryBackend, "apply", noted)
    crash(site)
    assert applied == [True]


def test_what_was_taken_back_does_not_come_back(site: Site) -> None:
    """Removed, replaced and ended rules are as they were last; those flushed are gone."""
    engine = site.engine
    for name in ("a", "b", "c"):
        engine.add_dynamic(rule(name, "*=0:1:UDP"))
    engine.add_dynamic(rule("b", "*=0:2:UDP"))
    engine.remove_dynamic(engine.dynamic.select("a"))
    engine.add_dynamic(rule("c", "*=0:3:UDP", site.clock.now + 5))
    site.clock.now += 5
    engine = crash(site)
    assert list(engine.dynamic) == [rule("b", "*=0:2:UDP")]
    assert not site.blocks(1)
    engine.flush()
    assert len(crash(site).dynamic) == 0


def test_a_rule_that_the_kernel_refused_is_not_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is the removal of one."""
    site.engine.add_dynamic(rule("a", "*=0:1:UDP"))

    def refuse(_backend: MemoryBackend, _delta: Delta, _volatile: Volatile) -> None:
        raise BackendFailed("the kernel has no memory")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryBackend, "change", refuse)
        with pytest.raises(BackendFailed):
            site.engine.add_dynamic(rule("a", "*=0:2:UDP"))
        with pytest.raises(BackendFailed):
            site.engine.flush()
    assert list(crash(site).dynamic) == [rule("a", "*=0:1:UDP")]


@pytest.mark.parametrize("end", ["stop", "restart", "stop but keep"])
def test_whoever_ends_on_purpose_leaves_none(site: Site, end: str) -> None:
    """Stopped and started, or restarted: the policy is in force, and dynamic rules are gone."""
    site.config = Config(on_stop=OnStop.KEEP) if end == "stop but keep" else site.config
    site.again()
    site.engine.change(put=[policy("*=0:9:UDP")], assign="P")
    site.engine.add_dynamic(rule("a", "*=0:1:UDP"))
    if end == "restart":
        site.engine.end_for_restart()
    else:
        site.engine.stop_on_purpose()
    assert not site.blocks(1)
    assert site.blocks(9) == (end != "stop")
    assert not (site.directories.runtime / "dynamic").exists()
    assert crash(site).taken_over == 0
    assert site.blocks(9)
    assert not site.blocks(1)


def test_stop_and_start_of_enforcement_leaves_none(site: Site) -> None:
    """As for ``net stop`` and ``net start``, which do not end the process."""
    site.engine.add_dynamic(rule("a", "*=0:1:UDP"))
    crash(site)
    site.engine.stop()
    site.engine.start()
    assert site.engine.taken_over == 0
    assert len(site.engine.dynamic) == 0
    assert len(crash(site).dynamic) == 0


def test_a_restart_of_what_is_held_forgets_them_too(site: Site, tmp_path: Path) -> None:
    """What the kernel holds is not touched where it is not known; the next daemon has none."""
    site.engine.change(put=[policy("*=0:9:UDP")], assign="P")
    site.engine.add_dynamic(rule("a", "*=0:1:UDP"))
    (tmp_path / "lib/last-good").unlink()
    file = next((tmp_path / "etc/policies").iterdir())
    good = file.read_text()
    file.write_text("nonsense")
    assert crash(site).held
    assert site.blocks(1)
    file.write_text(good)
    site.engine.reload({})
    assert site.blocks(1)
    file.write_text("nonsense")
    (tmp_path / "lib/last-good").unlink()
    assert crash(site).held
    site.engine.end_for_restart()
    file.write_text(good)
    assert len(crash(site).dynamic) == 0
    assert site.blocks(9)


def test_containers_are_followed_after_it(site: Site) -> None:
    """A rule that names a container goes on to mean what the container has for addresses."""
    source = "/run/docker.sock"

    def inventory(address: int) -> Inventory:
        network = Network(Family.IPV4, address, 32)
        return Inventory((Container("1" * 64, "web", frozenset(), {"front": (network,)}),), {})

    site.engine.set_inventory(source, inventory(0x0A000001))
    site.engine.add_dynamic(rule("a", "*=container:web:1:UDP"))
    engine = crash(site)
    assert engine.selects_containers
    assert site.blocks(1, destination=0x0A000001)
    engine.set_inventory(source, inventory(0x0A000002))
    assert site.blocks(1, destination=0x0A000002)
    assert not site.blocks(1, destination=0x0A000001)


def test_a_rule_that_this_backend_cannot_enforce_is_no_obstacle(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left out, and all others are taken over."""
    site.engine.add_dynamic(rule("a", "service:x.service=*"))
    site.engine.add_dynamic(rule("b", "*=0:1:UDP"))

    def check(_backend: MemoryBackend, classifier: Classifier) -> None:
        if any(table.id.process for table in classifier.tables):
            raise Refused("there are no control groups")

    monkeypatch.setattr(MemoryBackend, "check", check)
    assert [taken_over.name for taken_over in crash(site).dynamic] == ["b"]
    monkeypatch.undo()
    assert [taken_over.name for taken_over in crash(site).dynamic] == ["b"]


def test_the_first_unit_has_them_and_writes_nothing(site: Site) -> None:
    """``ipsecd --boot`` beside what a daemon left: it weakens nothing either."""
    site.engine.add_dynamic(rule("a", "*=0:1:UDP"))
    file = site.directories.runtime / "dynamic"
    before = file.stat().st_ino, file.read_bytes()
    site.engine.close()
    engine = Engine(
        Config(boot=Boot.BLOCK), site.directories, lambda: site.backend, clock=site.clock
    )
    assert engine.boot()
    assert site.blocks(1)
    assert (file.stat().st_ino, file.read_bytes()) == before


class FullDisk(Disk):
    full = False

    def append(self, path: Path, content: bytes) -> None:
        self._take()
        super().append(path, content)

    def write_for_this_boot(self, path: Path, content: bytes) -> None:
        self._take()
        super().write_for_this_boot(path, content)

    def _take(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_directory_keeps_no_rule_from_being_in_force(site: Site) -> None:
    """It is told that a crash would end the rule, until a reload finds room."""
    disk = FullDisk()
    site.engine.close()
    site.engine = Engine(
        site.config, site.directories, lambda: site.backend, disk, clock=site.clock
    )
    site.engine.start()
    disk.full = True
    site.engine.add_dynamic(rule("a", "*=0:1:UDP"))
    assert site.blocks(1)
    assert "would not survive" in site.engine.warnings[0]
    disk.full = False
    site.engine.reload({})
    assert site.engine.warnings == ()
    assert [taken_over.name for taken_over in crash(site).dynamic] == ["a"]
