"""A machine that boots, restarts and upgrades under a flood: its service receives nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.boot.base import FINDERS
from tests.boot.machine import HERE, OTHER, PEER, THERE, WORM, Machine, needs_machines
from tests.boot.packages import COMMANDS, NEXT_VERSION, make_packages
from tests.domain.test_unit import EXPOSURES
from tests.moments.changes import has_owners
from tests.netns.site import eventually, inside, run, serving

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(900)]

SLAMMER = (
    ("Block Inbound UDP 1434 Rule", "*=0:1434:UDP"),
    ("Block Outbound UDP 1434 Rule", "0=*:1434:UDP"),
)
LATE = """
[Unit]
After=network-online.target listen.service
Wants=network-online.target
[Service]
Type=notify
ExecStartPre=/bin/sleep 1
ExecStart=/usr/sbin/ipsecd
[Install]
WantedBy=multi-user.target
"""
SERVE_LOGINS = """
import socket
listener = socket.create_server(("", 22))
accepted = []
while True:
    accepted.append(listener.accept())
"""
LOG_IN = f"""
import socket, sys
while True:
    try:
        connected = socket.create_connection(("{HERE}", 22))
        break
    except ConnectionRefusedError:
        pass
print("ready", flush=True)
print(connected.getsockname()[1], flush=True)
sys.stdin.read()
"""
POLICY = """
policy: Edited
rules:
  - rule: R
    action: block
    filters: ["*=0:{port}:UDP"]
"""
LISTED = """
policy: Listed
rules:
  - rule: R
    action: block
    filters: ["@worm=0:{port}:UDP"]
