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
CONNECTION_VARIABLE = "SSH_CONNECTION"
PROCESSES = "/proc"
LOGIN, UNSET = "/proc/self/sessionid", "4294967295"
"""Where the kernel tells the number of the login, and what it says where there is none."""
LOGIN_USER, COMMAND = "/proc/self/loginuid", "/proc/self/comm"
"""Where it tells who has logged in, and the name of this process."""
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
    change = {**_change(None, None, force=options.has("--force")), "login": _login()}
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
    if connection := _connection():
        change["connection"] = connection
    if sudo_user := os.environ.get("SUDO_USER"):
        change["sudo_user"] = sudo_user
    login_uid = _first_line(LOGIN_USER)
    if login_uid not in ("", UNSET, str(os.getuid())):
        change["login_uid"] = int(login_uid)
    if change:
        change["command"] = _first_line(COMMAND)
    return change


def _connection() -> str:
    """What SSH_CONNECTION says here or, where it was taken away, as by sudo(8), to a parent.

    The daemon checks it. Of processes of others only root learns anything (proc(5)).
    """
    if connection := os.environ.get(CONNECTION_VARIABLE):
        return connection
    process = os.getppid()
    while process > 1:
        try:
            variables = _content(f"{PROCESSES}/{process}/environ").split(b"\0")
            status = _content(f"{PROCESSES}/{process}/stat")
        except OSError:
            return ""
        for variable in variables:
            name, _, value = variable.partition(b"=")
            if name == CONNECTION_VARIABLE.encode() and value:
                return value.decode("ascii", "replace")
        # The name of the program, in brackets, may hold anything; the parent is the second after.
        process = int(status.rpartition(b")")[2].split()[1])
    return ""


def _content(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - pathlib takes long to import
        return file.read()


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
    number = _first_line(LOGIN) or UNSET
    return f"session {os.getsid(0)}" if number == UNSET else f"login {number}"


def _first_line(path: str) -> str:
    """The first line of a file; empty if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib takes long to import
            return file.readline().strip()
    except OSError:
        return ""
