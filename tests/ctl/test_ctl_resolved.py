"""Tests of what views say of DNS names, and of rules whose name says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from ipsecctl.presentation import resolved
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import FakeDaemon


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (None, ""),
        ([], ""),
        ([{"name": "a.example", "addresses": ["192.0.2.1"]}], " [192.0.2.1]"),
        (
            [{"name": "a.example", "addresses": [f"192.0.2.{n}" for n in range(6)]}],
            " [192.0.2.0, 192.0.2.1, 192.0.2.2, 192.0.2.3 and 2 more]",
        ),
        (
            [
                {"name": "a.example", "addresses": ["192.0.2.1"]},
                {"name": "b.example", "addresses": ["2001:db8::1"]},
            ],
            " [a.example: 192.0.2.1; b.example: 2001:db8::1]",
        ),
    ],
)
def test_addresses_stand_behind_a_filter(names: list[dict[str, Any]] | None, text: str) -> None:
    """However many there are, the line stays readable; JSON has them all."""
    assert resolved({"names": names}) == text


def test_stats_say_what_dynamic_rules_block(daemon: FakeDaemon, run: Run) -> None:
    """A generated name says nothing; a rule of a policy has a name that somebody chose."""
    counted = {"policy": "", "action": "block", "packets": 3, "bytes": 84}
    daemon.replies["Stats"] = {
        "rules": [
            {**counted, "store": "dynamic", "rule": "dynamic-1", "filters": ["203.0.113.7=0"]},
            {**counted, "store": "static", "policy": "Web", "rule": "Block", "filters": None},
            {
                **counted,
                "store": "dynamic",
                "rule": "dynamic-11127",
                "filters": ["203.0.113.9=0"],
                "address": ["203.0.113.9"],
            },
            {
                **counted,
                "store": "dynamic",
                "rule": "sshd\x1b[2J",
                "filters": ["203.0.113.9=0"],
                "address": ["203.0.113.9"],
            },
        ],
        "unparsable": 0,
    }
    lines = run("ipsecctl", "stats").out.splitlines()
    assert lines[1].split()[-2:] == ["dynamic-1", "203.0.113.7=0"]
    assert lines[2].split()[-1] == "Block"
    assert lines[3].split()[-2:] == ["203.0.113.9", "203.0.113.9=0"]
    assert "dynamic-11127" not in lines[3]
    assert "sshd\\u001b[2J" in lines[4]
