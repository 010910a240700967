"""Owns the process that a bundle of the domain is verified in; must not know what it answers.

Whatever a bundle holds, the daemon only waits for it: the process ends after a time, and has
limits, no descriptors, no environment, and no rights of this user where it can be another.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ipsecd.errors import Refused
from ipsecd.quoting import cut

COMMAND = (sys.executable, "-I", "-m", "ipsecd.host.confined", "ipsecd_domain.verify")
TIMEOUT_S = 60.0
MAX_ANSWER_BYTES = 64 << 20
MAX_REASON = 300
NOBODY = 65534
"""The user and group of nobody, in every Linux system that has one."""
_HINT = "what is in force stays so; the log of ipsecd-domain may say more"


class Verification:
    """Has questions answered, each by a process of its own."""

    def __init__(self, command: Sequence[str] = COMMAND, timeout_s: float = TIMEOUT_S) -> None:
        self._command = command
        self._timeout_s = timeout_s

    async def answer(self, question: bytes) -> bytes:
        """What the process says to a question; raises ``Refused`` if it does not."""
        directory = await asyncio.to_thread(_make_directory)
        try:
            return await self._answer(question, directory)
        finally:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    async def _answer(self, question: bytes, directory: Path) -> bytes:
        # Files in memory, and no pipes: nobody waits for who does not read or write.
        descriptors = [os.memfd_create(name) for name in ("question", "answer", "complaints")]
        try:
            await asyncio.to_thread(_write, descriptors[0], question)
            code = await self._run(descriptors, directory)
            if code:
                raise Refused(
                    f"the process that verifies the domain ended with {_ending(code)}: "
                    f"{_last_line(descriptors[2]) or 'it said nothing'}",
                    _HINT,
                )
            if os.fstat(descriptors[1]).st_size > MAX_ANSWER_BYTES:
                raise Refused("the process that verifies the domain said too much", _HINT)
            return os.pread(descriptors[1], MAX_ANSWER_BYTES, 0)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    async def _run(self, descriptors: Sequence[int], directory: Path) -> int:
        """Run the process to its end, or end it; its exit code."""
        process = await self._start(descriptors, directory)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await process.wait()
        except TimeoutError as error:
            raise Refused(
                f"the domain could not be verified within {self._timeout_s:g} s", _HINT
            ) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _start(
        self, descriptors: Sequence[int], directory: Path
    ) -> asyncio.subprocess.Process:
        stdin, stdout, stderr = descriptors
        given: dict[str, Any] = {
            "stdin": stdin,
            "stdout": stdout,
            "stderr": stderr,
            "cwd": "/",
            "env": {"TMPDIR": str(directory)},
            "start_new_session": True,
        }
        other: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        program, *arguments = self._command
        start = partial(asyncio.create_subprocess_exec, program, *arguments)
        if os.geteuid() == 0:
            try:
                return await start(**given, **other)
            except OSError:
                # Without CAP_SETUID, as in the unit of systemd, which confines this user. It has no
                # CAP_CHOWN either, and then the directory is this user's still.
                with suppress(OSError):
                    os.chown(directory, 0, 0)
        try:
            return await start(**given)
        except OSError as error:
            raise Refused(
                f"the domain cannot be verified: no process can be started: {error.strerror}", _HINT
            ) from error


def _make_directory() -> Path:
    """A directory for files that the process makes, and leaves behind if it is ended."""
    directory = Path(tempfile.mkdtemp(prefix="ipsecd-"))
    if os.geteuid() == 0:
        with suppress(OSError):
            os.chown(directory, NOBODY, NOBODY)
    return directory


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"


def _last_line(descriptor: int) -> str:
    """The last line of what the process complained of."""
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, 4096, max(0, size - 4096)).decode(errors="replace")
    lines = text.strip().splitlines()
    return cut(lines[-1].strip(), MAX_REASON) if lines else ""
