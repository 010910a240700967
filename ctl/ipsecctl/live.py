"""Owns how connections that a change would cut are told, with their processes.

The daemon knows the sockets, and what processes have them is found out here.
"""

from __future__ import annotations

from ipsecctl.processes import processes_of, user_name
from ipsecd.quoting import count, few, quote

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SHOWN = 3
"""How many connections of a group people see."""


def named(live: dict[str, Any]) -> dict[str, Any]:
    """The same with the processes of each connection, and the names of users."""
    each_connection = [entry for group in live["groups"] for entry in group["connections"]]
    processes = processes_of({entry["inode"] for entry in each_connection if entry["inode"]})
    for entry in each_connection:
        entry["processes"] = [
            {"pid": process.pid, "name": process.name, "user": process.user}
            for process in processes.get(entry["inode"], ())
        ]
    for group in live["groups"]:
        group["user"] = None if group["uid"] is None else user_name(group["uid"])
    return live


def lines_of_live(live: dict[str, Any]) -> Iterator[str]:
    """What is cut in words, a line each; `live` names the processes."""
    sure, perhaps = ([g for g in live["groups"] if g["perhaps"] is kind] for kind in (False, True))
    of_all = f"of {live['looked_at']:,} that are open now"
    if live["cut"]:
        yield f"{count(live['cut'], 'connection')} would be cut, {of_all}:"
        yield from _lines_of_groups(sure)
    else:
        yield f"no connection would be cut, {of_all}"
    if live["perhaps"]:
        what = count(live["perhaps"], "connection")
        yield (
            f"{what} may be cut: one that is not tracked goes on if the end sends first that may, "
            "and one that was never answered if it needs no answer"
        )
        yield from _lines_of_groups(perhaps)


def _lines_of_groups(groups: list[dict[str, Any]]) -> Iterator[str]:
    for group in groups:
        yield f"  {count(group['count'], 'connection')}{_owner(group)}{_by(group)}"
        shown = group["connections"][:SHOWN]
        for entry in shown:
            yield f"    {_line(entry)}"
        if group["count"] > len(shown):
            yield f"    and {group['count'] - len(shown):,} more"


def _owner(group: dict[str, Any]) -> str:
    """Whose the connections of a group are, in words."""
    unit = group["unit"].rpartition("/")[2]
    processes = {
        process["pid"]: f"{process['name']} (pid {process['pid']}, {process['user']})"
        for entry in group["connections"]
        for process in entry["processes"][:1]
    }
    administrative = ", a port of administration" if group["administrative"] else ""
    if group["container"]:
        whose = f" of container {quote(group['container'])} ({group['container_id']})"
    elif processes:
        whose = f" of {few([*processes.values()], 3)}{f' in {unit}' if unit else ''}"
    elif group["uid"] is not None:
        whose = f" of user {group['user']}{f' in {unit}' if unit else ''}"
    elif group["address"]:
        whose = f" of {group['address']}, which this host translates"
    elif group["forwarded"]:
        whose = " that this host forwards"
    else:
        whose = " of others"
    return whose + administrative


def _by(group: dict[str, Any]) -> str:
    """The filter that cuts a group, and where it was written, in words."""
    if not group["rule"]:
        return ""
    where = f"rule {quote(group['rule'])}"
    where += f" of policy {quote(group['policy'])}" if group["policy"] else ""
    return f", by {quote(group['filter'])} in {where}" if group["filter"] else f", by {where}"


def _line(entry: dict[str, Any]) -> str:
    source, destination = (
        _end(entry[end], entry[f"{end}_port"]) for end in ("source", "destination")
    )
    return f"{entry['protocol']} {source} > {destination} {entry['state']}"


def _end(address: str, port: int | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
