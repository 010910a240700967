"""Owns the verbs on a fleet: how its hosts stand, and halting a canary that fails on them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ipsecctl.client import Client
from ipsecctl.domain_hosts import fleet_as_json, print_fleet
from ipsecctl.failures import DONE, REFUSED
from ipsecctl.options import Options
from ipsecd.errors import IpsecdError, NotFound
from ipsecd.output import change_made, complain_text, say, say_json
from ipsecd.quoting import few, quote
from ipsecd_domain.errors import required_packages

if TYPE_CHECKING:
    from ipsecd_domain.repository.fleet import Canary
    from ipsecd_domain.repository.halting import Halted
    from ipsecd_domain.repository.threshold import Threshold

_PAUSE_S = 5.0
"""How long a watch waits before it looks again."""


def fleet(_: Client, options: Options) -> int:
    """What the hosts of a repository report, stragglers first; with a watch, for ever."""
    with required_packages():
        from ipsecctl.doorbell import doorbell_of
    doorbell_of(options)
    threshold_of(options)
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


def threshold_of(options: Options) -> Threshold:
    """From how many failing hosts on a canary goes no further; raises ``InvalidInput``."""
    from ipsecd_domain.repository.threshold import DEFAULT, parse_threshold

    text = options.value("--halt-after")
    return DEFAULT if text is None else parse_threshold(text)


def _show(options: Options, shown: str) -> tuple[str, int]:
    """Look once, halt if that is asked for, and print what is not `shown` already."""
    from ipsecd_domain.repository.fleet import look

    seen = look(Path(options.argument()), Path(options.value("--reports") or ""), _now())
    threshold = threshold_of(options)
    failing = [canary for canary in seen.canaries if canary.trial.fails(threshold)]
    halted = None
    if failing and options.has("--halt-on-failure"):
        halted = _halt(options, failing)
    answer = {**fleet_as_json(seen), "halted": _as_json(halted) if halted else []}
    # How long ago something was heard changes all the time, and is no news.
    news = repr([{**host, "unheard_s": 0} for host in answer["hosts"]]) + repr(
        (answer["canaries"], answer["unusable"], answer["halted"])
    )
    if news != shown:
        if options.has("--json"):
            say_json(answer, indent=None if options.has("--watch") else 2)
        else:
            print_fleet(seen, whole=options.has("--all"))
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


def _print_halted(failing: list[Canary], halted: Halted | None) -> None:
    if halted is None:
        return
    from ipsecd_domain.repository.fleet import LOST, name_of, problem_of

    for canary in failing:
        trial = canary.trial
        hosts = [f"{name_of(member)}: {problem_of(member)}" for member in trial.failing]
        hosts += [f"{name_of(member)}: {LOST}" for member in trial.lost]
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


def _as_json(halted: Halted) -> list[dict[str, str]]:
    return [
        {"role": role, "policy": offer.policy, "path": offer.path} for role, offer in halted.halted
    ]


def _keys(options: Options) -> Path:
    return Path(options.value("--keys") or "")


def _now() -> datetime:
    return datetime.now(UTC)
