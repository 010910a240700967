"""The engine without a kernel: dynamic rules, DNS names, the last good policy, stop and start."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from ipsecd.backend.memory import MemoryBackend
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.config import Config, Directories, Limits
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, InvalidInput, LimitExceeded, Refused
from ipsecd.language.filters import parse_filter
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import Action, Family, Network, Policy, Rule
from ipsecd.stores.dynamic import DynamicRule

HOST = Host(frozenset({(Family.IPV4, 0x0A090001)}))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Site:
    """An engine over memory, whose backends are all one."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.clock = Clock()
        self.backend = MemoryBackend(self.clock)
        self.directories = Directories(path / "etc", path / "lib", path / "run")
        self.config = Config(limits=limits or Limits())
        self.engine = self.again()

    def again(self) -> Engine:
        self.engine = Engine(self.config, self.directories, lambda: self.backend, clock=self.clock)
        self.engine.start()
        return self.engine

    def blocks(self, port: int, source: int = 0xCB007107) -> bool:
        packet = Packet(Point.ARRIVING, Family.IPV4, source, 0x0A090001, 17, 4000, port)
        return self.backend.judge(packet, HOST).action is Action.BLOCK


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def rule(name: str, text: str, deadline: float = inf) -> DynamicRule:
    return DynamicRule(name, (parse_filter(text),), Action.BLOCK, None, deadline)


def policy(*texts: str) -> Policy:
    return Policy("P", (Rule("R", tuple(map(parse_filter, texts)), Action.BLOCK),))


def test_two_rules_with_one_filter_share_it(site: Site) -> None:
    """What two rules block stays blocked until both are gone."""
    site.engine.add_dynamic(rule("a", "*=0:1:UDP"))
    site.engine.add_dynamic(rule("b", "*=0:1:UDP", site.clock.now + 10))
    site.engine.remove_dynamic([site.engine.dynamic.find("a")[0]])
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
    assert [one.name for one in site.engine.dynamic] == ["a"]
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
    find = site.engine.dynamic.find
    assert [one.name for one in find("a")] == ["a"]
    assert [one.name for one in find("203.0.113.7 = 0 : 1 : udp")] == ["a"]
    assert sorted(one.name for one in find("203.0.113.7")) == ["a", "b"]
    assert [one.name for one in find("203.0.113.8")] == ["203.0.113.8"]
    assert find("203.0.113.9") == []
    assert find("no such thing") == []


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
    assert [one.origin.rule for one in site.engine.in_force()] == ["R"]
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
    with pytest.raises(Refused, match="still in force"):
        site.engine.add_dynamic(rule("a", "*=0:2:UDP"))
    assert site.engine.flush() == 0
    file.write_text(good.replace("0:1:", "0:3:"))
    site.engine.reload({})
    assert not site.blocks(1)
    assert site.blocks(3)
    site.engine.add_dynamic(rule("a", "*=0:2:UDP"))
    assert site.blocks(2)
