"""Owns the methods about the history, and the one that goes back in it."""

from __future__ import annotations

from functools import partial
from typing import Any

from ipsecd.control.live import add_live
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import of_this_host, outcome
from ipsecd.control.stored_differences import policy_in, stored_differences
from ipsecd.control.what_if import add_verdicts
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part
from ipsecd.engine.names import found
from ipsecd.errors import InvalidInput, Refused
from ipsecd.language.expectations import must_be_met
from ipsecd.quoting import count
from ipsecd.sources.history_rows import Row
from ipsecd.sources.names import dns_names_of
from ipsecd.sources.reading import SHARED, Loaded
from ipsecd.sources.unconfirmed import PoliciesBefore


def _get_history(engine: Engine, _: Request) -> dict[str, Any]:
    return {"rows": [_row(row, state) for row, state in engine.history.listed(engine.moment)]}


def _row(row: Row, state: int | None) -> dict[str, Any]:
    """A row, as the type ``HistoryRow`` of the interface has it."""
    author = row.author
    return {
        "number": row.number,
        "state": state,
        "at": row.at,
        "kind": row.kind.value,
        "source": row.source,
        "method": row.method,
        "uid": author.uid,
        "user": author.user,
        "login_uid": author.login_uid,
        "login_user": author.login_user,
        "sudo_user": author.sudo_user,
        "pid": author.pid,
        "command": author.command,
        "message": row.message,
        "what": list(row.what),
        "changes": row.changes,
        "put": row.put,
        "removed": row.removed,
        "lists": [
            {"name": name, "before": before, "after": after}
            for name, (before, after) in row.lists.items()
        ],
        "digest_before": row.digest_before,
        "digest_after": row.digest_after,
    }


def _get_state(engine: Engine, request: Request) -> dict[str, Any]:
    manifest = engine.history.manifest(request["state"])
    documents = engine.history.documents(manifest, engine.moment)
    return {
        "policies": [
            {
                "name": name,
                "path": path,
                "document": documents[path],
                "assigned": name == manifest.assigned,
            }
            for path, (name, _) in sorted(manifest.files.items(), key=lambda item: item[1])
            if path != SHARED
        ],
        "assigned": manifest.assigned,
        "domain": manifest.domain[0] if manifest.domain else None,
        "shared_filters": documents.get(SHARED),
    }


def _rollback(engine: Engine, request: Request) -> dict[str, Any]:
    states_ago = request["state"]
    earlier, content = _earlier(engine, states_ago)
    before = engine.loaded
    if not earlier.texts and earlier.link == before.link:
        message = f"the policies are what they were at @{states_ago}, and nothing has changed"
        reply = outcome(engine, message, changed=False)
        add_live(engine, request, reply["outcome"], lambda now: now)
        return of_this_host(engine, reply)
    broken = [file.error for file in content.broken if file.path in earlier.texts]
    if error := next(iter(broken), content.assigned_error):
        raise Refused(
            f"what was there at @{states_ago} cannot be used now: {error.message}",
            f"see it with: ipsecctl show @{states_ago}",
        )
    lines = stored_differences(before, content)
    policies = count(len(earlier.texts), "policy")
    if request["dry_run"]:
        assigned = policy_in(content, content.assigned) if content.assigned else None
        if assigned:
            must_be_met(assigned)
        message = f"{policies} would be as at @{states_ago}"
        reply = outcome(engine, message, changes=lines)
        add_verdicts(engine, assigned, request.names, reply["outcome"])
        after = partial(engine.outlook.holding, content=content, names=found(request.names))
        add_live(engine, request, reply["outcome"], after)
        return of_this_host(engine, reply)
    engine.restore(earlier, request.names, request.tell)
    message = f"the policies are again what they were at @{states_ago}"
    return of_this_host(engine, outcome(engine, message, changes=lines, warns=True))


def _earlier(engine: Engine, states_ago: int) -> tuple[PoliciesBefore, Loaded]:
    """The files that were others at an earlier state, and all that the store would hold then."""
    if states_ago < 1:
        raise InvalidInput(f"@{states_ago} is no earlier state", "give 1 or more")
    manifest = engine.history.manifest(states_ago)
    documents = engine.history.documents(manifest, engine.moment)
    now = engine.loaded.texts
    paths = sorted(now.keys() | documents.keys())
    texts = {path: documents.get(path) for path in paths if documents.get(path) != now.get(path)}
    earlier = PoliciesBefore(texts, manifest.link, complete=True)
    return earlier, engine.content_with(earlier)


def _names_of_earlier(engine: Engine, request: Request) -> frozenset[str]:
    earlier, content = _earlier(engine, request["state"])
    changed = [
        stored.policy
        for name, stored in content.policies.items()
        if stored.path in earlier.texts or name == content.assigned
    ]
    return frozenset().union(*map(dns_names_of, changed))


METHODS = (
    Method("GetHistory", Role.VIEW, Work.LONG, _get_history),
    Method("GetState", Role.VIEW, Work.LONG, _get_state),
    Method(
        "Rollback",
        Role.CHANGE,
        Work.CHANGE,
        _rollback,
        names=_names_of_earlier,
        keeps_names=True,
        part=Part.POLICIES,
    ),
)
