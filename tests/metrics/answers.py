"""What a daemon tells of itself, for tests of what becomes of it."""

from __future__ import annotations

from typing import Any

RULE: dict[str, Any] = {
    "store": "static",
    "policy": "P",
    "rule": "Worm",
    "action": "block",
    "packets": 5,
    "bytes": 240,
}
METRICS: dict[str, Any] = {
    "listen": None,
    "version": "0.1.0",
    "backend": "nftables",
    "started": 1700000000.0,
    "state": "enforcing",
    "in_force": True,
    "rules": [RULE, {**RULE, "store": "dynamic", "policy": "", "rule": ""}],
    "dynamic_rules": 1,
    "unparsable": 3,
    "lists": [
        {
            "name": "drop",
            "entries": 1000,
            "checked": 1700000000.5,
            "every_s": 3600.0,
            "failing": True,
            "packets": 12,
        },
        {
            "name": "local",
            "entries": 2,
            "checked": None,
            "every_s": None,
            "failing": False,
            "packets": None,
        },
    ],
    "domain": {
        "policy": "Fleet",
        "version": 7,
        "taken_at": 1700000000.0,
        "checked_at": None,
        "expires": "2025-01-01T00:00:00Z",
        "interval_s": 300.0,
        "failing": False,
    },
    "changed_at": 1700000001.0,
    "repaired": 2,
    "applied": 3,
    "applied_s": 0.5,
    "applied_last_s": 0.1,
    "monitor_lost": 0,
}

HOSTILE = (
    'a"b\\c',
    "new\nline",
    'x"} 1\nipsecd_up 0\n#',
    "<script>alert(1)</script>",
    "\x1b[2J\x00\x7f",
    "\u202eabc\u2028",
    "ü" * 256,
    "\\n",
)
