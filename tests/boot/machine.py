"""A Debian 12 with a real systemd in a container, on a wire to a peer that floods it.

A machine writes to a layer of its own above a base system that is made once (``base.py``). Every
boot gets a network namespace of its own, so that nothing of what was enforced before can be left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ipsecd.backend.nftables import cgroups
from tests.boot.base import base_path
from tests.netns.site import eventually, inside, python, run

GUEST, PEER = "machine", "machine-peer"
HERE, THERE, MAC = "192.168.1.1", "192.168.1.66", "02:00:00:00:00:01"
WORM, OTHER = 1434, 1435

CALLS = "bpf landlock_create_ruleset landlock_add_rule landlock_restrict_self"
"""What a machine may call that a container may not by default."""

LISTEN = f"""
import pathlib, select, socket
counts = {{{WORM}: 0, {OTHER}: 0}}
socks = {{}}
for port in counts:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", port))
    socks[sock] = port
while True:
    for sock in select.select(list(socks), [], [], 0.05)[0]:
        sock.recv(100)
        counts[socks[sock]] += 1
    path = pathlib.Path("/run/received.new")
    path.write_text(" ".join(map(str, counts.values())))
    path.rename("/run/received")
"""
LISTEN_UNIT = """
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/bin/python3 -I /opt/listen.py
[Install]
WantedBy=sysinit.target
"""
NETWORK = f"""
[Match]
Name=wire0
[Network]
Address={HERE}/24
LinkLocalAddressing=no
IPv6AcceptRA=no
"""
FLOOD = f"""
import socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    for port in ({WORM}, {OTHER}):
        try:
            sock.sendto(b"worm", ("{HERE}", port))
        except OSError:
            time.sleep(0.001)
    time.sleep(0.0002)
