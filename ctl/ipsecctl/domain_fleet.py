"""Owns the verbs on a fleet: how its hosts stand, and halting a canary that fails on them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipsecctl.client import Client
from ipsecctl.failures import DONE, REFUSED
from ipsecctl.options import Options
from ipsecctl.presentation import print_table, span
from ipsecd.errors import IpsecdError, NotFound
from ipsecd.output import change_made, complain, complain_text, say, say_json
from ipsecd.quoting import count, few, first_lines, quote, shorten
from ipsecd_domain.errors import required_packages

if TYPE_CHECKING:
    from ipsecd_domain.repository.fleet import Canary, Fleet, Member
    from ipsecd_domain.repository.halting import Halted

_PAUSE_S = 5.0
"""How long a watch waits before it looks again."""
_MOST_PROBLEM = 60
"""Characters of a problem in the table."""


def fleet(_: Client, options: Options) -> int:
    """What the hosts of a repository report, stragglers first; with a watch, for ever."""
    with required_packages():
        from ipsecctl.doorbell import doorbell_of
    doorbell_of(options)
    shown, code = _show(options, "")
    said = ""
    while options.has("--watch"):
        time.sleep(_PAUSE_S)
        try:
            shown, code = _show(options, shown)
            said = ""
        except IpsecdError as error:
            # Such as a repository that somebody copies meanwhile; a watch goes on.
            if str(error) != said:
                complain_text(str(error))
            said = str(error)
    return code


def halt(_: Client, options: Options) -> int:
    """Take canaries back."""
    with required_packages():
        from ipsecctl.doorbell import doorbell_of, tell_fleet
        from ipsecd_domain.repository.halting import halt as take_back
    doorbell_of(options)
    directory = Path(options.argument())
    halted = take_back(directory, _keys(options), _now())
    change_made()
    if options.has("--json"):
        left = [{"role": role, "needs": needs} for role, needs in halted.left]
        say_json({"halted": _as_json(halted), "left": left, "version": halted.version})
    else:
        say(*_lines(halted))
    tell_fleet(options, directory, halted.version)
    return DONE


def _show(options: Options, shown: str) -> tuple[str, int]:
    """Look once, halt if that is asked for, and print what is not `shown` already."""
    from ipsecd_domain.repository.fleet import look

    seen = look(Path(options.argument()), Path(options.value("--reports") or ""), _now())
    failing = [canary for canary in seen.canaries if canary.failing]
    halted = None
    if failing and options.has("--halt-on-failure"):
        halted = _halt(options, failing)
    answer = _answer(seen, halted)
    # How long ago something was heard changes all the time, and is no news.
    news = repr([{**host, "unheard_s": 0} for host in answer["hosts"]]) + repr(
        (answer["canaries"], answer["unusable"], answer["halted"])
    )
    if news != shown:
        if options.has("--json"):
            say_json(answer, indent=None if options.has("--watch") else 2)
        else:
            _print(seen)
            _print_halted(failing, halted)
    if halted is not None:
        from ipsecctl.doorbell import tell_fleet

        tell_fleet(options, Path(options.argument()), halted.version)
    troubled = halted is not None or any(member.report.problem for member in seen.members)
    return news, REFUSED if troubled else DONE


def _halt(options: Options, failing: list[Canary]) -> Halted | None:
    """Take back those that fail; None if somebody else has done so meanwhile."""
    from ipsecd_domain.repository.halting import halt as take_back

    digests = {canary.sha256 for canary in failing}
    try:
        halted = take_back(Path(options.argument()), _keys(options), _now(), digests=digests)
    except NotFound:
        return None
    change_made()
    return halted


def _print(seen: Fleet) -> None:
    header = ("host", "state", "version", "policy", "since", "heard", "problem")
    print_table(header, [_row(member) for member in seen.members])
    for canary in seen.canaries:
        say(
            f"canary {quote(canary.offer.policy)} ({canary.offer.path}): "
            f"{count(len(canary.members), 'host')} with it, {len(canary.failing):,} failing"
        )
    say(*first_lines([f"not used: {bad.file}: {bad.reason}" for bad in seen.unusable]))
    say(_summary(seen))
    if seen.open_to_all:
        complain(
            "warning: everybody on this host can replace these reports; 'chmod +t' on their "
            "directory leaves each to its owner"
        )


def _row(member: Member) -> tuple[str, ...]:
    report = member.report
    problem = shorten(report.problem.partition("\n")[0])
    if len(problem) > _MOST_PROBLEM:
        problem = problem[:_MOST_PROBLEM] + "…"
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
        problem,
    )


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


def _print_halted(failing: list[Canary], halted: Halted | None) -> None:
    if halted is None:
        return
    for canary in failing:
        hosts = [
            f"{quote(member.report.host.name)}: {shorten(member.report.problem)}"
            for member in canary.failing
        ]
        say(f"policy {quote(canary.offer.policy)} fails on {few(hosts)}")
    say(*_lines(halted))


def _lines(halted: Halted) -> list[str]:
    """What halting came to, in words."""
    lines = [
        f"halted: policy {quote(offer.policy)} ({offer.path}) · version {halted.version}"
        for _, offer in halted.halted
    ]
    lines += [
        f"there was no {quote(offer.policy)} before it: hosts that no other policy selects keep it"
        for offer in halted.alone
    ]
    lines += [f"withdrawn: {role}, which gives out nothing else" for role in halted.withdrawn]
    return lines + [
        f"not halted: the canary of {role}, for want of key {needs}" for role, needs in halted.left
    ]


def _answer(seen: Fleet, halted: Halted | None) -> dict[str, Any]:
    return {
        "version": seen.version,
        "hosts": [_member_as_json(member) for member in seen.members],
        "stragglers": sum(member.straggler for member in seen.members),
        "failed": sum(bool(member.report.problem) for member in seen.members),
        "canaries": [
            {
                "role": canary.role,
                "policy": canary.offer.policy,
                "path": canary.offer.path,
                "digest": canary.sha256,
                "hosts": [member.report.host.name for member in canary.members],
                "failing": [member.report.host.name for member in canary.failing],
            }
            for canary in seen.canaries
        ],
        "unusable": [{"file": bad.file, "reason": bad.reason} for bad in seen.unusable],
        "halted": _as_json(halted) if halted else [],
    }


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


def _as_json(halted: Halted) -> list[dict[str, str]]:
    return [
        {"role": role, "policy": offer.policy, "path": offer.path} for role, offer in halted.halted
    ]


def _keys(options: Options) -> Path:
    return Path(options.value("--keys") or "")


def _now() -> datetime:
    return datetime.now(UTC)