"""


def now(machine: Machine) -> str:
    """The time on its clock, which has to show another before anything is asked about this one."""
    at = machine.run("date", "--utc", "+%FT%T.%NZ").strip()
    return f"{at[:26]}Z"


def decided(machine: Machine, at: str) -> str:
    """What was decided at a moment about a packet from an address that is banned for a while."""
    packet = "tcp 192.0.2.9:4000 > me:9"
    answer = machine.run("ipsecctl", "explain", "--at", at, packet, "--json")
    decision: str = json.loads(answer)["explanation"]["decision"]
    return decision


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The package, and one of a higher version; beside them lies that of the old commands."""
    needs_machines()
    return make_packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def fresh(
    packages: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A minimal Debian on which nothing was prepared, but for the package file that lies there."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    try:
        for path in (*packages, packages[0].with_name(COMMANDS)):
            shutil.copy(path, machine.root / "root" / path.name)
        machine.boot()
        yield machine
    finally:
        machine.close()


@pytest.fixture(scope="module")
def installed(fresh: Machine, packages: tuple[Path, Path]) -> Machine:
    """The same with the package installed, and the article's policy assigned."""
    fresh.run("apt-get", "install", "-qy", f"/root/{packages[0].name}", f"/root/{COMMANDS}")
    for rule, text in SLAMMER:
        words = ["-w", "REG", "-p", "Block UDP 1434 Filter", "-r", rule, "-f", text]
        fresh.run("IPSeccmd.exe", *words, "-n", "BLOCK", "-x")
    # It is written in Python, which came with the package.
    fresh.ctl("restart", "listen.service")
    return fresh


@pytest.fixture
def machine(installed: Machine) -> Iterator[Machine]:
    """It runs and is flooded, and all is well with it."""
    installed.flood()
    installed.ctl("daemon-reload")
    installed.ctl("start", "ipsecd.service")
    assert eventually(lambda: installed.received()[1] > 0), installed.journal()
    yield installed
    installed.flood(False)


def drop_in(machine: Machine, text: str) -> None:
    """Change ipsecd.service until the machine has gone."""
    path = "/run/systemd/system/ipsecd.service.d"
    machine.run("mkdir", "-p", path)
    machine.run("sh", "-c", f'printf "%b" "$1" > {path}/test.conf', "sh", text)
    machine.ctl("daemon-reload")


def no_drop_in(machine: Machine) -> None:
    machine.run("rm", "-rf", "/run/systemd/system/ipsecd.service.d")
    machine.ctl("daemon-reload")


def test_one_command_installs_it(installed: Machine) -> None:
    """On a minimal Debian apt brings all it needs; units run, groups and man pages are there."""
    for unit in ("ipsecd.service", "ipsecd.socket", "ipsecd-boot.service"):
        assert installed.ctl("is-enabled", unit).strip() == "enabled"
    assert installed.ctl("is-active", "ipsecd.service", "ipsecd.socket").split() == ["active"] * 2
    for group in ("ipsec", "ipsec-view"):
        installed.run("getent", "group", group)
    assert "Block UDP 1434 Filter" in installed.run("ipsecctl", "status")
    listed = installed.run("dpkg", "-L", "ipsecd", "ipsecd-windows-commands")
    for page in (
        "ipsecd.8",
        "ipsecctl.1",
        "ipseccmd.1",
        "ipsecd.yaml.5",
        "ipsec-policy.5",
        "ipsecd-domain.8",
        "ipsecd-metrics.8",
        "ipsecd-crowdsec.8",
        "sshg-fw-ipsecd.8",
        "ipsecd-countries.8",
    ):
        assert f"/{page}.gz" in listed


def test_net_and_sc_lie_beside_those_of_others(installed: Machine, tmp_path: Path) -> None:
    """Packages that have commands of these names are installed too, and get what is theirs."""
    for name in ("net", "sc"):
        tree = tmp_path / name
        program = tree / "usr/bin" / name
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\necho "other {name}: $*"\n')
        program.chmod(0o755)
        (tree / "DEBIAN").mkdir()
        (tree / "DEBIAN/control").write_text(
            f"Package: other-{name}\nVersion: 1\nArchitecture: all\nDescription: another\n"
            "Maintainer: somebody <somebody@example.net>\n"
        )
        file = installed.root / "root" / f"{name}.deb"
        run("dpkg-deb", "--root-owner-group", "--build", str(tree), str(file))
    installed.run("dpkg", "--install", "/root/net.deb", "/root/sc.deb")
    login = ("bash", "--login", "-c")
    assert installed.run(*login, "net ads info") == "other net: ads info\n"
    assert installed.run(*login, "sc x.sc") == "other sc: x.sc\n"
    assert "RUNNING" in installed.run(*login, "SC.EXE query PolicyAgent")
    assert "RUNNING" in installed.run(*login, "sc query PolicyAgent")
    installed.run("dpkg", "--purge", "other-net", "other-sc")


def test_the_units_are_right_and_tight(machine: Machine) -> None:
    """Nothing is to be said about the units, and their exposure is low."""
    assert machine.run("systemd-analyze", "verify", "--man=no", *EXPOSURES, "ipsecd.socket") == ""
    for unit, limit in EXPOSURES.items():
        machine.run("systemd-analyze", "security", f"--threshold={limit}", "--no-pager", unit)


PAGE = """
import os, socket, sys
if sys.argv[1] != "0":
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
page = socket.socket(socket.AF_UNIX)
page.connect("/run/ipsecd-web/web.sock")
try:
    page.sendall(b"GET /overview HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    print(b"".join(iter(lambda: page.recv(65536), b"")).decode())
except ConnectionError:
    print("refused")
"""
"""Looks at the page, as root or as nobody."""


def test_the_page_is_served_where_somebody_starts_it(machine: Machine) -> None:
    """It is not enabled, and it looks with a user of its own, confined as it is."""
    assert machine.ctl("is-enabled", "ipsecd-web", check=False).strip() == "disabled"
    machine.ctl("start", "ipsecd-web")
    try:
        assert eventually(
            lambda: "Enforcing" in machine.run("python3", "-c", PAGE, "0", check=False)
        )
        assert machine.run("python3", "-c", PAGE, "65534").strip() in ("", "refused")
        user = machine.ctl("show", "--property=UID", "--value", "ipsecd-web").strip()
        assert user == machine.run("id", "-u", "ipsecd-web").strip()
        machine.ctl("restart", "ipsecd-web")
        assert eventually(lambda: "in step" in machine.run("python3", "-c", PAGE, "0", check=False))
    finally:
        machine.ctl("stop", "ipsecd-web")
    assert machine.run("ls", "/run/ipsecd-web", check=False).strip() != "web.sock"


def resolved(machine: Machine) -> str:
    """The names in force, looked up again; the fetcher may have to start first."""
    machine.run("ipsecctl", "reload", "--resolve")
    return machine.run("ipsecctl", "show", "names")


def test_names_are_looked_up_by_the_fetcher(machine: Machine) -> None:
    """It came with the daemon, which has no internet sockets and says whom to start."""
    machine.put("etc/hosts", "127.0.0.1 localhost\n192.0.2.77 worm.example\n")
    assert eventually(lambda: machine.ctl("is-active", "ipsecd-domain").strip() == "active", 20)
    machine.run("ipsecctl", "block", "worm.example=0", "--name", "by-name")
    assert "192.0.2.77" in machine.run("ipsecctl", "show", "names")
    machine.ctl("stop", "ipsecd-domain")
    try:
        said = machine.run("ipsecctl", "block", "other.example=0", check=False)
        assert "systemctl start ipsecd-domain" in said
        machine.run("ipsecctl", "reload", "--resolve")
        assert "192.0.2.77" in machine.run("ipsecctl", "show", "names")
        machine.put("etc/hosts", "127.0.0.1 localhost\n192.0.2.78 worm.example\n")
    finally:
        machine.ctl("start", "ipsecd-domain")
    assert eventually(lambda: "192.0.2.78" in resolved(machine), 60)
    before = machine.pid()
    machine.ctl("kill", "--signal=KILL", "ipsecd.service")
    assert eventually(lambda: machine.pid() not in {0, before}, 20)
    # The fetcher may not be back yet, and is waited for.
    machine.run("ipsecctl", "block", "worm.example=0", "--name", "again")
    machine.run("ipsecctl", "unblock", "again")
    machine.run("ipsecctl", "unblock", "by-name")


def test_metrics_are_had_at_a_socket_by_who_may_look(machine: Machine) -> None:
    """A restart on purpose takes the setting; counts are kept over it, and over a kill."""

    def state() -> str:
        return machine.ctl("is-active", "ipsecd-metrics", check=False).strip()

    assert eventually(lambda: state() == "inactive", 60), state()
    path = "/run/ipsecd-metrics/metrics.sock"
    machine.put("etc/ipsecd/ipsecd.yaml", f"metrics: {path}\n")
    ask = (
        "import http.client, socket; c = http.client.HTTPConnection('x'); "
        f"c.sock = socket.socket(socket.AF_UNIX); c.sock.connect('{path}'); "
        "c.request('GET', '/metrics'); print(c.getresponse().read().decode())"
    )

    def dropped() -> float:
        text = machine.run("python3", "-c", ask, check=False)
        found = re.findall(r"ipsecd_rule_packets_total\{.*Inbound.*\} (\S+)", text)
        return float(found[0]) if found else -1.0

    before = dropped()
    assert before == -1.0
    try:
        machine.ctl("restart", "ipsecd.service")
        assert eventually(lambda: dropped() > 0, 60), machine.run(
            "journalctl", "--no-pager", "-u", "ipsecd-metrics"
        )
        first, pid = dropped(), machine.pid()
        machine.ctl("kill", "--signal=KILL", "ipsecd.service")
        assert eventually(lambda: machine.pid() not in {0, pid}, 20)
        assert eventually(lambda: dropped() > first, 20)
        status = machine.run("stat", "-c", "%a %G", path).strip()
        assert status == "660 ipsec-view"
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        refused = machine.run(*nobody, "python3", "-c", ask, check=False)
        assert "ipsecd_up" not in refused
        viewer = ("setpriv", "--reuid=65534", "--regid=ipsec-view", "--clear-groups")
        assert "ipsecd_up 1.0" in machine.run(*viewer, "python3", "-c", ask)
    finally:
        machine.put("etc/ipsecd/ipsecd.yaml", "")
        machine.ctl("restart", "ipsecd.service")


def test_what_verifies_has_no_capabilities(machine: Machine) -> None:
    """Under the unit it is root without any power of root, and has no files of root either."""
    what = (
        "import os",
        "print(open('/proc/self/status').read())",
        "os.listdir('/etc/ipsecd')",
    )
    lines = ";".join(what)
    command = "/usr/bin/python3 -I -m ipsecd.host.confined timeit -n1 -r1"
    drop_in(machine, f'[Service]\\nExecStartPre=-/usr/bin/env TMPDIR=/tmp {command} "{lines}"\\n')
    try:
        machine.ctl("restart", "ipsecd.service")
        said = machine.run("journalctl", "-u", "ipsecd.service", "-n", "200", "--no-pager")
    finally:
        no_drop_in(machine)
    found = {name: int(value, 16) for name, value in re.findall(r"(Cap\w+):\s+([0-9a-f]+)", said)}
    names = ("CapInh", "CapPrm", "CapEff", "CapAmb")
    assert {name: found[name] for name in names} == dict.fromkeys(names, 0), said
    assert re.search(r"NoNewPrivs:\s+1", said)
    assert "Permission denied: '/etc/ipsecd'" in said


def join_domain(machine: Machine, name: str) -> tuple[str, str]:
    """Have the policy of a repository on the machine itself; the option for its keys."""
    keys = ("--keys", f"/root/{name}-keys")
    repository, document = f"/srv/{name}", f"root/{name}.yaml"
    machine.put(document, POLICY.format(port=OTHER).replace("Edited", name.title()))
    machine.run("ipsecctl", "domain", "init", repository, *keys)
    machine.run("ipsecctl", "domain", "publish", repository, f"/{document}", *keys)
    machine.put("etc/ipsecd/ipsecd.yaml", f"domain: {{source: 'file://{repository}'}}\n")
    machine.ctl("restart", "ipsecd.service")
    machine.run("ipsecctl", "domain", "trust", repository)
    return keys


def test_the_fetcher_runs_confined(machine: Machine) -> None:
    """Under all that its unit forbids it brings a policy from a directory."""
    assert machine.ctl("is-enabled", "ipsecd-domain", check=False).strip() == "static"
    keys = join_domain(machine, "fleet")

    def journal() -> str:
        return machine.run("journalctl", "--no-pager", "-u", "ipsecd-domain")

    try:
        assert eventually(lambda: "handed-over" in journal(), 60), journal()
        assert "Traceback" not in journal()
        assert "Fleet" in machine.run("ipsecctl", "domain", "status")
        user = machine.ctl("show", "--property=UID", "--value", "ipsecd-domain").strip()
        assert user == machine.run("id", "-u", "ipsecd-domain").strip()
        machine.run("ipsecctl", "domain", "withdraw", "/srv/fleet", *keys)
        assert eventually(lambda: journal().count("handed-over") == 2, 10), journal()
    finally:
        machine.put("etc/ipsecd/ipsecd.yaml", "")
        machine.ctl("restart", "ipsecd.service")
    assert eventually(machine.is_quiet)


def test_a_domain_policy_is_in_force_from_boot_on(machine: Machine) -> None:
    """Its source is away, and the flood comes from the first moment; the local policy would let it.

    What the local policy blocks gets through: that is how the flood is seen.
    """
    join_domain(machine, "cached")

    def is_in_force() -> bool:
        return "Cached" in machine.run("ipsecctl", "domain", "status", check=False)

    try:
        assert eventually(is_in_force, 60), machine.journal()
        machine.run("mv", "/srv/cached", "/srv/away")
        machine.reboot()
        assert eventually(lambda: machine.received()[0] > 1000, 30), machine.journal()
        assert machine.received()[1] == 0
        assert is_in_force()
    finally:
        machine.put("etc/ipsecd/ipsecd.yaml", "")
        machine.ctl("restart", "ipsecd.service")
    assert eventually(machine.is_quiet)


@pytest.mark.parametrize("backend", ["nftables", "xdp"])
def test_nothing_gets_through_from_boot_on(machine: Machine, backend: str) -> None:
    """The peer floods before, during and after a reboot; the service listens as early as it can."""
    machine.put("etc/ipsecd/ipsecd.yaml", f"backend: {backend}\n")
    machine.run("ipsecctl", "block", "192.0.2.9")
    blocked = now(machine)
    machine.reboot()
    assert "192.0.2.9" not in machine.run("ipsecctl", "show", "dynamic")
    assert decided(machine, blocked) == "block"
    assert decided(machine, now(machine)) == "permit"
    assert eventually(lambda: machine.received()[1] > 1000, 30), machine.journal()
    assert machine.received()[0] == 0
    assert f"enforcing with {backend}" in machine.run("ipsecctl", "status")


def test_what_nobody_confirmed_is_undone_from_boot_on(machine: Machine) -> None:
    """The host reboots before a policy and a list are confirmed that let all through: nothing gets.

    That is so without the daemon, which starts before the network does, and then writes the files.
    """
    everybody = "# of any address\n0.0.0.0/1\n128.0.0.0/1\n"
    machine.put("root/listed.yaml", LISTED.format(port=WORM))
    machine.put("etc/ipsecd/lists/worm", everybody)
    machine.run("ipsecctl", "reload")
    machine.run("ipsecctl", "apply", "/root/listed.yaml", "--assign")
    assert machine.is_quiet()
    assert (machine.root / "etc/ipsecd/policies/listed.yaml").exists()
    machine.put("etc/ipsecd/policies/listed.yaml", LISTED.format(port=OTHER))
    machine.put("etc/ipsecd/lists/worm", "203.0.113.7\n")
    machine.run("ipsecctl", "reload", "--confirm", "1h")
    assert "UNCONFIRMED" in machine.run("ipsecctl", "status")
    assert not machine.is_quiet()
    machine.ctl("mask", "ipsecd.service")
    try:
        machine.reboot()
        assert eventually(lambda: machine.received()[1] > 1000, 30), machine.journal()
        assert machine.received()[0] == 0
    finally:
        machine.ctl("unmask", "ipsecd.service")
    machine.ctl("start", "ipsecd.service")
    status = machine.run("ipsecctl", "status")
    assert "put back: the change by uid 0 (root)" in status
    assert "'Listed', assigned" in status
    assert (machine.root / "etc/ipsecd/lists/worm").read_text() == everybody
    assert machine.is_quiet()
    machine.run("ipsecctl", "policy", "assign", "Block UDP 1434 Filter")
    machine.run("ipsecctl", "policy", "delete", "Listed")
    machine.run("ipsecctl", "list", "delete", "worm")
    assert machine.is_quiet()


def test_nobody_locks_himself_out(machine: Machine) -> None:
    """The daemon, confined by its unit, sees the connection, and which filter would cut it."""
    machine.put("root/lock.yaml", POLICY.format(port=22).replace("UDP", "TCP"))
    lock = ("ipsecctl", "apply", "/root/lock.yaml", "--assign")
    machine.run("systemd-run", "--unit=login", "/usr/bin/python3", "-I", "-c", SERVE_LOGINS)
    try:
        with serving(inside(PEER), LOG_IN) as login:
            assert login.stdout is not None
            port = int(login.stdout.readline())
            through = f"SSH_CONNECTION={THERE} {port} {HERE} 22"
            for words in (("env", through, *lock), lock):
                said = machine.run(*words, check=False)
                assert f"({THERE}:{port} to {HERE}:22), because '*=0:22:TCP'" in said
            assert "'Block UDP 1434 Filter', assigned" in machine.run("ipsecctl", "status")
        assert eventually(lambda: " ESTAB " not in machine.run("ss", "-tn", "sport", "=", ":22"))
        assert "would" in machine.run(*lock, "--dry-run")
    finally:
        machine.ctl("stop", "login.service")


def test_a_unit_that_is_ordered_after_the_network_leaks(machine: Machine) -> None:
    """The flood gets through where enforcement comes late: the test can see it."""
    machine.put("etc/systemd/system/ipsecd.service", LATE)
    machine.ctl("mask", "ipsecd-boot.service")
    machine.reboot()
    try:
        assert eventually(lambda: machine.pid() > 0, 20)
        assert machine.received()[0] > 0
    finally:
        (machine.root / "etc/systemd/system/ipsecd.service").unlink()
        machine.ctl("unmask", "ipsecd-boot.service")
        machine.put("etc/ipsecd/ipsecd.yaml", "backend: nftables\n")
        machine.reboot()
    assert eventually(lambda: machine.received()[1] > 100, 20)
    assert machine.received()[0] == 0


def test_a_restart_lets_nothing_through(machine: Machine) -> None:
    """The policy stays in force; dynamic rules are gone afterwards."""
    machine.run("ipsecctl", "block", f"udp/{OTHER}")
    before = machine.pid()
    assert machine.leaked(lambda: machine.ctl("restart", "ipsecd.service")) == 0
    assert machine.pid() != before
    assert "dynamic    none" in machine.run("ipsecctl", "status")
    assert "dynamic" not in machine.run("ls", "/run/ipsecd").split()


def test_a_killed_daemon_comes_back_and_lets_nothing_through(machine: Machine) -> None:
    """Another is started, and the policy and dynamic rules stay in force; a stop ends these."""

    def kill() -> None:
        before = machine.pid()
        machine.ctl("kill", "--signal=KILL", "ipsecd.service")
        assert eventually(lambda: machine.pid() not in {0, before}, 20)

    machine.run("ipsecctl", "block", "192.0.2.7", "--for", "1h")
    assert machine.leaked(kill) == 0
    assert "192.0.2.7" in machine.run("ipsecctl", "show", "dynamic")
    assert "taken over 1 rule" in machine.run("ipsecctl", "status")
    machine.ctl("stop", "ipsecd.service")
    machine.ctl("start", "ipsecd.service")
    assert "dynamic    none" in machine.run("ipsecctl", "status")


def test_nobody_flushes_the_rules_of_a_dead_daemon(machine: Machine) -> None:
    """The service manager holds what owns them, until the next daemon goes on with it.

    Where a kernel has no tables that are owned, programs drop until then.
    """
    machine.put("etc/systemd/system/ipsecd.service.d/late.conf", "[Service]\nRestartSec=3s\n")
    machine.ctl("daemon-reload")

    def flush() -> None:
        before = machine.pid()
        machine.ctl("kill", "--signal=KILL", "ipsecd.service")
        assert eventually(lambda: machine.pid() == 0, 20)
        for _ in range(10):
            machine.run("nft", "flush", "ruleset")
        assert ("ipsecd" in machine.run("nft", "list", "tables")) == has_owners()
        assert eventually(lambda: machine.pid() not in {0, before}, 20)

    try:
        for _ in range(2):
            assert machine.leaked(flush) == 0
        assert machine.leaked(lambda: machine.ctl("restart", "ipsecd.service")) == 0
        assert "in step" in machine.run("ipsecctl", "status")
    finally:
        (machine.root / "etc/systemd/system/ipsecd.service.d/late.conf").unlink()
        machine.ctl("daemon-reload")


def test_a_daemon_that_crashes_at_start_leaves_the_policy_in_force(machine: Machine) -> None:
    """Over a reboot and again and again: what the first unit enforced stays."""
    machine.put(
        "etc/systemd/system/ipsecd.service.d/crash.conf",
        "[Service]\nExecStart=\nExecStart=/bin/false\n",
    )
    machine.reboot()
    try:
        assert eventually(lambda: machine.received()[1] > 1000, 30)
        assert machine.received()[0] == 0

        def restarts() -> int:
            shown = machine.ctl("show", "--property=NRestarts", "--value", "ipsecd.service")
            return int(shown)

        assert eventually(lambda: restarts() > 3, 20)
        assert machine.received()[0] == 0
    finally:
        shutil.rmtree(machine.root / "etc/systemd/system/ipsecd.service.d")
        machine.ctl("daemon-reload")
    assert machine.leaked(lambda: machine.ctl("start", "ipsecd.service")) == 0


def test_a_hung_daemon_is_replaced(machine: Machine) -> None:
    """The watchdog kills a daemon that has stopped, and the policy stays in force."""
    drop_in(machine, "[Service]\\nWatchdogSec=5\\n")
    machine.ctl("restart", "ipsecd.service")
    try:

        def hang() -> None:
            before = machine.pid()
            machine.ctl("kill", "--signal=STOP", "ipsecd.service")
            assert eventually(lambda: machine.pid() not in {0, before}, 30)

        assert machine.leaked(hang) == 0
    finally:
        no_drop_in(machine)
    assert "in step" in machine.run("ipsecctl", "status")


def test_stop_withdraws_and_start_restores(machine: Machine) -> None:
    """Stopped on purpose nothing is enforced, and no client starts it again by asking."""
    machine.ctl("stop", "ipsecd.service")
    assert machine.run("nft", "list", "tables") == ""
    before = machine.received()[0]
    assert eventually(lambda: machine.received()[0] > before + 50)
    assert eventually(
        lambda: machine.ctl("is-active", "ipsecd.socket", check=False).strip() == "inactive"
    )
    assert "cannot be reached" in machine.run("ipsecctl", "status", check=False)
    # The fetcher does not knock at a door that is closed.
    assert eventually(
        lambda: machine.ctl("is-active", "ipsecd-domain", check=False).strip() == "inactive"
    )
    machine.ctl("start", "ipsecd.service")
    assert eventually(lambda: machine.ctl("is-active", "ipsecd-domain").strip() == "active")
    assert eventually(machine.is_quiet)
    assert machine.leaked(lambda: machine.run("ipsecctl", "status")) == 0


def test_reload_reads_edited_files_and_a_broken_one_opens_nothing(machine: Machine) -> None:
    """A policy that was edited counts after a reload; nonsense is reported and changes nothing."""
    machine.put("etc/ipsecd/policies/edited.yaml", POLICY.format(port=OTHER))
    machine.ctl("reload", "ipsecd.service")
    machine.run("ipsecctl", "policy", "assign", "Edited")
    try:
        machine.put("etc/ipsecd/policies/edited.yaml", POLICY.format(port=WORM))
        machine.ctl("reload", "ipsecd.service")

        def passes() -> bool:
            explained = json.loads(
                machine.run("ipsecctl", "explain", "--json", f"udp 192.0.2.1:9 > me:{OTHER}")
            )
            return bool(explained["decision"] == "permit")

        assert eventually(passes)

        def spoil() -> None:
            machine.put("etc/ipsecd/policies/edited.yaml", "policy: [nonsense\n")
            machine.ctl("reload", "ipsecd.service")
            assert eventually(
                lambda: "edited.yaml" in machine.run("ipsecctl", "status", check=False)
            )

        assert machine.leaked(spoil) == 0
        # Nor does it open anything over a boot: the last good policy is enforced.
        machine.reboot()
        assert eventually(lambda: machine.received()[1] > 500, 30)
        assert machine.received()[0] == 0
    finally:
        machine.put("etc/ipsecd/policies/edited.yaml", POLICY.format(port=WORM))
        machine.ctl("reload", "ipsecd.service")
        machine.run("ipsecctl", "policy", "assign", "Block UDP 1434 Filter")


def test_boot_block_holds_everything_until_the_policy_can_be_used(machine: Machine) -> None:
    """With boot: block and nothing that can be enforced, nothing gets through at all."""
    link = machine.root / "etc/ipsecd/assigned"
    assigned = link.resolve()
    good = assigned.read_text()
    machine.put("etc/ipsecd/ipsecd.yaml", "boot: block\n")
    machine.ctl("stop", "ipsecd.service")
    assigned.write_text("nonsense")
    (machine.root / "var/lib/ipsecd/last-good").unlink()
    machine.reboot()
    try:
        assert eventually(lambda: "systemd-networkd" in machine.ctl("status", "systemd-networkd"))
        machine.run("sleep", "2")
        assert machine.received() == (0, 0)
        assert "FAILED" in machine.run("ipsecctl", "status", check=False)
    finally:
        assigned.write_text(good)
        machine.put("etc/ipsecd/ipsecd.yaml", "")
        machine.ctl("reload", "ipsecd.service")
    assert eventually(lambda: machine.received()[1] > 100), machine.journal()
    assert machine.received()[0] == 0


BANS = {"fail2ban lab 192.0.2.31", "crowdsec 192.0.2.32", "sshguard 192.0.2.33"}
BANNING = {
    "fail2ban.service": "fail2ban",
    "crowdsec-custom-bouncer.service": "crowdsec",
    "sshguard.service": "sshguard",
}
"""The units of programs that ban, and where what is for them lies."""
LAB_JAIL = """
[sshd]
enabled = false
[lab]
enabled = true
backend = polling
filter =
failregex = ^ failed login from <ADDR>$
datepattern = ^{EPOCH}
logpath = /var/log/lab.log
maxretry = 1
"""
LOCAL_API = """
import http.server, json
DECISION = {
    "id": 1, "origin": "cscli", "scenario": "lab", "type": "ban", "scope": "Ip",
    "value": "192.0.2.32", "duration": "4h",
}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        new = [DECISION] if "startup=true" in self.path else []
        content = json.dumps({"new": new, "deleted": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
server = http.server.HTTPServer(("127.0.0.1", 8080), Handler)
print("ready", file=open("/opt/api.ready", "w"), flush=True)
server.serve_forever()
"""


def prepare_banning(machine: Machine) -> None:
    """Do what the documentation says, for three programs, and start them."""
    machine.run("apt-get", "install", "-qy", "--no-install-recommends", *FINDERS.split())
    share = machine.root / "usr/share/ipsecd"
    before = machine.run("systemd-analyze", "verify", "--man=no", *BANNING)
    for unit, name in BANNING.items():
        path = f"{unit}.d/ipsecd.conf"
        machine.put(f"etc/systemd/system/{path}", (share / name / path).read_text())
    machine.ctl("daemon-reload")
    assert machine.run("systemd-analyze", "verify", "--man=no", *BANNING) == before
    jail = share / "fail2ban/jail.d/ipsecd.local"
    machine.put("etc/fail2ban/jail.d/ipsecd.local", jail.read_text() + LAB_JAIL)
    machine.put("var/log/lab.log", "")
    local = "crowdsec-custom-bouncer.yaml.local"
    settings = (share / "crowdsec" / local).read_text() + "api_key: key\n"
    machine.put(f"etc/crowdsec/bouncers/{local}", settings)
    machine.put("etc/hosts", "127.0.0.1 localhost\n")
    machine.put("opt/api.py", LOCAL_API)
    machine.run("systemd-run", "--unit=local-api", "/usr/bin/python3", "-I", "/opt/api.py")
    # The bouncer that does not reach it at once is told nothing of what was decided before.
    assert eventually((machine.root / "opt/api.ready").exists, 30)
    backend = 's|^BACKEND=.*|BACKEND="/usr/libexec/ipsecd/sshg-fw-ipsecd"|'
    longer = "s|^BLOCK_TIME=.*|BLOCK_TIME=3600|"
    machine.run("sed", "-i", "-e", backend, "-e", longer, "/etc/sshguard/sshguard.conf")
    machine.ctl("reenable", "crowdsec-custom-bouncer.service")
    machine.ctl("restart", *BANNING)


def without_banning(machine: Machine) -> None:
    """Remove the programs, and what was made for them."""
    machine.ctl("disable", "crowdsec-custom-bouncer.service", check=False)
    machine.run("rm", "-rf", "/etc/systemd/system/ipsecd.service.wants")
    machine.run("apt-get", "purge", "-qy", *FINDERS.split())
    for unit in BANNING:
        machine.run("rm", "-rf", f"/etc/systemd/system/{unit}.d")
    machine.run("rm", "-rf", "/etc/fail2ban", "/etc/crowdsec", "/var/lib/fail2ban")
    machine.ctl("stop", "local-api", check=False)
    machine.run("rm", "-f", "/opt/api.ready")
    machine.ctl("daemon-reload")
    machine.ctl("reset-failed")
    machine.ctl("restart", "ipsecd.service")


def has_another_pid(machine: Machine, before: int) -> bool:
    """Whether another daemon runs than before."""
    return machine.pid() not in {0, before}


def test_what_bans_runs_as_its_files_say(machine: Machine) -> None:
    """fail2ban, CrowdSec's bouncer and sshguard, with the units of Debian and our additions."""

    def banned() -> set[str]:
        shown = machine.run("ipsecctl", "show", "dynamic", check=False)
        return {name for name in BANS if name in shown}

    def journals() -> str:
        units = [f"--unit={unit}" for unit in BANNING]
        told = machine.run("journalctl", "-b", "-n", "80", "--no-pager", *units)
        return told + machine.run("tail", "/var/log/crowdsec-custom-bouncer.log", check=False)

    def all_are_banned() -> bool:
        """Attack by SSH until that is banned too: sshguard reads what comes after its start."""
        if "sshguard 192.0.2.33" not in banned():
            line = "Invalid user admin from 192.0.2.33 port 40000"
            machine.run("systemd-cat", "-t", "sshd", "-p", "info", "echo", line)
        return banned() == BANS

    try:
        prepare_banning(machine)
        machine.run("sh", "-c", "echo $(date +%s) failed login from 192.0.2.31 >> /var/log/lab.log")
        assert eventually(all_are_banned, 60), (banned(), journals())
        for restart in ("restart", "kill --signal=KILL"):
            before = machine.pid()
            machine.ctl(*restart.split(), "ipsecd.service")
            assert eventually(partial(has_another_pid, machine, before), 20)
            assert eventually(lambda: banned() == BANS, 60), (banned(), journals())
        machine.ctl("stop", "ipsecd.service")
        machine.ctl("start", "ipsecd.service")
        assert eventually(lambda: banned() == BANS, 60), (banned(), journals())
        assert machine.ctl("is-active", *BANNING).split() == ["active"] * 3
        machine.ctl("restart", *BANNING)
        # sshguard knows nothing of an earlier run, as with its own backends.
        assert eventually(lambda: len(banned()) == 2, 60), (banned(), journals())
        assert eventually(all_are_banned, 60), (banned(), journals())
    finally:
        without_banning(machine)


def test_an_upgrade_lets_nothing_through(machine: Machine, packages: tuple[Path, Path]) -> None:
    """The package is replaced by a higher version while the peer floods."""

    def since() -> list[str]:
        """When the socket and the first unit were started: they are no part of the restart."""
        names = ("ipsecd.socket", "ipsecd-boot.service")
        return [machine.ctl("show", "--property=ActiveEnterTimestamp", name) for name in names]

    machine.run("ipsecctl", "block", "192.0.2.9")
    blocked = now(machine)
    machine.run("ipsecctl", "unblock", "192.0.2.9")
    machine.run("ipsecctl", "block", "192.0.2.8", "--for", "1h")
    machine.run("ipsecctl", "list", "create", "bans")
    machine.run("ipsecctl", "list", "add", "bans", "192.0.2.9")
    machine.run("ipsecctl", "list", "add", "bans", "192.0.2.10", "--confirm", "1h")
    before, started = machine.pid(), since()
    words = ("apt-get", "install", "-qy", f"/root/{packages[1].name}")
    assert machine.leaked(lambda: machine.run(*words)) == 0
    assert machine.pid() not in {0, before}
    assert since() == started
    assert NEXT_VERSION in machine.run("dpkg-query", "--show", "ipsecd")
    assert [decided(machine, at) for at in (blocked, now(machine))] == ["block", "permit"]
    status = machine.run("ipsecctl", "status")
    assert "in step" in status
    assert "taken over 1 rule" in status
    assert "192.0.2.8" in machine.run("ipsecctl", "show", "dynamic")
    assert "UNCONFIRMED" in status
    assert "192.0.2.10" in machine.run("ipsecctl", "list", "show", "bans")
    machine.run("ipsecctl", "revert")
    assert machine.run("ipsecctl", "list", "show", "bans").split() == ["192.0.2.9"]


def test_a_purge_leaves_nothing(machine: Machine) -> None:
    """No table, no pin, no file, and no process."""
    machine.run("apt-get", "purge", "-qy", "ipsecd", "ipsecd-windows-commands")
    assert machine.run("nft", "list", "tables") == ""
    remains = machine.run(
        *("find", "/etc", "/usr", "/lib", "/var", "/run", "/sys/fs/bpf", "-name", "*ipsecd*")
    )
    kept = ("/var/log/", "/var/cache/apt/", "/var/lib/dpkg/", "/run/log/", "/run/systemd/propagate")
    assert [path for path in remains.splitlines() if not path.startswith(kept)] == []
    assert machine.run("pgrep", "ipsecd", check=False) == ""
    before = machine.received()[0]
    assert eventually(lambda: machine.received()[0] > before + 50)
