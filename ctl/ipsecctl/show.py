"""Owns what ``show`` and ``stats`` print of the daemon's lists; must not change anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import DONE
from ipsecctl.options import Options
from ipsecctl.presentation import one_line, paint, print_table, resolved, span
from ipsecd.output import say, say_json, say_text
from ipsecd.quoting import count, quote

ANSWER_S, POLL_S = 5.0, 0.2

Row = tuple[str, ...]


def run(client: Client, options: Options) -> int:
    """Print the list that the verb names."""
    show_list(client, options.verb.name, as_json=options.has("--json"))
    return DONE


def filters(client: Client, options: Options) -> int:
    """Print the filters in force, by rank if that is asked for."""
    in_order: Callable[[list[Any]], list[Any]] = list
    if options.has("--by-rank"):
        from ipsecctl.ranking import by_rank

        in_order = by_rank
    show_list(client, "filters", as_json=options.has("--json"), in_order=in_order)
    return DONE


def policies(client: Client, options: Options) -> int:
    """Print the stored policies."""
    show_list(client, "policies", as_json=options.has("--json"))
    return DONE


def policy(client: Client, options: Options) -> int:
    """Print a stored policy: whether it is assigned, where it is stored, its canonical document."""
    name = options.argument()
    stored = client.call("GetPolicy", {"name": name})
    if options.has("--json"):
        say_json({"name": name, **stored})
        return DONE
    overriding = stored["overriding"]
    if stored["store"] == "domain":
        say(f"# {paint('in force', 'green')}, from the domain: {stored['path']}")
    else:
        is_in_force = stored["assigned"] and overriding is None
        state = "assigned" if stored["assigned"] else "not assigned"
        say(f"# {paint(state, 'green') if is_in_force else state}, stored in {stored['path']}")
        if overriding is not None:
            what = "another policy of this name" if overriding == name else quote(overriding)
            say(f"# without effect: the domain's is in force, {what}")
    say_text(stored["document"])
    return DONE


def show_list(
    client: Client,
    topic: str,
    *,
    as_json: bool = False,
    in_order: Callable[[list[Any]], list[Any]] = list,
) -> None:
    """Print the list `topic`, which is one of ``LISTS``, in the order that is asked for."""
    method, member, header, row, none = LISTS[topic]
    entries = in_order(client.call(method)[member])
    if as_json:
        say_json(entries)
    elif entries:
        print_table(header, [row(entry) for entry in entries])
    else:
        say(none)


def containers(client: Client, options: Options) -> int:
    """Print the containers that a filter can name; waits until their engine has been asked."""
    reply = listed_containers(client)
    if options.has("--json"):
        say_json({"containers": reply["containers"], "engines": reply["engines"]})
        return DONE
    rows: list[Row] = [
        (
            container["name"],
            container["id"],
            " ".join(f"{n['name']}={','.join(n['addresses'])}" for n in container["networks"]),
            " ".join(container["labels"]),
        )
        for container in reply["containers"]
    ]
    if rows:
        print_table(("CONTAINER", "ID", "NETWORKS", "LABELS"), rows)
    else:
        say("no container has an address")
    for engine in reply["engines"]:
        if engine["state"] not in ("connected", "absent"):
            say(f"{engine['socket']}: {engine['state']}")
    if all(engine["state"] == "absent" for engine in reply["engines"]):
        say("there is no container engine: neither Podman nor Docker listens")
    return DONE


def listed_containers(client: Client) -> dict[str, Any]:
    """The containers that there are; waits until their engine has been asked."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        reply = client.call("ListContainers")
        waiting = [engine for engine in reply["engines"] if engine["state"] == "unused"]
        if not waiting or time.monotonic() > deadline:
            return reply
        time.sleep(POLL_S)


def domain(client: Client) -> None:
    """Print the domain that this host has its policy from, as people say it."""
    state = client.call("Status")["status"]["domain"]
    if state is None:
        say("There is no domain policy on this host.")
        return
    name = repr(state["policy"])
    taken = "withdrawn" if state["withdrawn"] else "none was taken yet"
    say(
        f"Domain policy: {taken if state['policy'] is None else name}",
        f"    Source: {state['source']}",
    )
    if state["policy"] is not None:
        say(f"    Path: {state['path']}", f"    Digest: {state['digest']}")
    if state["version"]:
        ended = ", which is over" if state["expired"] else ""
        say(f"    Version: {state['version']}, good until {state['expires']}{ended}")
    if state["taken_at"] is not None:
        say(f"    Taken: {span(time.time() - state['taken_at'])} ago")
    if state["checked_at"] is not None:
        say(f"    Looked at: {span(time.time() - state['checked_at'])} ago")
    if state["why"]:
        say(*(f"    Why: {line}" for line in state["why"].splitlines()))
    if state["problem"]:
        say(f"    Problem: {one_line(state['problem'])}")
    if state["overridden"] is not None:
        say(f"    In the place of: {state['overridden']!r} of this host")


def stats(client: Client, options: Options) -> int:
    """Print what every rule has matched."""
    print_stats(client, as_json=options.has("--json"))
    return DONE


