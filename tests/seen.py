"""A packet that was dropped, as the interface tells of it."""

from __future__ import annotations

from typing import Any

SEEN: dict[str, Any] = {
    "at": "2026-11-30T15:40:12.123456Z",
    "action": "block",
    "store": "static",
    "policy": "Web",
    "rule": "Block web",
    "filter": "*=0:80:TCP",
    "list": None,
    "entry": None,
    "direction": "in",
    "interface": "eth0",
    "packet": "tcp 203.0.113.7:4000 > 192.0.2.1:80 in eth0",
    "protocol": "tcp",
    "source": "203.0.113.7",
    "source_port": 4000,
    "destination": "192.0.2.1",
    "destination_port": 80,
    "icmp": None,
    "flags": "S",
    "length": 40,
    "process": None,
    "container": None,
    "head": "",
    "link_type": 101,
}
