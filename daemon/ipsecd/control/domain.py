"""Owns the methods about the domain that this host has its policy from."""

from __future__ import annotations

import socket
import time
from typing import Any

from ipsecd.config.domain import DomainSettings
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import outcome
from ipsecd.control.verdict import Finding, Question, Verdict
from ipsecd.engine import Engine
from ipsecd.errors import MAX_MESSAGE, NotFound, Refused
from ipsecd.model.values import Store
from ipsecd.quoting import cut, few, without_password
from ipsecd.sources.domain import Selection, Taken
from ipsecd.sources.names import dns_names_of
from ipsecd.sources.reading import StoredPolicy
from ipsecd.sources.root import ROOT, read_root

_WITH_PASSWORDS = ("doorbell", "proxy")
"""The settings that may hold one."""


def settings_of(engine: Engine) -> DomainSettings:
    """The settings of the domain; raises ``NotFound`` where there is none."""
    if engine.config.domain is None:
        raise NotFound(
            "no domain is configured on this host",
            "write into ipsecd.yaml: domain: {source: https://…}, and restart ipsecd",
        )
    return engine.config.domain


def question_about(engine: Engine, bundle: bytes) -> Question:
    """What has to be asked about a bundle before anything of it is taken; for any thread."""
    settings = settings_of(engine)
    return Question(engine.domain, _host(settings), bundle)


def domain_state(engine: Engine) -> dict[str, Any] | None:
    """The domain for ``Status``; None where none is configured."""
    settings = engine.config.domain
    if settings is None:
        return None
    taken, lookups = engine.domain, engine.lookups
    return {
        "source": settings.source,
        "policy": taken.stored.policy.name if taken.stored else None,
        "path": taken.stored.path if taken.stored else "",
        "digest": taken.digest,
        "version": taken.version,
        "expires": taken.expires,
        "expired": taken.is_expired(time.time()),
        "taken_at": taken.taken_at or None,
        "checked_at": lookups.checked_at,
        "problem": lookups.problem,
        "withdrawn": taken.withdrawn,
        "why": taken.why,
        "overridden": engine.loaded.assigned if engine.overriding is not None else None,
        "trusted": bool(taken.trusted),
    }


def _get_domain(engine: Engine, _: Request) -> dict[str, Any]:
    settings = settings_of(engine)
    taken, lookups, host = engine.domain, engine.lookups, _host(settings)
    return {
        "domain": {
            "source": settings.source,
            "doorbell": settings.doorbell,
            "host": host.name,
            "groups": list(host.groups),
            "labels": dict(host.labels),
            "interval_s": settings.interval_s,
            "ca": str(settings.ca) if settings.ca else None,
            "certificate": str(settings.certificate) if settings.certificate else None,
            "key": str(settings.key) if settings.key else None,
            "proxy": settings.proxy,
            "reports": settings.reports,
            "trusted": dict(taken.trusted),
            "policy": taken.stored.policy.name if taken.stored else None,
            "path": taken.stored.path if taken.stored else "",
            "digest": taken.digest,
            "version": taken.version,
            "expires": taken.expires,
            "taken_at": taken.taken_at or None,
            "withdrawn": taken.withdrawn,
            "problem": lookups.problem,
            "checked_at": lookups.checked_at,
            "why": taken.why,
            "refresh": lookups.asked,
            "lists": [
                {
                    "name": name,
                    # One that was lost is asked for again.
                    "digest": "" if carried.problem else carried.digest,
                    "entries": len(carried.addresses),
                }
                for name, carried in sorted(taken.lists.items())
            ],
        }
    }


def _without_secrets(reply: dict[str, Any]) -> dict[str, Any]:
    domain = reply["domain"]
    shown = {name: domain[name] and without_password(domain[name]) for name in _WITH_PASSWORDS}
    return {"domain": {**domain, **shown, "trusted": {}}}


def _take_domain(engine: Engine, request: Request) -> dict[str, Any]:
    verdict: Verdict = request["verdict"]
    before = engine.domain
    if before != verdict.question.taken:
        raise Refused("the domain was changed while this was verified", "look at it again")
    if verdict.finding is Finding.REFUSED:
        raise Refused(verdict.reason, verdict.hint)
    taken = verdict.taken(_stored(verdict, before, request), time.time())
    changed = engine.take_domain(taken, request.names)
    message = _message(engine, verdict.finding, changed=changed)
    engine.tell_of_domain(request["refresh"], message, changed=changed)
    return outcome(engine, message, changed=changed, warns=changed)


