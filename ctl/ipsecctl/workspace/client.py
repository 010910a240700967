"""Owns a stand-in for the daemon that changes a workspace; must not know what a script is.

The handlers of the old commands ask it as they ask the daemon, and are answered the same: by the
same functions where those decide anything. What only the daemon knows it is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ipsecctl.client import READS, Client
from ipsecctl.netsh.drafts import Drafts
from ipsecctl.netsh.servers import servers_of_this_host
from ipsecctl.workspace.dynamic_rules import DynamicRule
from ipsecctl.workspace.exchange import Caller
from ipsecctl.workspace.policy_changes import POLICY_CHANGES
from ipsecctl.workspace.workspace import Workspace
from ipsecd.errors import NotFound, Refused
from ipsecd.language.documents import format_policy
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.language.rule_parameters import in_force_parameters
from ipsecd.model.policy_changes import absent
from ipsecd.model.values import Store, filters_of
from ipsecd.quoting import quote

Parameters = dict[str, Any]
Answer = dict[str, Any]

STOPPED, ENFORCING, IDLE = "stopped", "enforcing", "idle"
NOT_STORED_YET = "stored when all of this is done"
"""In the place of the path of a policy that is new."""


class WorkspaceClient(Client):
    """Answers as the daemon would if it had what is in a workspace; see the module."""

    def __init__(self, workspace: Workspace, daemon: Caller) -> None:
        super().__init__("")
        self.workspace = workspace
        self._daemon = daemon
        self._status: Answer | None = None
        self._stopped: bool | None = None
        self.drafts = Drafts(workspace, servers_of_this_host)
        """The policies as they are worked on, which the workspace has when they are settled."""
        self._changes = 0
        self.looks_at_domain = False
        """Whether somebody has asked for a look at the domain, which is for afterwards."""
        self._methods: dict[str, Callable[[Parameters], Answer]] = {
            "Status": self._status_now,
            "ListPolicies": self._list_policies,
            "GetPolicy": self._get_policy,
            "ListFilters": self._list_filters,
            "ListDynamic": self._list_dynamic,
            "AddDynamic": self._add_dynamic,
            "AddDynamicRules": self._add_dynamic_rules,
            "RemoveDynamic": self._remove_dynamic,
            "RemoveDynamicRules": self._remove_dynamic_rules,
            "FlushDynamic": self._flush_dynamic,
            "RefreshDomain": self._refresh_domain,
            "Stop": self._stop,
            "Start": self._start,
        }

    @property
    def revision(self) -> int:
        """Another number after whatever changed something."""
        return self.workspace.revision + self._changes

    @property
    def turns_enforcement(self) -> bool:
        """Whether enforcement is to be stopped, or started, when all is done."""
        return self._stopped is not None and self._stopped is not self.was_stopped

    @property
    def was_stopped(self) -> bool:
        """Whether enforcement is stopped now, before anything is done."""
        return bool(self._daemon_status()["state"] == STOPPED)

    @property
    def stopped(self) -> bool:
        """Whether enforcement is to be stopped when all is done."""
        return self.was_stopped if self._stopped is None else self._stopped

    def call(
        self,
        method: str,
        parameters: Parameters | None = None,
        descriptor: int | None = None,
        hear: Callable[[Answer], None] | None = None,
    ) -> Answer:
        """What the daemon would answer; raises what it would. Nothing else goes with a call."""
        del descriptor, hear
        handler = self._methods.get(method)
        if handler is not None:
            return handler(parameters or {})
        if method in POLICY_CHANGES:
            changed, message = POLICY_CHANGES[method](self._begun(), parameters or {})
            return self._outcome(message, changed=changed)
        if method.startswith(READS):
            return self._daemon.call(method, parameters)
        raise Refused(
            f"{method} changes more than rules and policies, and cannot be undone with them",
            "do it by a command of its own",
        )

    def wait_longer(self, seconds: float) -> None:
        """Nothing is waited for here."""

    def _settled(self) -> Workspace:
        """The workspace with all that was changed."""
        self.drafts.settle()
        return self.workspace

    def _begun(self) -> Drafts:
        """What commands change, at the cost of what they change of it."""
        self.drafts.begin_policies()
        return self.drafts

    def _daemon_status(self) -> Answer:
        if self._status is None:
            self._status = self._daemon.call("Status")["status"]
        return self._status

    def _is_of_domain(self) -> bool:
        return bool(self._daemon_status()["loaded_from"] == "domain")

    def _status_now(self, _: Parameters) -> Answer:
        status = {**self._daemon_status()}
        space = self._settled()
        rules = list(space.dynamic)
        if not self._is_of_domain():
            is_in_force = space.assigned is not None and not self.stopped
            policy = space.policy(str(space.assigned)) if is_in_force else None
            status["assigned"] = space.assigned
            status["loaded_from"] = "policy" if space.assigned else "nothing"
            status["policy_path"] = self._path(space.assigned) if space.assigned else None
            status["policy_rules"] = len(policy.rules) if policy else 0
            status["policy_filters"] = policy.facts.filters if policy else 0
        if self.stopped:
            status["state"] = STOPPED
        elif status["state"] in (STOPPED, ENFORCING, IDLE):
            status["state"] = ENFORCING if status["assigned"] or rules else IDLE
        status["dynamic_rules"] = len(rules)
        status["dynamic_filters"] = sum(len(rule.filters) for rule in rules)
        return {"status": status}

    def _path(self, name: str) -> str:
        try:
            return str(self._daemon.call("GetPolicy", {"name": name})["path"])
        except (NotFound, Refused):
            return NOT_STORED_YET

    def _list_policies(self, _: Parameters) -> Answer:
        listed = self._daemon.call("ListPolicies")["policies"]
        names = self._settled().names()
        paths = {entry["name"]: entry["path"] for entry in listed if _is_of_this_host(entry)}
        others = [entry for entry in listed if not _is_of_this_host(entry)]
        return {
            "policies": [
                *others,
                *(self._entry(name, paths.get(name, NOT_STORED_YET)) for name in names),
            ]
        }

    def _entry(self, name: str, path: str) -> Answer:
        policy = self.workspace.policy(name)
        return {
            "name": name,
            "store": Store.STATIC.value,
            "description": policy.description,
            "path": path,
            "assigned": name == self.workspace.assigned,
            "rules": len(policy.rules),
            "filters": policy.facts.filters,
            "audit": policy.audit,
            "error": None,
        }

    def _get_policy(self, parameters: Parameters) -> Answer:
        name, space = parameters["name"], self._settled()
        if not space.has(name):
            # The domain may have one of this name, and files that cannot be used have names too.
            answer = self._daemon.call("GetPolicy", parameters)
            if answer["store"] == Store.STATIC.value:
                raise absent(name)
            return answer
        try:
            known = self._daemon.call("GetPolicy", parameters)
        except (NotFound, Refused):
            known = {"path": NOT_STORED_YET, "id": "", "overriding": None}
        return {
            **known,
            "document": format_policy(space.policy(name)),
            "store": Store.STATIC.value,
            "assigned": name == space.assigned,
        }

    def _list_filters(self, _: Parameters) -> Answer:
        if self.stopped:
            return {"filters": []}
        listed = self._daemon.call("ListFilters")["filters"] if not self.was_stopped else []
        kept = {Store.DOMAIN.value, Store.CONFIGURATION.value}
        filters = [entry for entry in listed if entry["store"] in kept]
        space = self._settled()
        assigned = space.assigned
        if assigned is not None and not self._is_of_domain():
            filters += [
                {**in_force_parameters(in_force), "remaining_s": None, "names": None}
                for in_force in filters_of(space.policy(assigned), Store.STATIC)
            ]
        for rule in space.dynamic:
            answer = rule.answer()
            shared = {key: answer[key] for key in ("action", "interface", "when", "remaining_s")}
            origin = {"store": Store.DYNAMIC.value, "policy": "", "rule": rule.name}
            filters += [
                {**origin, "filter": text, **shared, "names": None} for text in rule.filters
            ]
        return {"filters": filters}

    def _list_dynamic(self, _: Parameters) -> Answer:
        return {"rules": [rule.answer() for rule in self.workspace.dynamic]}

    def _add_dynamic(self, parameters: Parameters) -> Answer:
        rule = self._made(parameters, parameters.get("name") or self.workspace.dynamic.free_name())
        self._must_run()
        self.workspace.put_dynamic(rule)
        return {"rule": rule.answer(), "warnings": []}

    def _add_dynamic_rules(self, parameters: Parameters) -> Answer:
        if not parameters.get("name") or parameters.get("existing") != "replace":
            raise Refused("dynamic rules of a script have names, and replace each other")
        filters = [*dict.fromkeys(map(_canonical, parameters["filters"]))]
        rule = self._made({**parameters, "filters": filters}, parameters["name"])
        self._must_run()
        before = self.workspace.dynamic.get(rule.name)
        changed = not rule.is_same(before)
        if changed:
            self.workspace.put_dynamic(rule)
        return {
            "changed": changed,
            "added": int(before is None),
            "renewed": int(before is not None and changed),
            "rules": [rule.answer() if before is None or changed else before.answer()],
            "warnings": [],
            "outranked": [],
        }

    def _made(self, parameters: Parameters, name: str) -> DynamicRule:
        return DynamicRule.made(
            name,
            parameters["action"],
            parameters["filters"],
            parameters.get("interface"),
            parameters.get("when"),
            created=time.time(),
        )

    def _remove_dynamic(self, parameters: Parameters) -> Answer:
        return {"removed": self._removed([parameters["selector"]])}

    def _remove_dynamic_rules(self, parameters: Parameters) -> Answer:
        removed = self._removed(parameters["selectors"])
        return {"removed": removed, "reduced": [], "filters": 0, "still_blocked": []}

    def _removed(self, names: list[str]) -> list[str]:
        """Take the rules of these names away, all or none."""
        for name in names:
            if self.workspace.dynamic.get(name) is None:
                raise NotFound(
                    f"no dynamic rule is called {quote(name)} or has it as filter or address",
                    "ipsecctl show dynamic lists those there are",
                )
        gone = [*dict.fromkeys(names)]
        for name in gone:
            self.workspace.remove_dynamic(name)
        return gone

    def _flush_dynamic(self, _: Parameters) -> Answer:
        return {"removed": self.workspace.clear_dynamic()}

    def _refresh_domain(self, _: Parameters) -> Answer:
        self.looks_at_domain = True
        return self._outcome("that is done when all else is", changed=False)

    def _stop(self, _: Parameters) -> Answer:
        changed = not self.stopped
        self._stopped = True
        self.workspace.clear_dynamic()
        return self._outcome("enforcement is stopped; nothing is in force", changed=changed)

    def _start(self, _: Parameters) -> Answer:
        if not self.stopped:
            return self._outcome("enforcement is running already", changed=False)
        self._stopped = False
        return self._outcome("enforcement is started")

    def _must_run(self) -> None:
        if self.stopped:
            raise Refused(
                "enforcement is stopped, so a dynamic rule would not be in force",
                "start it first: ipsecctl net start policyagent",
            )

    def _outcome(self, message: str, *, changed: bool = True) -> Answer:
        self._changes += changed
        return {
            "outcome": {
                "changed": changed,
                "message": message,
                "changes": [],
                "assigned": self._begun().assigned,
                "warnings": [],
                "verdicts": None,
                "live": None,
            }
        }


def _canonical(text: str) -> str:
    return format_filter(parse_filter(text))


def _is_of_this_host(entry: Answer) -> bool:
    """Whether a listed policy is one that is stored here, and can be used."""
    return entry["store"] == Store.STATIC.value and entry["error"] is None
