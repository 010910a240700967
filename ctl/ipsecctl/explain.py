"""Owns ``explain``: what happens to one packet and why, asked of the daemon or worked out here."""

from __future__ import annotations

from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import DONE, UsageError
from ipsecctl.files import lines_of, read_bytes
from ipsecctl.options import Options
from ipsecctl.presentation import paint_action
from ipsecd.language.documents import parse_policy
from ipsecd.language.explanations import answer_to_json, explanation_to_json
from ipsecd.language.packets import assumed_types, parse_packet, to_packet
from ipsecd.model.addresses import Network
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.explanation import explain
from ipsecd.model.packets import Host
from ipsecd.model.values import Store, filters_of
from ipsecd.output import broken, flush, say, say_json
from ipsecd.quoting import quote


def run(client: Client, options: Options) -> int:
    """Explain one packet, or with ``--offline`` and ``-`` every line of standard input."""
    path = options.value("--policy")
    if path is not None:
        return _offline(options, path)
    explanation = client.call("Explain", {"packet": options.argument()})["explanation"]
    if options.has("--json"):
        say_json(explanation)
    else:
        _print(explanation)
    return DONE


def _offline(options: Options, path: str) -> int:
    policy = parse_policy(read_bytes(path), path)
    filters = filters_of(policy, Store.STATIC)
    host = Host(frozenset(_own(address) for address in options.values.get("--me", [])))
    for line in lines_of(options.argument()):
        if broken():
            break
        if not line.strip():
            continue
        parsed = parse_packet(line.strip())
        packet = to_packet(parsed, host, assumed_types(parsed.interface))
        explanation = explain(filters, packet, host, ESSENTIALS)
        if options.has("--json"):
            # Whoever writes packets into a pipe may wait for each answer.
            say_json(answer_to_json(explanation), indent=None)
            flush()
        else:
            _print(explanation_to_json(explanation))
    return DONE


def _own(text: str) -> tuple[Any, int]:
    from ipsecd.language.addresses import parse_address

    address = parse_address(f"[{text}]" if ":" in text and "[" not in text else text)
    if not isinstance(address, Network):
        raise UsageError(f"--me {quote(text)} is not an IP address", "write one, as --me 192.0.2.1")
    return address.family, address.address


def _print(explanation: dict[str, Any]) -> None:
    say(f"{paint_action(explanation['decision'])}  {explanation['packet']}")
    if explanation["by"]:
        say(f"  by      {_words(explanation['by'])}")
    else:
        say(f"  by      {explanation['reason']}")
    for beaten in explanation["beaten"]:
        say(f"  beats   {_words(beaten)}")
    leaving = explanation.get("leaving")
    if leaving and leaving["by"]:
        say("and if it leaves under this host's address:")
        _print(leaving)


def _words(match: dict[str, str]) -> str:
    policy = f"{match['policy']!r} / " if match["policy"] else ""
    return f"{match['action']} {match['filter']}  ({match['store']}: {policy}{match['rule']!r})"
