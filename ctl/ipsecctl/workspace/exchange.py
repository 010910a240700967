"""Owns getting a workspace from the daemon, and asking for what was changed in it as one."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from ipsecctl.quick_json import dumps
from ipsecctl.workspace.address_lists import AddressLists
from ipsecctl.workspace.dynamic_rules import DynamicRule
from ipsecctl.workspace.workspace import Workspace
from ipsecd.errors import Changed

T = TypeVar("T")
ATTEMPTS = 5
"""How often a change is worked out anew because somebody else has changed something meanwhile."""

MAX_INLINE = 100_000
"""How many characters of one parameter go into a call, which may have 1 MiB in all.

A character can become six in JSON."""


class Caller(Protocol):
    """What calls the daemon's methods."""

    def call(
        self,
        method: str,
        parameters: dict[str, Any] | None = None,
        descriptor: int | None = None,
    ) -> dict[str, Any]:
        """What `method` answers to `parameters`, with which the file at `descriptor` goes."""


def load(client: Caller) -> Workspace:
    """What there is now."""
    answer = client.call("GetWorkspace")
    return Workspace(
        {policy["name"]: policy["document"] for policy in answer["policies"]},
        answer["assigned"],
        answer["shared_filters"] or "",
        [DynamicRule.from_answer(rule) for rule in answer["dynamic"]],
        answer["fingerprint"],
        AddressLists(client.call),
    )


def commit(client: Caller, workspace: Workspace, *, dry_run: bool = False) -> dict[str, Any]:
    """Have all that was changed in force, or nothing; the outcome.

    Raises ``Changed`` if the daemon has something else by now than what was loaded.
    """
    differences = workspace.differences()
    if not differences:
        return {
            "changed": False,
            "message": "nothing has changed",
            "changes": [],
            "assigned": workspace.assigned,
            "warnings": [],
        }
    parameters = {"fingerprint": workspace.fingerprint, **differences}
    if dry_run:
        parameters["dry_run"] = True
    outcome: dict[str, Any] = _asked(client, parameters)["outcome"]
    return outcome


def _asked(client: Caller, parameters: dict[str, Any]) -> dict[str, Any]:
    """The answer to ``ChangeTogether``. What is too long for a call goes with it as a file."""
    long = {key: value for key, value in parameters.items() if _length(value) > MAX_INLINE}
    if not long:
        return client.call("ChangeTogether", parameters)
    empty: dict[str, Any] = {
        key: [] if isinstance(value, list) else None for key, value in long.items()
    }
    descriptor = os.memfd_create("rest")
    try:
        with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.write(dumps(long))
        return client.call("ChangeTogether", {**parameters, **empty, "rest": True}, descriptor)
    finally:
        os.close(descriptor)


def _length(value: Any) -> int:
    """About how long a parameter is where it is written, in characters."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_length, value.values()))
    return sum(map(_length, value)) + len(value) if isinstance(value, list) else 0


def tried_again(act: Callable[[], T]) -> T:
    """What `act` returns; it is done again from the start if somebody else changed something.

    Raises ``Changed`` if that happens time and again.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(Changed):
            return act()
    return act()


def changed_together(
    client: Caller,
    make: Callable[[Workspace], T],
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
) -> T:
    """What `make` returns, which changes a workspace; its changes are in force then.

    If somebody else changes something meanwhile, it is done again from the start. The outcome is
    told at the end.
    """

    def act() -> tuple[T, dict[str, Any]]:
        workspace = load(client)
        return make(workspace), commit(client, workspace)

    made, outcome = tried_again(act)
    tell(outcome)
    return made
