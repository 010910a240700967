"""A crash or an error at every effect of a way out: the edit or the new text, and nothing lost."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, InvalidInput, StoreFailed
from ipsecd.language.documents import format_policy, parse_policy
from tests.engine.effects import Crash, Fate
from tests.engine.test_crashes import A2, A, engine_in, engine_in_again

BROKEN = "policy: A\nrules: nonsense\n"
HAND = "# ours\n" + format_policy(A).replace("    action", "    # why\n    action")
MORE = {"name": "S", "action": "block", "filters": ["*=0:5:UDP"], "interface": None}


def call(engine: Engine, method: str, document: str = "", **parameters: Any) -> None:
    Control(engine).call(method, parameters, "uid 0", {}, document.encode() or None)


def edit(engine: Engine) -> None:
    digest = hashlib.sha256(BROKEN.encode()).hexdigest()
    call(engine, "EditPolicy", format_policy(A2), name="A", digest=digest)


KINDS: dict[str, tuple[str, Callable[[Engine], None]]] = {
    "edit": (BROKEN, edit),
    "restore": (BROKEN, lambda engine: call(engine, "RestorePolicy", name="A")),
    "apply": (BROKEN, lambda engine: call(engine, "ApplyPolicy", format_policy(A2))),
    "rule add": (
        HAND,
        lambda engine: call(engine, "PutRules", policy="A", rules=[MORE], assign=False),
    ),
}
"""What the file holds that was ``HAND``, and a change."""


def prepared(path: Path, text: str) -> tuple[Engine, Fate, Path]:
    """An engine with A in force, whose file lies elsewhere, behind a link, and holds `text` now."""
    fate = Fate()
    engine = engine_in(path, fate)
    engine.start()
    engine.change(put=[A], assign="A")
    file = path / "etc/policies/a.yaml"
    real = path / "elsewhere/a.yaml"
    real.parent.mkdir(mode=0o755)
    real.parent.chmod(0o755)
    file.rename(real)
    real.write_text(HAND)
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 1234, 4321)
    file.symlink_to(real)
    engine.reload({})
    real.write_text(text)
    return engine, fate, real


def look(path: Path, real: Path, text: str) -> str:
    """What the file holds now; all that a change must not touch is as it was."""
    assert (path / "etc/policies/a.yaml").readlink() == real
    status = real.stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert os.geteuid() != 0 or (status.st_uid, status.st_gid) == (1234, 4321)
    now = real.read_text()
    if text == BROKEN and now != BROKEN:
        kept = [copy.read_text() for copy in real.parent.glob("a.yaml.*")]
        assert kept in ([BROKEN], [])
    return now


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_crash_leaves_the_edit_or_the_new_text(tmp_path: Path, kind: str, after: bool) -> None:
    """Behind a link, with owner and mode, whichever effect the process dies before or after."""
    text, change = KINDS[kind]
    outcomes = set()
    number = 0
    while True:
        number += 1
        path = tmp_path / str(number)
        engine, fate, real = prepared(path, text)
        fate.set(number, Crash(), after=after)
        try:
            change(engine)
        except Crash:
            pass
        else:
            break
        again = engine_in_again(path)
        now = look(path, real, text)
        outcomes.add(now != text)
        assert again.loaded_from == ("last-good" if now == BROKEN else "policy")
        assert not list(path.rglob("*.tmp"))
        if kind != "edit" and text == BROKEN and now != BROKEN:
            assert (real.parent / "a.yaml.broken-1").read_text() == BROKEN
    assert number > 5
    assert outcomes == {False, True}
    done = real.read_text()
    if kind == "rule add":
        assert done.startswith(HAND)
        assert [rule.name for rule in parse_policy(done).rules] == ["R", "S"]
    else:
        assert done == (HAND if kind == "restore" else format_policy(A2))


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    """Each is told, and the same change succeeds after it."""
    text, change = KINDS[kind]
    number = refused = 0
    while True:
        number += 1
        path = tmp_path / str(number)
        engine, fate, real = prepared(path, text)
        if text == BROKEN:
            with pytest.raises(InvalidInput):
                engine.reload({})
        fate.set(number, OSError(errno.ENOSPC, "no", str(path)))
        try:
            change(engine)
        except (StoreFailed, BackendFailed):
            refused += 1
            assert look(path, real, text) == text
            assert not list(path.rglob("*.broken-*"))
            change(engine)
        assert real.read_text() != text
        if fate.count < number:
            break
    assert refused > 5
