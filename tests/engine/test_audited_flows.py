"""What audit rules noted is kept by flows: bounded, counted, and told page by page."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.control import Control
from ipsecd.control.audited import PAGE, AuditedFlows
from ipsecd.language.flows import flow_from_json, flow_to_json, time_ns
from ipsecd.language.moments import format_moment
from ipsecd.model.addresses import Family
from ipsecd.model.flows import Recorded, flow_of
from ipsecd.model.packets import Packet, Point
from ipsecd.model.sightings import LINK_RAW, Sighting
from ipsecd.model.values import Action, Origin
from ipsecd.protocol.description import CONTROL, load_interface
from tests.engine.site import Site
from tests.strategies import packets

AUDIT = Origin("static", "Web", "Audit", audits=True)


def sighting(
    seen: Packet,
    at_ns: int = 1_000,
    action: Action = Action.AUDIT,
    origin: Origin | None = AUDIT,
) -> Sighting:
    return Sighting(
        at_ns, action, origin, None, "", None, seen.point, seen.interface, seen, "", 40, b"",
        LINK_RAW,
    )  # fmt: skip


def packet(source: int = 1, port: int = 443, client: int = 50000) -> Packet:
    return Packet(Point.ARRIVING, Family.IPV4, source, 2, 6, client, port, interface="eth0")


def told(flows: AuditedFlows, policy: str | None = None, start: int = 0) -> dict[str, Any]:
    return load_interface(CONTROL).check_reply("AuditedFlows", flows.page(policy, start))


def test_a_thousand_connections_are_one_flow() -> None:
    """With how many packets it had, and when the first and the last of them came."""
    flows = AuditedFlows()
    flows.take([sighting(packet(client=40000 + n), n * 1_000_000_000) for n in range(1000)], 9, 0)
    reply = told(flows)
    (flow,) = reply["flows"]
    assert (flow["source"], flow["source_port"], flow["destination_port"]) == ("0.0.0.1", None, 443)
    assert (flow["packets"], reply["packets"], reply["unseen"]) == (1000, 1000, 0)
    assert (flow["first"], flow["last"]) == (
        "1970-01-01T00:00:00.000000Z",
        "1970-01-01T00:16:39.000000Z",
    )


def test_only_audits_are_recorded() -> None:
    """What was blocked is no concern here; what no filter could name is counted."""
    flows = AuditedFlows()
    fragment = Packet(Point.ARRIVING, Family.IPV4, 1, 2, 17, later_fragment=True)
    block = sighting(packet(), action=Action.BLOCK)
    flows.take([block, sighting(fragment), sighting(packet(), origin=None)], 3, 0)
    assert (told(flows)["flows"], told(flows)["packets"], told(flows)["unseen"]) == ([], 0, 2)


def test_lost_packets_are_told() -> None:
    """Also those that were lost before whoever tells of packets began anew."""
    flows = AuditedFlows()
    for lost in (3, 10, 10, 2, 5):
        flows.take([], 99, lost)
    assert told(flows)["unseen"] == 15


def test_a_scan_fills_no_memory() -> None:
    """Flows beyond the limit are counted; those that are there go on."""
    flows = AuditedFlows(most=6)
    flows.take([sighting(packet(port=port)) for port in range(1, 11)], 10, 0)
    flows.take([sighting(packet(port=1))], 11, 0)
    reply = told(flows)
    assert [flow["destination_port"] for flow in reply["flows"]] == [1, 2, 3]
    assert (reply["packets"], reply["unseen"]) == (4, 7)


def test_a_scan_of_one_rule_leaves_room_for_others() -> None:
    """Whatever one rule notes, the next has half of what is left."""
    flows = AuditedFlows(most=100)
    for name in ("First", "Second", "Third"):
        origin = Origin("static", "Web", name)
        flows.take([sighting(packet(port=n), origin=origin) for n in range(1, 101)], 100, 0)
    noted = Counter(flow["rule"] for flow in told(flows)["flows"])
    assert noted == {"First": 50, "Second": 25, "Third": 13}
    assert told(flows)["unseen"] == 300 - 88


def test_policies_of_one_name_do_not_share_flows() -> None:
    """That of the domain may be called as one of this host."""
    flows = AuditedFlows()
    for store in ("static", "domain", "static"):
        flows.take([sighting(packet(), origin=Origin(store, "Web", "Audit"))], 1, 0)
    assert sorted(flow["packets"] for flow in told(flows)["flows"]) == [1, 2]


def test_pages_hold_everything_once() -> None:
    """Also while flows come; and of one policy there are only its own."""
    flows = AuditedFlows()
    many = [sighting(packet(source=n)) for n in range(PAGE * 2 + 1)]
    flows.take(many, 0, 0)
    other = Origin("static", "Other", "Audit")
    start: int | None = 0
    seen = []
    while start is not None:
        reply = told(flows, "Web", start)
        assert len(reply["flows"]) <= PAGE
        seen += [flow["source"] for flow in reply["flows"]]
        flows.take([*many[:5], sighting(packet(source=start), origin=other)], 0, 0)
        start = reply["next"]
    assert len(seen) == len(set(seen)) == len(many)
    assert {flow["policy"] for flow in told(flows, None, PAGE * 2)["flows"]} == {"Web", "Other"}


def test_the_method_tells_what_was_noted(site: Site) -> None:
    """Whoever may look gets it, of the daemon that was told of the packets."""
    control = Control(site.engine)
    control.audited.take([sighting(packet())], 1, 0)
    reply = control.call("AuditedFlows", {"policy": "Web", "start": 0}, "uid 0", {}, None)
    (flow,) = load_interface(CONTROL).check_reply("AuditedFlows", reply)["flows"]
    assert flow["rule"] == "Audit"
    assert Control(site.engine).call("AuditedFlows", {"policy": None, "start": 0}, "", {}, None)[
        "flows"
    ] == []  # fmt: skip


@given(packets(), st.integers(0, 4_000_000_000_000_000))
def test_a_flow_is_told_as_it_is(one: Packet, at_us: int) -> None:
    """Whoever reads what is told of a flow has the flow."""
    flow = flow_of(one, "Audit")
    if flow is not None:
        recorded = Recorded(flow, 7, at_us * 1000, at_us * 1000)
        assert flow_from_json(flow_to_json(recorded, AUDIT)) == recorded
    assert time_ns(format_moment(at_us * 1000)) == at_us * 1000


def test_policies_of_one_name_are_told_apart() -> None:
    """One is of this host and one of its domain; each flow says of which it is."""
    flows = AuditedFlows()
    seen = [AUDIT, Origin("domain", "Web", "Audit"), AUDIT]
    flows.take([sighting(packet(), origin=origin) for origin in seen], 3, 0)
    found = [(flow["store"], flow["packets"]) for flow in told(flows, "Web")["flows"]]
    assert found == [("static", 2), ("domain", 1)]


@pytest.mark.parametrize("start", [-1, 0, 10**6, 2**62])
def test_any_page_can_be_asked_for(start: int) -> None:
    """One that is not there is empty."""
    assert told(AuditedFlows(), None, max(0, start))["flows"] == []
