"""Clients that watch what is dropped: many, slow ones, and ones that go."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest

from ipsecd.control.method import Request
from ipsecd.control.monitor import METHODS, seen_packet
from ipsecd.errors import Refused
from ipsecd.language.filters import parse_filter
from ipsecd.language.packets import parse_packet
from ipsecd.language.seen import to_packet
from ipsecd.model.addresses import Family, Network
from ipsecd.model.packets import Host, Point
from ipsecd.model.sightings import LINK_ETHERNET, Sighting
from ipsecd.model.values import Action, InterfaceType, Origin
from ipsecd.service.watching import MOST_OF_USER, QUEUE_MOST
from tests.service.harness import Client, MemorySeeing, Running, running, wait_until

HOSTILE = '\x1b[2J"}\n<script>\u202e'


def received(client: Client) -> dict[str, Any]:
    reply = client.receive()
    assert reply is not None, "the daemon closed the connection"
    return reply


class Watcher:
    """A client that watches, and what it was told."""

    def __init__(self, service: Running, **parameters: Any) -> None:
        self.client: Client = service.client()
        self.client.sock.sendall(self.client.request("Monitor", {"more": True}, **parameters))
        self.packets: list[dict[str, Any]] = []
        self.first = self.hear()

    def hear(self) -> dict[str, Any]:
        """The next reply."""
        reply = received(self.client)
        assert reply.get("continues") is True, reply
        self.packets += reply["parameters"]["packets"]
        self.told: dict[str, Any] = reply["parameters"]
        assert len(self.packets) + self.told["lost"] == self.told["blocked"]
        return reply

    def until(self, blocked: int) -> None:
        while self.told["blocked"] != blocked:
            self.hear()


def seeing(service: Running) -> MemorySeeing:
    return service.engine.seeing


def test_a_client_is_told_of_what_is_dropped() -> None:
    """The first reply comes before any packet; the last, when it says something, repeats none."""
    with running() as service:
        watcher = Watcher(service)
        assert watcher.told == {"packets": [], "blocked": 0, "lost": 0}
        seeing(service).drop(250)
        watcher.until(250)
        assert watcher.told["lost"] == 0
        assert [b64decode(each["head"])[-1] for each in watcher.packets] == [
            number & 255 for number in range(250)
        ]
        watcher.client.sock.sendall(watcher.client.request("GetInfo"))
        assert watcher.client.receive() == {
            "parameters": {"packets": [], "blocked": 250, "lost": 0}
        }
        wait_until(lambda: seeing(service).budgets[-1] == 0, "it is still switched on")


def test_ten_watch_and_one_is_stuck_and_one_is_killed() -> None:
    """Nobody else notices, and the daemon answers all the while."""
    with running() as service:
        stuck, killed = Watcher(service, rate=10_000), Watcher(service, rate=10_000)
        alive = [Watcher(service, rate=10_000) for _ in range(8)]
        killed.client.sock.close()
        total = 3 * QUEUE_MOST
        for sent in range(0, total, 1024):
            seeing(service).drop(1024, sent)
            for watcher in alive:
                watcher.until(sent + 1024)
            with service.client() as client:
                assert "parameters" in client.call("ListDynamic")
        for watcher in alive:
            assert len(watcher.packets) == total
        stuck.until(total)
        assert stuck.told["lost"] > 0


def test_the_packets_of_some_rules() -> None:
    """Others are neither told of nor lost."""
    with running() as service:
        memory = seeing(service)
        client = service.client()
        client.sock.sendall(client.request("Monitor", {"more": True}, rules=["mine"], rate=None))
        assert received(client)["continues"]
        memory.origin = Origin("static", "P", "other")
        memory.drop(5)
        reply = received(client)["parameters"]
        assert reply == {"packets": [], "blocked": 5, "lost": 0}
        memory.origin = Origin("dynamic", "", "mine")
        memory.drop(2)
        reply = received(client)["parameters"]
        assert [each["rule"] for each in reply["packets"]] == ["mine"] * 2


@pytest.mark.parametrize(
    ("parameters", "words"), [({"rate": 0}, "between 1 and"), ({"rate": 99_999}, "between 1 and")]
)
def test_what_cannot_be_is_refused_and_the_connection_stays(
    parameters: dict[str, Any], words: str
) -> None:
    """It is an error like that of any call."""
    with running() as service, service.client() as client:
        client.sock.sendall(client.request("Monitor", {"more": True}, **parameters))
        reply = received(client)
        assert reply["error"] == "io.ipsecd.control.InvalidInput"
        assert words in reply["parameters"]["message"]
        assert "parameters" in client.call("ListDynamic")


def test_a_call_for_one_reply_is_refused() -> None:
    """It says how to ask."""
    (method,) = METHODS
    with pytest.raises(Refused, match="again and again"):
        method.handler(None, Request({}))  # type: ignore[arg-type]


def test_one_too_many_is_refused() -> None:
    """As are others of what there is an end to: here of what one user may have."""
    with running() as service:
        watchers = [Watcher(service, rate=1) for _ in range(MOST_OF_USER)]
        assert len(watchers) == MOST_OF_USER
        with service.client() as client:
            client.sock.sendall(client.request("Monitor", {"more": True}))
            assert received(client)["error"] == "io.ipsecd.control.LimitExceeded"


def test_how_a_packet_is_told() -> None:
    """Each value where the interface has it; the packet can be given to explain as it is."""
    text = "udp 203.0.113.7:4000 > 192.0.2.1:1434 in eth0"
    here = Host(frozenset({(Family.IPV4, 0xC0000201)}))
    packet = to_packet(parse_packet(text), here, {"eth0": InterfaceType.LAN})
    sighting = Sighting(
        1_796_053_788_225_587_019,
        Action.BLOCK,
        Origin("static", HOSTILE, HOSTILE),
        parse_filter("@bad=0:1434:UDP"),
        "bad",
        Network(Family.IPV4, 0xCB007100, 24),
        Point.ARRIVING,
        "eth0",
        packet,
        "",
        404,
        b"\0\1",
        LINK_ETHERNET,
        container=HOSTILE,
    )
    told = seen_packet(sighting)
    assert told["packet"] == text
    assert to_packet(parse_packet(told["packet"]), here, {"eth0": InterfaceType.LAN}) == packet
    assert told | {"rule": "", "policy": "", "container": ""} == {
        "at": "2026-11-30T15:49:48.225587Z",
        "action": "block",
        "store": "static",
        "policy": "",
        "rule": "",
        "filter": "@bad=0:1434:UDP",
        "list": "bad",
        "entry": "203.0.113.0/24",
        "direction": "in",
        "interface": "eth0",
        "packet": text,
        "protocol": "udp",
        "source": "203.0.113.7",
        "source_port": 4000,
        "destination": "192.0.2.1",
        "destination_port": 1434,
        "icmp": None,
        "flags": None,
        "length": 404,
        "process": None,
        "container": "",
        "head": "AAE=",
        "link_type": 1,
    }
    assert json.loads(json.dumps(told))["rule"] == HOSTILE
