"""Owns what ``ipsecctl status`` says; imports little, because its start-up time is a promise."""

from __future__ import annotations

import time

from ipsecctl.client import Client
from ipsecctl.failures import DONE, REFUSED
from ipsecctl.options import Options
from ipsecctl.presentation import one_line, paint, span
from ipsecd.output import say, say_json
from ipsecd.quoting import count, first_lines

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any

ESSENTIALS = ("neighbour-discovery", "dhcp-client", "path-mtu")
_DIGEST_SHOWN = 12
MOST_COUNTED = 1000
"""Of up to so many rules it is said what they have dropped: the state is told at once."""


def run(client: Client, options: Options) -> int:
    """Print the state of the daemon; return 1 if it has failed or the kernel has drifted."""
    status = client.call("Status")["status"]
    if options.has("--json"):
        say_json(status)
    else:
        rules = client.call("Stats")["rules"] if _is_counted(status) else []
        # One write for all lines, so that a terminal never shows only half of them.
        say(*_lines(status, rules))
    return REFUSED if status["state"] in ("failed", "drifted") else DONE


def _is_counted(status: dict[str, Any]) -> bool:
    """Whether what was dropped can be said soon."""
    number = status["policy_rules"] + status["dynamic_rules"]
    return status["state"] not in ("stopped", "idle") and 0 < number <= MOST_COUNTED


def _lines(status: dict[str, Any], rules: list[dict[str, Any]]) -> list[str]:
    return [
        *_troubles(status),
        *_unconfirmed(status),
        *_file_warnings(status["file_warnings"]),
        f"{paint('ipsecd ' + status['version'], 'bold')} · {_state(status)}",
        *_programs(status),
        f"  policy     {_policy(status)}",
        *(_domain(status["domain"]) if status["domain"] else ()),
        f"  dynamic    {_amount(status, 'dynamic')}",
        *_protected(status.get("protected_filters", 0)),
        *_taken_over(status["dynamic_taken_over"]),
        *_dropped(status, rules),
        *_recorder(status),
        f"  kernel     {_kernel(status)}",
        *_exempt(status["exemptions"]),
        *_unparsable(status),
        *_containers(status),
        *_warnings(status["warnings"]),
        *_gaps(status["gaps"]),
    ]


def _troubles(status: dict[str, Any]) -> list[str]:
    """What is wrong and what to do about it, before anything else."""
    if status["state"] == "failed":
        reasons = first_lines([f"FAILED: {reason}" for reason in status["failures"]])
        wrong = [line for reason in reasons for line in _with_hint(reason)] or ["FAILED"]
        todo = (
            "mend what is named above and run 'ipsecctl reload'; what is in force is stated below"
        )
    elif status["state"] == "drifted":
        wrong = ["DRIFTED: the kernel does not hold what it should"]
        wrong += [f"  {line}" for line in first_lines(status["drift"])]
        todo = "put it back with 'systemctl restart ipsecd', and find out who changed it"
    else:
        return []
    return [*(paint(line, "red") for line in wrong), f"  what to do: {todo}"]


def _with_hint(reason: str) -> list[str]:
    """What went wrong, and its hint on a line of its own."""
    first, *hints = reason.split("\n")
    return [first, *(f"  {line.strip()}" for line in hints)]


def _file_warnings(reasons: list[str]) -> list[str]:
    warnings = first_lines([f"warning: {reason}" for reason in reasons])
    return [paint(line, "yellow") for warning in warnings for line in _with_hint(warning)]


def _unconfirmed(status: dict[str, Any]) -> list[str]:
    """The change that waits to be confirmed, or the last one that was put back.

    A daemon that is older knows of neither.
    """
    change, put_back = status.get("unconfirmed"), status.get("put_back")
    lines = [f"put back: {put_back}"] if put_back else []
    if change:
        why = f" ({change['message']})" if change["message"] else ""
        left = span(change["left_s"])
        lines.append(f"UNCONFIRMED: the change by {change['by']}{why} is put back in {left}")
        lines.append("  what to do: keep it with 'ipsecctl confirm', from a new login")
    return [paint(line, "yellow") for line in lines]


def _state(status: dict[str, Any]) -> str:
    match status["state"]:
        case "enforcing":
            return f"{paint('enforcing', 'green')} with {status['backend']}"
        case "idle":
            return f"idle with {status['backend']}: there are no rules, everything passes"
        case "stopped":
            stopped = paint("stopped", "yellow")
            return f"{stopped}: nothing is enforced, 'ipsecctl net start policyagent' starts it"
        case state:
            return f"{paint(state, 'red')} with {status['backend']}"


def _programs(status: dict[str, Any]) -> list[str]:
    """Where programs are, and whether they are all there; what nftables has is in ``doctor``."""
    if status["backend"] == "nftables" or not status["features"]:
        return []
    return [f"  programs   {', '.join(first_lines(status['features']))}"]


def _dropped(status: dict[str, Any], rules: list[dict[str, Any]]) -> list[str]:
    """What `rules` have dropped and since when, and what becomes of the rest."""
    if status["state"] in ("stopped", "idle"):
        return []
    lines = []
    if blocking := [rule for rule in rules if rule["action"] == "block"]:
        packets = sum(rule["packets"] for rule in blocking)
        # A daemon that is older does not answer it.
        since = min(filter(None, (rule.get("since") for rule in blocking)), default="")
        began = f" since {since[:16].replace('T', ' ')} UTC" if since else ""
        said = f"  dropped    {count(packets, 'packet')}{began}"
        lines.append(f"{said}; ipsecctl stats has each rule")
    return [*lines, "  the rest   passes: what no rule blocks is let through"]


