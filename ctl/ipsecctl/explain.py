"""Owns ``explain``: what happens to one packet and why, asked of the daemon or worked out here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from ipsecctl.client import Client
from ipsecctl.ends import in_local_time, on_the_wire, past_of
from ipsecctl.failures import DONE
from ipsecctl.files import lines_of, read_bytes
from ipsecctl.given_lists import given_lists, missing_lists, words_of_missing
from ipsecctl.options import Options, own_addresses_of
from ipsecctl.presentation import paint_action, print_warnings, resolved
from ipsecctl.short_packets import packets_meant
from ipsecd.language.documents import parse_policy
from ipsecd.language.explanations import answer_to_json, explanation_to_json
from ipsecd.language.packets import parse_packet
from ipsecd.language.seen import assumed_types, to_packet
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.explanation import explain
from ipsecd.model.list_names import lists_named_by
from ipsecd.model.packets import Host
from ipsecd.model.values import Store, filters_of
from ipsecd.output import broken, flush, say, say_json

_OPENING = (
    "Some rules are only for packets that open a connection: one that was open before the first of "
    "them was in force is known from its next packet out."
)


def run(client: Client, options: Options) -> int:
    """Explain one packet, or with ``--offline`` and ``-`` every line of standard input."""
    path = options.value("--policy")
    if path is not None:
        return _offline(options, path)
    at = options.value("--at")
    if at is not None:
        return _at(client, options, at)
    packets, note = packets_meant(options.argument())
    asked = packets or [options.argument()]
    explanations = [client.call("Explain", {"packet": each})["explanation"] for each in asked]
    if options.has("--json"):
        say_json(explanations[0] if len(explanations) == 1 else explanations)
        return DONE
    for explanation in explanations:
        _print(explanation)
    if any(explanation.get("when_opening") for explanation in explanations):
        say(_OPENING)
    if note:
        say(f"note: {note}")
    return DONE


def _at(client: Client, options: Options, at: str) -> int:
    """What would have been decided at a moment of the past, and which change made it so."""
    moment = on_the_wire(past_of(at, time.time()))
    reply = client.call("ExplainAt", {"at": moment, "packet": options.argument()})
    if options.has("--json"):
        say_json(reply)
        return DONE
    say(f"at {in_local_time(reply['at'])}, enforced by {reply['backend']}:")
    _print(reply["explanation"])
    if reply["explanation"].get("when_opening"):
        say(_OPENING)
    if decided := reply["decided"]:
        by = decided["by"] or (_author_of(decided["change"]) if decided["change"] else "")
        by = f", by {by}" if by else ", or longer"
        say(f"{decided['what']} had been so since {in_local_time(decided['since'])}{by}")
    if change := reply["change"]:
        message = f" · {change['message']}" if change["message"] else ""
        say(
            f"the last change before was at {in_local_time(change['at'])}, "
            f"by {_author_of(change)}{message}:"
        )
        for line in change["what"]:
            say(f"  {line}")
    else:
        say(f"nothing had changed since {in_local_time(reply['since'])}, when the record begins")
    for warning in reply["warnings"]:
        say(f"note: {warning}")
    return DONE


def _author_of(change: dict[str, Any]) -> str:
    """Who made a change, and by which method."""
    method = change["method"] or change["source"]
    return f"{change['by']} ({method})" if method != "daemon" else str(change["by"])


def _offline(options: Options, path: str) -> int:
    policy = parse_policy(read_bytes(path), path)
    filters = filters_of(policy, Store.STATIC)
    named = lists_named_by(policy)
    lists = given_lists(options, named)
    host = Host(own_addresses_of(options), lists=lists)
    missing = missing_lists(named, lists)
    if not options.has("--json"):
        print_warnings(words_of_missing(missing))
    is_told = False
    for line in lines_of(options.argument()):
        if broken():
            break
        if not line.strip():
            continue
        parsed = parse_packet(line.strip())
        packet = to_packet(parsed, host, assumed_types(parsed.interface))
        explanation = explain(
            filters, packet, host, ESSENTIALS, any_source_port=parsed.any_source_port
        )
        if options.has("--json"):
            # Whoever writes packets into a pipe may wait for each answer.
            answer = answer_to_json(explanation)
            say_json({**answer, "missing_lists": missing} if missing else answer, indent=None)
            flush()
        else:
            _print(explanation_to_json(explanation))
            is_told = is_told or explanation.connections_count
    if is_told:
        say(_OPENING)
    return DONE


def _print(explanation: dict[str, Any]) -> None:
    say(*lines_of_explanation(explanation))


def lines_of_explanation(
    explanation: dict[str, Any], paint: Callable[[str], str] = paint_action
) -> Iterator[str]:
    """What happens to a packet and why, a line each; `paint` gives actions their colours."""
    yield from _judgement(explanation, paint)
    yield from _leaving(explanation.get("leaving"), paint)
    # A daemon that is older does not answer what follows.
    if known := explanation.get("established"):
        yield from _judgement(known, paint, "part of an open connection: ")
        yield from _leaving(explanation.get("established_leaving"), paint)


def _leaving(leaving: dict[str, Any] | None, paint: Callable[[str], str]) -> Iterator[str]:
    if leaving and (leaving["by"] or len(leaving.get("source_ports") or ()) > 1):
        yield "and if it leaves under this host's address:"
        yield from _judgement(leaving, paint)


def _judgement(
    judgement: dict[str, Any], paint: Callable[[str], str], what: str = ""
) -> Iterator[str]:
    yield f"{what}{paint(judgement['decision'])}  {judgement['packet']}"
    yield f"  by      {_by(judgement)}"
    if audited := judgement.get("audited"):
        yield f"  audit   {_would(judgement, audited)}"
    for beaten in judgement["beaten"]:
        yield f"  beats   {_words(beaten)}"
    ports = judgement.get("source_ports") or []
    if len(ports) == 1:
        yield "  from    any source port"
        return
    for one in ports:
        numbers = str(one["first"])
        if one["last"] != one["first"]:
            numbers += f"-{one['last']}"
        yield f"  from port {numbers}: {paint(one['decision'])}, by {_by(one)}"
        # A daemon that is older does not answer it.
        if audited := one.get("audited"):
            yield f"    audit {_would(one, audited)}"


def _would(judgement: dict[str, Any], audited: dict[str, Any]) -> str:
    """What an audit that counts the packet would do to it, and why it does not come to that."""
    by = judgement["by"]
    if by is None:
        why = "it passes because nothing else matches"
    else:
        why = f"an audit decides nothing, so {by['action']} {by['filter']} does"
    return f"{_words(audited)} would block it; {why}"


def _by(judgement: dict[str, Any]) -> str:
    return _words(judgement["by"]) if judgement["by"] else judgement["reason"]


def _words(match: dict[str, Any]) -> str:
    policy = f"{match['policy']!r} / " if match["policy"] else ""
    rule = f"({match['store']}: {policy}{match['rule']!r})"
    return f"{match['action']} {match['filter']}{resolved(match)}  {rule}"
