"""Tests of policies that must be new: nothing is replaced by mistake."""

from __future__ import annotations

import pytest

from ipsecctl.presets import PRESETS, preset_policy
from ipsecd.control import Control
from ipsecd.errors import Refused
from ipsecd.language.documents import format_policy
from tests.engine.site import Site


def create(site: Site, document: str, *, new: bool) -> None:
    parameters = {"source": "<preset>", "assign": True, "dry_run": False, "new": new}
    Control(site.engine).call("ApplyPolicy", parameters, "uid 0", {}, document.encode())


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_put_in_force_once(site: Site, preset: str) -> None:
    """The engine takes it with its expectations; a second one of its name is refused."""
    document = format_policy(preset_policy("Server", preset, ["ssh"]))
    create(site, document, new=True)
    assert site.engine.loaded.assigned == "Server"
    with pytest.raises(Refused, match="there is a policy 'Server' already"):
        create(site, document.replace("ssh gets in", "other"), new=True)
    assert format_policy(site.engine.stored("Server")) == document
    create(site, document.replace("ssh gets in", "other"), new=False)
    assert format_policy(site.engine.stored("Server")) != document
