"""Owns the process in which a daemon has a bundle verified; must not know what comes of it.

It reads one JSON object from standard input: ``trusted``, ``bundle`` and ``host``. It writes one to
standard output, and ends with 0: ``outcome`` is ``policy``, ``withdrawn``, ``nothing`` or
``refused``, and then ``trusted`` is what was given.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from ipsecd import output
from ipsecd.errors import InvalidInput, IpsecdError
from ipsecd_domain.bundle import MAX_BYTES, read_bundle, read_texts
from ipsecd_domain.errors import required_packages
from ipsecd_domain.selection import Host

MAX_INPUT = 2 * MAX_BYTES
"""Bytes of all that is read: a bundle, and what is trusted."""


def main() -> int:
    """Answer one question; the exit code."""
    output.begin()
    text = sys.stdin.buffer.read(MAX_INPUT + 1)
    output.say_json(answer(text), indent=None)
    return output.finish(0, "ipsecd-domain-verify")


def answer(text: bytes) -> dict[str, Any]:
    """What is to be said of a question."""
    trusted: Mapping[str, str] = {}
    try:
        question = _question(text)
        trusted = read_texts(question.get("trusted", {}))
        host = read_host(question.get("host"))
        bundle = read_bundle(question.get("bundle", {}))
        with required_packages():
            from ipsecd_domain.trusted import refresh  # noqa: PLC0415 - it may not be installed
        new = refresh(trusted, host, bundle.fetch)
    except IpsecdError as error:
        return _answer("refused", trusted, reason=error.message, hint=error.hint)
    return _answer(
        new.outcome,
        new.trusted,
        path=new.path,
        sha256=new.sha256,
        version=new.version,
        expires=new.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        interval_s=new.interval_s,
        why=new.why,
        lists={each.name: each.sha256 for each in new.lists},
    )


def read_host(given: object) -> Host:
    """The host that a JSON value describes; raises ``InvalidInput``."""
    match given:
        case {"name": str(name), "groups": list(groups), "labels": dict(labels)}:
            texts = [*groups, *labels.values()]
            if all(isinstance(text, str) for text in texts):
                return Host(name, tuple(groups), tuple(sorted(labels.items())))
    raise InvalidInput("a host is an object with a name, groups and labels")


def _question(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_INPUT:
        raise InvalidInput(f"what is to be verified has more than {MAX_INPUT:,} bytes")
    try:
        question = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("what is to be verified is not JSON") from error
    if not isinstance(question, dict):
        raise InvalidInput("what is to be verified is no JSON object")
    return question


def _answer(
    outcome: str,
    trusted: Mapping[str, str],
    *,
    reason: str = "",
    hint: str = "",
    path: str = "",
    sha256: str = "",
    version: int = 0,
    expires: str = "",
    interval_s: float | None = None,
    why: str = "",
    lists: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "reason": reason,
        "hint": hint,
        "path": path,
        "sha256": sha256,
        "version": version,
        "expires": expires,
        "interval_s": interval_s,
        "why": why,
        "lists": dict(lists or {}),
        "trusted": dict(trusted),
    }


if __name__ == "__main__":
    sys.exit(main())
