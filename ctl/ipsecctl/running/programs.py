"""Owns carrying out one of the old commands on a workspace; must not know the syntax of files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsecctl.failures import UnreachableError
from ipsecctl.legacy_services import AGENT
from ipsecctl.netsh import Session, carry_out
from ipsecctl.running.refusals import why_refused
from ipsecctl.running.words import program_of
from ipsecctl.verbs import DIALECTS
from ipsecd.errors import IpsecdError, NotFound, Refused
from ipsecd.output import Captured
from ipsecd.quoting import quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsecctl.workspace.client import WorkspaceClient

IPSECCTL, NETSH = "ipsecctl", "netsh"
_SERVICES = ("net", "sc")
_REMOVING = ("-y", "-o")
"""What switches something off, which is no error where it is not there."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one command.

    ``code`` is its exit code, ``lines`` what it wrote to standard output, ``complaints`` what it
    wrote to standard error; ``reason`` says why it had no effect, if that was an error. ``lacks``
    says that something would be in force now that is not.
    """

    code: int = 0
    lines: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()
    changed: bool = False
    reason: str = ""
    lacks: bool = False


def is_known(program: str) -> bool:
    """Whether a program of that name can be carried out."""
    return program in DIALECTS or program == IPSECCTL


class Programs:
    """Carries out the old commands, one after the other, on one workspace."""

    def __init__(self, client: WorkspaceClient) -> None:
        self._client = client
        self._netsh: Session | None = None

    def finish(self) -> None:
        """Have all that was changed in the workspace."""
        self._client.drafts.settle()

    def do_afterwards(self) -> None:
        """Do what commands asked for that is for when all is in force."""
        for action in self._netsh.afterwards if self._netsh else ():
            action()

    def carry_out(self, words: list[str]) -> Done:
        """Carry out one command; `words` begin with its name.

        Raises ``IpsecdError`` if it is refused. What takes away something that is not there is
        done, and says so.
        """
        program, arguments = program_of(words[0]), words[1:]
        if program == IPSECCTL:
            program = program_of(arguments[0]) if arguments else ""
            if program not in DIALECTS:
                raise Refused(
                    f"{quote(f'ipsecctl {program}'.strip())} is not taken in a file, where only "
                    "the commands of Windows are",
                    "run it by itself, before or after",
                )
            arguments = arguments[1:]
        if program not in DIALECTS:
            raise why_refused(program)
        _check(program, arguments)
        if program == NETSH:
            return self._run_netsh(arguments)
        if self._netsh is not None:
            # The others may change the dynamic rules.
            self._netsh.dynamic_places = None
        return self._run(program, arguments)

    def _run_netsh(self, arguments: list[str]) -> Done:
        """Carry out one line of ``netsh``, or a file of them.

        What changes something prints nothing, and what prints something changes nothing.
        """
        if self._netsh is None:
            client = self._client
            self._netsh = Session(client.workspace, client, drafts=client.drafts)
        answer = carry_out(self._netsh, arguments)
        hints = answer.hints
        if not answer.understood:
            said = next((line for line in answer.lines if line.startswith("ERR")), "")
            raise Refused(said.partition(" : ")[2] or said, "; ".join(hints))
        if answer.code:
            reason = "; ".join(hints) or answer.lines[0]
            if answer.unassigned:
                # Without it nothing may be blocked.
                raise Refused(reason, "a policy that is to be assigned must be there, and be it")
            return Done(answer.code, answer.lines, reason=reason, lacks=answer.lacks)
        return Done(0, answer.lines, hints, changed=not answer.lines)

    def _run(self, program: str, arguments: list[str]) -> Done:
        before = self._client.revision
        with Captured() as captured:
            try:
                code, reason = _handler_of(program)(self._client, arguments), ""
            except UnreachableError:
                raise
            except IpsecdError as error:
                if not _is_tolerated(program, arguments, error):
                    raise
                code, reason = 1, error.message
        changed = self._client.revision != before
        return Done(code, (*captured.said,), (*captured.complaints,), changed, reason)


def _handler_of(program: str) -> Callable[[WorkspaceClient, list[str]], int]:
    module, _, function = DIALECTS[program].partition(":")
    imported = __import__(f"ipsecctl.{module}", fromlist=[function])
    handler: Callable[[WorkspaceClient, list[str]], int] = getattr(imported, function)
    return handler


def _check(program: str, arguments: list[str]) -> None:
    """Raise ``Refused`` for what would reach beyond the rules, or ask somebody."""
    words = [word.lower() for word in arguments]
    if program in _SERVICES and (len(words) < 2 or words[1] not in AGENT):
        raise Refused(
            f"this line does something else than rules: {quote(' '.join([program, *arguments]))} "
            "is not about the policy agent",
            "take it out; services are for systemctl here",
        )
    if "-confirm" in words:
        raise Refused(
            "-confirm asks somebody, and nobody is asked while a file is carried out",
            "take it out, and look at what ipsecctl run --dry-run says",
        )


def _is_tolerated(program: str, arguments: list[str], error: IpsecdError) -> bool:
    """Whether a command only failed to take away what is not there."""
    if program not in ("ipseccmd", "ipsecpol") or not isinstance(error, NotFound):
        return False
    return any(word.lower() in _REMOVING for word in arguments)
