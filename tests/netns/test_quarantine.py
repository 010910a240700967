"""A quarantine with real packets: nothing that is permitted later opens it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, HERE6, PEER4, PEER6, Daemon, Flood, delivered

pytestmark = pytest.mark.netns

POLICY = """policy: {name}
rules:
  - rule: Open
    action: permit
    filters: [{filters}]
"""


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        yield running


def assign(daemon: Daemon, name: str, *filters: str) -> None:
    listed = ", ".join(f'"{text}"' for text in filters)
    daemon.put(POLICY.format(name=name, filters=listed))


def test_nothing_that_is_permitted_later_opens_it(daemon: Daemon) -> None:
    """Policies and dynamic permits come and go under a flood; the operator's own way stays open."""
    daemon.ctl("quarantine", "--host", "--permit", f"{PEER4}+0:1435:UDP")
    with Flood() as flood:
        for number in range(4):
            assign(daemon, f"P{number % 2}", f"{PEER4}=0:{1000 + number}-2000:UDP", f"{PEER4}+0")
            daemon.ctl("permit", f"{PEER4}=0:1434:UDP", "--name", "hole", "--replace")
            daemon.ctl(
                "permit", f"{PEER4}/32=0:1400-{1500 + number}", "--name", "hole", "--replace"
            )
            daemon.ctl("unblock", "hole")
        assert flood.received() == 0
    assign(daemon, "P", f"{PEER4}=0", f"[{PEER6}]=0:1434:UDP", f"0={PEER4}:1434:UDP")
    for address in (HERE4, HERE6):
        assert delivered(address, 1434) == 0
    assert delivered(PEER4, 1434, to_peer=True) == 0
    assert delivered(HERE4, 1435) == 5
    daemon.ctl("release", "--host")
    assert delivered(HERE4, 1434) == 5
