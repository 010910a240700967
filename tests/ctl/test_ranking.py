"""Filters by rank: of two that match a packet, the one that decides stands before the other."""

from __future__ import annotations

import json
from typing import Any, cast

from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import FILTERS, FakeDaemon

TEXTS = [
    ("static", "*=0", "block"),
    ("static", "192.0.2.0/24=0", "permit"),
    ("dynamic", "*=0:22:TCP", "block"),
    ("static", "[2001:db8::1]=0", "block"),
    ("static", "@drop=0", "block"),
    ("configuration", "198.51.100.9+0", "permit"),
    ("static", "*=0:22:TCP", "permit"),
]


def test_it_is_the_order_in_which_they_decide(daemon: FakeDaemon, run: Run) -> None:
    entry = {**cast("dict[str, Any]", FILTERS[0]), "policy": "P", "interface": None, "when": None}
    told = [
        {**entry, "store": store, "filter": text, "action": action} for store, text, action in TEXTS
    ]
    daemon.replies["ListFilters"] = {"filters": told}
    ran = json.loads(run("ipsecctl", "show", "filters", "--by-rank", "--json").out)
    assert [(each["filter"], each["action"]) for each in ran] == [
        ("198.51.100.9+0", "permit"),
        ("[2001:db8::1]=0", "block"),
        ("@drop=0", "block"),
        ("192.0.2.0/24=0", "permit"),
        ("*=0:22:TCP", "block"),
        ("*=0:22:TCP", "permit"),
        ("*=0", "block"),
    ]
