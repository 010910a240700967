"""Owns the methods that ask the flight recorder; must not know how it records."""

from __future__ import annotations

import time
from typing import Any

from ipsecd.control.explain import explained
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.engine import Engine
from ipsecd.engine.recorder.dropped import Wanted
from ipsecd.engine.recorder.journal import CLOCK, MISSED
from ipsecd.engine.recorder.minutes import Counts, Of
from ipsecd.engine.recorder.past import Gap, Past, part_of
from ipsecd.engine.recorder.snapshots import POLICY
from ipsecd.errors import InvalidInput, IpsecdError, Refused
from ipsecd.language.addresses import parse_address
from ipsecd.language.explanations import explanation_to_json
from ipsecd.language.moments import format_moment, parse_moment
from ipsecd.model.addresses import Network
from ipsecd.model.values import Action, Origin
from ipsecd.quoting import quote
from ipsecd.sources.ring import Json

_WHY = {
    CLOCK: "the clock was set then",
    MISSED: "the flight recorder could not write then",
}
MOST_DYNAMIC_RULES = 2000
"""Of so many the counters are read each minute: that takes some 15 ms of the kernel's line."""
_NOT_RUNNING = "the daemon was not running, or had been killed"


def _explain_at(engine: Engine, request: Request) -> dict[str, Any]:
    at = parse_moment(request["at"])
    engine.recorder.written()
    past = engine.recorder.past(at)
    state = past.state
    if state.held:
        raise Refused(
            "what should have been in force at that moment was not, and what the kernel held in "
            "its place is not known",
            f"it was so since {format_moment(past.since)}",
        )
    around = past.surroundings
    exemptions = () if state.stopped else past.config.exemptions
    # Which process belonged to which control group then is not recorded.
    explanation = explained(
        request["packet"], state, around.host, around.types, exemptions, lambda a, b: a == b
    )
    by = explanation.decision.by
    return {
        "explanation": explanation_to_json(explanation),
        "at": format_moment(at),
        "since": format_moment(past.since),
        "change": _change(past.change),
        "decided": _decided(past, by.origin) if by else None,
        "backend": past.backend,
        "warnings": _warnings(past, by.origin if by else None),
    }


def _change(change: Json | None) -> dict[str, Any] | None:
    """A change, as the type ``RecordedChange`` of the interface."""
    if change is None or change.get("known") is not True:
        return None
    facts: dict[str, Any] = change
    return {
        "at": format_moment(facts["at"]),
        "first": format_moment(facts["first"]),
        "changes": facts["changes"],
        "by": _author(facts["author"]),
        "source": facts["source"],
        "method": facts["method"],
        "message": facts["message"],
        "what": facts["what"],
    }


def _author(author: dict[str, Any] | None) -> str:
    """Who made a change, in the words in which dynamic rules say it."""
    if author is None or not author["pid"]:
        return "ipsecd"
    user = f" ({author['user']})" if author["user"] else ""
    words = f"uid {author['uid']}{user} pid {author['pid']}"
    if author["login_uid"] not in (None, author["uid"]):
        words += f" login {author['login_user'] or author['login_uid']}"
    return words + (f" {author['command']}" if author["command"] else "")


def _decided(past: Past, origin: Origin) -> dict[str, Any]:
    """Since when what decides was in force, as the type ``RecordedPart`` of the interface."""
    key = part_of(origin)
    if origin.volatile:
        rule = past.state.dynamic.get(origin.rule)
        assert rule is not None
        since = format_moment(int(rule.created * 1e9))
        return {"what": f"rule {quote(rule.name)}", "since": since, "change": None, "by": rule.by}
    what = "the settings"
    if key == POLICY:
        what = f"policy {quote(origin.policy)} ({origin.store})"
    part = past.parts.get(key, {"at": past.since})
    at = part["at"]
    assert isinstance(at, int)
    return {"what": what, "since": format_moment(at), "change": _change(part), "by": None}


