"""Real scripts of netsh with a real daemon: each line a process, whole files, and real packets."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ipsecctl.__main__ import main
from ipsecd.output import flush
from tests.ctl.netsh_host import WANTED, netsh_lines, words_of
from tests.netns import site, sockets
from tests.netns.site import HOST, OUTSIDE, Daemon, run

pytestmark = pytest.mark.netns

HERE, THERE = "10.9.0.2", "10.9.0.1"
SILENCE_S = 0.3
WITH_PACKETS = {
    "01-close-ports.bat": ("tcp 10.9.0.1:4000 > me:445", "tcp me:4000 > 10.9.0.1:445"),
    "02-deny445-positional.bat": ("tcp 10.9.0.1:4000 > me:445", "tcp 10.9.0.1:4000 > me:80"),
    "03-deny445-spaced.bat": ("tcp 10.9.0.1:4000 > me:3389",),
    "05-caret-lines.bat": ("udp 10.9.0.1:4000 > me:445", "tcp 10.9.0.1:4000 > me:445"),
    "11-rdp-whitelist.bat": ("tcp 10.9.0.1:4000 > me:3389",),
    "15-lockdown-2003.bat": ("tcp 10.9.0.1:4000 > me:80", "udp me:4000 > 10.9.0.1:123"),
    "17-other-order.bat": ("udp 10.9.0.1:4000 > me:4999",),
    "29-in-and-out.ps1.txt": ("tcp 10.9.0.1:4000 > me:22", "tcp me:4000 > 10.9.0.1:22"),
    "31-outbound-drop.bat": ("udp me:4000 > 10.9.0.1:53", "tcp me:4000 > 10.9.0.1:80"),
    "33-positional-names.txt": ("tcp me:4000 > 10.9.0.1:8080",),
}
"""Packets that are sent, of what is wanted of scripts, or of the same kind."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with site.daemon(tmp_path_factory.mktemp("netsh")) as running:
        run("ip", "address", "add", f"{HERE}/24", "dev", "wire0")
        run("ip", "-n", site.PEER, "address", "add", f"{THERE}/24", "dev", "wire1")
        yield running


