"""Presets in force: what they say holds for real packets, and explain answers for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import BACKENDS, HERE4, HERE6, PEER4, PEER6, delivered

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("preset", ["deny-incoming", "deny-all", "container-host"])
def test_nothing_gets_in_unasked_but_what_is_permitted(
    tmp_path: Path, preset: str, backend: str
) -> None:
    """By one command, in both IP versions; what goes out is as the name of the preset says."""
    with site.daemon(tmp_path, backend) as daemon:
        words = ("policy", "create", "Server", "--preset", preset, "--permit", "udp/1435")
        daemon.ctl(*words, "--assign")
        assert "already" in daemon.ctl(*words, code=1)
        came_in = [delivered(here, port) for here in (HERE4, HERE6) for port in (1434, 1435)]
        went_out = [delivered(peer, 1434, to_peer=True) for peer in (PEER4, PEER6)]
        assert came_in == [0, 5, 0, 5]
        assert went_out == ([0, 0] if preset == "deny-all" else [5, 5])
        said = daemon.ctl("explain", f"udp {PEER4} > {HERE4}:1434").splitlines()
        assert said[0].startswith(f"block  udp {PEER4} > {HERE4}:1434")
        assert any("any source port" in line for line in said)
        assert any(line.startswith("part of an open connection: permit") for line in said)
        assert "next packet out" in said[-1]
