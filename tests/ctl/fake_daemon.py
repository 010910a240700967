"""Owns a daemon that answers as told, and checks every call and answer against the interface."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ipsecd.errors import IpsecdError
from ipsecd.protocol.description import CONTROL, load_interface
from ipsecd.protocol.errors import VarlinkError, to_wire

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "pid": 17,
    "since": 1.0,
    "state": "enforcing",
    "failures": [],
    "file_warnings": [],
    "backend": "nftables",
    "features": ["owned", "persistent"],
    "assigned": "Block UDP 1434 Filter",
    "policy_path": "/etc/ipsecd/policies/block-udp-1434-filter.yaml",
    "loaded_from": "policy",
    "wanted": "3f2a91c05d7e66aa",
    "observed": "3f2a91c05d7e66aa",
    "drift": [],
    "policy_rules": 2,
    "policy_audit": False,
    "flight_recorder": True,
    "policy_filters": 2,
    "protected_filters": 0,
    "dynamic_rules": 0,
    "dynamic_taken_over": 0,
    "dynamic_filters": 0,
    "exemptions": [
        {"name": "neighbour-discovery", "reason": "links"},
        {"name": "dhcp-client", "reason": "leases"},
    ],
    "unparsable": "drop",
    "container_engines": [],
    "domain": None,
    "warnings": [],
    "gaps": [],
}
DOCUMENT = """\
policy: Web
rules:
  - rule: Block web
    action: block
    filters: ["*=0:80:TCP"]
