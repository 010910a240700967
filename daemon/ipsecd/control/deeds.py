"""Owns what the history says of a call that changed something; must not change anything."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ipsecd.control.method import Method, Request, Work
from ipsecd.engine.caller import Caller
from ipsecd.engine.history import PUT_BACK, Deed
from ipsecd.language.filters import format_filter
from ipsecd.quoting import few
from ipsecd.sources.history_rows import Author, Kind

SOURCES = {
    "Reload": "reload",
    "Rollback": "rollback",
    "Restore": "restore",
    "Confirm": "confirm",
    "Revert": "revert",
    "TakeDomain": "domain",
}
"""Where a change comes from that does not come from a command for just that change."""
COMMAND, DAEMON = "command", "daemon"
COUNTS_BY_ITSELF = ("Confirm", "Revert", "Restore", "Stop", "Start", "SetBackend")
"""What counts although it changes neither rules, lists nor policies."""
MOST_FILTERS = 4
MOST_TEXT = 200


def deed_of(method: Method, request: Request, reply: Mapping[str, Any] | None) -> Deed:
    """What somebody did by a call, which was answered by `reply`; None if it failed."""
    caller = request.caller
    kind = Kind.RULES if method.work is Work.QUICK else None
    answer = reply or {}
    if counts_by_itself(method, answer):
        kind = Kind.OTHER
    put, removed = _counts(method.name, request, answer)
    confirm_s = caller.options.confirm_s
    confirmation = () if confirm_s is None else (f"to be confirmed within {confirm_s:g} s",)
    return Deed(
        SOURCES.get(method.name, COMMAND if caller.pid else DAEMON),
        method.name,
        author_of(caller),
        caller.options.message,
        kind,
        (*(_what(method.name, request, answer) if kind else ()), *confirmation),
        put,
        removed,
    )


def counts_by_itself(method: Method, reply: Mapping[str, Any]) -> bool:
    """Whether a call is in the history although neither rules, lists nor policies are others."""
    return method.name in COUNTS_BY_ITSELF and bool((reply.get("outcome") or {}).get("changed"))


def put_back_deed(sentence: str) -> Deed:
    """What the daemon did when it put a change back that nobody had confirmed."""
    return Deed(PUT_BACK, PUT_BACK, kind=Kind.OTHER, what=(sentence,))


def author_of(caller: Caller) -> Author:
    """Who made a change. What the daemon sees itself comes before what the caller says."""
    options = caller.options
    return Author(
        caller.uid,
        caller.user,
        options.login_uid if caller.login_uid is None else caller.login_uid,
        caller.login_user,
        options.sudo_user,
        caller.pid,
        caller.command or options.command,
    )


def _counts(method: str, request: Request, reply: Mapping[str, Any]) -> tuple[int, int]:
    """How many dynamic rules were put in force, and taken out or reduced."""
    if method == "ChangeTogether":
        return (len(request["put_rules"]), len(request["remove_rules"])) if reply else (0, 0)
    if method in {"AddDynamic", "Quarantine"}:
        return int(reply.get("changed", True)), 0
    removed = reply.get("removed", 0)
    gone = len(removed) if isinstance(removed, list) else int(removed)
    return (
        int(reply.get("added", 0)) + int(reply.get("renewed", 0)),
        gone + len(reply.get("reduced", ())),
    )


def _what(method: str, request: Request, reply: Mapping[str, Any]) -> tuple[str, ...]:
    """In words: which filters, what for, and until when."""
    if method == "Quarantine":
        return (f"quarantine of {request['who']}{_end(request['ttl_s'], None)}"[:MOST_TEXT],)
    if method == "Release":
        return (f"end of the quarantine of {request['who']}"[:MOST_TEXT],)
    if method == "ChangeDynamicRules":
        put = request["put"]
        words = [
            f"{rule['action']} {_filters(rule['filters'])}{_end(rule['ttl_s'], None)}"
            for rule in put[:MOST_FILTERS]
        ]
        words += [f"unblock {few(request['remove'], MOST_FILTERS)}"] if request["remove"] else []
        return tuple(text[:MOST_TEXT] for text in words)
    if method in {"AddDynamic", "AddDynamicRules"}:
        end = _end(request["ttl_s"], request["until"])
        name = f" as {request['name']!r}" if request["name"] else ""
        return (f"{request['action']} {_filters(request['filters'])}{name}{end}"[:MOST_TEXT],)
    if method in {"RemoveDynamic", "RemoveDynamicRules"}:
        selectors = request["selectors"] if method.endswith("Rules") else [request["selector"]]
        return (f"unblock {few(selectors, MOST_FILTERS)}"[:MOST_TEXT],)
    message = (reply.get("outcome") or {}).get("message")
    return (str(message)[:MOST_TEXT],) if message else ()


def _filters(filters: Any) -> str:
    texts = [
        each if isinstance(each, str) else format_filter(each) for each in filters[:MOST_FILTERS]
    ]
    more = len(filters) - len(texts)
    return " ".join(texts) + (f" and {more:,} more" if more else "")


def _end(ttl_s: float | None, until: float | None) -> str:
    if until is not None:
        return time.strftime(" until %Y-%m-%dT%H:%M:%SZ", time.gmtime(until))
    return "" if ttl_s is None else f" for {ttl_s:g} s"
