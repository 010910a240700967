"""Owns the verbs on lists of addresses; ``check`` works without a daemon."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

from ipsecctl.client import Client
from ipsecctl.ends import duration_s, end_of
from ipsecctl.failures import DONE, REFUSED, UsageError
from ipsecctl.files import open_document
from ipsecctl.options import Options, dry_run_of
from ipsecctl.presentation import one_line, print_table, print_warnings, span
from ipsecd.errors import InvalidInput, IpsecdError
from ipsecd.output import complain, say, say_json, say_text
from ipsecd.quoting import count, few, visible

_BLOCK = 1 << 20
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
FETCH_S = 300.0
"""So long fetching a feed may take, besides what a change takes."""


def create(client: Client, options: Options) -> int:
    """Make a list, empty, or of what is in a file or at a URL."""
    path = options.value("--from")
    parameters: dict[str, Any] = {
        "name": options.argument(),
        "format": options.value("--format"),
        "accept": options.has("--accept"),
        **({"counted": True} if options.has("--count") else {}),
    }
    if path is not None and _URL.match(path):
        every = options.value("--every")
        client.wait_longer(FETCH_S)
        feed = {
            "url": path,
            "every_s": 86400.0 if every is None else duration_s(every),
            "plain_http": options.has("--plain-http"),
        }
        return _outcome(client, options, "CreateFeed", {**parameters, **feed})
    for option in ("--every", "--plain-http"):
        if options.has(option):
            raise UsageError(f"{option} is for a list from a URL", "write --from https://HOST/PATH")
    if path is None:
        return _outcome(client, options, "CreateList", {**parameters, "document": ""})
    return _with_file(client, options, "CreateList", parameters, path)


def update(client: Client, options: Options) -> int:
    """Fetch a list from its URL now."""
    client.wait_longer(FETCH_S)
    parameters = {"name": options.argument(), "accept": options.has("--accept")}
    return _outcome(client, options, "UpdateList", parameters)


def replace(client: Client, options: Options) -> int:
    """Have a list hold what a file holds."""
    name, path = options.arguments
    parameters = {
        "name": name,
        "format": options.value("--format"),
        "accept": options.has("--accept"),
    }
    return _with_file(client, options, "ReplaceList", parameters, path)


def add(client: Client, options: Options) -> int:
    """Add entries to a list."""
    name, *addresses = options.arguments
    lifetime = options.value("--for")
    parameters = {
        "name": name,
        "addresses": addresses,
        "ttl_s": None if lifetime is None else end_of(lifetime, time.time())[0],
        "accept": options.has("--accept"),
    }
    return _outcome(client, options, "AddToList", parameters)


def remove(client: Client, options: Options) -> int:
    """Take entries out of a list."""
    name, *addresses = options.arguments
    return _outcome(client, options, "RemoveFromList", {"name": name, "addresses": addresses})


def count_entries(client: Client, options: Options) -> int:
    """Have a list count what each of its entries matches, or no more."""
    name, word = options.arguments
    if word not in ("on", "off"):
        raise UsageError(
            f"{one_line(word)!r} is neither 'on' nor 'off'",
            f"write: ipsecctl list count {one_line(name)} on",
        )
    return _outcome(client, options, "CountList", {"name": name, "counted": word == "on"})


def delete(client: Client, options: Options) -> int:
    """Delete a list."""
    return _outcome(client, options, "DeleteList", {"name": options.argument()})


def show(client: Client, options: Options) -> int:
    """Show all lists, the entries of one, or those that an address is in."""
    counters = options.has("--counters")
    if not options.arguments:
        if counters:
            raise UsageError(
                "--counters is for one list", "name it: ipsecctl list show NAME --counters"
            )
        return show_all(client, options)
    name, *rest = options.arguments
    address = rest[0] if rest else None
    asked = {"counters": True} if counters else {}
    reply = client.call("GetList", {"name": name, "address": address, **asked})
    if options.has("--json"):
        say_json(reply)
    elif counters:
        _say_counters(reply, name, address)
    else:
        ends = {entry["entry"]: entry["ends"] for entry in reply["ending"]}
        say(*_lines(reply["entries"], ends))
        _say_absence(reply, name, address)
        complain(*(f"warning: {one_line(problem)}" for problem in reply["list"]["problems"]))
    return REFUSED if address and not reply["entries"] else DONE


def _say_counters(reply: dict[str, Any], name: str, address: str | None) -> None:
    """Print what each entry has matched, the most packets first, and those without any last."""
    counters = reply["counters"]
    counted = {each["entry"]: each for each in counters["entries"]}
    nothing = {"packets": 0, "bytes": 0}
    rows = [*counters["entries"]]
    rows += [{"entry": e, **nothing} for e in reply["entries"] if e not in counted]
    if rows:
        print_table(
            ("PACKETS", "BYTES", "ENTRY"),
            [
                (
                    f"{row['packets']:,}".rjust(len("PACKETS")),
                    f"{row['bytes']:,}".rjust(len("BYTES")),
                    row["entry"],
                )
                for row in rows
            ],
        )
    _say_absence(reply, name, address)
    if counters["since"]:
        say(f"# counted since {counters['since'].replace('T', ' ')[:16]} UTC")
    complain(*(f"warning: {one_line(problem)}" for problem in reply["list"]["problems"]))


def show_all(client: Client, options: Options) -> int:
    """Show all lists, with what there is to say of each."""
    lists = client.call("ListLists")["lists"]
    if options.has("--json"):
        say_json(lists)
        return DONE
    if not lists:
        say("there is no list; make one with: ipsecctl list create NAME")
        return DONE
    print_table(
        ("list", "entries", "of them with an end", "from", "named by"),
        [
            (
                described["name"],
                f"{described['entries']:,}",
                f"{described['ending']:,}" if described["ending"] else "",
                _origin(described),
                few([rule["rule"] for rule in described["rules"]], 3) or "no rule in force",
            )
            for described in lists
        ],
    )
    for described in lists:
        print_warnings([f"{described['name']}: {one_line(text)}" for text in described["problems"]])
    return DONE


def _origin(described: dict[str, Any]) -> str:
    """Where a list comes from, in words."""
    if described.get("domain"):
        return "the domain"
    return described["url"] or described["path"] or "entries that were added"


def check(_: Client, options: Options) -> int:
    """Say what a file would be as a list; return 1 if it would be refused or held back."""
    from ipsecd.language.address_lists import read_list
    from ipsecd.language.list_guard import Needed, reasons_to_hold
    from ipsecd.model.lists import AddressList

    path = options.argument()
    source = "<stdin>" if path == "-" else path
    needed = [
        Needed(network.family, network.address, "given by --me")
        for network in _networks(options.values.get("--me", []))
    ]
    descriptor = open_document(path)
    try:
        read = read_list(_blocks(descriptor), source, options.value("--format") or "")
    except IpsecdError as error:
        if not options.has("--json"):
            raise
        say_json({"file": path, "valid": False, "message": error.message, "hint": error.hint})
        return REFUSED
    finally:
        os.close(descriptor)
    held = reasons_to_hold(AddressList(), read.addresses, needed, malformed=read.malformed)
    if options.has("--json"):
        say_json(
            {
                "file": path,
                "valid": True,
                "format": read.format,
                "lines": read.lines,
                "entries": len(read.addresses),
                "repeated": read.repeated,
                "cleared": read.cleared,
                "malformed": read.malformed,
                "shown": [
                    {"line": line.number, "text": line.text, "reason": line.reason}
                    for line in read.shown
                ],
                "held": list(held),
            }
        )
    else:
        details = [count(len(read.addresses), "entry"), f"form {read.format}"]
        if read.repeated:
            details.append(f"{read.repeated:,} repeated")
        if read.cleared:
            details.append(f"{read.cleared:,} with address bits beyond the prefix length")
        if read.malformed:
            details.append(count(read.malformed, "malformed line"))
        say(f"{visible(source)}: {' · '.join(details)}")
        say(*(f"  {line}" for line in read.shown))
        print_warnings([f"it would be held back: {reason}" for reason in held])
    return REFUSED if held else DONE


def _networks(texts: list[str]) -> Iterator[Any]:
    from ipsecd.language.address_lists import read_addresses

    for text in texts:
        for network in read_addresses([text]).networks():
            if network.length != network.family.bits:
                raise InvalidInput(f"{text!r} is not one address", "name a single address")
            yield network


def _blocks(descriptor: int) -> Iterator[bytes]:
    while block := os.read(descriptor, _BLOCK):
        yield block


def _with_file(
    client: Client, options: Options, method: str, parameters: dict[str, Any], path: str
) -> int:
    descriptor = open_document(path)
    try:
        source = "<stdin>" if path == "-" else path
        return _outcome(client, options, method, {**parameters, "source": source}, descriptor)
    finally:
        os.close(descriptor)


def _outcome(
    client: Client,
    options: Options,
    method: str,
    parameters: dict[str, Any],
    descriptor: int | None = None,
) -> int:
    parameters = {**parameters, **dry_run_of(options)}
    outcome = client.call(method, parameters, descriptor)["outcome"]
    if options.has("--json"):
        say_json(outcome)
    else:
        say_text(outcome["message"])
        print_warnings(outcome["warnings"])
    return DONE


def _lines(entries: list[str], ends: dict[str, float]) -> Iterator[str]:
    now = time.time()
    for entry in entries:
        yield f"{entry} # for {span(ends[entry] - now)}" if entry in ends else entry


def _say_absence(reply: dict[str, Any], name: str, address: str | None) -> None:
    if reply["entries"]:
        return
    say(f"{address} is in no entry of list {name!r}" if address else f"# list {name!r} is empty")