def _stored(verdict: Verdict, before: Taken, request: Request) -> StoredPolicy | None:
    """The policy that is to be in force by the verdict."""
    if verdict.finding is Finding.WITHDRAWN:
        return None
    if request.policy is None or verdict.document is None:
        return before.stored
    text = verdict.document.decode()
    return StoredPolicy(request.policy, verdict.path, text, Store.DOMAIN)


def _message(engine: Engine, finding: Finding, *, changed: bool) -> str:
    """What came of a bundle, in words."""
    assigned = engine.loaded.assigned
    stored = engine.domain.stored
    if finding is Finding.NOTHING:
        stays = f"policy {stored.policy.name!r} stays" if stored else "there was none"
        return f"the domain has no policy for this host: {stays}"
    if finding is Finding.WITHDRAWN:
        local = f"policy {assigned!r} of this host is" if assigned else "no policy is"
        if not changed:
            return "nothing is new: the domain has withdrawn its policy"
        return f"the domain has withdrawn its policy: {local} in force"
    name = stored.policy.name if stored else ""
    lists = few([f"@{each}" for each in sorted(engine.domain.lists)])
    with_lists = f" with {lists}" if lists else ""
    if engine.stopped:
        return f"policy {name!r} of the domain is taken; enforcement is stopped"
    if not changed:
        return f"nothing is new: policy {name!r} of the domain is in force{with_lists}"
    instead = f", in the place of {assigned!r} of this host" if assigned else ""
    return f"policy {name!r} of the domain is in force{with_lists}{instead}"


def _names_of_verdict(engine: Engine, request: Request) -> frozenset[str]:
    """Those of a policy that is new."""
    verdict: Verdict = request["verdict"]
    if request.policy is None or verdict.digest == engine.domain.digest:
        return frozenset()
    return dns_names_of(request.policy)


def _report_domain(engine: Engine, request: Request) -> dict[str, Any]:
    stored = engine.domain.stored
    message = f"nothing is new: policy {stored.policy.name!r} stays" if stored else "nothing is new"
    # Whoever looks may be hostile, and what it says is logged, and shown with each status.
    problem = cut(request["problem"], MAX_MESSAGE)
    engine.tell_of_domain(request["refresh"], message, problem=problem)
    return {}


def _await_domain(engine: Engine, _: Request) -> dict[str, Any]:
    return {"refresh": engine.lookups.asked}


def _refresh_domain(engine: Engine, request: Request) -> dict[str, Any]:
    """What came of the look with the number ``asked``, which the service has waited for."""
    lookups = engine.lookups
    if lookups.answered < request["asked"]:
        message = "the domain is asked for its policy, and no answer has come yet"
        return outcome(engine, message, changed=False)
    if lookups.problem:
        message, _, hint = lookups.problem.partition("\n  hint: ")
        raise Refused(f"{message}; what was in force stays so", hint)
    return outcome(engine, lookups.message, changed=lookups.changed, warns=lookups.changed)


def _trust_domain(engine: Engine, request: Request) -> dict[str, Any]:
    root, taken = read_root(request["root"]), engine.domain
    words = f"version {root.version}, of which {root.threshold} of {root.keys} keys sign"
    if taken.trusted.get(ROOT) == request["root"]:
        return outcome(engine, f"the root is trusted already: {words}", changed=False)
    engine.trust_domain(taken.trusting(request["root"]))
    # Who looks has no reason to wait now, and what failed for want of this root is over.
    engine.ask_domain(new=True)
    return outcome(engine, f"the root is trusted: {words}")


def _host(settings: DomainSettings) -> Selection:
    return Selection(settings.host or socket.gethostname(), settings.groups, settings.labels)


METHODS = (
    Method(
        "GetDomain",
        Role.VIEW,
        Work.QUICK,
        _get_domain,
        for_fetcher=True,
        without_secrets=_without_secrets,
    ),
    Method(
        "TakeDomain",
        Role.FETCH,
        Work.CHANGE,
        _take_domain,
        names=_names_of_verdict,
        keeps_names=True,
        takes_document=True,
        takes_bundle=True,
        for_fetcher=True,
    ),
    Method("ReportDomain", Role.FETCH, Work.QUICK, _report_domain, for_fetcher=True),
    Method("AwaitDomain", Role.FETCH, Work.QUICK, _await_domain, for_fetcher=True),
    Method("RefreshDomain", Role.CHANGE, Work.QUICK, _refresh_domain),
    Method("TrustDomain", Role.CHANGE, Work.CHANGE, _trust_domain),
)
