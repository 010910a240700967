"""Owns ``netsh`` as a process: one change for one command line; must not know any command."""

from __future__ import annotations

from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import UnreachableError
from ipsecctl.netsh.calling import carry_out, without_program
from ipsecctl.netsh.failing import NO_STORE, Failure, error_line, hint_lines
from ipsecctl.netsh.session import FAILED, OTHER_FIREWALLS, Answer, Session
from ipsecctl.netsh.words import one_of
from ipsecctl.workspace.exchange import changed_together
from ipsecctl.workspace.workspace import Workspace
from ipsecd.errors import IpsecdError
from ipsecd.output import complain, flush, say
from ipsecd.quoting import visible


class _Heard:
    """The daemon, with what it warned of when it was asked for a change."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.warnings: list[str] = []

    def call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """What `method` answers to `parameters`."""
        answer = self._client.call(method, parameters)
        if method == "ChangeTogether":
            self.warnings = answer["outcome"]["warnings"]
        return answer


def run(client: Client, args: list[str]) -> int:
    """Carry out one command line of ``netsh``; errors are on standard output, as scripts expect."""
    heard = _Heard(client)

    def make(workspace: Workspace) -> tuple[Answer, Session]:
        session = Session(workspace, client)
        answer = carry_out(session, args)
        if answer.understood:
            session.settle()
        return answer, session

    try:
        if _is_of_another_firewall(args):
            answer, session = make(Workspace())
        else:
            answer, session = changed_together(heard, make)
        notes = [*heard.warnings]
        if answer.understood:
            notes += session.closing_notes()
            for action in session.afterwards:
                action()
    except UnreachableError as error:
        return _told(
            Failure("the policy store cannot be opened", f"{error.message}: {error.hint}", NO_STORE)
        )
    except IpsecdError as error:
        return _told(error)
    say(*answer.lines)
    flush()
    for hint in (*answer.hints, *notes):
        complain(f"netsh: {visible(hint)}")
    return answer.code


def _is_of_another_firewall(args: list[str]) -> bool:
    """Whether it is about the firewall of Windows, for which no daemon is needed."""
    words = without_program(args)
    contexts = ("ipsec", *OTHER_FIREWALLS)
    return bool(words) and one_of(words[0], contexts) in OTHER_FIREWALLS


def _told(error: IpsecdError) -> int:
    say(error_line(error))
    flush()
    for hint in hint_lines(error):
        complain(f"netsh: {visible(hint)}")
    return FAILED
