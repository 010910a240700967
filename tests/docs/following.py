"""Follows a page word for word: runs its commands as they stand there, and writes its files.

It knows no page. The machines are given, by their prompts, as the words that run a command there.
"""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.docs.pages import Command, File, UnclearPage, steps
from tests.netns.site import PATIENCE

LONGEST_S = max(300.0, 120 * PATIENCE)
"""How long a command of a page may take on a machine that others keep busy."""
SHELL = ("bash", "--noprofile", "--norc")


class NotAsWritten(AssertionError):
    """What happened is not what the page says."""


class Shell:
    """A shell that stays, as a terminal does: directories and variables go on to what follows."""

    def __init__(self, words: Sequence[str]) -> None:
        """`words` stand before the command, and run it on its machine."""
        self._process = subprocess.Popen(
            [*words, *SHELL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, text: str) -> tuple[str, int]:
        """What a command prints on both streams, and its exit code."""
        assert self._process.stdin is not None
        self._count += 1
        mark = f"\x1f{os.getpid()}-{self._count}\x1f"
        # eval has nothing to read but an empty file, and leaves $? to the command that follows it.
        line = (
            f"eval {shlex.quote(text)} </dev/null; __code=$?; "
            f"printf '%s' {shlex.quote(mark)}$__code$'\\n'; (exit $__code)\n"
        )
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        printed, _, code = self._read(mark.encode(), text).partition(mark.encode())
        return printed.decode(errors="replace"), int(code)

    def _read(self, mark: bytes, text: str) -> bytes:
        """All that comes up to the end of the line that begins with the mark."""
        assert self._process.stdout is not None
        stream, got = self._process.stdout.fileno(), b""
        deadline = time.monotonic() + LONGEST_S
        while mark not in got or not got.partition(mark)[2].endswith(b"\n"):
            ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(stream, 65536) if ready else b""
            if not more:
                why = "the shell has ended" if ready else f"no end after {LONGEST_S:.0f} s"
                raise NotAsWritten(f"{text!r}: {why}; it printed {got.decode(errors='replace')!r}")
            got += more
        return got


def follow(page: Path, machines: Mapping[str, Sequence[str]]) -> None:
    """Do all that a page says, on machines that go by their prompts, as ``#`` or ``laptop$``.

    Raises:
        NotAsWritten: for the first command that ends or prints otherwise than the page says.
        UnclearPage: for a page that cannot be followed, or says nothing to be done.

    """
    with ExitStack() as stack:
        shells = {prompt: stack.enter_context(Shell(words)) for prompt, words in machines.items()}
        todo = list(steps(page.read_text()))
        if not todo:
            raise UnclearPage(f"{page}: nothing is to be done")
        for step, then in zip(todo, [*todo[1:], None], strict=True):
            where = f"{page.name}, line {step.line}"
            if isinstance(step, File):
                _write(_of_machine(shells, step.machine, where), step)
                continue
            if step.prompt not in shells:
                raise UnclearPage(f"{where}: no machine has the prompt {step.prompt!r}")
            output, code = shells[step.prompt].run(step.text)
            told = isinstance(then, Command) and then.asks_for_exit_code
            if (code != 0 and not told) or not step.allows(output):
                raise NotAsWritten(
                    f"{where}: {step.text}\n--- the page says\n" + "\n".join(step.printed) + "\n"
                    f"--- it printed, and ended with {code}\n{output}"
                )


def _of_machine(shells: Mapping[str, Shell], machine: str, where: str) -> Shell:
    """The shell of a machine, whoever works there."""
    for sign in "#$":
        if f"{machine}{sign}" in shells:
            return shells[f"{machine}{sign}"]
    raise UnclearPage(f"{where}: there is no machine {machine!r}")


def _write(shell: Shell, file: File) -> None:
    """Write a file where the shell is, as an editor would."""
    path = shlex.quote(file.path)
    output, code = shell.run(f"printf %s {shlex.quote(file.text)} > {path}")
    if code != 0:
        raise NotAsWritten(f"{file.path} cannot be written: {output}")
