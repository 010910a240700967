"""Owns the verbs on the domain policy of a host; must not know how a repository is changed."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import Any

from ipsecctl.client import Client
from ipsecctl.ends import duration_s
from ipsecctl.failures import DONE, REFUSED, UsageError
from ipsecctl.options import Options, labels_of
from ipsecctl.presentation import one_line, print_warnings, span
from ipsecd.errors import NotFound, Refused
from ipsecd.output import say, say_json, say_text
from ipsecd.quoting import count, few, is_without_password, quote
from ipsecd_domain.errors import required_packages
from ipsecd_domain.tls import TlsFiles

_LONGEST_WAIT_S = 3600.0
_ANSWER_S = 30.0
"""How long the daemon has for its answer after it has waited as long as it was told."""


def trust(client: Client, options: Options) -> int:
    """Take the root of a repository as what this host trusts."""
    with required_packages():
        from ipsecd_domain.places import reader
        from ipsecd_domain.trusted import newest_root
    place = options.argument()
    tls, proxy = _connection(client) if place.startswith("https:") else (None, "")
    version, root = newest_root(reader(place, tls, proxy))
    outcome = client.call("TrustDomain", {"root": root})["outcome"]
    digest = hashlib.sha256(root.encode()).hexdigest()
    if options.has("--json"):
        say_json({**outcome, "version": version, "sha256": digest})
        return DONE
    _print_outcome(outcome)
    say(f"root {version} · SHA-256 {digest}")
    return DONE


def status(client: Client, options: Options) -> int:
    """What this host knows of its domain policy, or what is in a repository."""
    if options.arguments:
        from ipsecctl.domain_repository import status as status_of_repository

        return status_of_repository(options)
    domain = client.call("GetDomain")["domain"]
    if options.has("--json"):
        say_json({name: value for name, value in domain.items() if name != "trusted"})
    else:
        say(*_lines(domain))
    return REFUSED if domain["problem"] else DONE


def refresh(client: Client, options: Options) -> int:
    """Have the fetcher look at once, and say what came."""
    text = options.value("--wait")
    wait_s = _ANSWER_S if text is None else duration_s(text)
    if wait_s > _LONGEST_WAIT_S:
        raise UsageError(f"{quote(text or '')} is too long to wait", "an hour is the longest")
    patient = Client(client.path, timeout_s=wait_s + _ANSWER_S)
    outcome = patient.call("RefreshDomain", {"wait_s": wait_s})["outcome"]
    if options.has("--json"):
        say_json(outcome)
    else:
        _print_outcome(outcome)
    return DONE


def explain(client: Client, options: Options) -> int:
    """Why a host has the policy that it has: which one was chosen, and which it beat."""
    place = options.value("--repo")
    answer = _recorded(client) if place is None else _worked_out(place, options)
    if options.has("--json"):
        say_json(answer)
        return DONE
    say(_headline(answer))
    say_text("\n".join(f"  {line}" for line in answer["why"]) or "  nothing was looked at yet")
    return DONE


def _print_outcome(outcome: dict[str, Any]) -> None:
    """What came of it, without what is assigned on this host: the domain may be in its place."""
    say_text(outcome["message"])
    print_warnings(outcome["warnings"])


def _connection(client: Client) -> tuple[TlsFiles | None, str]:
    """How this host speaks with the source of its policy, if one is configured: TLS, and proxy."""
    try:
        domain = client.call("GetDomain")["domain"]
    except NotFound:
        return None, ""
    if domain["proxy"] and is_without_password(domain["proxy"]):
        raise Refused(
            f"the proxy {quote(domain['proxy'])} takes a password, which only root is told",
            "run it as root",
        )
    files = (domain[name] or "" for name in ("ca", "certificate", "key"))
    return TlsFiles(*files), domain["proxy"] or ""


def _recorded(client: Client) -> dict[str, Any]:
    """What the daemon remembers of the last choice."""
    domain = client.call("GetDomain")["domain"]
    outcome = "withdrawn" if domain["withdrawn"] else "policy" if domain["policy"] else "nothing"
    return {
        "host": domain["host"],
        "groups": domain["groups"],
        "labels": domain["labels"],
        "outcome": outcome,
        "policy": domain["policy"],
        "path": domain["path"],
        "version": domain["version"],
        "why": domain["why"].splitlines(),
    }


def _worked_out(place: str, options: Options) -> dict[str, Any]:
    """What a host would choose from a repository."""
    with required_packages():
        from ipsecd_domain.places import reader
        from ipsecd_domain.selection import Host
        from ipsecd_domain.trusted import newest_root
        from ipsecd_domain.trusted import refresh as look
    labels = labels_of(options) or ()
    host = Host(options.value("--host") or "", tuple(options.values.get("--group", [])), labels)
    fetch = reader(place)
    seen = look({"root.json": newest_root(fetch)[1]}, host, fetch)
    return {
        "host": host.name,
        "groups": list(host.groups),
        "labels": dict(host.labels),
        "outcome": seen.outcome,
        "policy": seen.policy or None,
        "path": seen.path,
        "version": seen.version,
        "why": seen.why.splitlines(),
    }


def _headline(answer: dict[str, Any]) -> str:
    words = [f"host {quote(answer['host'])}", *(f"in group {name}" for name in answer["groups"])]
    words += [f"with {name}={value}" for name, value in answer["labels"].items()]
    match answer["outcome"]:
        case "policy":
            what = f"policy {quote(answer['policy'])}"
        case "withdrawn":
            what = "the domain policy is withdrawn, the local one is in force"
        case _:
            what = "no policy: what is in force stays"
    return f"{' '.join(words)}: {what}"


def _lines(domain: dict[str, Any]) -> list[str]:
    """The state of a host, a line for each thing that there is."""
    host = [domain["host"], *(f"group {name}" for name in domain["groups"])]
    host += [f"{name}={value}" for name, value in domain["labels"].items()]
    rows = [
        ("source", domain["source"]),
        ("doorbell", domain["doorbell"] or ""),
        ("host", " · ".join(host)),
        ("policy", _in_force(domain)),
        ("lists", _lists(domain)),
        ("version", f"{domain['version']}, good until {domain['expires']}"),
        ("looked", _ago(domain["checked_at"])),
        ("problem", one_line(domain["problem"])),
    ]
    if not domain["version"]:
        rows = [row for row in rows if row[0] != "version"]
    return [f"{name:<9} {value}" for name, value in rows if value]


def _in_force(domain: dict[str, Any]) -> str:
    if domain["withdrawn"]:
        return f"withdrawn {_ago(domain['taken_at'])}"
    if not domain["version"]:
        return "not fetched yet"
    if not domain["policy"]:
        return "none is for this host"
    return f"{quote(domain['policy'])} ({domain['path']}), taken {_ago(domain['taken_at'])}"


def _lists(domain: dict[str, Any]) -> str:
    """The lists that the policy carries. A daemon that is older does not answer them."""
    return few(
        [
            f"@{carried['name']} ({count(carried['entries'], 'entry')})"
            if carried["digest"]
            else f"@{carried['name']} (to be fetched anew)"
            for carried in domain.get("lists", [])
        ]
    )


def _ago(moment: float | None) -> str:
    """How long ago a moment is, in seconds since the epoch, and when it was."""
    if moment is None:
        return "never"
    written = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{span(time.time() - moment)} ago, {written}"
