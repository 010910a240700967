"""Owns how a change is asked for: what the options say that all verbs have which change something.

The old commands have no such options, and are asked for by variables of the environment.
"""

from __future__ import annotations

import os

from ipsecctl.ends import duration_s
from ipsecctl.failures import DONE, UsageError
from ipsecctl.grammar import CONFIRM, FORCE, MESSAGE
from ipsecctl.presentation import print_outcome, span
from ipsecd.output import complain
from ipsecd.quoting import quote

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any

    from ipsecctl.client import Client
    from ipsecctl.options import Options

CONFIRM_VARIABLE, FORCE_VARIABLE = "IPSECD_CONFIRM", "IPSECD_FORCE"
LOGIN, UNSET = "/proc/self/sessionid", "4294967295"
"""Where the kernel tells the number of the login, and what it says where there is none."""
_YES, _NO = ("1", "yes", "true"), ("", "0", "no", "false")


def change_of(options: Options) -> dict[str, Any]:
    """What `options` ask of a change; empty if that is nothing."""
    message = options.value(MESSAGE.name)
    return _change(options.value(CONFIRM.name), message, force=options.has(FORCE.name))


def change_of_environment() -> dict[str, Any]:
    """The same of an old command: what ``IPSECD_CONFIRM`` and ``IPSECD_FORCE`` ask."""
    force = os.environ.get(FORCE_VARIABLE, "").lower()
    if force not in (*_YES, *_NO):
        raise UsageError(f"{FORCE_VARIABLE} is {quote(force)}", "set it to 1, or unset it")
    return _change(os.environ.get(CONFIRM_VARIABLE) or None, None, force=force in _YES)


def say_what_waits(client: Client) -> None:
    """Say on standard error what has to be done so that the change stays, if it did anything."""
    change = client.call("GetUnconfirmed")["change"]
    if change is None:
        complain("nothing has changed, so there is nothing to confirm")
        return
    complain(
        f"all is put back as it was in {span(change['left_s'])}, unless you log in anew and run: "
        "ipsecctl confirm",
        "ipsecctl revert puts it back now",
    )


def confirm(client: Client, options: Options) -> int:
    """Keep the change that waits to be confirmed."""
    return _end(client, options, "Confirm")


def revert(client: Client, options: Options) -> int:
    """Put the change back that waits to be confirmed."""
    return _end(client, options, "Revert")


def _end(client: Client, options: Options, method: str) -> int:
    change: dict[str, Any] = {"login": _login()}
    if options.has("--force"):
        change["force"] = True
    outcome = client.call(method, {"change": change})["outcome"]
    print_outcome(outcome, as_json=options.has("--json"))
    return DONE


def _change(confirm: str | None, message: str | None, *, force: bool) -> dict[str, Any]:
    """The members that say something: a daemon that is older knows none of them."""
    change: dict[str, Any] = {}
    if confirm is not None:
        change |= {"confirm_s": duration_s(confirm), "terminal": _terminal(), "login": _login()}
    if force:
        change["force"] = True
    if message is not None:
        change["message"] = message
    if sudo_user := os.environ.get("SUDO_USER"):
        change["sudo_user"] = sudo_user
    return change


def _terminal() -> str | None:
    """The path of the terminal of this process, None if it has none."""
    for descriptor in (2, 1, 0):
        try:
            return os.ttyname(descriptor)
        except OSError:
            continue
    return None


def _login() -> str:
    """What tells this login apart from others.

    It is the number that the kernel gives every login, or else the session of the terminal
    (proc(5)). The daemon is told, because it sees no processes of others where it is confined.
    """
    try:
        with open(LOGIN, encoding="ascii") as file:  # noqa: PTH123 - pathlib takes long to import
            number = file.read()
    except OSError:
        number = UNSET
    return f"session {os.getsid(0)}" if number == UNSET else f"login {number}"
