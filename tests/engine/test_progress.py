"""A change of policies tells what it is busy with."""

from __future__ import annotations

from typing import Any

import pytest

from ipsecd.control import Control
from ipsecd.engine import compiling
from ipsecd.errors import InvalidInput
from ipsecd.progress import Phase, Progress
from tests.engine.site import Site

DOCUMENT = b'policy: P\nrules: [{rule: R, action: block, filters: ["*=0:1:UDP"]}]\n'
APPLY: dict[str, Any] = {"source": None, "assign": True, "dry_run": False}


def phases(
    site: Site, method: str, parameters: dict[str, Any], content: bytes | None
) -> list[Phase]:
    """What is told of a call, without what is told again."""
    told: list[Progress] = []
    control = Control(site.engine)
    names = dict.fromkeys(control.names_needed(method, parameters, content, told.append), ())
    control.call(method, parameters, "test", names, content, told.append)
    return list(dict.fromkeys(progress.phase for progress in told))


def test_a_policy_is_read_compiled_loaded_written_and_switched_to(site: Site) -> None:
    """In this order: what is told is what is done then, and the kernel comes before the disk."""
    site.engine.start()
    assert phases(site, "ApplyPolicy", APPLY, DOCUMENT) == [
        Phase.READING,
        Phase.COMPILING,
        Phase.LOADING,
        Phase.WRITING,
        Phase.SWITCHING,
        Phase.KEEPING,
    ]


def test_what_is_only_looked_at_is_only_read(site: Site) -> None:
    """A dry run does nothing else, and says nothing else."""
    site.engine.start()
    parameters = {**APPLY, "dry_run": True}
    assert phases(site, "ApplyPolicy", parameters, DOCUMENT) == [Phase.READING]


def test_a_reload_tells_too(site: Site) -> None:
    """It writes no policy, and loads what somebody wrote into a file."""
    site.engine.start()
    phases(site, "ApplyPolicy", APPLY, DOCUMENT)
    (path,) = (site.directories.config / "policies").glob("*.yaml")
    path.write_bytes(DOCUMENT.replace(b":1:", b":2:"))
    assert phases(site, "Reload", {"resolve": False}, None) == [
        Phase.READING,
        Phase.COMPILING,
        Phase.LOADING,
        Phase.SWITCHING,
        Phase.KEEPING,
    ]
    assert site.blocks(2)


def test_how_many_filters_are_compiled_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It rises to all of them."""
    monkeypatch.setattr(compiling, "TOLD_EVERY", 2)
    site.engine.start()
    filters = ", ".join(f'"*=0:{port}:UDP"' for port in range(1, 6))
    content = f"policy: P\nrules: [{{rule: R, action: block, filters: [{filters}]}}]\n".encode()
    told: list[Progress] = []
    Control(site.engine).call("ApplyPolicy", APPLY, "test", {}, content, told.append)
    counted = [
        (progress.done, progress.total) for progress in told if progress.phase is Phase.COMPILING
    ]
    assert counted == [(0, 0), (0, 5), (2, 5), (4, 5), (5, 5)]


def test_a_document_that_is_none_is_told_as_read(site: Site) -> None:
    """A refusal ends it where it was."""
    site.engine.start()
    told: list[Progress] = []
    with pytest.raises(InvalidInput):
        Control(site.engine).call("ApplyPolicy", APPLY, "test", {}, b"no policy", told.append)
    assert told == [Progress(Phase.READING)]
