"""The running kernel takes every program of the object, with its helpers and without them."""

from __future__ import annotations

import platform

import pytest

from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.library import library
from ipsecd.backend.xdp.programs import OBJECT, Programs
from ipsecd.errors import BackendFailed
from tests.netns.site import needs_isolation

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("helpers", ["its own", "none"])
def test_the_kernel_takes_every_program(helpers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program is refused: not with the helpers that the kernel has, not without ``bpf_loop``."""
    needs_isolation()
    if helpers == "none":
        monkeypatch.setattr(libbpf, "has_helper", lambda *_: False)
    contents = libbpf.BpfObject(OBJECT)
    names = list(contents.program_names())
    contents.close()
    assert names
    programs = Programs()
    refused = {}
    for name in names:
        try:
            programs.program(name)
        except BackendFailed:
            refused[name] = "\n".join(library().messages)
    programs.close()
    assert not refused, "\n".join([f"Linux {platform.release()}", *refused, *refused.values()])
