"""Every command of Microsoft's article 813878, as typed there and in its order, on a real kernel.

After each command stands what the article promises, seen with real packets.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import (
    HERE4,
    HERE6,
    HOST,
    OUTSIDE,
    PEER4,
    Daemon,
    Namespace,
    delivered,
    python,
)

pytestmark = pytest.mark.netns

NO_POLICY = """\
IP Security test . . . . . . . . . : Passed
    IPSec policy service is active, but no policy is assigned.
"""
ACTIVE = """\
IP Security test . . . . . . . . . : Passed
    Local IPSec Policy Active: '{}'
"""


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        yield running


@contextmanager
def web_server(directory: Path, address: str, where: Namespace = HOST) -> Iterator[None]:
    """A real HTTP server, here or at the peer."""
    code = (
        "import http.server, sys\n"
        "server = http.server.HTTPServer((sys.argv[1], 80), "
        "http.server.SimpleHTTPRequestHandler)\n"
        "print('ready', flush=True)\n"
        "server.serve_forever()\n"
    )
    with subprocess.Popen(
        python(where, code, address),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield
        finally:
            server.kill()


def fetches(address: str, where: Namespace = HOST) -> bool:
    """Whether a real HTTP client gets an answer from port 80."""
    code = (
        "import sys, urllib.request\n"
        "urllib.request.urlopen(f'http://{sys.argv[1]}/', timeout=2).read()\n"
    )
    words = python(where, code, address)
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("tool", ["IPSeccmd.exe", "ipsecpol"])
def test_the_article_from_its_first_command_to_its_last(
    daemon: Daemon, tool: str, tmp_path: Path
) -> None:
    """Static policies: made, assigned, displaced, added to, unassigned and deleted."""

    def typed(line: str, code: int = 0) -> str:
        return daemon.type(f"{tool} {line}", code)

    assert daemon.type("netdiag /test:ipsec") == NO_POLICY
    assert delivered(HERE4, 1434) == 5

    typed(
        '-w REG -p "Block UDP 1434 Filter" -r "Block Inbound UDP 1434 Rule" '
        "-f *=0:1434:UDP -n BLOCK -x"
    )
    assert delivered(HERE4, 1434) == 0
    assert delivered(HERE6, 1434) == 0
    assert delivered(HERE4, 1435) == 5
    assert delivered(PEER4, 1434, to_peer=True) == 5
    assert daemon.type("netdiag /test:ipsec") == ACTIVE.format("Block UDP 1434 Filter")

    with web_server(tmp_path, HERE4), web_server(tmp_path, PEER4, OUTSIDE):
        assert fetches(HERE4, OUTSIDE)
        typed(
            '-w REG -p "Block TCP 80 Filter" -r "Block Inbound TCP 80 Rule" '
            "-f *=0:80:TCP -n BLOCK -x"
        )
        assert not fetches(HERE4, OUTSIDE)
        assert fetches(PEER4)
    assert daemon.type("netdiag /test:ipsec") == ACTIVE.format("Block TCP 80 Filter")
    assert delivered(HERE4, 1434) == 5

    said = typed(
        '-w REG -p "Block UDP 1434 Filter" -r "Block Outbound UDP 1434 Rule" '
        "-f *0=: 1434: UDP -n BLOCK",
        code=1,
    )
    assert "0=*:port:protocol" in said
    typed(
        '-w REG -p "Block UDP 1434 Filter" -r "Block Outbound UDP 1434 Rule" '
        "-f 0=*:1434:UDP -n BLOCK"
    )
    assert delivered(PEER4, 1434, to_peer=True) == 5
    typed('-w REG -p "Block UDP 1434 Filter" -x')
    assert delivered(PEER4, 1434, to_peer=True) == 0
    assert delivered(HERE4, 1434) == 0

    report = daemon.type("netdiag /test:ipsec /debug")
    assert "Local IPSec Policy Active: 'Block UDP 1434 Filter'" in report
    assert "IP Security Policy Path:" in report
    for line in (
        f"Dest Addr : {HERE4} Dest Mask : 255.255.255.255",
        f"Src Addr : {HERE4} Src Mask : 255.255.255.255",
        "Tunnel Addr : 0.0.0.0 Src Port : 0 Dest Port : 1434",
        "Protocol : 17 TunnelFilter: No",
        "Flags : Inbound Block",
        "Flags : Outbound Block",
    ):
        assert line in report

    with web_server(tmp_path, HERE4), web_server(tmp_path, PEER4, OUTSIDE):
        assert fetches(HERE4, OUTSIDE)
        typed(
            '-p "Block UDP 1434 Filter" -w REG -r "Block Inbound TCP 80 Rule" '
            "-f *=0:80:TCP -n BLOCK"
        )
        assert not fetches(HERE4, OUTSIDE)
        assert fetches(PEER4)
    typed('-p "Block UDP 1434 Filter" -w REG -r "Block TCP 99 Rule" -f *=0: 99: TCP -n BLOCK')

    typed('-w REG -p "Block UDP 1434 Filter" -y')
    assert delivered(HERE4, 1434) == 5
    assert delivered(PEER4, 1434, to_peer=True) == 5
    assert daemon.type("netdiag /test:ipsec") == NO_POLICY
    typed(
        '-w REG -p "Block UDP 1434 Filter" -r "Block Inbound UDP 1434 Rule" '
        '-r "Block Outbound UDP 1434 Rule" -o'
    )
    assert "Block Inbound UDP 1434 Rule" not in daemon.ctl(
        "policy", "show", "Block UDP 1434 Filter"
    )


@pytest.mark.parametrize("tool", ["IPSeccmd.exe", "Ipsecpol"])
def test_a_policy_goes_with_the_last_of_its_rules(daemon: Daemon, tool: str) -> None:
    """Deleting both rules of the article's policy deletes the policy."""
    for way, text in (("Inbound", "*=0:1434:UDP"), ("Outbound", "0=*:1434:UDP")):
        daemon.type(
            f'{tool} -w REG -p "Block UDP 1434 Filter" -r "Block {way} UDP 1434 Rule" '
            f"-f {text} -n BLOCK"
        )
    daemon.type(
        f'{tool} -w REG -p "Block UDP 1434 Filter" -r "Block Inbound UDP 1434 Rule" '
        '-r "Block Outbound UDP 1434 Rule" -o'
    )
    assert "Block UDP 1434 Filter" not in daemon.ctl("policy", "list")


