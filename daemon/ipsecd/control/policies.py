"""Owns the methods that list, change and assign whole stored policies."""

from __future__ import annotations

import uuid
from copy import copy
from functools import partial
from typing import Any

from ipsecd.control.live import add_live
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import (
    needs_storing,
    of_this_host,
    outcome,
    place_in_domain,
    with_losses,
)
from ipsecd.control.summary import summary
from ipsecd.control.what_if import add_verdicts
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part
from ipsecd.errors import InvalidInput, IpsecdError
from ipsecd.language.differences import Difference, diff_policies
from ipsecd.language.documents import format_policy
from ipsecd.language.expectations import must_be_met
from ipsecd.model.policy_changes import still_assigned, taken
from ipsecd.model.values import Policy, Store
from ipsecd.quoting import first_lines, quote
from ipsecd.sources.names import dns_names_in, dns_names_of
from ipsecd.sources.planning import Written
from ipsecd.sources.static import KEEP, Kept

BYTE_ORDER_MARK = "\ufeff"
_IDS = uuid.UUID("6f1d4c1e-5d0b-4a8e-9d57-3b7b2c1a9e40")
"""The UUID name space of policy ids: a policy name has the same id on every host."""


def _list_policies(engine: Engine, _: Request) -> dict[str, Any]:
    loaded = engine.loaded
    policies = [
        {
            "name": name,
            "store": stored.store.value,
            "description": stored.policy.description,
            "path": engine.path_of(name),
            "assigned": name == loaded.assigned,
            "rules": len(stored.policy.facts.actions),
            "filters": stored.policy.facts.filters,
            "audit": stored.policy.audit,
            "error": None,
        }
        for name, stored in sorted(loaded.policies.items())
    ]
    policies += [
        {
            "name": file.path.rpartition("/")[2],
            "store": Store.STATIC.value,
            "description": "",
            "path": file.path,
            "assigned": file.path == loaded.assigned_path,
            "rules": 0,
            "filters": 0,
            "audit": False,
            "error": str(file.error),
        }
        for file in engine.broken
    ]
    return {"policies": [*_of_domain(engine), *policies]}


def _of_domain(engine: Engine) -> list[dict[str, Any]]:
    """The policy of the domain, if it is in force."""
    stored = engine.domain.stored
    if engine.overriding is None or stored is None:
        return []
    return [
        {
            "name": stored.policy.name,
            "store": stored.store.value,
            "description": stored.policy.description,
            "path": place_in_domain(engine),
            "assigned": True,
            "rules": len(stored.policy.facts.actions),
            "filters": stored.policy.facts.filters,
            "audit": stored.policy.audit,
            "error": None,
        }
    ]


