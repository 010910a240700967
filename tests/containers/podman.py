"""Real Podman containers in the namespaces of the tests, and traffic between all of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns.site import PEER, RECEIVE, SEND, run

ROOT = Path(__file__).parents[2]
SOCKET = Path("/run/podman/podman.sock")
CONFIGURATION = """
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
hooks_dir = ["{hooks}"]
[network]
network_backend = "netavark"
"""
OWN = ("/var/lib/containers", "/etc/containers/networks")
"""Where Podman keeps what must not stay, nor meet what is there."""
APPLETS = ("sh", "sleep", "tftp")
NETWORKS = {"front": ("10.90.0.0/24", "fd90::/64"), "back": ("10.91.0.0/24", "fd91::/64")}

Namespace = tuple[str, ...]
"""How to run a command in a network namespace; empty for the host's."""

HOST: Namespace = ()
OUTSIDE: Namespace = ("ip", "netns", "exec", PEER)

LISTEN_TCP = """
import socket, sys
address, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind((address, port))
sock.listen()
sock.settimeout(seconds)
print("ready", flush=True)
try:
    sock.accept()
    print(1)
except TimeoutError:
    print(0)
"""
CONNECT = """
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
try:
    socket.create_connection((address, port), 0.7)
except OSError:
    pass
"""


def needs_podman() -> None:
    """Fail in CI, skip elsewhere, without Podman."""
    missing = [name for name in ("podman", "busybox", "conmon", "crun") if not shutil.which(name)]
    if os.geteuid() != 0 or "IPSECD_ISOLATED" not in os.environ or missing:
        reason = f"needs root, namespaces of its own (make test), and {' '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class Podman:
    """An engine with storage of its own, and its API service."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        configuration = directory / "containers.conf"
        self._hooks = directory / "hooks"
        self._hooks.mkdir()
        configuration.write_text(CONFIGURATION.format(hooks=self._hooks))
        self._environment = {**os.environ, "CONTAINERS_CONF": str(configuration)}
        self._service: subprocess.Popen[bytes] | None = None
        self.root = directory / "rootfs"
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", self.root / "bin/busybox")
        for applet in APPLETS:
            (self.root / "bin" / applet).symlink_to("busybox")

    def __call__(self, *words: str, check: bool = True) -> str:
        """What ``podman`` prints."""
        done = subprocess.run(
            ["podman", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self._environment,
            check=False,
        )
        assert done.returncode == 0 or not check, (words, done.stdout, done.stderr)
        return done.stdout

    def install_hook(self, socket: str) -> None:
        """Have every container announced to the daemon behind `socket` before it starts."""
        command = self._directory / "container-hook"
        command.write_text(
            f"#!/bin/sh\nIPSECD_SOCKET={socket} exec {sys.executable} -m ipsecctl.hook\n"
        )
        command.chmod(0o755)
        ours = (ROOT / "systemd/ipsecd-hook.json").read_text()
        text = ours.replace("/usr/libexec/ipsecd/container-hook", str(command))
        (self._hooks / "ipsecd.json").write_text(text)

    def remove_hook(self) -> None:
        (self._hooks / "ipsecd.json").unlink(missing_ok=True)

    def serve(self) -> None:
        """Start the API service."""
        SOCKET.parent.mkdir(exist_ok=True)
        SOCKET.unlink(missing_ok=True)
        with (self._directory / "service").open("ab") as log:
            self._service = subprocess.Popen(
                ["podman", "system", "service", "-t", "0", f"unix://{SOCKET}"],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        while not SOCKET.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end_service(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the API service; containers run on."""
        assert self._service is not None
        self._service.send_signal(number)
        self._service.wait(20)
        self._service = None

    def run(
        self, name: str, *options: str, network: str = "front", command: str = "sleep 100000"
    ) -> None:
        """Start a container that does nothing, or runs a command of its shell."""
        words = ("run", "-d", "--name", name, "--network", network, *options)
        self(*words, "--rootfs", str(self.root), "sh", "-c", command)

    def create(self, name: str, *options: str, network: str = "front") -> None:
        """Make a container without starting it."""
        words = ("create", "--name", name, "--network", network, *options)
        self(*words, "--rootfs", str(self.root), "sleep", "100000")

    def inside(self, name: str) -> Namespace:
        """The network namespace of a running container."""
        pid = self("inspect", "--format", "{{.State.Pid}}", name).strip()
        return ("nsenter", f"--net=/proc/{pid}/ns/net", "--")

    def address(self, name: str, network: str = "front", version: int = 4) -> str:
        """The address of a container in one network; "" if it is not running."""
        (found,) = json.loads(self("inspect", name))
        entry = found["NetworkSettings"]["Networks"].get(network) or {}
        return str(entry.get("IPAddress" if version == 4 else "GlobalIPv6Address") or "")

    def close(self) -> None:
        """Remove every container and network."""
        self("rm", "--all", "--force", "--time", "0", check=False)
        for name in NETWORKS:
            self("network", "rm", "--force", name, check=False)
        if self._service:
            self.end_service()


def delete_foreign_tables() -> None:
    """Remove the tables that iptables made for others: they would change what later tests see."""
    for line in run("nft", "list", "tables").splitlines():
        _, family, name = line.split()
        if not name.startswith("ipsecd"):
            run("nft", "delete", "table", family, name)


@contextmanager
def podman(directory: Path) -> Iterator[Podman]:
    """A running engine with two networks, in a mount namespace that is made ready for it."""
    needs_podman()
    run("umount", "--recursive", "/sys/fs/cgroup", check=False)
    run("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
    for path in OWN:
        Path(path).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "containers", path)
    run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    engine = Podman(directory)
    try:
        engine.serve()
        for name, subnets in NETWORKS.items():
            options = [word for subnet in subnets for word in ("--subnet", subnet)]
            engine("network", "create", "--ipv6", *options, name)
        yield engine
    finally:
        engine.close()
        delete_foreign_tables()
        for path in OWN:
            run("umount", path)


def _python(where: Namespace, code: str, *words: str) -> list[str]:
    return [*where, sys.executable, "-I", "-c", code, *words]


def passes(
    source: Namespace,
    target: Namespace,
    address: str,
    port: int,
    *,
    at: int | None = None,
    tcp: bool = False,
) -> bool:
    """Whether traffic from one namespace to an address and port gets to a listener in another.

    `at` is the port that it listens on, if it is another. All of the datagrams, or none: a part
    is an error.
    """
    everywhere = "::" if ":" in address else "0.0.0.0"
    listener = (LISTEN_TCP, everywhere, str(at or port), "0.8") if tcp else ()
    words: Sequence[str] = listener or (RECEIVE, everywhere, str(at or port), "0.5")
    with subprocess.Popen(
        _python(target, words[0], *words[1:]), stdout=subprocess.PIPE, text=True
    ) as listening:
        assert listening.stdout is not None
        listening.stdout.readline()
        if tcp:
            subprocess.run(_python(source, CONNECT, address, str(port)), check=True)
        else:
            sending = _python(source, SEND, address, str(port), "5", "20")
            subprocess.run(sending, check=True)
        got = int(listening.stdout.readline())
    assert got in ({0, 1} if tcp else {0, 5}), got
    return got > 0