@pytest.fixture
def empty(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """The daemon without any rule, which commands of this process talk with.

    Scripts export to the directory that they are run in, which is the daemon's.
    """
    monkeypatch.chdir(daemon.directory)
    monkeypatch.setenv("IPSECD_SOCKET", daemon.environment["IPSECD_SOCKET"])
    assert main(["netsh", "ipsec", "static", "delete", "all"]) == 0
    assert main(["netsh", "ipsec", "dynamic", "delete", "all"]) == 0
    return daemon


def verdicts(script: str, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """What the daemon says about the packets of a script."""
    judged = []
    for packet, _ in WANTED[script]:
        capsys.readouterr()
        main(["ipsecctl", "explain", packet, "--json"])
        flush()
        judged.append([packet, json.loads(capsys.readouterr().out)["decision"]])
    return judged


def comes_through(packet: str) -> bool:
    """Whether a packet like this one arrives, sent for real."""
    protocol, _, _, destination = packet.split()
    to_me = destination.startswith("me")
    address, port = (HERE if to_me else THERE), int(destination.rpartition(":")[2])
    receiver, sender = (HOST, OUTSIDE) if to_me else (OUTSIDE, HOST)
    tcp = protocol == "tcp"
    with site.hearing(receiver, address, port, tcp=tcp, silence_s=SILENCE_S) as heard:
        if tcp:
            path = site.namespace_file(sender)
            assert path
            sockets.connect(path, address, port)
        else:
            site.send(sender, address, port, 1)
        return heard() > 0


@pytest.mark.parametrize("script", list(WANTED))
def test_verdicts(empty: Daemon, script: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Line by line, and as a file, the packets fare as was meant."""
    wanted = [list(pair) for pair in WANTED[script]]
    for line in netsh_lines(script):
        words = words_of(line)
        main(words if words[0] != "ipsec" else ["netsh", *words])
    assert verdicts(script, capsys) == wanted
    main(["netsh", "ipsec", "static", "delete", "all"])
    file = empty.directory / "script.txt"
    file.write_text("\r\n".join(netsh_lines(script)))
    main(["netsh", "-f", str(file)])
    assert verdicts(script, capsys) == wanted


@pytest.mark.parametrize("script", list(WITH_PACKETS))
def test_packets(empty: Daemon, script: str) -> None:
    """What is blocked does not arrive, and what is let through does."""
    file = empty.directory / "script.txt"
    file.write_text("\n".join(netsh_lines(script)))
    main(["netsh", "-f", str(file)])
    wanted = {packet: verdict for packet, verdict in WANTED[script]}  # noqa: C416 - lists of two
    for packet in WITH_PACKETS[script]:
        assert comes_through(packet) is (wanted[packet] == "permit"), packet


def test_a_ban_list_is_in_force_at_once_and_survives(empty: Daemon) -> None:
    """What is added to a list in use blocks when the command is done, and after a new start."""
    for line in netsh_lines("08-panel-bans.txt")[:7]:
        main(words_of(line))
    add = f"netsh ipsec static add filter filterlist=IpList srcaddr={THERE} dstaddr=me"
    assert comes_through("udp 10.9.0.1:4000 > me:1434")
    assert main(words_of(add)) == 0
    assert not comes_through("udp 10.9.0.1:4000 > me:1434")
    empty.end()
    empty.start()
    assert not comes_through("udp 10.9.0.1:4000 > me:1434")
    assert main(words_of(add.replace("add", "delete", 1))) == 0
    assert comes_through("udp 10.9.0.1:4000 > me:1434")


def test_what_is_refused_changes_nothing(empty: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither what is stored nor what is in force."""
    file = empty.directory / "script.txt"
    file.write_text("\n".join(netsh_lines("01-close-ports.bat")))
    assert main(["netsh", "-f", str(file)]) == 0
    before = empty.ctl("show"), (empty.directory / "etc/shared-filters.yaml").read_text()
    file.write_text(
        "ipsec static delete all\nipsec static add filter filterlist=X srcaddy=any dstaddr=me\n"
    )
    capsys.readouterr()
    assert main(["netsh", "-f", str(file)]) == 1
    flush()
    assert "line 2" in capsys.readouterr().out
    after = empty.ctl("show"), (empty.directory / "etc/shared-filters.yaml").read_text()
    assert after == before


def test_a_list_of_a_country(empty: Daemon) -> None:
    """3,000 filters in a file are one change and a list of addresses, until there are few."""
    networks = [
        f"filter filterlist=Net srcaddr=198.{18 + n // 250}.{n % 250}.0 "
        "srcmask=255.255.255.0 dstaddr=me"
        for n in range(2999)
    ]
    lines = [
        "ipsec static add policy name=Countries assign=yes",
        *(f"ipsec static add {network}" for network in networks),
        f"ipsec static add filter filterlist=Net srcaddr={THERE} dstaddr=me",
        "ipsec static add filteraction name=Stop action=block",
        "ipsec static add rule name=R policy=Countries filterlist=Net filteraction=Stop",
    ]
    file = empty.directory / "script.txt"
    file.write_text("\n".join(lines))
    before = empty.log().count("method=ChangeTogether")
    assert empty.ctl("netsh", "-f", str(file)) == ""
    assert empty.log().count("method=ChangeTogether") == before + 1
    assert not comes_through("udp 10.9.0.1:4000 > me:1434")
    entries = empty.directory / "etc/lists/netsh-Net"
    assert len(entries.read_text().splitlines()) == 3000
    one = f"filter filterlist=Net srcaddr={THERE} dstaddr=me"
    assert empty.ctl("netsh", "ipsec", "static", "delete", *one.split()) == ""
    assert comes_through("udp 10.9.0.1:4000 > me:1434")
    assert empty.ctl("netsh", "ipsec", "static", "add", *one.split()) == ""
    assert not comes_through("udp 10.9.0.1:4000 > me:1434")
    empty.end()
    empty.start()
    assert not comes_through("udp 10.9.0.1:4000 > me:1434")
    file.write_text("".join(f"ipsec static delete {network}\n" for network in networks[:2600]))
    assert empty.ctl("netsh", "-f", str(file)) == ""
    assert not entries.exists()
    assert f'"{THERE}+0"' in (empty.directory / "etc/shared-filters.yaml").read_text()
    assert not comes_through("udp 10.9.0.1:4000 > me:1434")
