"""What selectors stand for, and how engines' answers are read."""

from __future__ import annotations

from typing import Any

import pytest

from ipsecd.errors import InvalidInput
from ipsecd.host.container_engines import (
    read_event,
    read_inventory,
    read_network,
    with_members,
)
from ipsecd.language.addresses import parse_address
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.addresses import Family, Network, Selector
from ipsecd.model.inventory import Container, Inventory, merged, resolved
from ipsecd.model.values import Action, InForce, Origin
from ipsecd.sources.inventory_file import inventory_from_json, inventory_to_json

V4, V6 = Family.IPV4, Family.IPV6
WEB4, WEB6 = Network(V4, 0x0A5A0002, 32), Network(V6, 0xFD90 << 112 | 2, 128)
BACK4 = Network(V4, 0x0A5B0002, 32)
FRONT = Network(V4, 0x0A5A0000, 24)
WEB = Container(
    "425caf4023eb924a9a57",
    "web",
    frozenset({("app", "shop")}),
    {"front": (WEB4, WEB6), "back": (BACK4,)},
)
INVENTORY = Inventory((WEB,), {"front": (FRONT,)})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("container:web", {WEB4, WEB6, BACK4}),
        ("container:425caf4023eb", {WEB4, WEB6, BACK4}),
        ("container:425caf", set()),
        ("container:web@back", {BACK4}),
        ("container:web@none", set()),
        ("container:db", set()),
        ("network:front", {FRONT}),
        ("network:none", set()),
        ("label:app=shop", {WEB4, WEB6, BACK4}),
        ("label:app=other", set()),
    ],
)
def test_what_selectors_stand_for(text: str, wanted: set[Network]) -> None:
    """Each kind finds its own, and nothing if there is no such thing."""
    selector = parse_address(text)
    assert isinstance(selector, Selector)
    assert set(INVENTORY.addresses(selector)) == wanted


def test_a_filter_that_can_match_nothing_is_left_out() -> None:
    """A name that waits, and a pair of IP versions that never meet."""
    origin = Origin("static", "P", "r")
    texts = ("*=container:web:80:TCP", "*=container:db", "[fd00::1]=container:web@back", "*=0")
    filters = resolved([InForce(origin, parse_filter(t), Action.BLOCK) for t in texts], INVENTORY)
    assert [format_filter(flt.filter) for flt in filters] == ["*=container:web:80:TCP", "*=0"]


@pytest.mark.parametrize(
    "text",
    [
        *("*=label:app:80", "*=container:", "*=container:a b", "label:x==*", "container:web@=*"),
        *("network:a@b=*", "label:=x=*", "*=container:web:80:80:TCP"),
    ],
)
def test_what_names_nothing_is_refused(text: str) -> None:
    """With a place and a hint, as any other mistake in a filter."""
    with pytest.raises(InvalidInput):
        parse_filter(text)


def test_an_announced_address_counts_until_the_engine_knows_better() -> None:
    """It is put to the network that it lies in, and is newer than what is listed."""
    new = Container("abc", "new")
    before = Inventory((WEB, new), {"front": (FRONT,)})
    address = Network(V4, 0x0A5A0009, 32)
    after = before.with_announced({"abc": (address,), WEB.id: (WEB4,)})
    assert after.containers[0].networks == {"front": (WEB4,)}
    assert after.containers[1].networks == {"front": (address,)}


def test_who_announces_an_address_takes_it_from_whoever_had_it() -> None:
    """A container that has ended may still be listed with what another has now."""
    before = Inventory((WEB, Container("abc", "new")), {"front": (FRONT,)})
    old, new = before.with_announced({"abc": (WEB4,)}, {WEB4}).containers
    assert old.networks == {"front": (WEB6,), "back": (BACK4,)}
    assert new.networks == {"front": (WEB4,)}
    shared, new = before.with_announced({"abc": (WEB4,)}).containers
    assert shared.networks == WEB.networks
    assert new.networks == {"front": (WEB4,)}


