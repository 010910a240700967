"""Owns the methods that tell the state of the daemon and its host; must not change anything."""

from __future__ import annotations

import os
from typing import Any

from ipsecd import __version__
from ipsecd.backend.base import Observation
from ipsecd.backend.registry import AUTO, OFFERED, STANDS_FOR_AUTO, lacking_for_reports
from ipsecd.control.absences import absences, filters_by_name
from ipsecd.control.confirmation import last_put_back, unconfirmed
from ipsecd.control.connections import troubles_with_connections
from ipsecd.control.domain import domain_state
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import exemptions, place_in_domain, states_of_engines
from ipsecd.engine import Engine
from ipsecd.host.interfaces import read_host


def _status(engine: Engine, _: Request) -> dict[str, Any]:
    observation = engine.observe()
    policy = engine.policy
    assigned = engine.loaded.assigned
    dynamic = engine.dynamic
    status = {
        "version": __version__,
        "pid": os.getpid(),
        "since": engine.started,
        "state": state_of(engine, observation),
        "failures": [*engine.failures, *engine.backend.failures],
        "file_warnings": list(engine.warnings),
        "backend": engine.backend.name,
        "features": list(engine.backend.probe()),
        "assigned": policy.name if policy and not engine.stopped else assigned,
        "policy_path": _policy_path(engine),
        "loaded_from": engine.loaded_from,
        "wanted": "" if engine.stopped else engine.classifier.digest,
        "observed": observation.digest,
        "drift": list(observation.drift),
        "policy_rules": len(policy.facts.actions) if policy and not engine.stopped else 0,
        "policy_filters": policy.facts.filters if policy and not engine.stopped else 0,
        "policy_audit": bool(policy and policy.audit and not engine.stopped),
        "flight_recorder": engine.config.recorder_bytes > 0,
        "protected_filters": 0 if engine.stopped else len(engine.state.compiled.protected),
        "dynamic_rules": len(dynamic),
        "dynamic_filters": dynamic.filters,
        "dynamic_taken_over": engine.taken_over,
        "exemptions": exemptions(engine),
        "unparsable": engine.config.unparsable.value,
        "container_engines": states_of_engines(engine),
        "domain": domain_state(engine),
        "warnings": _warnings(engine),
        "gaps": list(engine.backend.gaps),
        "unconfirmed": unconfirmed(engine),
        "put_back": last_put_back(engine),
    }
    return {"status": status}


def state_of(engine: Engine, observation: Observation) -> str:
    """The state of the daemon in a word: one of ``STATES``."""
    if engine.stopped:
        return "stopped"
    if engine.held:
        return "failed"
    if observation.drift:
        return "drifted"
    if engine.failures or engine.backend.failures:
        return "failed"
    return "enforcing" if engine.policy or engine.dynamic else "idle"


def _warnings(engine: Engine) -> list[str]:
    """What is in force and does not do all that it says, a sentence each."""
    return [
        *troubles_with_connections(engine),
        *engine.protection.overridden(engine.state),
        *absences(engine, filters_by_name(engine)),
    ]


def _policy_path(engine: Engine) -> str | None:
    if engine.overriding is not None:
        return place_in_domain(engine)
    return engine.path_of(engine.loaded.assigned) if engine.loaded.assigned else None


def _list_interfaces(_engine: Engine, _: Request) -> dict[str, Any]:
    interfaces = [
        {
            "name": interface.name,
            "index": interface.index,
            "type": interface.type.value if interface.type else "loopback",
            "up": interface.up,
            "addresses": list(interface.addresses),
        }
        for interface in read_host().interfaces
    ]
    return {"interfaces": interfaces}


def _list_exemptions(engine: Engine, _: Request) -> dict[str, Any]:
    return {"exemptions": exemptions(engine)}


def _examine(engine: Engine, _: Request) -> dict[str, Any]:
    setting = engine.config.backend
    name, features, gaps = engine.ask(lambda backend: (backend.name, backend.probe(), backend.gaps))
    if setting != AUTO:
        why = "the configuration names it"
    elif name in OFFERED and name != STANDS_FOR_AUTO.name:
        why = "it was chosen with ipsecctl backend, and the configuration leaves that open"
    else:
        why = (
            "auto stands for it: it needs nothing that a host may lack, and no packet waits for it"
        )
    return {
        "examination": {
            "setting": setting,
            "backend": name,
            "why": why,
            "features": list(features),
            "troubles": _troubles(engine),
            "warnings": [*_warnings(engine), *engine.ask(lacking_for_reports)],
            "gaps": list(gaps),
            "assessments": [],
        }
    }


def _troubles(engine: Engine) -> list[str]:
    """Why what is in force is not what should be, in words."""
    if engine.stopped:
        return ["enforcement is stopped, so nothing is in force: ipsecctl net start policyagent"]
    drift = engine.observe().drift
    failures = (*engine.failures, *engine.ask(lambda backend: backend.failures))
    return [
        *failures,
        *(f"the kernel does not hold what it should: {difference}" for difference in drift),
    ]


METHODS = (
    Method("Status", Role.VIEW, Work.QUICK, _status),
    Method("ListInterfaces", Role.VIEW, Work.LONG, _list_interfaces),
    Method("ListExemptions", Role.VIEW, Work.QUICK, _list_exemptions),
    Method("Examine", Role.VIEW, Work.LONG, _examine),
)