"""
FILTERS = [
    {
        "store": "dynamic",
        "policy": "",
        "rule": "dynamic-1",
        "filter": "203.0.113.7=0",
        "action": "block",
        "interface": None,
        "when": None,
        "remaining_s": 598.0,
    },
    {
        "store": "static",
        "policy": "Block UDP 1434 Filter",
        "rule": "Block Inbound UDP 1434 Rule",
        "filter": "*=0:1434:UDP",
        "action": "block",
        "interface": None,
        "when": None,
        "remaining_s": None,
    },
]
INTERFACES = [
    {"name": "lo", "index": 1, "type": "loopback", "up": True, "addresses": ["127.0.0.1/8"]},
    {
        "name": "eth0",
        "index": 2,
        "type": "lan",
        "up": True,
        "addresses": ["192.168.1.1/24", "2001:db8::1/64"],
    },
]
OUTCOME = {
    "changed": True,
    "message": "the change is made",
    "changes": [],
    "assigned": "Block UDP 1434 Filter",
    "warnings": [],
}
LIST_OUTCOME = {
    "changed": True,
    "message": "list 'bans' is changed: 2 entries, 1 new",
    "name": "bans",
    "entries": 2,
    "added": 1,
    "removed": 0,
    "malformed": 0,
    "warnings": [],
}
LIST: dict[str, Any] = {
    "name": "bans",
    "entries": 2,
    "ipv4": 1,
    "ipv6": 1,
    "added": 1,
    "ending": 1,
    "ends": 4_000_000_000.0,
    "path": "/etc/ipsecd/lists/bans",
    "url": None,
    "every_s": None,
    "fetched": None,
    "checked": None,
    "problems": [],
    "rules": [{"store": "static", "policy": "Web", "rule": "Block web"}],
    "domain": False,
    "counted": False,
}
EXPLANATION: dict[str, Any] = {
    "decision": "block",
    "reason": "filter",
    "by": {
        "store": "static",
        "policy": "Web",
        "rule": "Block web",
        "filter": "*=0:80:TCP",
        "action": "block",
    },
    "beaten": [],
    "audited": None,
    "packet": "tcp 203.0.113.7:4000 > 192.168.1.1:80",
    "source_ports": None,
    "leaving": None,
    "established": None,
    "established_leaving": None,
    "when_opening": False,
}
SUMMARY = {
    "name": "Web",
    "store": "static",
    "description": "",
    "path": "/etc/ipsecd/policies/web.yaml",
    "assigned": True,
    "rules": 1,
    "filters": 1,
    "audit": False,
    "error": None,
}
COUNT = {
    "store": "static",
    "policy": "Web",
    "rule": "Block web",
    "action": "block",
    "packets": 1234,
    "bytes": 56789,
    "since": "2026-11-30T15:40:12Z",
    "filters": None,
    "address": None,
}
EXAMINATION: dict[str, Any] = {
    "setting": "auto",
    "backend": "nftables",
    "why": "auto stands for it",
    "features": ["owned"],
    "troubles": [],
    "warnings": [],
    "gaps": [],
    "assessments": [
        {
            "name": "nftables",
            "usable": True,
            "reasons_for": ["tried"],
            "reasons_against": [],
            "untried": "",
        },
        {
            "name": "xdp",
            "usable": False,
            "reasons_for": ["fast"],
            "reasons_against": ["absent"],
            "untried": "",
        },
    ],
}
DOMAIN: dict[str, Any] = {
    "source": "file:///srv/fleet",
    "doorbell": None,
    "host": "web1",
    "groups": ["web"],
    "labels": {"site": "paris"},
    "interval_s": 5400.0,
    "ca": None,
    "certificate": None,
    "key": None,
    "proxy": None,
    "reports": None,
    "trusted": {"root.json": "{}"},
    "policy": "Web",
    "path": "group/web/web.yaml",
    "digest": "ab" * 32,
    "version": 7,
    "expires": "2100-01-01T00:00:00Z",
    "taken_at": 1.0,
    "withdrawn": False,
    "problem": "",
    "checked_at": None,
    "why": "policy 'Web' (group/web/web.yaml) is for group 'web'\nit goes before another",
    "refresh": 3,
    "lists": [{"name": "drop", "digest": "cd" * 32, "entries": 2000}],
}
NOT_ASKED = {"live": None, "audit": None}
"""What a change has that is to be made, and not only to be thought through."""
NO_AUTHOR = {"login_uid": None, "login_user": "", "sudo_user": "", "command": "", "message": ""}
ROW = {
    **NO_AUTHOR,
    "number": 1,
    "state": None,
    "at": 1.0,
    "kind": "policies",
    "source": "start",
    "method": "start",
    "uid": 0,
    "user": "",
    "pid": 0,
    "what": ["found at the start"],
    "changes": 1,
    "put": 0,
    "removed": 0,
    "lists": [],
    "digest_before": "",
    "digest_after": "",
}
"""A row of the history that the daemon made by itself."""
HISTORY = [
    {
        **ROW,
        "number": 4,
        "kind": "lists",
        "source": "command",
        "method": "AddToList",
        "pid": 7,
        "user": "root",
        "sudo_user": "ann",
        "lists": [{"name": "b", "before": 1, "after": 2}],
        "what": [],
    },
    {
        **ROW,
        "number": 3,
        "kind": "rules",
        "source": "command",
        "method": "AddDynamicRules",
        "user": "root",
        "pid": 9,
        "command": "fail2ban",
        "changes": 3,
        "put": 3,
        "what": ["block 192.0.2.1=0 for 60 s", "block 192.0.2.2=0 for 60 s"],
    },
    {
        **ROW,
        "number": 2,
        "state": 1,
        "source": "command",
        "method": "ApplyPolicy",
        "pid": 8,
        "user": "root",
        "login_uid": 1000,
        "login_user": "ann",
        "message": "ticket 7",
        "command": "ipsecctl",
        "what": ["policy 'Web' is changed: +'No telnet'"],
    },
    ROW,
]
RECORDED = {
    "at": "2026-11-24T12:00:00.000000Z",
    "first": "2026-11-24T12:00:00.000000Z",
    "changes": 1,
    "by": "uid 0 (root) pid 12 ipsecctl",
    "source": "command",
    "method": "ApplyPolicy",
    "message": "ticket 7",
    "what": ["policy 'Web' (static) is in force"],
}
DROPPED = {
    "action": "block",
    "store": "dynamic",
    "policy": "",
    "rule": "worm",
    "packets": 1000,
    "bytes": 100_000,
    "seen": 20,
    "seen_bytes": 2000,
}
SAMPLE = {
    "at": "2026-11-24T12:00:01.000000Z",
    "action": "block",
    "store": "dynamic",
    "policy": "",
    "rule": "worm",
    "filter": "*=0:1434:UDP",
    "list": None,
    "entry": None,
    "direction": "in",
    "interface": "eth0",
    "packet": "udp 203.0.113.7:4000 > 192.0.2.1:1434 in eth0",
    "protocol": "udp",
    "source": "203.0.113.7",
    "source_port": 4000,
    "destination": "192.0.2.1",
    "destination_port": 1434,
    "icmp": None,
    "flags": None,
    "length": 100,
    "process": None,
    "container": None,
    "head": "",
    "link_type": 101,
}
AUDITED: dict[str, Any] = {
    "store": "static",
    "policy": "Web",
    "rule": "Block web",
    "direction": "in",
    "protocol": 6,
    "source": "203.0.113.7",
    "source_port": None,
    "destination": "192.168.1.1",
    "destination_port": 80,
    "icmp_type": None,
    "icmp_code": None,
    "interface": "eth0",
    "packets": 3,
    "first": "2026-11-30T15:40:12.123456Z",
    "last": "2026-11-30T15:41:12.123456Z",
}
REPLIES: dict[str, dict[str, Any]] = {
    "AuditedFlows": {
        "flows": [AUDITED],
        "next": None,
        "packets": 3,
        "unseen": 0,
        "since": "2026-11-30T15:00:00.000000Z",
    },
    "GetPolicyFile": {
        "policy": "Web",
        "path": "/etc/ipsecd/policies/web.yaml",
        "text": """# of ours