def test_inventories_survive_a_restart_and_add_up() -> None:
    """What is written is read back; two engines are known together."""
    assert inventory_from_json(inventory_to_json(INVENTORY)) == INVENTORY
    both = merged([INVENTORY, Inventory((Container("x", "y"),), {"front": (BACK4,)})])
    assert [container.name for container in both.containers] == ["web", "y"]
    assert both.networks["front"] == (FRONT, BACK4)


def test_answers_of_engines_are_read() -> None:
    """Running containers with addresses and labels, others without addresses; subnets."""
    network = {"IPAddress": "10.90.0.2", "GlobalIPv6Address": "fd90::2"}
    listed: list[dict[str, Any]] = [
        {
            "Id": WEB.id,
            "Names": ["/web"],
            "Labels": {"app": "shop"},
            "State": "running",
            "NetworkSettings": {"Networks": {"front": network, "back": {"IPAddress": "10.91.0.2"}}},
        },
        {
            "Id": "b",
            "Names": ["/old"],
            "State": "exited",
            "NetworkSettings": {"Networks": {"front": network}},
        },
        {"Id": "c", "Names": None, "Labels": None, "State": "created"},
    ]
    networks = [
        {"Name": "front", "IPAM": {"Config": [{"Subnet": "10.90.0.0/24"}, {"Subnet": "junk"}]}},
        {"Name": "none", "IPAM": {"Config": None}},
    ]
    inventory = read_inventory(listed, networks)
    others = (Container("b", "old"), Container("c", "c"))
    assert inventory == Inventory((WEB, *others), {"front": (FRONT,)})


@pytest.mark.parametrize("state", ["stopping", "stopped", "removing", "paused", "restarting"])
def test_a_container_that_is_ending_keeps_its_address(state: str) -> None:
    """What runs in it may send until it has ended, and what shares its network after that."""
    networks = {"Networks": {"front": {"IPAddress": "10.90.0.2"}}}
    entry = {"Id": "a", "Names": ["/web"], "State": state, "NetworkSettings": networks}
    (container,) = read_inventory([entry], []).containers
    assert container.networks == {"front": (WEB4,)}


def test_a_network_tells_of_who_is_about_to_start() -> None:
    """Its addresses are newer than the list's, also of one that is listed as running still."""
    entry = {"IPv4Address": "10.90.0.9/24", "IPv6Address": "", "MacAddress": "02:42:0a:5a:00:09"}
    members = {"a": entry, "b": entry, "c": entry}
    attached = read_network({"Name": "front", "Containers": members}, 7.5)
    listed: list[dict[str, Any]] = [
        {"Id": "a", "Names": ["/new"], "State": "created"},
        {"Id": "b", "Names": ["/again"], "State": "exited"},
        {
            "Id": "c",
            "Names": ["/runs"],
            "State": "running",
            "NetworkSettings": {"Networks": {"front": {"IPAddress": "10.90.0.7"}}},
        },
        {"Id": "d", "Names": ["/ended"], "State": "exited"},
    ]
    address = {"front": (Network(V4, 0x0A5A0009, 32),)}
    inventory = read_inventory(listed, [])
    assert with_members(inventory, [attached]).containers == (
        Container("a", "new", networks=address),
        Container("b", "again", networks=address),
        Container("c", "runs", networks=address),
        Container("d", "ended"),
    )
    assert attached.is_ahead_of(inventory)
    assert not attached.is_ahead_of(read_inventory([{"Id": "d", "NetworkSettings": None}], []))
    assert not attached.is_ahead_of(with_members(inventory, [attached]))
    assert read_network({"Name": "front", "Containers": None}, 7.5).addresses == {}


def test_an_event_tells_of_a_container_that_was_made() -> None:
    """Its name and labels stand among the attributes."""
    attributes = {"name": "web", "image": "x", "app": "shop", "containerExitCode": "0"}
    event = {"Action": "create", "Actor": {"ID": "abc", "Attributes": attributes}}
    assert read_event(event) == Container("abc", "web", frozenset({("app", "shop")}))
