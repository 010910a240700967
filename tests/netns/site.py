"""Two hosts: this one with a real daemon, and a peer in a network namespace behind a wire."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest

from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.programs import pinned_state

HERE4, PEER4 = "192.168.1.1", "192.168.1.66"
HERE6, PEER6 = "fd09::1", "fd09::66"
PEER = "peer"
BPFFS = Path("/sys/fs/bpf/ipsecd")
BACKENDS = ("nftables", "xdp")

RECEIVE = """
import socket, sys
address, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
sock.bind((address, port))
sock.settimeout(seconds)
print("ready", flush=True)
got = 0
try:
    while sock.recv(65535) != b"end":
        got += 1
except TimeoutError:
    pass
print(got, flush=True)
"""
SEND = """
import socket, sys
address, port, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM)
for n in range(count):
    try:
        sock.sendto(b"x" * size, (address, port))
    except PermissionError:
        pass
"""


def needs_isolation() -> None:
    """Fail in CI, skip elsewhere, unless the tests run in namespaces of their own."""
    if os.geteuid() != 0 or "IPSECD_ISOLATED" not in os.environ:
        if os.environ.get("CI"):
            pytest.fail("needs root and namespaces of its own: run it with make test")
        pytest.skip("needs root and namespaces of its own: run it with make test")


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, (words, done.stdout, done.stderr)
    return done.stdout


@contextmanager
def wire() -> Iterator[None]:
    """The link to the peer, IPv4 and IPv6."""
    run("ip", "netns", "add", PEER)
    try:
        run("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1", "netns", PEER)
        for address in (f"{HERE4}/24", f"{HERE6}/64"):
            nodad = ["nodad"] if ":" in address else []
            run("ip", "address", "add", address, "dev", "wire0", *nodad)
        run("ip", "link", "set", "wire0", "up")
        for address in (f"{PEER4}/24", f"{PEER6}/64"):
            nodad = ["nodad"] if ":" in address else []
            run("ip", "-n", PEER, "address", "add", address, "dev", "wire1", *nodad)
        run("ip", "-n", PEER, "link", "set", "wire1", "up")
        run("ip", "-n", PEER, "link", "set", "lo", "up")
        yield
    finally:
        run("ip", "link", "delete", "wire0", check=False)
        run("ip", "netns", "delete", PEER)


class Daemon:
    """A real ``ipsecd`` with directories of its own."""

    def __init__(self, directory: Path, backend: str = "nftables") -> None:
        self.directory = directory
        self.backend = backend
        self.policies = directory / "etc" / "policies"
        self._process: subprocess.Popen[str] | None = None
        self._log = directory / "log"
        self.environment = {**os.environ, "IPSECD_SOCKET": str(directory / "run/ipsecd.sock")}

    def start(self) -> None:
        """Start it, and return when it serves."""
        for name in ("etc", "lib", "run"):
            (self.directory / name).mkdir(exist_ok=True)
        socket_path = self.directory / "run/ipsecd.sock"
        socket_path.unlink(missing_ok=True)
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ipsecd"),
                    *("--config-dir", str(self.directory / "etc")),
                    *("--state-dir", str(self.directory / "lib")),
                    *("--runtime-dir", str(self.directory / "run")),
                    *("--bpffs-dir", str(BPFFS)),
                    *("--backend", self.backend),
                ],
                stderr=log,
                text=True,
            )
        deadline = time.monotonic() + 20
        while not socket_path.exists():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it with a signal and wait for it."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def log(self) -> str:
        return self._log.read_text()

    def ctl(self, *words: str, code: int = 0) -> str:
        """What ``ipsecctl`` prints, with exit code `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "ipsecctl", *words],
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr, self.log())
        return done.stdout + done.stderr

    def type(self, line: str, code: int = 0) -> str:
        """What a legacy command line prints, typed as it stands."""
        return self.ctl(*shlex.split(line, posix=True), code=code)


def dynamic_entries(daemon: Daemon) -> list[str]:
    """The dynamic entries that the kernel holds."""
    if daemon.backend == "nftables":
        listed = json.loads(run("nft", "-j", "list", "table", "inet", "ipsecd"))["nftables"]
        return [
            json.dumps(element)
            for item in listed
            if "set" in item and item["set"]["name"].startswith("dynamic_")
            for element in item["set"].get("elem", [])
        ]
    found = []
    for name, size in (("dynamic_ipv4", abi.DYNAMIC4.size), ("dynamic_ipv6", abi.DYNAMIC6.size)):
        for directory in BPFFS.glob("maps-*"):
            descriptor = libbpf.get_pinned(directory / name)
            found += [key.hex() for key in libbpf.keys(descriptor, size)]
            os.close(descriptor)
    return found


def kernel_state(daemon: Daemon) -> str:
    """What the kernel holds, as text that changes when it does."""
    if daemon.backend == "nftables":
        return run("nft", "list", "table", "inet", "ipsecd")
    policies = [pinned_state(directory)[0] for directory in BPFFS.glob("maps-*")]
    return f"{policies} {dynamic_entries(daemon)}"


@contextmanager
def daemon(directory: Path, backend: str = "nftables") -> Iterator[Daemon]:
    """A running daemon on a wire; nothing of it is left afterwards."""
    needs_isolation()
    with wire():
        one = Daemon(directory, backend)
        one.start()
        try:
            yield one
        finally:
            with suppress(subprocess.TimeoutExpired):
                one.end()
            run("nft", "delete", "table", "inet", "ipsecd", check=False)


def eventually(holds: Callable[[], bool], seconds: float = 3) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def block(daemon: Daemon, *filters: str) -> None:
    """Assign a policy that blocks."""
    path = daemon.directory / "blocks.yaml"
    listed = ", ".join(f'"{one}"' for one in filters)
    path.write_text(
        f"policy: Blocks\nrules:\n  - rule: R\n    action: block\n    filters: [{listed}]\n"
    )
    daemon.ctl("apply", str(path), "--assign")


def _python(code: str, *words: str, inside: str = "") -> list[str]:
    prefix = ["ip", "netns", "exec", inside] if inside else []
    return [*prefix, sys.executable, "-I", "-c", code, *words]


def delivered(
    address: str, port: int, *, to_peer: bool = False, count: int = 5, size: int = 20
) -> int:
    """How many of `count` datagrams to `address` arrive; sent by the peer, or to it."""
    receiver, sender = (PEER, "") if to_peer else ("", PEER)
    with subprocess.Popen(
        _python(RECEIVE, address, str(port), "0.4", inside=receiver),
        stdout=subprocess.PIPE,
        text=True,
    ) as listening:
        assert listening.stdout is not None
        listening.stdout.readline()
        subprocess.run(
            _python(SEND, address, str(port), str(count), str(size), inside=sender), check=True
        )
        return int(listening.stdout.readline())


class Flood:
    """A peer that sends to UDP 1434 without end, and a listener that counts what arrives."""

    def __enter__(self) -> Self:
        self._listening = subprocess.Popen(
            _python(RECEIVE, HERE4, "1434", "1000"), stdout=subprocess.PIPE, text=True
        )
        assert self._listening.stdout is not None
        self._listening.stdout.readline()
        self._sending = subprocess.Popen(
            _python(SEND, HERE4, "1434", str(10**9), "20", inside=PEER)
        )
        time.sleep(0.3)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._sending, self._listening):
            process.kill()
            process.wait()

    def received(self) -> int:
        """End the flood; how many datagrams were delivered while it lasted."""
        self._sending.kill()
        self._sending.wait()
        subprocess.run(
            _python(
                "import socket\n"
                "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                f"s.sendto(b'end', ('{HERE4}', 1434))"
            ),
            check=True,
        )
        assert self._listening.stdout is not None
        return int(self._listening.stdout.readline())