policy: Web
rules:
  - rule: Block web
    action: block   # for now
    filters:
      - "*=0"
""",
        "digest": "",
        "error": None,
    },
    "GetUnconfirmed": {
        "change": {"method": "X", "by": "uid 0 (root) pid 9", "message": "", "left_s": 59.0},
        "put_back": None,
    },
    "GetHistory": {"rows": HISTORY},
    "GetWorkspace": {
        "fingerprint": "3f2a",
        "policies": [{"name": "Web", "document": DOCUMENT}],
        "assigned": "Web",
        "shared_filters": None,
        "dynamic": [],
    },
    "GetBackup": {
        "archive": "YW4gYXJjaGl2ZQo=",
        "policies": 2,
        "lists": 1,
        "dynamic_rules": 0,
        "warnings": [],
    },
    "Restore": {"outcome": OUTCOME},
    "GetState": {
        "policies": [
            {"name": "Web", "path": "policies/web.yaml", "document": DOCUMENT, "assigned": True}
        ],
        "assigned": "Web",
        "domain": None,
    },
    "ListLists": {"lists": [LIST]},
    "GetList": {
        "list": LIST,
        "entries": ["192.0.2.7", "2001:db8::7"],
        "ending": [{"entry": "192.0.2.7", "ends": 4_000_000_000.0}],
    },
    "GetDomain": {"domain": DOMAIN},
    "Status": {"status": STATUS},
    "ListFilters": {"filters": FILTERS},
    "ListPolicies": {"policies": [SUMMARY]},
    "GetPolicy": {
        "document": DOCUMENT,
        "path": "/p/web.yaml",
        "store": "static",
        "assigned": False,
        "id": "509492ea-1214-4f50-bf43-9cac2b538518",
        "overriding": None,
    },
    "ListDynamic": {"rules": []},
    "ListNames": {
        "names": [
            {
                "name": "worm.example",
                "addresses": ["203.0.113.7", "2001:db8::7"],
                "looked_up": None,
                "resolved": False,
                "rules": [
                    {"store": "static", "policy": "Web", "rule": "Block web"},
                    {"store": "dynamic", "policy": "", "rule": "ban"},
                ],
            }
        ]
    },
    "ListInterfaces": {"interfaces": INTERFACES},
    "ListContainers": {
        "containers": [
            {
                "id": "425caf4023eb",
                "name": "web",
                "labels": ["app=db"],
                "networks": [{"name": "front", "addresses": ["10.90.0.2", "fd90::2"]}],
            }
        ],
        "engines": [{"socket": "/run/podman/podman.sock", "state": "connected"}],
    },
    "ListExemptions": {"exemptions": STATUS["exemptions"]},
    "Examine": {"examination": EXAMINATION},
    "Stats": {"rules": [COUNT], "unparsable": 3},
    "Explain": {"explanation": EXPLANATION},
    "ExplainAt": {
        "explanation": EXPLANATION,
        "at": "2026-11-24T13:03:00.000000Z",
        "since": "2026-11-24T12:00:00.000000Z",
        "change": RECORDED,
        "decided": {
            "what": "policy 'Web' (static)",
            "since": "2026-11-24T12:00:00.000000Z",
            "change": RECORDED,
            "by": None,
        },
        "backend": "nftables",
        "warnings": ["the clock was set back"],
    },
    "Drops": {
        "since": "2026-11-24T12:00:00.000000Z",
        "until": "2026-11-24T13:00:00.000000Z",
        "period_s": 60,
        "periods": [
            {**DROPPED, "at": "2026-11-24T12:00:00.000000Z"},
            {**DROPPED, "at": "2026-11-24T12:01:00.000000Z", "packets": 3000},
        ],
        "sources": [
            {
                "action": "block",
                "store": "dynamic",
                "policy": "",
                "rule": "worm",
                "source": "203.0.113.7",
                "packets": 40,
                "bytes": 4000,
                "first": "2026-11-24T12:00:00.000000Z",
                "last": "2026-11-24T12:02:00.000000Z",
            }
        ],
        "samples": [SAMPLE],
        "blocked": 4000,
        "lost": 3960,
    },
    "SetBackend": {"name": "xdp", "before": "nftables", "kept": True, "setting": "auto"},
    "RemoveDynamic": {"removed": ["dynamic-1"]},
    "RemoveDynamicRules": {
        "removed": ["dynamic-1"],
        "reduced": [],
        "filters": 1,
        "still_blocked": [],
    },
    "FlushDynamic": {"removed": 2},
    "Quarantine": {
        "changed": True,
        "rules": [
            {
                "name": "quarantine container:web",
                "action": "block",
                "filters": ["container:web+*"],
                "interface": None,
                "remaining_s": None,
                "by": "uid 0 (root) pid 17",
                "created": 1.0,
            }
        ],
        "warnings": [],
    },
    "Release": {"name": "container:web", "removed": ["quarantine container:web"]},
}

Call = tuple[str, dict[str, Any]]


class FakeDaemon:
    """Answers on a socket at `path`; ``replies`` replaces an answer, or gives an error instead.

    ``more`` holds for every call whether it asked for more than one reply. If the last one did,
    the reports in ``progress`` are sent before the answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[Call] = []
        self.changes: list[dict[str, Any] | None] = []
        self.document: bytes | None = None
        self.regular = False
        self.replies: dict[str, dict[str, Any] | IpsecdError] = {}
        self.silent = False
        self.more: list[bool] = []
        self.progress: list[dict[str, Any]] = []
        self.broken: list[str] = []
        self._interface = load_interface(CONTROL)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._socket.close()
        assert self.broken == []

    def status(self, **changes: Any) -> None:
        """Have ``Status`` answer with `changes` to the usual."""
        self.replies["Status"] = {"status": {**STATUS, **changes}}

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                while not self.silent and (frame := self._receive(connection)):
                    message = json.loads(frame)
                    self.more.append(message.get("more", False))
                    told = [
                        {"parameters": {"progress": report}, "continues": True}
                        for report in (self.progress if self.more[-1] else ())
                    ]
                    replies = [*told, self._answer(message)]
                    connection.sendall(b"".join(json.dumps(r).encode() + b"\0" for r in replies))

    def _receive(self, connection: socket.socket) -> bytes:
        received = b""
        while not received.endswith(b"\0"):
            size = socket.CMSG_SPACE(array.array("i").itemsize)
            data, control, _, _ = connection.recvmsg(4096, size)
            for _, _, passed in control:
                descriptor = array.array("i", passed)[0]
                with os.fdopen(descriptor, "rb") as file:
                    self.regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
                    self.document = file.read()
            if not data:
                return b""
            received += data
        return received[:-1]

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        interface, _, method = message["method"].rpartition(".")
        try:
            assert interface == CONTROL
            parameters = self._interface.check_call(method, message["parameters"])
            if "change" in parameters:
                self.changes.append(parameters.pop("change"))
            for option in ("dry_run", "counted", "counters"):
                if parameters.get(option, False) is None:
                    del parameters[option]
            self.calls.append((method, parameters))
            reply = self.replies.get(method) or REPLIES.get(method)
            reply = reply or self.make_up(method, parameters)
            if isinstance(reply, IpsecdError):
                return to_wire(reply)
            self._interface.check_reply(method, reply)
        except (AssertionError, VarlinkError) as error:
            self.broken.append(f"{message}: {error}")
            return to_wire(IpsecdError("the test's contract is broken"))
        return {"parameters": reply}

    def make_up(self, method: str, parameters: dict[str, Any]) -> dict[str, Any] | IpsecdError:
        if method == "AddDynamicRules":
            return self._made_up_rules(parameters)
        if method.endswith("List") or method == "CreateFeed":
            return {"outcome": LIST_OUTCOME}
        if method != "AddDynamic":
            return {"outcome": OUTCOME}
        rule = {name: parameters.get(name) for name in ("action", "filters", "interface", "when")}
        name = parameters["name"] or f"dynamic-{len(self.calls)}"
        life = {"remaining_s": parameters["ttl_s"], "by": "uid 0 (root)", "created": 1.0}
        return {"rule": {"name": name, **rule, **life}, "warnings": []}

    def _made_up_rules(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """One rule with a name for all filters, else one for each of them."""
        filters = parameters["filters"]
        if filters is None:
            filters = (self.document or b"").decode().split()
        name, until = parameters["name"], parameters["until"]
        remaining_s = parameters["ttl_s"] if until is None else until - time.time()
        rest = {name: parameters.get(name) for name in ("action", "interface", "when")}
        rest |= {"remaining_s": remaining_s, "by": "uid 0 (root)", "created": 1.0}
        named = [(name, filters)] if name else [(f"r{n}", [f]) for n, f in enumerate(filters)]
        return added_reply([{"name": name, "filters": some, **rest} for name, some in named])


def added_reply(rules: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """The reply to AddDynamicRules, where all rules are new."""
    reply = {"changed": True, "added": len(rules), "renewed": 0, "rules": rules}
    return {**reply, "warnings": [], "outranked": [], **changes}


Kind = TypeVar("Kind", bound=FakeDaemon)


@contextlib.contextmanager
def served(kind: type[Kind], monkeypatch: pytest.MonkeyPatch) -> Iterator[Kind]:
    """A daemon of some kind where commands look for it."""
    with tempfile.TemporaryDirectory(prefix="ipsecctl-") as directory:
        fake = kind(Path(directory) / "ipsecd.sock")
        monkeypatch.setenv("IPSECD_SOCKET", str(fake.path))
        try:
            yield fake
        finally:
            fake.close()