def print_stats(client: Client, *, as_json: bool = False) -> None:
    """Print the counters of every rule in force."""
    counts = client.call("Stats")
    if as_json:
        say_json(counts)
        return
    if counts["rules"]:
        print_table(
            ("PACKETS", "BYTES", "SINCE (UTC)", "ACTION", "STORE", "POLICY", "RULE", "FILTERS"),
            [
                (
                    f"{rule['packets']:,}".rjust(len("PACKETS")),
                    f"{rule['bytes']:,}".rjust(len("BYTES")),
                    (rule.get("since") or "-").replace("T", " ")[:16],
                    rule["action"],
                    rule["store"],
                    rule["policy"] or "-",
                    _name_of(rule),
                    _few(rule.get("filters") or []),
                )
                for rule in counts["rules"]
            ],
        )
    else:
        say("no rule is in force, so nothing is counted")
    if counts["unparsable"]:
        say(f"{count(counts['unparsable'], 'packet')} dropped with headers that cannot be read")
    for each in counts.get("lists") or []:
        say(f"entries of list {each['name']!r} matched {count(each['packets'], 'packet')}")


def _name_of(rule: dict[str, Any]) -> str:
    """The name of a rule, or the addresses that it is about if nobody has named it."""
    addresses = rule.get("address") or []
    is_numbered = rule["rule"].removeprefix("dynamic-").isdecimal()
    return _few(addresses) if addresses and is_numbered else str(rule["rule"])


def remaining(entry: dict[str, Any]) -> str:
    """How long a rule has left to live, for a table."""
    return "-" if entry["remaining_s"] is None else span(entry["remaining_s"])


def _when(entry: dict[str, Any]) -> str:
    """Which packets a rule is for; a daemon that is older does not say, as it knows one kind."""
    return entry.get("when") or "always"


def _filter(entry: dict[str, Any]) -> Row:
    return (
        entry["action"],
        entry["filter"] + resolved(entry),
        entry["interface"] or "all",
        _when(entry),
        remaining(entry),
        entry["store"],
        entry["policy"] or "-",
        _rule(entry),
    )


def _rule(entry: dict[str, Any]) -> str:
    """The rule of a filter, and the filter list that it has the filter from."""
    # A daemon that is older does not answer it.
    shared = entry.get("filter_list")
    return f"{entry['rule']} (filter list {quote(shared)})" if shared else str(entry["rule"])


def _policy(entry: dict[str, Any]) -> Row:
    if entry["error"]:
        return (
            "UNUSABLE",
            entry["store"],
            entry["name"],
            "-",
            "-",
            f"{entry['path']}: {one_line(entry['error'])}",
        )
    state = "assigned" if entry["assigned"] else "-"
    if entry["store"] == "domain":
        state = "in force"
    # A daemon that is older does not answer it.
    if entry.get("audit"):
        state = "audit" if state == "-" else f"{state}, audit"
    rules, filters = str(entry["rules"]), str(entry["filters"])
    return (state, entry["store"], entry["name"], rules, filters, entry["path"])


def _dynamic(entry: dict[str, Any]) -> Row:
    return (
        entry["action"],
        entry["name"],
        entry["interface"] or "all",
        _when(entry),
        remaining(entry),
        entry["by"],
        _few(entry["filters"]) + resolved(entry),
    )


def _few(texts: list[str], separator: str = " ") -> str:
    """The first of the texts, and how many more there are."""
    return separator.join(texts[:3]) + (f" … and {len(texts) - 3:,} more" if texts[3:] else "")


def _interface(entry: dict[str, Any]) -> Row:
    state = "up" if entry["up"] else "down"
    return (entry["name"], entry["type"], state, " ".join(entry["addresses"]) or "-")


def _exemption(entry: dict[str, Any]) -> Row:
    return (entry["name"], entry["reason"])


def _name(entry: dict[str, Any]) -> Row:
    at = entry["looked_up"]
    when = "before the daemon" if at is None else f"{span(max(0.0, time.time() - at))} ago"
    rules = [
        f"{rule['policy']}/{rule['rule']}" if rule["policy"] else rule["rule"]
        for rule in entry["rules"]
    ]
    return (
        entry["name"],
        when if entry["resolved"] else f"{when}, no answer since",
        " ".join(entry["addresses"]),
        _few(rules, ", "),
    )


LISTS: dict[str, tuple[str, str, Row, Callable[[dict[str, Any]], Row], str]] = {
    "filters": (
        "ListFilters",
        "filters",
        ("ACTION", "FILTER", "LINKS", "WHEN", "LEFT", "STORE", "POLICY", "RULE"),
        _filter,
        "no filter is in force: everything passes",
    ),
    "policies": (
        "ListPolicies",
        "policies",
        ("STATE", "STORE", "POLICY", "RULES", "FILTERS", "PATH"),
        _policy,
        "no policy is stored",
    ),
    "dynamic": (
        "ListDynamic",
        "rules",
        ("ACTION", "NAME", "LINKS", "WHEN", "LEFT", "BY", "FILTERS"),
        _dynamic,
        "there is no dynamic rule",
    ),
    "names": (
        "ListNames",
        "names",
        ("NAME", "LOOKED UP", "ADDRESSES", "RULES"),
        _name,
        "no DNS name is in force",
    ),
    "interfaces": (
        "ListInterfaces",
        "interfaces",
        ("NAME", "TYPE", "STATE", "ADDRESSES"),
        _interface,
        "this host has no network interface",
    ),
    "exemptions": (
        "ListExemptions",
        "exemptions",
        ("NAME", "WHY"),
        _exemption,
        "nothing is exempt: filters can block neighbour discovery and DHCP too",
    ),
}
"""For each list: the method, the member of its reply, the header, what makes a row of an entry,
and what is printed if there is no entry."""