@pytest.mark.parametrize("tool", ["IPSeccmd.exe", "Ipsecpol"])
def test_dynamic_filters_act_at_once_and_are_volatile(daemon: Daemon, tool: str) -> None:
    """``-f [..]`` blocks beside any policy, ``-u`` and a restart of the agent end it."""
    daemon.type(f"{tool} -f [*=0: 1434: UDP]")
    assert delivered(HERE4, 1434) == 0
    daemon.type(f"{tool} -u")
    assert delivered(HERE4, 1434) == 5
    daemon.type(f"{tool} -f [*=0:1434:UDP]")
    assert delivered(HERE4, 1434) == 0
    daemon.type("net stop policyagent")
    assert delivered(HERE4, 1434) == 5
    assert ": Failed" in daemon.type("netdiag /test:ipsec", code=1)
    daemon.type("net start policyagent")
    assert delivered(HERE4, 1434) == 5


def test_static_policies_come_back_with_the_agent(daemon: Daemon) -> None:
    """Stopping the agent withdraws the assigned policy; starting it, or the daemon, restores it."""
    daemon.type(
        'IPSeccmd.exe -w REG -p "Block UDP 1434 Filter" -r "Block Inbound UDP 1434 Rule" '
        "-f *=0:1434:UDP -n BLOCK -x"
    )
    daemon.type("net stop policyagent")
    assert delivered(HERE4, 1434) == 5
    daemon.type("net start policyagent")
    assert delivered(HERE4, 1434) == 0
    daemon.end(signal.SIGTERM)
    daemon.start()
    assert delivered(HERE4, 1434) == 0
    assert "no domain policy" in daemon.type("secedit /refreshpolicy machine_policy").lower()


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("IPSeccmd.exe -f *=0:80:TCP -n ESP[3DES,SHA]", "ESP"),
        ("IPSeccmd.exe -f *=0:80:TCP -n BLOCK -t 10.0.0.1", "-t"),
        ('ipsecpol -f *=0:80:TCP -n BLOCK -a PRESHARE:"x"', "-a"),
        (r"ipsecpol '\\host' -f *=0:80:TCP -n BLOCK", "ssh host"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(daemon: Daemon, line: str, word: str) -> None:
    """Tunnels, keys, encryption and other computers: exit 1, the reason, and nothing changed."""
    before = site.kernel_state(daemon)
    assert word in daemon.type(line, code=1)
    assert site.kernel_state(daemon) == before
    assert daemon.ctl("policy", "list", "--json").strip() in ("[]", '{\n  "policies": []\n}')
