"""What the engine makes of news and announcements about containers."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.nftables import cgroups
from ipsecd.engine.containers import ANNOUNCED_S
from ipsecd.errors import BackendFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.values import ALWAYS, Action, Policy, Rule
from ipsecd.sources.dynamic import DynamicRule
from tests.engine.site import Site

OLD, NEW, OTHER, OUTSIDE = 0x0A580002, 0x0A580003, 0x0A590002, 0x08080808
WEB, DB = "a" * 64, "b" * 64


@pytest.fixture
def bench(site: Site) -> Site:
    """With a policy and a dynamic rule that block a container."""
    policy = Policy("P", (Rule("R", (parse_filter("container:web=*:53:UDP"),), Action.BLOCK),))
    site.engine.change(put=[policy], assign="P")
    filters = (parse_filter("container:web=*:54:UDP"),)
    site.engine.add_dynamic(DynamicRule("d", filters, Action.BLOCK, ALWAYS, inf))
    return site


def blocks(bench: Site, source: int, port: int = 53) -> bool:
    """Whether what an address sends out through this host is blocked."""
    return bench.blocks(port, source, OUTSIDE)


def networks(*addresses: int) -> tuple[Network, ...]:
    return tuple(Network(Family.IPV4, address, 32) for address in addresses)


def inventory_of(identity: str, name: str, *addresses: int) -> Inventory:
    """What an engine knows that has one container."""
    by_network = {"front": networks(*addresses)} if addresses else {}
    return Inventory((Container(identity, name, networks=by_network),))


def test_an_announced_address_is_enforced_over_the_listed_one(bench: Site) -> None:
    """A container that is started again is still listed with the address that it had."""
    bench.engine.set_inventory("podman", inventory_of(WEB, "web", OLD))
    assert bench.engine.announce(WEB, networks(NEW))
    assert blocks(bench, NEW)
    assert blocks(bench, NEW, 54)
    bench.engine.set_inventory("podman", inventory_of(WEB, "web", OLD))
    assert blocks(bench, NEW)
    bench.engine.set_inventory("podman", inventory_of(WEB, "web", NEW))
    assert blocks(bench, NEW)
    assert not blocks(bench, OLD)


@pytest.mark.parametrize("late_s", [0.0, 2 * ANNOUNCED_S])
@pytest.mark.parametrize("listed", [(), (OLD,)])
def test_what_was_asked_before_an_announcement_does_not_end_it(
    bench: Site, listed: tuple[int, ...], late_s: float
) -> None:
    """It tells of the run before, and comes as late as the machine is busy.

    A container may start again at the address that it had, and is still listed with.
    """
    bench.engine.set_inventory("podman", inventory_of(WEB, "web", OLD))
    asked_at = bench.clock.now
    bench.clock.now += 0.1
    assert bench.engine.announce(WEB, networks(OLD))
    bench.clock.now += late_s + 0.1
    for addresses in (listed, ()):
        bench.engine.set_inventory("podman", inventory_of(WEB, "web", *addresses), asked_at)
        assert blocks(bench, OLD)
        assert blocks(bench, OLD, 54)
    bench.engine.set_inventory("podman", inventory_of(WEB, "web", OLD))
    bench.engine.set_inventory("podman", inventory_of(WEB, "web"))
    assert not blocks(bench, OLD)


def test_a_second_start_is_not_ended_by_news_of_the_first(bench: Site) -> None:
    """Two announcements in a row: what was asked between the two lists the first address."""
    bench.engine.set_inventory("podman", inventory_of(WEB, "web"))
    assert bench.engine.announce(WEB, networks(OLD))
    bench.clock.now += 0.1
    between = bench.clock.now
    bench.clock.now += 0.1
    assert bench.engine.announce(WEB, networks(NEW))
    bench.engine.set_inventory("podman", inventory_of(WEB, "web", OLD), between)
    assert blocks(bench, NEW)
    assert not blocks(bench, OLD)
    bench.engine.set_inventory("podman", inventory_of(WEB, "web"), between)
    assert blocks(bench, NEW)


def test_who_shares_an_address_takes_it_from_nobody(bench: Site) -> None:
    """A container that joins the network of another, or a pod, leaves the others what they have."""
    both = Inventory(
        (*inventory_of(WEB, "web", OLD).containers, *inventory_of(DB, "db").containers)
    )
    bench.engine.set_inventory("podman", both)
    assert bench.engine.announce(DB, networks(OLD), shared=True)
    assert blocks(bench, OLD)
    bench.clock.now += 0.1
    assert bench.engine.announce(WEB, networks(OLD, NEW))
    assert bench.engine.announce(DB, networks(OLD, NEW), shared=True)
    for port in (53, 54):
        assert blocks(bench, OLD, port)
        assert blocks(bench, NEW, port)


def test_who_ended_takes_no_address(bench: Site) -> None:
    """What it was announced with belongs to whoever is listed with it by an engine asked since."""
    both = Inventory((*inventory_of(WEB, "web").containers, *inventory_of(DB, "db").containers))
    bench.engine.set_inventory("podman", both)
    assert bench.engine.announce(DB, networks(NEW))
    bench.clock.now += 0.1
    both = Inventory(
        (*inventory_of(WEB, "web", NEW).containers, *inventory_of(DB, "db").containers)
    )
    bench.engine.set_inventory("podman", both)
    assert blocks(bench, NEW)


def test_who_was_removed_takes_no_address(bench: Site) -> None:
    """So it is when its engine does not have it any more."""
    both = Inventory((*inventory_of(WEB, "web").containers, *inventory_of(DB, "db").containers))
    bench.engine.set_inventory("podman", both)
    assert bench.engine.announce(DB, networks(NEW))
    bench.clock.now += 0.1
    bench.engine.set_inventory("podman", inventory_of(WEB, "web", NEW))
    assert blocks(bench, NEW)


def test_only_its_own_engine_ends_an_announcement(bench: Site) -> None:
    """An engine that is slow keeps what was told of its containers; its own news end it in time."""
    bench.engine.set_inventory("podman", inventory_of(WEB, "web"))
    bench.engine.announce(WEB, networks(NEW))
    bench.clock.now += ANNOUNCED_S + 1
    bench.engine.set_inventory("docker", inventory_of(DB, "db", OTHER))
    assert blocks(bench, NEW)
    bench.engine.set_inventory("podman", inventory_of(WEB, "web"))
    assert not blocks(bench, NEW)


def test_the_last_to_be_announced_with_an_address_has_it(bench: Site) -> None:
    """A container that ended before it was listed leaves nothing to the one that follows."""
    both = Inventory((*inventory_of(WEB, "web").containers, *inventory_of(DB, "db").containers))
    bench.engine.set_inventory("podman", both)
    bench.engine.announce(WEB, networks(NEW))
    assert blocks(bench, NEW)
    bench.engine.announce(DB, networks(NEW))
    assert not blocks(bench, NEW)


def test_announcements_survive(bench: Site) -> None:
    """The end of the daemon, and a stop and start of enforcement."""
    bench.engine.set_inventory("podman", inventory_of(WEB, "web"))
    bench.engine.announce(WEB, networks(NEW))
    bench.again()
    assert blocks(bench, NEW)
    asked_at = bench.clock.now
    bench.clock.now += 1
    bench.engine.announce(WEB, networks(NEW))
    bench.engine.stop()
    bench.engine.start()
    assert blocks(bench, NEW)
    bench.engine.set_inventory("podman", inventory_of(WEB, "web"), asked_at)
    assert blocks(bench, NEW)


@pytest.mark.parametrize("effect", ["apply", "change"])
def test_news_are_in_force_whole_or_not_at_all(
    bench: Site, effect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel refuses leaves the old ones, of the policy and of dynamic rules."""
    bench.engine.set_inventory("podman", inventory_of(WEB, "web", OLD))
    ports = [53, 54]
    if effect == "change":
        # Without the policy, the dynamic rule is all that there is to change.
        bench.engine.change(assign=None)
        ports = [54]

    def refuse(*_: Any) -> None:
        raise BackendFailed("no memory", "free some")

    with monkeypatch.context() as patch:
        patch.setattr(bench.backend, effect, refuse)
        with pytest.raises(BackendFailed):
            bench.engine.set_inventory("podman", inventory_of(WEB, "web", NEW))
    for port in ports:
        assert blocks(bench, OLD, port)
        assert not blocks(bench, NEW, port)
    bench.engine.set_inventory("podman", inventory_of(WEB, "web", NEW))
    for port in ports:
        assert blocks(bench, NEW, port)
        assert not blocks(bench, OLD, port)


def test_news_of_policy_and_dynamic_rules_are_one_effect(
    bench: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No packet is judged by new addresses in the policy and old ones in a dynamic rule."""
    blocked: list[tuple[bool, bool]] = []
    bench.engine.set_inventory("podman", inventory_of(WEB, "web", OLD))
    apply = bench.backend.apply

    def noted(*state: Any) -> None:
        apply(*state)
        blocked.append((blocks(bench, NEW), blocks(bench, NEW, 54)))

    monkeypatch.setattr(bench.backend, "apply", noted)
    bench.engine.set_inventory("podman", inventory_of(WEB, "web", NEW))
    assert blocked == [(True, True)]


def test_a_service_is_found_in_slices_of_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Systemd puts app-web.slice into app.slice."""
    (tmp_path / "cgroup.procs").touch()
    (tmp_path / "app.slice/app-web.slice/mailer.service").mkdir(parents=True)
    monkeypatch.setattr(cgroups, "ROOTS", (tmp_path,))
    group = cgroups.find("service:mailer.service")
    assert group is not None
    assert group.level == 3
    assert cgroups.find("service:other.service") is None
