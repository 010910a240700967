"""What a start enforces when nobody has confirmed a change, and files are not as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsecd.engine.sources import SourceName
from tests.engine.changing_host import AFTER, BEFORE, CONFIRM_S, MORE, Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.apply(BEFORE, None)
    return made


def spoil(host: Host, *, gone: bool) -> None:
    """Have the file of the assigned policy be one that cannot be used, or not there."""
    file = host.path / "etc/policies/a.yaml"
    if gone:
        file.unlink()
    else:
        file.write_text("policy: [")


@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_was_assigned_and_cannot_be_used_is_a_failure(host: Host, gone: bool) -> None:
    """The start does not take it for nothing that was assigned."""
    host.apply(MORE)
    spoil(host, gone=gone)
    assert not host.reboot().boot()
    assert host.engine.failures
    host.killed()
    assert "a.yaml" in host.engine.failures[0]


def test_the_last_good_policy_stays_good_while_another_is_to_be_confirmed(host: Host) -> None:
    """A policy that is only stored is none that could be in force."""
    digest = host.engine.backend.observe().digest
    host.call("ApplyPolicy", MORE, confirm_s=CONFIRM_S, assign=False, dry_run=False)
    spoil(host, gone=False)
    host.reboot().boot()
    assert host.engine.state.source is SourceName.LAST_GOOD
    assert host.engine.backend.observe().digest == digest


def test_the_last_good_policy_is_not_one_that_nobody_has_confirmed(host: Host) -> None:
    """Where what was assigned before cannot be used either, it is not in force."""
    host.apply(AFTER)
    unconfirmed = host.engine.backend.observe().digest
    (host.path / "etc/policies/a.yaml").write_text("policy: [")
    host.reboot().boot()
    assert host.engine.backend.observe().digest != unconfirmed
