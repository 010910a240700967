"""Owns answers in which every text that somebody else chose tries to be more than text."""

from __future__ import annotations

from typing import Any

from ipsecd.errors import InvalidInput
from tests.ctl.fake_daemon import (
    COUNT,
    DOMAIN,
    EXPLANATION,
    HISTORY,
    LIST,
    REPLIES,
    STATUS,
    SUMMARY,
)
from tests.web.stand_in import DROPS, PACKET, SOURCE, StandIn

BAD = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;\n\x1b[31m\u202e</td>{{1}}"
"""Elements, the ends of attributes, a line break, a terminal's colour, a change of direction."""
SHOWN = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;\\u000a\\u001b[31m\\u202e</td>"
)
"""How it begins where it is shown."""
_WORDS = {
    *("state", "action", "store", "backend", "loaded_from", "decision", "reason", "kind", "source"),
    *("unparsable", "wanted", "observed", "expires", "at", "direction", "method"),
}
"""Members that hold a word of the daemon's own."""


def spoilt(value: Any, member: str = "") -> Any:
    """A value of the interface with every text of others replaced."""
    if isinstance(value, dict):
        return {name: spoilt(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [spoilt(inner, member) for inner in value]
    return BAD if isinstance(value, str) and member not in _WORDS else value


def make_hostile(daemon: StandIn) -> None:
    """Have a daemon answer like that to all that the pages ask."""
    daemon.strict = False
    by = EXPLANATION["by"]
    status: dict[str, Any] = {
        **STATUS,
        "failures": ["x"],
        "file_warnings": ["x"],
        "drift": ["x"],
        "warnings": ["x"],
        "gaps": ["x"],
        "put_back": "x",
        "unconfirmed": {"method": "X", "by": "x", "message": "x", "left_s": 5.0},
        "container_engines": [{"socket": "x", "state": "unreachable: x"}],
        "domain": {**DOMAIN, "expired": False, "overridden": "x", "trusted": True, "problem": "x"},
    }
    dynamic: dict[str, Any] = {
        "action": "block",
        "interface": "x",
        "when": None,
        "remaining_s": 5.0,
        "created": 1.0,
        "name": "x",
        "filters": ["x", "y"],
        "by": "x",
        "names": [{"name": "x", "addresses": ["x"]}],
    }
    explanation = {
        **EXPLANATION,
        "beaten": [by],
        "established": EXPLANATION,
        "leaving": EXPLANATION,
    }
    replies: dict[str, Any] = {
        **REPLIES,
        "Status": {"status": status},
        "Stats": {"rules": [COUNT, {**COUNT, "filters": ["x"]}], "unparsable": 3},
        "ListDynamic": {"rules": [dynamic]},
        "ListPolicies": {"policies": [SUMMARY, {**SUMMARY, "error": "x"}]},
        "ListLists": {"lists": [{**LIST, "url": "x", "problems": ["x"]}]},
        "Explain": {"explanation": explanation},
        "GetDomain": {"domain": {**DOMAIN, "problem": "x"}},
        "GetHistory": {"rows": HISTORY},
    }
    daemon.replies |= {name: spoilt(reply) for name, reply in replies.items()}
    daemon.told["Drops"] = {**DROPS, "sources": spoilt([{**SOURCE, "source": "x"}])}
    daemon.told["Drops"]["sources"][0]["source"] = BAD
    daemon.told["ExplainAt"] = spoilt(
        {
            "explanation": explanation,
            "since": "x",
            "warnings": ["x"],
            "decided": {"what": "x", "since": "x"},
            "change": {"by": "x"},
        }
    )


PACKETS = spoilt(
    [{**PACKET, "list": "x", "entry": "x", "process": "x", "container": "x", "flags": None}]
)
REFUSAL = InvalidInput(BAD, BAD, source=BAD, position=3)
