"""Owns how a fleet is shown: as a table for people, and as JSON; must not know how it is looked at.

A table of thousands of lines is read by nobody: the first of them are shown, which are those that
something is wrong with, and the others are counted.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ipsecctl.presentation import print_table, span
from ipsecd.output import complain, say
from ipsecd.quoting import count, first_lines, quote, shorten

if TYPE_CHECKING:
    from ipsecd_domain.repository.fleet import Canary, Fleet, Member

MOST_LINES = 20
"""Hosts in the table, unless all are wanted."""
_MOST_PROBLEM = 60
"""Characters of a problem in the table."""
_MOST_PROBLEMS = 5
"""Problems that are counted for hosts that are not in the table."""


def print_fleet(seen: Fleet, *, whole: bool) -> None:
    """Print hosts, canaries, reports that are not used, and a summary."""
    members = seen.members if whole else seen.members[:MOST_LINES]
    header = ("host", "state", "version", "policy", "since", "heard", "problem")
    print_table(header, [_row(member) for member in members])
    say(*_more(seen.members[len(members) :]))
    say(*map(_line_of, seen.canaries))
    say(*first_lines([f"not used: {bad.file}: {bad.reason}" for bad in seen.unusable]))
    say(_summary(seen))
    if seen.open_to_all:
        complain(
            "warning: everybody on this host can replace these reports; 'chmod +t' on their "
            "directory leaves each to its owner"
        )


def fleet_as_json(seen: Fleet) -> dict[str, Any]:
    """All that is known of a fleet."""
    return {
        "version": seen.version,
        "hosts": [_member_as_json(member) for member in seen.members],
        "stragglers": sum(member.straggler for member in seen.members),
        "failed": sum(bool(member.report.problem) for member in seen.members),
        "canaries": [_canary_as_json(canary) for canary in seen.canaries],
        "unusable": [{"file": bad.file, "reason": bad.reason} for bad in seen.unusable],
    }


def _row(member: Member) -> tuple[str, ...]:
    report = member.report
    policy = "withdrawn" if report.withdrawn else report.policy or "none"
    if not member.current:
        policy += f", not {_given(member) or 'withdrawn'}"
    return (
        report.host.name,
        _state(member),
        str(report.version),
        policy,
        report.taken or "-",
        f"{span(member.unheard_s)} ago",
        _problem(member),
    )


def _problem(member: Member) -> str:
    problem = shorten(member.report.problem.partition("\n")[0])
    return problem if len(problem) <= _MOST_PROBLEM else problem[:_MOST_PROBLEM] + "…"


def _state(member: Member) -> str:
    words = [
        word
        for word, holds in (
            ("behind", member.behind),
            ("silent", member.silent),
            ("failed", bool(member.report.problem)),
        )
        if holds
    ]
    return ", ".join(words) or "current"


def _given(member: Member) -> str:
    """The policy that the repository gives to a host, as it is to be told from another."""
    chosen = member.choice.chosen
    if chosen is None:
        return ""
    same_name = chosen.offer.policy == member.report.policy
    return f"the one in {chosen.offer.path}" if same_name else chosen.offer.policy


def _more(members: tuple[Member, ...]) -> list[str]:
    """What is to be said of hosts that are not in the table."""
    if not members:
        return []
    states = Counter(map(_state, members)).most_common()
    problems = Counter(_problem(member) for member in members if member.report.problem)
    lines = [
        f"and {len(members):,} more: "
        + ", ".join(f"{number:,} {state}" for state, number in states)
        + " ('--all' lists them)"
    ]
    lines += [
        f"  {count(number, 'host')}: {problem}"
        for problem, number in problems.most_common(_MOST_PROBLEMS)
    ]
    if len(problems) > _MOST_PROBLEMS:
        lines.append(f"  and {count(len(problems) - _MOST_PROBLEMS, 'other problem')}")
    return lines


def _line_of(canary: Canary) -> str:
    trial = canary.trial
    parts = [f"{count(len(trial.having), 'host')} with it", f"{len(trial.failing):,} failing"]
    if trial.lost:
        parts.append(f"{len(trial.lost):,} not heard of since")
    if trial.awaited:
        parts.append(f"{len(trial.awaited):,} yet to report")
    return f"canary {quote(canary.offer.policy)} ({canary.offer.path}): {', '.join(parts)}"


def _summary(seen: Fleet) -> str:
    members = seen.members
    parts = [
        count(len(members), "host"),
        count(sum(member.straggler for member in members), "straggler"),
        f"{sum(bool(member.report.problem) for member in members):,} failed",
        f"version {seen.version}",
    ]
    if seen.unusable:
        parts.append(f"{count(len(seen.unusable), 'report')} not used")
    return " · ".join(parts)


def _canary_as_json(canary: Canary) -> dict[str, Any]:
    trial = canary.trial
    return {
        "role": canary.role,
        "policy": canary.offer.policy,
        "path": canary.offer.path,
        "digest": canary.sha256,
        "given": len(trial.given),
        "hosts": _names(trial.having),
        "failing": _names(trial.failing),
        "lost": _names(trial.lost),
        "awaited": _names(trial.awaited),
    }


def _names(members: tuple[Member, ...]) -> list[str]:
    return [member.report.host.name for member in members]


def _member_as_json(member: Member) -> dict[str, Any]:
    report, chosen = member.report, member.choice.chosen
    return {
        "host": report.host.name,
        "groups": list(report.host.groups),
        "labels": dict(report.host.labels),
        "version": report.version,
        "policy": report.policy or None,
        "digest": report.digest,
        "withdrawn": report.withdrawn,
        "given": chosen.offer.policy if chosen else None,
        "given_digest": chosen.sha256 if chosen else None,
        "current": member.current,
        "behind": member.behind,
        "silent": member.silent,
        "since": report.taken or None,
        "reported": report.time,
        "unheard_s": round(member.unheard_s),
        "problem": report.problem,
    }
