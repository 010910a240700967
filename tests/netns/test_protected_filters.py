"""What the settings protect passes on both backends, whatever is blocked, with real packets."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, HERE6, HOST, OUTSIDE, PEER4, PEER6, Daemon, delivered, python
from tests.netns.test_opening import CONNECT

pytestmark = pytest.mark.netns

WORM, OTHER, SSH = 1434, 1435, 2222
SETTINGS = f"""protect:
  - "{PEER4}=0:{WORM}:UDP"
  - "@office=0:{SSH}:TCP"
"""
WAITS_S = {"open": 20.0 * site.PATIENCE, "silent": 1.5}


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ipsecd.yaml").write_text(SETTINGS)
    with site.daemon(tmp_path, request.param) as running:
        yield running


def connects(address: str, expected: str) -> bool:
    """Whether a connection by the peer to the port of logins comes to what is expected."""
    with site.hearing(HOST, address, SSH, tcp=True):
        words = python(OUTSIDE, CONNECT, address, str(SSH), "0", str(WAITS_S[expected]))
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout == (
            f"{expected}\n"
        )


def test_it_passes_whatever_blocks_it(daemon: Daemon) -> None:
    """A port that is blocked for all others; then everything, by a policy, bans and quarantine."""
    site.block(daemon, f"*=0:{WORM}:UDP", f"*=0:{OTHER}:UDP")
    assert [delivered(HERE4, WORM), delivered(HERE4, OTHER), delivered(HERE6, WORM)] == [5, 0, 0]
    counted = daemon.ctl("stats").splitlines()
    (of_settings,) = [line for line in counted if "configuration" in line]
    assert of_settings.split()[:1] == ["5"]
    assert "protect" in of_settings
    said = daemon.ctl("block", PEER4)
    assert f"permit {PEER4}+0:{WORM}:UDP of rule 'protect' of the configuration outranks" in said
    assert delivered(HERE4, WORM) == 5
    assert "still passes" in daemon.ctl("quarantine", "--host")
    assert delivered(HERE4, WORM) == 5
    shown = daemon.ctl("show", "filters").splitlines()
    assert any("configuration" in line and f"{PEER4}+0:{WORM}:UDP" in line for line in shown)
    explained = daemon.ctl("explain", f"udp {PEER4}:4000 > {HERE4}:{WORM}")
    assert f"permit {PEER4}+0:{WORM}:UDP  (configuration: 'protect')" in explained
    assert "2 filters of the settings that nothing blocks" in daemon.ctl("status")
    assert f"Dest Port : {WORM}" in daemon.ctl("netdiag", "/test:ipsec", "/debug")


def test_a_connection_goes_on_in_both_directions(daemon: Daemon) -> None:
    """What answers is protected too, also while rules are for packets that open a connection."""
    daemon.ctl("list", "create", "office")
    everything = "policy: All\nrules:\n  - {rule: R, action: block, filters: ['*=0', '0=*']%s}\n"
    for more in ("", ", when: opening"):
        daemon.put(everything % more)
        assert connects(HERE4, "silent")
        daemon.ctl("list", "add", "office", PEER4, PEER6, "--accept")
        assert connects(HERE4, "open")
        assert connects(HERE6, "open")
        assert delivered(HERE4, OTHER) == 0
        daemon.ctl("list", "remove", "office", PEER4, PEER6)
    assert connects(HERE4, "silent")


def test_settings_that_cannot_be_used_change_nothing(daemon: Daemon) -> None:
    """A daemon does not start with them, says why, and leaves in force what was."""
    site.block(daemon, f"*=0:{WORM}:UDP", f"*=0:{OTHER}:UDP")
    path = daemon.directory / "etc/ipsecd.yaml"
    path.write_text(SETTINGS.replace("@office", "office.example"))
    daemon.ctl("reload")
    daemon.end(signal.SIGUSR1)
    with pytest.raises(AssertionError, match=f"{path}:3: protect: .* cannot name a DNS name"):
        daemon.start()
    assert [delivered(HERE4, WORM), delivered(HERE4, OTHER)] == [5, 0]
    path.write_text("protect: []\n")
    daemon.start()
    assert [delivered(HERE4, WORM), delivered(HERE4, OTHER)] == [0, 0]