def _get_policy(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    if name == engine.overriding and name not in engine.loaded.policies and engine.domain.stored:
        policy, store = engine.domain.stored.policy, Store.DOMAIN
        path, assigned = place_in_domain(engine), True
    else:
        policy, store = engine.stored(name), Store.STATIC
        path, assigned = engine.path_of(name), name == engine.loaded.assigned
    return {
        "document": format_policy(policy),
        "path": path,
        "store": store.value,
        "assigned": assigned,
        "id": str(uuid.uuid5(_IDS, name)),
        "overriding": engine.overriding,
    }


def _apply_policy(engine: Engine, request: Request) -> dict[str, Any]:
    policy, text = _with_audit(*document_of(request), request["audit"])
    if request["new"]:
        _must_be_new(engine, policy.name)
    stored = engine.loaded.policies.get(policy.name)
    old_policy = stored.policy if stored else None
    difference = Difference(old_policy, policy)
    is_different = bool(difference)
    if stored and stored.text != text and not is_different and text == format_policy(policy):
        # A document in canonical form has neither comments nor a layout: those of the file stay.
        policy, text = stored.policy, stored.text
    assign = bool(request["assign"])
    differs = is_different or stored is None or stored.text != text
    changed = needs_storing(engine, policy, differs=differs, assign=assign)
    words = summary(difference)
    if request["dry_run"]:
        if assign or engine.loaded.assigned == policy.name:
            must_be_met(policy)
        message = f"policy {policy.name!r} would be stored{words}{as_audits(policy)}"
        lines = difference.lines()
        reply = outcome(engine, message, changed=changed, changes=lines, stored=policy)
        if assign or engine.loaded.assigned == policy.name:
            add_verdicts(engine, policy, request.names, reply["outcome"])
        after = partial(
            engine.outlook.changed,
            written=[Written(policy, text)],
            assign=policy.name if assign else KEEP,
            names=request.names,
        )
        add_live(engine, request, reply["outcome"], after)
        return of_this_host(engine, reply)
    kept = Kept()
    if changed:
        assigned = policy.name if assign else KEEP
        written = [Written(policy, text)]
        kept = engine.change(
            written=written, assign=assigned, names=request.names, tell=request.tell
        )
    message = f"policy {policy.name!r} is stored{words}{as_audits(policy)}{words_of_copies(kept)}"
    lines = difference.lines() if changed else ()
    return of_this_host(
        engine, outcome(engine, message, changed=changed, changes=lines, warns=True, stored=policy)
    )


def as_audits(policy: Policy) -> str:
    """What is to be said of a policy whose blocks are audits, behind what was done with it."""
    return ", as audits: it blocks nothing" if policy.audit else ""


def _with_audit(policy: Policy, text: str, audit: bool | None) -> tuple[Policy, str]:
    """A policy and its text with or without ``audit``, as far as that was asked for."""
    if audit is None or audit == policy.audit:
        return policy, text
    from ipsecd.language.layout import edited_text  # noqa: PLC0415 - few need it

    wanted = policy.with_audit(audit)
    return wanted, edited_text(text, wanted) or format_policy(wanted)


def document_of(request: Request) -> tuple[Policy, str]:
    """The policy in the document of a call, and its text as it is to be stored.

    Raises ``InvalidInput`` if there is none.
    """
    policy = request.policy
    if policy is None:
        raise InvalidInput("there is no document", "pass one, or the file that holds it")
    text = request.text.decode(errors="replace")
    # A document may come as UTF-16, or with a byte order mark. Files are UTF-8 without one.
    is_plain = text.encode() == request.text and not text.startswith(BYTE_ORDER_MARK)
    return policy, text if is_plain else format_policy(policy)


def words_of_copies(kept: Kept) -> str:
    """Where what a file held that was replaced is kept, a line each."""
    return "".join(f"\nthe file that could not be used is kept as {name!r}" for name in kept.copies)


def _create_policy(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    _must_be_new(engine, name)
    engine.change(put=[Policy(name, (), request["description"] or "")])
    return of_this_host(engine, outcome(engine, f"policy {name!r} is created"))


def _must_be_new(engine: Engine, name: str) -> None:
    if name in engine.loaded.policies:
        raise taken(name)


def _delete_policy(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    if name not in engine.loaded.policies and request["missing_ok"]:
        return of_this_host(
            engine, outcome(engine, f"there is no policy {quote(name)}", changed=False)
        )
    engine.stored(name)
    assigned = engine.loaded.assigned == name
    if assigned and not request["unassign"]:
        raise still_assigned(name)
    if assigned:
        engine.change(delete=[name], assign=None)
    else:
        engine.change(delete=[name])
    return of_this_host(engine, outcome(engine, f"policy {name!r} is deleted"))


def _assign_policy(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    stored = engine.stored(name)
    text = engine.loaded.policies[name].text
    policy, edited = _with_audit(stored, text, request["audit"])
    words = as_audits(policy)
    is_same = policy.audit == stored.audit
    if is_same and engine.loaded.assigned == name and not engine.assigned_is_not_in_force:
        reply = outcome(engine, f"policy {name!r} is assigned already{words}", changed=False)
        add_live(engine, request, reply["outcome"], lambda now: now)
        return of_this_host(engine, reply)
    lines = diff_policies(stored, policy)
    if request["dry_run"]:
        must_be_met(policy)
        reply = outcome(engine, f"policy {name!r} would be assigned{words}", changes=lines)
        add_verdicts(engine, policy, {}, reply["outcome"])
        written = [] if is_same else [Written(policy, edited)]
        after = partial(engine.outlook.changed, written=written, assign=name)
        add_live(engine, request, reply["outcome"], after)
        return of_this_host(engine, reply)
    kept = engine.change(put=[] if is_same else [policy], assign=name)
    message = f"policy {name!r} is assigned{words}"
    reply = outcome(engine, message, changes=lines, warns=True)
    return of_this_host(engine, with_losses(reply, kept))


def _unassign_policy(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    if name is not None:
        engine.stored(name)
    if engine.loaded.link is None or name not in (None, engine.loaded.assigned):
        what = f"policy {name!r} was not assigned" if name else "nothing was assigned"
        return of_this_host(engine, outcome(engine, what, changed=False))
    was = engine.loaded.assigned or engine.loaded.link
    engine.change(assign=None)
    return of_this_host(engine, outcome(engine, f"policy {was!r} is unassigned"))


def _reload(engine: Engine, request: Request) -> dict[str, Any]:
    try:
        changed, problems = engine.reload(request.names, request.tell)
    except IpsecdError as error:
        raise _with_way_out(engine, error) from error
    message = "the policy files are loaded" if changed else "nothing has changed"
    unresolved = sorted(name for name, addresses in request.names.items() if not addresses)
    if unresolved:
        listed = ", ".join(first_lines([*map(quote, unresolved)]))
        message += f"; these names could not be looked up, and keep their addresses: {listed}"
    if problems:
        message += "; these cannot be used:\n" + "\n".join(first_lines(list(problems)))
    return of_this_host(engine, outcome(engine, message, changed=changed, warns=True))


def _with_way_out(engine: Engine, error: IpsecdError) -> IpsecdError:
    """Why a reload was refused, with what leads out if somebody has edited the assigned file."""
    assigned = engine.loaded.assigned
    if assigned is None or engine.is_on_disk(assigned):
        return error
    told = copy(error)
    way_out = f"to take the edit back, and keep it beside: ipsecctl policy restore {assigned!r}"
    told.hint = f"{error.hint}; {way_out}" if error.hint else way_out
    return told


def _refresh_names(engine: Engine, request: Request) -> dict[str, Any]:
    changed = engine.refresh_names(request.names)
    message = "names have other addresses" if changed else "nothing has changed"
    return outcome(engine, message, changed=changed)


def names_of_document(_: Engine, request: Request) -> frozenset[str]:
    """The DNS names in the document of a call."""
    return dns_names_of(request.policy) if request.policy else frozenset()


def _names_of_files(engine: Engine, request: Request) -> frozenset[str]:
    """The names that were never looked up, or all names if the call asks to resolve them again."""
    policies = [stored.policy for stored in engine.read_files().policies.values()]
    if engine.domain.stored:
        policies.append(engine.domain.stored.policy)
    names: frozenset[str] = frozenset().union(*map(dns_names_of, policies))
    if not request["resolve"]:
        return names - engine.names.keys()
    return names | _names_in_force(engine, request)


def _names_in_force(engine: Engine, _: Request) -> frozenset[str]:
    names = dns_names_of(engine.policy) if engine.policy else frozenset()
    dynamic = (rule_filter for rule in engine.dynamic for rule_filter in rule.filters)
    permits = (
        permit for quarantine in engine.state.quarantines.values() for permit in quarantine.permits
    )
    return names | dns_names_in(dynamic) | dns_names_in(permits)


METHODS = (
    Method(
        "RefreshNames",
        Role.CHANGE,
        Work.CHANGE,
        _refresh_names,
        names=_names_in_force,
        keeps_names=True,
        for_programs=True,
    ),
    Method("ListPolicies", Role.VIEW, Work.QUICK, _list_policies),
    Method("GetPolicy", Role.VIEW, Work.LONG, _get_policy),
    Method(
        "ApplyPolicy",
        Role.CHANGE,
        Work.CHANGE,
        _apply_policy,
        names=names_of_document,
        takes_document=True,
        tells_progress=True,
        part=Part.POLICIES,
    ),
    Method("CreatePolicy", Role.CHANGE, Work.CHANGE, _create_policy, part=Part.POLICIES),
    Method("DeletePolicy", Role.CHANGE, Work.CHANGE, _delete_policy, part=Part.POLICIES),
    Method("AssignPolicy", Role.CHANGE, Work.CHANGE, _assign_policy, part=Part.POLICIES),
    Method("UnassignPolicy", Role.CHANGE, Work.CHANGE, _unassign_policy, part=Part.POLICIES),
    Method(
        "Reload",
        Role.CHANGE,
        Work.CHANGE,
        _reload,
        names=_names_of_files,
        keeps_names=True,
        tells_progress=True,
        part=Part.POLICIES | Part.LISTS,
    ),
)