def _recorder(status: dict[str, Any]) -> list[str]:
    """A line if nothing is recorded; a daemon that is older does not say."""
    if status.get("flight_recorder", True):
        return []
    off = paint("off", "yellow")
    return [f"  recorder   {off}: nobody can say later what was in force and what was dropped"]


def _policy(status: dict[str, Any]) -> str:
    if status["assigned"] is None:
        return "none assigned"
    is_domain = status["loaded_from"] == "domain"
    assigned = f"{status['assigned']!r}, {'of the domain' if is_domain else 'assigned'}"
    if status["state"] == "stopped" or status["loaded_from"] == "nothing":
        return f"{assigned}, {paint('not in force', 'yellow')}"
    version = " · as it last was good" if status["loaded_from"] == "last-good" else ""
    # A daemon that is older does not answer it.
    audit = status.get("policy_audit")
    audits = f" · {paint('as audits: it blocks nothing', 'yellow')}" if audit else ""
    return f"{assigned} · {_amount(status, 'policy')}{version}{audits}"


def _domain(domain: dict[str, Any]) -> list[str]:
    """Where the policy of this host comes from, and how that is."""
    now = time.time()
    parts = [domain["source"]]
    if not domain["trusted"]:
        parts.append(paint("no root is trusted: ipsecctl domain trust REPO", "yellow"))
    elif domain["withdrawn"]:
        parts.append("withdrawn")
    elif domain["policy"] is None:
        parts.append("no policy was taken yet")
    if domain["version"]:
        parts.append(f"version {domain['version']}")
    if domain["expires"]:
        expires = f"good until {domain['expires']}"
        parts.append(paint(expires, "yellow") if domain["expired"] else expires)
    checked_at = domain["checked_at"]
    looked = "not looked at yet" if checked_at is None else f"{span(now - checked_at)} ago"
    parts.append(looked if checked_at is None else f"looked at {looked}")
    lines = [f"  domain     {' · '.join(parts)}"]
    if domain["overridden"] is not None:
        lines.append(f"  local      {domain['overridden']!r} is assigned, without effect meanwhile")
    if domain["problem"]:
        problem = paint("problem", "yellow")
        lines.append(
            f"  domain     {problem}: {one_line(domain['problem'])}; what is in force stays"
        )
    return lines


def _amount(status: dict[str, Any], store: str) -> str:
    rules, filters = status[f"{store}_rules"], status[f"{store}_filters"]
    return f"{count(rules, 'rule')}, {count(filters, 'filter')}" if rules else "none"


def _protected(number: int) -> list[str]:
    """A line that says how many filters the settings protect, if any."""
    if not number:
        return []
    return [f"  protected  {count(number, 'filter')} of the settings that nothing blocks"]


def _taken_over(number: int) -> list[str]:
    """A line that says how many dynamic rules this daemon has from the one before it, if any."""
    return [f"  taken over {count(number, 'rule')} of the daemon before this one"] if number else []


def _kernel(status: dict[str, Any]) -> str:
    wanted, observed = status["wanted"][:_DIGEST_SHOWN], status["observed"]
    if observed is None:
        return "holds nothing of ours" if status["state"] in ("stopped", "idle") else "not readable"
    if observed == status["wanted"] and not status["drift"]:
        return "in step: it holds these rules" if wanted else "in step"
    return paint(f"NOT in step: wanted {wanted}…, found {observed[:_DIGEST_SHOWN]}…", "red")


def _exempt(exemptions: list[dict[str, Any]]) -> list[str]:
    names = [exemption["name"] for exemption in exemptions]
    essential = [name for name in names if name in ESSENTIALS]
    opened = [name for name in names if name not in ESSENTIALS]
    lines = []
    if essential:
        lines.append(f"  essentials {', '.join(essential)} always pass")
    else:
        lines.append(f"  essentials {paint('switched off', 'yellow')}: a wide block cuts links")
    if opened:
        lines.append(f"  exempt     {paint(', '.join(opened), 'yellow')} pass every filter")
    return lines


def _unparsable(status: dict[str, Any]) -> list[str]:
    if status["unparsable"] != "pass":
        return []
    return [f"  unparsable {paint('packets pass', 'yellow')}, even while something is blocked"]


def _warnings(warnings: list[str]) -> list[str]:
    """The filters in force that match nothing now."""
    lines = first_lines(warnings)
    return [f"  {paint('without', 'yellow')}    {line}" for line in lines]


def _gaps(gaps: list[str]) -> list[str]:
    """What this kernel cannot judge."""
    return [f"  {paint('unseen', 'yellow')}     {gap}" for gap in gaps]


def _containers(status: dict[str, Any]) -> list[str]:
    """The container engines that are there and are needed."""
    lines = []
    for engine in status["container_engines"]:
        state = engine["state"]
        if state == "connected":
            lines.append(f"  containers followed through {engine['socket']}")
        elif state not in ("unused", "absent"):
            shown = paint(state, "yellow")
            lines.append(f"  containers {engine['socket']} {shown}; what was known is in force")
    return lines
