"""Owns ``ipsecctl run``: a batch file as one change, with a report on every line of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import DONE, REFUSED, describe, fields
from ipsecctl.files import read_bytes
from ipsecctl.grammar import CONFIRM
from ipsecctl.options import Options
from ipsecctl.presentation import print_outcome
from ipsecctl.running import report
from ipsecctl.running.decoding import decoded
from ipsecctl.running.interpreter import Interpreter, unknown_commands
from ipsecctl.running.programs import Programs
from ipsecctl.running.statements import Statement
from ipsecctl.running.syntax import parse
from ipsecctl.workspace.client import WorkspaceClient
from ipsecctl.workspace.exchange import commit, load, tried_again
from ipsecd.errors import Refused
from ipsecd.output import complain_text, say_json
from ipsecd.quoting import count, shorten

SKIP = "--skip-refused"
STOPPED = Refused(
    "the file ends with the policy agent stopped, and then nothing of it would be in force",
    "take that out; to stop the agent, run by itself: ipsecctl net stop policyagent",
)


@dataclass(frozen=True, slots=True)
class Script:
    """A file that was carried out on a workspace: what became of its lines, and the workspace."""

    lines: list[report.Line]
    client: WorkspaceClient
    programs: Programs

    @property
    def refused(self) -> list[report.Line]:
        """The lines that are refused."""
        return [line for line in self.lines if line.result == report.REFUSED]


def run(client: Client, options: Options) -> int:
    """Carry out a batch file: all of it is in force at the end, or nothing."""
    path = options.argument()
    source = "<stdin>" if path == "-" else path
    lines, note = decoded(read_bytes(path), options.value("--code-page"), source)
    statements = parse(lines, source)
    skips, as_json = options.has(SKIP), options.has("--json")
    unknown = unknown_commands(statements)
    if unknown and not skips:
        return _refuse(source, unknown, unknown, as_json=as_json)

    def act() -> tuple[Script, dict[str, Any] | None]:
        script = carried_out(client, statements, _directory(path))
        if script.refused and not skips:
            return script, None
        return script, _commit(client, script, options)

    script, outcome = tried_again(act)
    if outcome is None:
        return _refuse(source, script.lines, script.refused, as_json=as_json)
    if note:
        outcome["warnings"] = [note, *outcome["warnings"]]
    if as_json:
        told = {"file": source, "lines": [line.fields() for line in script.lines]}
        say_json({**outcome, **told})
    else:
        report.print_report(script.lines)
        print_outcome(outcome, as_json=False)
    return DONE


def carried_out(client: Client, statements: list[Statement], directory: str = "./") -> Script:
    """What the statements come to where there is what there is now; nothing is in force of it."""
    stand_in = WorkspaceClient(load(client), client)
    programs = Programs(stand_in)
    interpreter = Interpreter(programs, directory)
    interpreter.run(statements)
    programs.finish()
    return Script(interpreter.report, stand_in, programs)


def _directory(path: str) -> str:
    """Where a file is, with a slash at the end."""
    return "./" if path == "-" else f"{os.path.dirname(os.path.abspath(path))}/"  # noqa: PTH100, PTH120 - pathlib takes 8 ms to import


def _commit(client: Client, script: Script, options: Options) -> dict[str, Any]:
    """Have all in force that a script has changed; what that did."""
    stand_in, dry_run = script.client, options.has("--dry-run")
    confirms = options.has(CONFIRM.name)
    starts = stand_in.turns_enforcement
    if starts and stand_in.stopped:
        raise STOPPED
    if starts and confirms:
        raise Refused(
            "the file starts the policy agent, and that cannot be put back",
            "start it before, by: ipsecctl net start policyagent",
        )
    outcome = commit(client, stand_in.workspace, dry_run=dry_run)
    outcome["warnings"] = [*_warnings(script), *outcome["warnings"]]
    if starts:
        # What is stored is in force as soon as anything is.
        outcome = {**outcome, "changed": True}
        if not dry_run:
            started = client.call("Start")["outcome"]
            outcome["message"] = f"{outcome['message']}; {started['message']}"
    if dry_run:
        return outcome
    script.programs.do_afterwards()
    if stand_in.looks_at_domain and not confirms:
        client.call("RefreshDomain", {"wait_s": 0.0})
    return outcome


def _warnings(script: Script) -> list[str]:
    """What is likely to be other than it was meant."""
    warnings = [
        f"line {line.line}: no rule was added: {line.reason}" for line in script.lines if line.lacks
    ]
    space = script.client.workspace
    policy = space.policy(space.assigned) if space.assigned is not None else None
    if policy is not None and not any(rule.filters for rule in policy.rules):
        warnings.append(f"policy {policy.name!r} is assigned and has no filter: it blocks nothing")
    return warnings


def _refuse(
    source: str, lines: list[report.Line], refused: list[report.Line], *, as_json: bool
) -> int:
    """Say why nothing of the file was done."""
    are = f"{count(len(refused), 'line')} {'is' if len(refused) == 1 else 'are'}"
    error = Refused(
        f"{shorten(source)}: {are} refused, so nothing has changed; the first is line "
        f"{refused[0].line}",
        f"mend it, or take it out; {SKIP} carries out all others",
    )
    if as_json:
        told = {"changed": False, "file": source, "lines": [line.fields() for line in lines]}
        say_json({**fields(error), **told})
    else:
        report.print_report(lines)
    complain_text(describe(error, "ipsecctl"))
    return REFUSED
