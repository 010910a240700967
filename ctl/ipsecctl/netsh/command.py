"""Owns ``netsh`` as a process: one change for one command line; must not know any command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ipsecctl.client import Client
from ipsecctl.failures import UnreachableError
from ipsecctl.netsh.calling import carry_out, without_program
from ipsecctl.netsh.failing import NO_STORE, Failure, error_line, hint_lines
from ipsecctl.netsh.filters import FindServers
from ipsecctl.netsh.servers import servers_of_this_host
from ipsecctl.netsh.session import FAILED, OTHER_FIREWALLS, Answer, Session
from ipsecctl.netsh.words import one_of
from ipsecctl.workspace.exchange import changed_together
from ipsecctl.workspace.workspace import Workspace
from ipsecd.errors import IpsecdError
from ipsecd.output import complain, flush, say
from ipsecd.quoting import visible


class _NotCarriedOut(Exception):
    """Ends a change before anything is asked for."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


def as_one_change(
    client: Client, act: Callable[[Session], Answer], find: FindServers = servers_of_this_host
) -> Answer:
    """What `act` comes to, with what it changes in force; with nothing changed if not understood.

    Raises ``IpsecdError`` if the daemon does not take the change.
    """
    warnings: list[str] = []

    def make(workspace: Workspace) -> tuple[Answer, Session]:
        session = Session(workspace, client, find)
        answer = act(session)
        if not answer.understood:
            raise _NotCarriedOut(answer)
        session.settle()
        return answer, session

    try:
        answer, session = changed_together(
            client, make, lambda outcome: warnings.extend(outcome["warnings"])
        )
    except _NotCarriedOut as reason:
        return reason.answer
    answer = answer.with_hints(*warnings, *session.closing_notes())
    for action in session.afterwards:
        try:
            action()
        except IpsecdError as error:
            failed = _failed(error)
            answer = replace(failed, lines=(*answer.lines, *failed.lines))
    return answer


def run(client: Client, args: list[str]) -> int:
    """Carry out one command line of ``netsh``; errors are on standard output, as scripts expect."""
    try:
        if _is_of_another_firewall(args):
            answer = carry_out(Session(Workspace(), client), args)
        else:
            answer = as_one_change(client, lambda session: carry_out(session, args))
    except UnreachableError as error:
        hint = f"{error.message}: {error.hint}"
        answer = _failed(Failure("the policy store cannot be opened", hint, NO_STORE))
    except IpsecdError as error:
        answer = _failed(error)
    say(*answer.lines)
    flush()
    complain(*(f"netsh: {visible(hint)}" for hint in answer.hints))
    return answer.code


def _is_of_another_firewall(args: list[str]) -> bool:
    """Whether it is about the firewall of Windows, for which no daemon is needed."""
    words = without_program(args)
    contexts = ("ipsec", *OTHER_FIREWALLS)
    return bool(words) and one_of(words[0], contexts) in OTHER_FIREWALLS


def _failed(error: IpsecdError) -> Answer:
    return Answer(FAILED, (error_line(error),), tuple(hint_lines(error)))