"""
BOOT = """
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "$1" && echo $$ > "$1/cgroup.procs"
mount -t bpf bpf "$2"
shift 2
exec systemd-nspawn "$@"
"""


def needs_machines() -> None:
    """Skip the test if no container can be booted here; in CI, fail it."""
    bootable = base_path().is_dir() and shutil.which("systemd-nspawn")
    if os.geteuid() != 0 or "IPSECD_ISOLATED" not in os.environ or not bootable:
        reason = "needs root, namespaces of its own and a base system: run it with make test"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class Machine:
    """One machine, and its peer."""

    def __init__(self, directory: Path) -> None:
        """Its own layer of files lies below `directory`."""
        self._directory = directory
        self.root = directory / "root"
        for name in ("root", "upper", "work", "bpf"):
            (directory / name).mkdir()
        layers = f"lowerdir={base_path()},upperdir={directory}/upper,workdir={directory}/work"
        run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))
        run("ip", "netns", "add", PEER)
        self._process: subprocess.Popen[bytes] | None = None
        self._flood: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._boots = 0
        self.put("etc/systemd/network/wire0.network", NETWORK)
        self.put("opt/listen.py", LISTEN)
        self.put("etc/systemd/system/listen.service", LISTEN_UNIT)
        run(
            "systemctl",
            f"--root={self.root}",
            "enable",
            "systemd-networkd.service",
            "listen.service",
        )

    def put(self, path: str, text: str) -> None:
        """Write a file of the machine."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.lstrip("\n"))

    def boot(self) -> None:
        """Start the machine in a new network namespace; return when systemd has started all."""
        self._boots += 1
        run("ip", "netns", "add", GUEST)
        wire = ("wire0", "netns", GUEST, "address", MAC, "type", "veth")
        run("ip", "link", "add", *wire, "peer", "name", "wire1", "netns", PEER)
        run("ip", "-n", PEER, "address", "add", f"{THERE}/24", "dev", "wire1")
        run("ip", "-n", PEER, "link", "set", "wire1", "up")
        neighbour = ("nud", "permanent", "dev", "wire1")
        run("ip", "-n", PEER, "neigh", "replace", HERE, "lladdr", MAC, *neighbour)
        group = f"/sys/fs/cgroup/ipsecd-{os.getpid()}-{self._boots}"
        options = [
            *("--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe"),
            *(f"--directory={self.root}", f"--network-namespace-path=/run/netns/{GUEST}"),
            "--capability=CAP_NET_ADMIN,CAP_BPF,CAP_PERFMON",
            f"--system-call-filter={CALLS}",
            f"--bind={self._directory}/bpf:/sys/fs/bpf",
        ]
        words = ["unshare", "--mount", "sh", "-ec", BOOT, "sh", group, f"{self._directory}/bpf"]
        with (self._directory / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [*words, *options], stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        assert eventually(lambda: self._find_leader() > 0, 20), self.console()
        self._leader = self._find_leader()
        assert eventually(lambda: self._state() in {"running", "degraded"}, 60), self.console()

    def reboot(self) -> None:
        """End the machine as ``systemctl reboot`` does, and boot it again."""
        self.ctl("reboot", check=False)
        self._ended()
        self.boot()

    def stop(self) -> None:
        """End the machine at once, as a power failure would."""
        if self._process is not None:
            if self._leader:
                with suppress(ProcessLookupError):
                    os.kill(self._leader, 9)
            self._ended()

    def close(self) -> None:
        """End the machine, and remove all that was made for it."""
        self.flood(False)
        self.stop()
        assert eventually(_without_groups, 20)
        run("ip", "netns", "delete", PEER)
        run("umount", str(self.root))

    def inside(self) -> tuple[str, ...]:
        """The words that run a command in the machine."""
        return ("nsenter", "--target", str(self._leader), "--all", "--")

    def run(self, *words: str, check: bool = True) -> str:
        """What a command in the machine prints, on both streams."""
        done = subprocess.run(
            [*self.inside(), *words],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0 or not check, (words, said, self.journal())
        return said

    def ctl(self, *words: str, check: bool = True) -> str:
        """Run ``systemctl``."""
        return self.run("systemctl", *words, check=check)

    def journal(self) -> str:
        return self.run("journalctl", "-b", "-u", "ipsecd*", "-n", "60", "--no-pager", check=False)

    def console(self) -> str:
        return (self._directory / "console").read_text(errors="replace")

    def flood(self, on: bool = True) -> None:
        """Have the peer begin to send to both ports, or stop it."""
        if self._flood is not None:
            self._flood.kill()
            self._flood.wait()
            self._flood = None
        if on:
            words = python(inside(PEER), FLOOD)
            self._flood = subprocess.Popen(words)

    def received(self) -> tuple[int, int]:
        """How many datagrams the listener got since boot: for the worm's port, for another."""
        words = self.run("cat", "/run/received", check=False).split()
        return (int(words[0]), int(words[1])) if len(words) == 2 else (0, 0)

    def leaked(self, during: Callable[[], object]) -> int:
        """How many datagrams for the worm's port got through while something was done.

        Datagrams for the other port must go on getting through before and after it.
        """
        before = self.received()
        during()
        after = self.received()
        assert eventually(lambda: self.received()[1] > after[1] + 50), self.journal()
        return self.received()[0] - before[0]

    def is_quiet(self) -> bool:
        """Whether nothing for the worm's port gets through for half a second.

        A busy machine counts a datagram some time after it got through.
        """
        before = self.received()[0]
        time.sleep(0.5)
        return self.received()[0] == before

    def pid(self) -> int:
        """The process id of the daemon inside the machine; 0 if it does not run."""
        return int(self.ctl("show", "--property=MainPID", "--value", "ipsecd.service"))

    def _ended(self) -> None:
        assert self._process is not None
        self._process.wait(60)
        self._process, self._leader = None, 0
        run("ip", "netns", "delete", GUEST)
        deadline = time.monotonic() + 20
        # The namespace, and the wire with it, goes when its last process has gone.
        while "wire1" in run("ip", "-n", PEER, "-brief", "link", "show"):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _state(self) -> str:
        return self.ctl("is-system-running", check=False).strip()

    def _find_leader(self) -> int:
        """The first process of the machine, as this system numbers it."""
        assert self._process is not None
        pids = [self._process.pid]
        while pids:
            pid = pids.pop()
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                    return pid
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                pids += map(int, children)
        return 0


def _without_groups() -> bool:
    """Remove the control groups of machines that have ended; return whether all are gone."""
    top = cgroups.root()
    groups = list(top.glob(f"ipsecd-{os.getpid()}-*")) if top else []
    for group in groups:
        for path in (*sorted(group.glob("**/"), reverse=True), group):
            with suppress(OSError):
                path.rmdir()
    return not any(group.exists() for group in groups)
