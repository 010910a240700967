"""What a policy expects of itself, from the file to real packets on a wire."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, HERE6, PEER4, Daemon, delivered

pytestmark = pytest.mark.netns

GOOD = f"""\
policy: Worm
rules:
  - rule: Worm
    action: block
    filters: ["*=0:1434:UDP"]
expect:
  - "block udp {PEER4}:4000 > me:1434"
  - "permit udp {PEER4}:4000 > me:1435"
"""
WRONG = GOOD.replace("1434:UDP", "1435:UDP")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with site.daemon(tmp_path) as running:
        yield running


def enforced() -> bool:
    """Whether what is expected happens to packets."""
    blocked = [delivered(here, 1434) for here in (HERE4, HERE6)]
    return (blocked, delivered(HERE4, 1435)) == ([0, 0], 5)


def test_what_is_expected_happens_whatever_is_offered_in_its_place(
    daemon: Daemon, tmp_path: Path
) -> None:
    """Offered with a command, in the file, and at a start after a crash."""
    file = tmp_path / "worm.yaml"
    file.write_text(GOOD)
    daemon.ctl("check", str(file))
    daemon.ctl("apply", str(file), "--assign")
    assert enforced()

    file.write_text(WRONG)
    for words in (("check", str(file)), ("apply", str(file)), ("apply", str(file), "--assign")):
        said = daemon.ctl(*words, code=1)
        assert "does not meet 2 of its 2 expectations" in said
        assert f'"permit udp {PEER4}:4000 > me:1435": it is blocked by block' in said
    assert "does not meet" in daemon.ctl("rule", "remove", "Worm", "Worm", code=1)
    assert "in step" in daemon.ctl("status")
    assert enforced()

    stored = daemon.policies / "worm.yaml"
    stored.write_text(WRONG)
    assert "does not meet" in daemon.ctl("reload", code=1)
    assert "FAILED" in daemon.ctl("status", code=1)
    assert enforced()
    daemon.end(signal.SIGKILL)
    daemon.start()
    assert "FAILED" in daemon.ctl("status", code=1)
    assert enforced()

    stored.write_text(GOOD.replace("0:1434:UDP", "0:1434"))
    daemon.ctl("reload")
    daemon.ctl("status")
    assert enforced()
