"""Fuzz target: any bytes are a bundle and a verdict that can be kept, or are refused by name."""

from __future__ import annotations

import json
from contextlib import suppress

from ipsecd.control.verdict import Question
from ipsecd.errors import InvalidInput, Refused
from ipsecd.sources.domain import Selection, Taken, taken_from_json, taken_to_json
from ipsecd.sources.domain_lists import DomainList
from ipsecd.sources.remembered import PolicyReader
from tests.fuzz.running import fuzz

ROOT = json.dumps(
    {
        "signed": {
            "_type": "root",
            "version": 1,
            "roles": {
                "root": {"keyids": ["a"], "threshold": 1},
                "timestamp": {"keyids": ["t"], "threshold": 1},
            },
        }
    }
)
GOOD = {
    "outcome": "nothing",
    "version": 1,
    "expires": "2100-01-01T00:00:00Z",
    "interval_s": None,
    "why": "",
    "trusted": {"root.json": ROOT},
}
SEEDS = (
    b'{"metadata": {"timestamp.json": "x"}, "targets": {"all/web.yaml": "policy: P"}}',
    json.dumps(GOOD).encode(),
    json.dumps({**GOOD, "outcome": "policy", "path": "all/web.yaml", "sha256": "0" * 64}).encode(),
    json.dumps({**GOOD, "outcome": "policy", "lists": {"drop": "0" * 64, "x": 1}}).encode(),
    b'{"metadata": {}, "targets": {"": ""}, "lists": {"' + b"0" * 64 + b'": 3}}\nabc',
    json.dumps({**GOOD, "outcome": "withdrawn", "interval_s": 1e300}).encode(),
    json.dumps({"outcome": "refused", "reason": "x" * 5000, "hint": "y"}).encode(),
    json.dumps({**GOOD, "expires": "9999-12-31T23:59:59+14:00"}).encode(),
    json.dumps({**GOOD, "expires": "0001-01-01T00:00:00+14:00"}).encode(),
    json.dumps({**GOOD, "why": "\ud800"}).encode(),
    b'{"metadata": {"\\ud800": ""}, "targets": {}}',
    b"[" * 5000,
    b"\xff",
    b"",
)
TRUSTING = Taken({"root.json": ROOT})


def taken_list(name: str, digest: str) -> DomainList:
    """Nothing here is a list of a bundle that was verified."""
    raise AssertionError((name, digest))


def fuzz_one(data: bytes) -> None:
    """Read `data` as a bundle, and as what a process says of one."""
    question = Question(TRUSTING, Selection("web1"), data)
    with suppress(InvalidInput):
        json.loads(question.text())
    try:
        verdict = question.verdict(data)
    except Refused:
        return
    taken = verdict.taken(None, 1.0)
    assert taken_from_json(taken_to_json(taken), PolicyReader(), taken_list) == taken


if __name__ == "__main__":
    fuzz(fuzz_one)
