"""Owns ``drops``: what was dropped within any time, by rule and source, as the recorder has it."""

from __future__ import annotations

import time
from typing import Any

from ipsecctl.client import Client
from ipsecctl.ends import in_local_time, on_the_wire, past_of
from ipsecctl.failures import DONE, UsageError
from ipsecctl.options import Options
from ipsecctl.presentation import paint
from ipsecd.output import say, say_json
from ipsecd.quoting import count, quote

HOUR = "1h"
AUDIT = "audit"
MOST_SOURCES, MOST_RULES = 5, 20
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")

Rule = tuple[str, str | None, str | None, str | None]


def run(client: Client, options: Options) -> int:
    """Print what was dropped, most first."""
    now = time.time()
    since_text = options.value("--since") or HOUR
    since = past_of(since_text, now)
    end = options.value("--until")
    until = now if end is None else past_of(end, now)
    if since >= now:
        raise UsageError(f"{quote(since_text)} is still to come", "name a moment that has passed")
    if until <= since:
        hint = "give a later --until, or an earlier --since"
        raise UsageError(f"{quote(end or '')} is not after {quote(since_text)}", hint)
    parameters = {
        "since": on_the_wire(since),
        "until": on_the_wire(until),
        "rule": options.value("--rule"),
        "address": options.value("--address"),
    }
    reply = client.call("Drops", parameters)
    with_samples = options.has("--samples")
    if options.has("--json"):
        say_json(reply if with_samples else {**reply, "samples": []})
        return DONE
    is_part = bool(parameters["rule"] or parameters["address"])
    _print(reply, is_part=is_part)
    if with_samples:
        for sample in reply["samples"]:
            say(f"{in_local_time(sample['at'])}  {sample['packet']}  {_words(_of(sample))}")
    return DONE


def _print(reply: dict[str, Any], *, is_part: bool) -> None:
    times = f"from {in_local_time(reply['since'])} to {in_local_time(reply['until'])}"
    sums = _by_rule(reply["periods"])
    if not sums:
        narrowed = " of what was asked for" if is_part else ""
        say(f"nothing{narrowed} is recorded as dropped {times}")
        return
    ranked = sorted(sums.items(), key=lambda item: (-item[1][0], str(item[0])))
    # What audits counted is told beside what was dropped, and went on.
    is_audited = any(action == AUDIT for action, *_ in sums)
    say(f"dropped{' or audited' if is_audited else ''} {times}:")
    sources: dict[Rule, list[dict[str, Any]]] = {}
    for source in reply["sources"]:
        sources.setdefault(_of(source), []).append(source)
    most_sources = len(reply["sources"]) if is_part else MOST_SOURCES
    for rule, (packets, size, is_exact) in ranked[:MOST_RULES]:
        least = "" if is_exact else "at least "
        say(f"{least}{count(packets, 'packet')}, {_size(size)}: {_words(rule)}")
        of_rule = sources.get(rule, [])
        for source in of_rule[:most_sources]:
            last = in_local_time(source["last"])
            say(f"  {source['packets']:>12,} seen from {source['source']}, last by {last}")
        if len(of_rule) > most_sources:
            say(f"  and from {count(len(of_rule) - most_sources, 'other source')}")
    if len(ranked) > MOST_RULES:
        say(f"and by {count(len(ranked) - MOST_RULES, 'other rule')}; --json has all")
    _print_periods(reply)
    if reply["lost"]:
        blocked = count(reply["blocked"], "packet")
        say(
            f"note: of {blocked} {reply['lost']:,} were not seen one by one: "
            "sources and samples are those of the others"
        )


def _print_periods(reply: dict[str, Any]) -> None:
    """How much was dropped when, if that is more than one period."""
    by_time: dict[str, int] = {}
    for period in reply["periods"]:
        by_time[period["at"]] = by_time.get(period["at"], 0) + _packets(period)
    if len(by_time) > 1:
        say(f"by {_span(reply['period_s'])}:")
        for at, packets in sorted(by_time.items()):
            say(f"  {in_local_time(at)}  {packets:>12,}")


def _by_rule(periods: list[dict[str, Any]]) -> dict[Rule, tuple[int, int, bool]]:
    """Packets and bytes of each rule, and whether its counters say so for all of the time."""
    sums: dict[Rule, tuple[int, int, bool]] = {}
    for period in periods:
        packets, size, is_exact = sums.get(_of(period), (0, 0, True))
        own = period["seen_bytes"] if period["bytes"] is None else period["bytes"]
        is_exact = is_exact and period["packets"] is not None
        sums[_of(period)] = packets + _packets(period), size + own, is_exact
    return sums


def _packets(period: dict[str, Any]) -> int:
    known: int | None = period["packets"]
    return int(period["seen"]) if known is None else known


def _of(row: dict[str, Any]) -> Rule:
    return row["action"], row["store"], row["policy"], row["rule"]


def _words(rule: Rule) -> str:
    action, store, policy, name = rule
    if store is None:
        return f"{paint(action, 'bold')}, by no rule that is known"
    place = f"{store}: {policy!r} / " if policy else f"{store}: "
    return f"{paint(action, 'bold')} ({place}{name!r})"


def _size(size: int) -> str:
    amount, unit = float(size), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{size:,} {_UNITS[0]}" if not unit else f"{amount:.1f} {_UNITS[unit]}"


def _span(seconds: int) -> str:
    units = (("day", 86400), ("hour", 3600), ("minute", 60))
    name, length = next(each for each in units if seconds >= each[1])
    number = seconds // length
    return name if number == 1 else count(number, name)
