"""Owns editing the file of a policy in an editor, as visudo(8) does; must not store it.

The editor runs as whoever runs ipsecctl, on a copy that nobody else can read. The file itself is
replaced by the daemon, and only by a document that can be in force.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import DONE, REFUSED, UnreachableError, UsageError, describe
from ipsecctl.files import open_document, read_bytes
from ipsecctl.options import Options
from ipsecctl.presentation import print_outcome
from ipsecd.errors import IpsecdError
from ipsecd.language.documents import errors_of_policy
from ipsecd.output import complain, complain_text, flush
from ipsecd.quoting import count, quote, quote_path

VARIABLES = ("VISUAL", "EDITOR")
EDITORS = ("editor", "nano", "vi")
"""Which editor it is where no variable says so: the first that there is."""
_AGAIN, _DISCARD = "e", "q"


def edit(client: Client, options: Options) -> int:
    """Have the file of a policy edited until it can be in force, or is to stay as it is."""
    name = options.argument()
    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError(
            "an editor needs a terminal, and here is none",
            f"in a script: ipsecctl policy export {shlex.quote(name)} > FILE; ipsecctl apply FILE",
        )
    editor = _editor()
    file = client.call("GetPolicyFile", {"name": name})
    with _private_copy(file) as copy:
        while True:
            # The daemon does not wait so long for what comes next.
            client.close()
            _run(editor, copy)
            content = read_bytes(copy)
            if content == file["text"].encode():
                return _unchanged(file)
            refusal = None
            if not _is_wrong(content, file["path"]):
                try:
                    outcome = _stored(client, name, file, copy)
                except UnreachableError:
                    raise
                except IpsecdError as error:
                    refusal = error
                    complain_text(describe(error, "ipsecctl"))
                else:
                    print_outcome(outcome, as_json=options.has("--json"))
                    return DONE
            if not _once_more():
                if refusal:
                    # It is a good document all the same, and may be stored in another way.
                    raise refusal
                complain("the edit is discarded, and nothing has changed")
                return REFUSED


def _editor() -> list[str]:
    """The editor as words of a command; raises ``IpsecdError`` if there is none."""
    for variable in VARIABLES:
        try:
            words = shlex.split(os.environ.get(variable, ""))
        except ValueError as error:
            raise UsageError(f"{variable} is no command: {error}", "set it to one") from error
        if words:
            return words
    for name in EDITORS:
        if path := shutil.which(name):
            return [path]
    raise IpsecdError("there is no editor", f"install one, or set {VARIABLES[0]} to its name")


@contextmanager
def _private_copy(file: dict[str, Any]) -> Iterator[str]:
    """The path of a copy of what `file` holds; it stays if it was edited and something fails."""
    directory = tempfile.mkdtemp(prefix="ipsecctl-")
    path = os.path.join(directory, os.path.basename(file["path"]))  # noqa: PTH118, PTH119 - as in files
    content = file["text"].encode()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as copy:
            copy.write(content)
        yield path
    except BaseException:
        if os.path.isfile(path) and read_bytes(path) != content:  # noqa: PTH113
            complain(f"what was written is kept in {quote_path(path)}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)


def _run(editor: list[str], path: str) -> None:
    """Have `editor` edit a file; raises ``IpsecdError`` if it fails."""
    # What the terminal sends to all is the editor's to hear. A handler, as a program that is
    # started would go on ignoring what is ignored here.
    heard = signal.signal(signal.SIGINT, lambda *_: None)
    flush()
    try:
        done = subprocess.run([*editor, path], check=False)  # noqa: S603 - it is the user's own choice
    except OSError as error:
        raise IpsecdError(
            f"editor {quote(editor[0])} cannot be run: {error.strerror}",
            f"set {VARIABLES[0]} or {VARIABLES[1]} to one that is there",
        ) from error
    finally:
        signal.signal(signal.SIGINT, heard)
    if done.returncode:
        raise IpsecdError(
            f"editor {quote(editor[0])} ended with {done.returncode}, so nothing has changed",
            "end it as after any other edit",
        )


def _unchanged(file: dict[str, Any]) -> int:
    """Say that there was no edit; the exit code says whether that is well."""
    if file["error"] is None:
        complain("nothing has changed")
        return DONE
    complain("nothing has changed, and the file cannot be used:", *file["error"].split("\n"))
    return REFUSED


def _is_wrong(content: bytes, path: str) -> bool:
    """Whether a document has errors, of which all are told."""
    errors = errors_of_policy(content, path)
    for error in errors.by_line:
        complain_text(describe(error, "ipsecctl"))
    if errors.more:
        complain(f"and {count(errors.more, 'more error')}")
    return bool(errors.count)


def _stored(client: Client, name: str, file: dict[str, Any], copy: str) -> dict[str, Any]:
    """What storing the edit did; raises why it was refused."""
    parameters = {"name": name, "digest": file["digest"], "source": file["path"]}
    descriptor = open_document(copy)
    try:
        outcome: dict[str, Any] = client.call("EditPolicy", parameters, descriptor)["outcome"]
    finally:
        os.close(descriptor)
    return outcome


def _once_more() -> bool:
    """Whether somebody wants to go on with the edit, who is asked; the end of input is a no."""
    while True:
        complain(f"what now: edit again ({_AGAIN}), or discard the edit ({_DISCARD})?")
        answer = sys.stdin.readline()
        if not answer or answer.strip().lower() == _DISCARD:
            return False
        if answer.strip().lower() == _AGAIN:
            return True