def _warnings(past: Past, origin: Origin | None) -> list[str]:
    """What is not certain about a moment, at which `origin` decides, a sentence each."""
    warnings = [_of_gap(past.gap)] if past.gap else []
    rule = past.state.dynamic.get(origin.rule) if origin and origin.volatile else None
    if past.gap and rule and rule.ends:
        # The kernel ends it by itself, also while there is no daemon.
        warnings.append(f"rule {quote(rule.name)} had an end, and may have ended by then")
    if past.twice:
        warnings.append(
            "the clock was set back, and showed that moment twice: this is the later one"
        )
    if past.change and past.change.get("changes", 1) != 1:
        changes = past.change["changes"]
        warnings.append(
            f"the last change before it stands for {changes:,} that followed each other"
        )
    return warnings


def _of_gap(gap: Gap) -> str:
    why = _WHY.get(gap.why, _NOT_RUNNING)
    stretch = f"from {format_moment(gap.since)} to {format_moment(gap.until)}"
    if gap.left == "nothing":
        meanwhile = "the daemon had withdrawn everything when it ended"
    elif gap.left:
        meanwhile = "this is what the daemon left in force when it ended"
    else:
        meanwhile = "this is what was in force before"
    return f"nothing was recorded {stretch}, because {why}: {meanwhile}"


def counted(engine: Engine) -> Counts | None:
    """What each rule that drops has counted, by action, store, policy and name.

    Of many dynamic rules it is left out, since reading theirs keeps the kernel's line busy; it is
    None if the kernel cannot be asked. Called in the recorder's thread.
    """
    engine = engine.snapshot()
    if engine.stopped:
        return {}
    counting = engine.counting
    is_short = len(engine.dynamic) <= MOST_DYNAMIC_RULES
    try:
        counts = counting.read() if is_short else counting.read_policy()
    except (IpsecdError, OSError):
        return None
    return {
        (action.value, origin.store, origin.policy, origin.rule): (*found.count, found.since)
        for origin, action in engine.rules().items()
        if action is not Action.PERMIT and (found := counts.get(origin))
    }


def _drops(engine: Engine, request: Request) -> dict[str, Any]:
    since = parse_moment(request["since"])
    until = parse_moment(request["until"]) if request["until"] else time.time_ns()
    if until <= since:
        raise InvalidInput(
            f"{request['until'] or 'now'} is not after {request['since']}",
            "name a time that has begun, and an end after its beginning",
        )
    network = _network(request["address"]) if request["address"] else None
    engine.recorder.drops.end_minute()
    engine.recorder.written()
    total = engine.recorder.dropped(Wanted(since, until, request["rule"], network))
    periods = sorted(total.periods.items(), key=lambda item: (item[0][0], -item[1].rank))
    return {
        "since": format_moment(since),
        "until": format_moment(until),
        "period_s": total.period_s,
        "periods": [
            {
                "at": format_moment(at),
                **_rule(of),
                "packets": sums.packets if sums.is_whole else None,
                "bytes": sums.bytes if sums.is_whole else None,
                "seen": sums.seen,
                "seen_bytes": sums.seen_bytes,
            }
            for (at, of), sums in periods
        ],
        "sources": [
            {
                **_rule(of),
                "source": source,
                "packets": sums.packets,
                "bytes": sums.bytes,
                "first": format_moment(sums.first),
                "last": format_moment(sums.last),
            }
            for (of, source), sums in total.sources.items()
        ],
        "samples": total.samples,
        "blocked": total.blocked,
        "lost": total.lost,
    }


def _network(text: str) -> Network:
    """The address or network that is asked for; raises ``InvalidInput``."""
    host, slash, length = text.partition("/")
    # Nothing else has colons here, so IPv6 needs no brackets.
    network = parse_address(f"[{host}]{slash}{length}" if ":" in host and "[" not in host else text)
    if not isinstance(network, Network):
        raise InvalidInput(
            f"{quote(text)} is neither an address nor a network",
            "write 203.0.113.7, 203.0.113.0/24 or 2001:db8::7",
        )
    return network


def _rule(of: Of) -> dict[str, str | None]:
    action, store, policy, rule = of
    known = bool(store)
    return {
        "action": action,
        "store": store if known else None,
        "policy": policy if known else None,
        "rule": rule if known else None,
    }


METHODS = (
    Method("ExplainAt", Role.VIEW, Work.LONG, _explain_at),
    Method("Drops", Role.VIEW, Work.LONG, _drops),
)
