"""Owns how it is asked what a change would do; must not know any change."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any

    from ipsecctl.client import Client
    from ipsecctl.options import Options
    from ipsecd.model.values import Policy

MOST_TEXT = 500_000
"""How many bytes a policy may have that is sent within a call, which may have a megabyte."""


def dry_or_live(client: Client, options: Options) -> dict[str, Any]:
    """The parameters of a change by which it is only said what it would do, if that is asked.

    A daemon that is older knows no ``live``, so that is there only if it says something.
    """
    parameters: dict[str, Any] = {"dry_run": options.has("--dry-run")}
    if options.has("--live"):
        _have_containers_named(client)
        parameters["live"] = True
    return parameters


def cuts_between(client: Client, old: Policy | None, new: Policy | None) -> dict[str, Any]:
    """What `new` cuts of the connections of this host, and `old` does not; None has no rules."""
    from ipsecctl.live import named
    from ipsecd.errors import LimitExceeded
    from ipsecd.language.documents import format_policy
    from ipsecd.model.values import Policy

    _have_containers_named(client)
    before, after = (format_policy(each or Policy("none", ())) for each in (old, new))
    if len(before.encode()) > MOST_TEXT:
        raise LimitExceeded(
            f"with --live, the first of two policies may have {MOST_TEXT:,} bytes",
            "if it is the policy in force, ask for the other: ipsecctl apply FILE --assign "
            "--dry-run --live",
        )
    descriptor = os.memfd_create("policy")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(after.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        parameters = {"source": "<policy>", "before": before}
        live: dict[str, Any] = client.call("GetCuts", parameters, descriptor)["live"]
    finally:
        os.close(descriptor)
    return named(live)


def _have_containers_named(client: Client) -> None:
    """Have the daemon look at the containers, if it does not, so that it knows their names."""
    from ipsecctl.show import listed_containers

    listed_containers(client)
