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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest

from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.counters import pinned_state
from tests.netns import sockets

HERE4, PEER4 = "192.168.1.1", "192.168.1.66"
HERE6, PEER6 = "fd09::1", "fd09::66"
PEER = "peer"
BPFFS = Path("/sys/fs/bpf/ipsecd")
BACKENDS = ("nftables", "xdp")
PATIENCE = float(os.environ.get("IPSECD_PATIENCE", "1"))
"""How many times longer to wait for what must happen; an emulated machine is slow."""
LONGEST_S = max(240.0, 20 * PATIENCE)
"""How long a daemon that lives may take, on a machine that others keep busy, before it counts as
one that does not come."""

Namespace = tuple[str, ...]
"""How to run a command in a network namespace: words to put before it, none for the host's."""

HOST: Namespace = ()


def own_name(name: str) -> str:
    """A name that no other process of tests uses, for things that are in no namespace."""
    return f"{name}-{os.getpid()}"


def make_group(path: Path) -> None:
    """Make a control group, unless an earlier run that was broken off has left it."""
    while not path.is_dir():
        # The parent may be removed by another process of tests, when it has become empty.
        with suppress(FileNotFoundError):
            path.mkdir(parents=True, exist_ok=True)


def inside(name: str) -> Namespace:
    """The words that run a command in the namespace of this name."""
    return ("ip", "netns", "exec", name)


OUTSIDE = inside(PEER)

LISTEN = """
import select, socket, sys
kind, address, port, silence = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
if kind == "tcp":
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind((address, port))
if kind == "tcp":
    sock.listen()
sock.setblocking(False)
print("ready", flush=True)
count = 0
watched = [sock, sys.stdin]
while found := select.select(watched, [], [], None if sys.stdin in watched else silence)[0]:
    if sys.stdin in found:
        watched.remove(sys.stdin)
    try:
        while sock in found:
            sock.accept() if kind == "tcp" else sock.recv(65535)
            count += 1
    except BlockingIOError:
        pass
print(count, flush=True)
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
    """Skip the test unless tests run in namespaces of their own; in CI, fail it."""
    if os.geteuid() != 0 or "IPSECD_ISOLATED" not in os.environ:
        if os.environ.get("CI"):
            pytest.fail("needs root and namespaces of its own: run it with make test")
        pytest.skip("needs root and namespaces of its own: run it with make test")


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, (words, done.stdout, done.stderr)
    return done.stdout


def rename(old: str, new: str) -> None:
    """Give a link another name, for which older kernels want it to be down."""
    run("ip", "link", "set", old, "down", "name", new)
    run("ip", "link", "set", new, "up")


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

    def __init__(self, directory: Path, backend: str = "nftables", where: Namespace = HOST) -> None:
        """`where` is a command that runs the daemon in other namespaces, as the same process."""
        self.directory = directory
        self.backend = backend
        self.where = where
        self.options: tuple[str, ...] = ()
        self.policies = directory / "etc" / "policies"
        self._process: subprocess.Popen[str] | None = None
        self._log = directory / "log"
        self.environment = {**os.environ, "IPSECD_SOCKET": str(directory / "run/ipsecd.sock")}

    def start(self) -> None:
        """Start the daemon, and return when it serves."""
        for name in ("etc", "lib", "run"):
            (self.directory / name).mkdir(exist_ok=True)
        socket_path = self.directory / "run/ipsecd.sock"
        socket_path.unlink(missing_ok=True)
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *self.where,
                    *(sys.executable, "-m", "ipsecd"),
                    *("--config-dir", str(self.directory / "etc")),
                    *("--state-dir", str(self.directory / "lib")),
                    *("--runtime-dir", str(self.directory / "run")),
                    *("--bpffs-dir", str(BPFFS)),
                    *("--backend", self.backend),
                    *self.options,
                ],
                stderr=log,
                text=True,
            )
        deadline = time.monotonic() + LONGEST_S
        while not socket_path.exists():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon with a signal, and wait for its end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(LONGEST_S)
            self._process = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def lives(self) -> bool:
        """Whether the process that was started has not ended."""
        return self._process is not None and self._process.poll() is None

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

    def put(self, document: str) -> None:
        """Store a policy, and have it in force."""
        path = self.directory / "policy.yaml"
        path.write_text(document)
        self.ctl("apply", str(path), "--assign")

    def type(self, line: str, code: int = 0) -> str:
        """What a legacy command line prints; it is a string, as a person types it."""
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
    entries = []
    for name, size in (("dynamic_ipv4", abi.DYNAMIC4.size), ("dynamic_ipv6", abi.DYNAMIC6.size)):
        for directory in BPFFS.glob("maps-*"):
            descriptor = libbpf.get_pinned(directory / name)
            entries += [key.hex() for key in libbpf.keys(descriptor, size)]
            os.close(descriptor)
    return entries


def kernel_state(daemon: Daemon) -> str:
    """What the kernel holds, as text that changes when it does."""
    if daemon.backend == "nftables":
        return run("nft", "list", "table", "inet", "ipsecd")
    policies = [pinned_state(directory)[0] for directory in BPFFS.glob("maps-*")]
    return f"{policies} {dynamic_entries(daemon)}"


@contextmanager
def daemon(
    directory: Path, backend: str = "nftables", settings: str | None = None
) -> Iterator[Daemon]:
    """A running daemon on a wire; nothing of it is left afterwards.

    With `recorder: off` in its `settings` the rules are all that the kernel holds: it is not asked
    to tell of what they drop.
    """
    needs_isolation()
    with wire():
        running = Daemon(directory, backend)
        if settings is not None:
            file = directory / "settings.yaml"
            file.write_text(settings)
            running.options = ("--config", str(file))
        running.start()
        try:
            yield running
        finally:
            with suppress(subprocess.TimeoutExpired):
                running.end()
            run("nft", "delete", "table", "inet", "ipsecd", check=False)


def eventually(holds: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether something becomes true in time, which is longer on a slow machine."""
    deadline = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def ends_without_the_daemon(daemon: Daemon) -> bool:
    """Whether a rule with a time to live holds, with the daemon and without, and then ends.

    If the machine is too busy to look in time, the test is tried again with a longer time to live.
    """
    for life_s in (2, 10, 60):
        begun = time.monotonic()
        daemon.ctl("block", "udp/1434", "--for", f"{life_s}s")
        passed = delivered(HERE4, 1434)
        daemon.end(signal.SIGKILL)
        passed += delivered(HERE4, 1434)
        if time.monotonic() < begun + life_s:
            break
        daemon.start()
    ended = passed == 0 and eventually(lambda: delivered(HERE4, 1434) == 5, life_s + 10)
    daemon.start()
    return ended and time.monotonic() > begun + life_s


def block(daemon: Daemon, *filters: str) -> None:
    """Assign a policy that blocks."""
    listed = ", ".join(f'"{text}"' for text in filters)
    daemon.put(f"policy: Blocks\nrules:\n  - rule: R\n    action: block\n    filters: [{listed}]\n")


def python(where: Namespace, code: str, *words: str) -> list[str]:
    """The command that runs a program of the standard library in a namespace."""
    return [*where, sys.executable, "-I", "-S", "-c", code, *words]


@contextmanager
def serving(where: Namespace, code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A program that runs until the block ends, and says by a line that it is ready."""
    with subprocess.Popen(
        python(where, code, *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@contextmanager
def listening(
    where: Namespace, address: str, port: int, *, tcp: bool = False, silence_s: float = 0.4
) -> Iterator[Callable[[], int]]:
    """A listener, and the function that tells how many datagrams or connections came to it.

    Call the function when all is sent. It counts until nothing has come for `silence_s`, however
    long a busy machine took to send.
    """
    words = ("tcp" if tcp else "udp", address, str(port), str(silence_s))
    with serving(where, LISTEN, *words) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        entry, output = process.stdin, process.stdout

        def heard() -> int:
            entry.close()
            return int(output.readline())

        yield heard


def namespace_file(where: Namespace) -> str | None:
    """The file of a namespace; None if its words do more than to enter one."""
    if where == HOST:
        return "/proc/thread-self/ns/net"
    if len(where) == 4 and where[:3] == ("ip", "netns", "exec"):
        return f"/run/netns/{where[3]}"
    if len(where) == 3 and where[0] == "nsenter" and where[1].startswith("--net="):
        return where[1].removeprefix("--net=")
    return None


@contextmanager
def hearing(
    where: Namespace, address: str, port: int, *, tcp: bool = False, silence_s: float = 0.4
) -> Iterator[Callable[[], int]]:
    """The same as `listening` for what is sent once, and no flood; it mostly needs no program."""
    if (path := namespace_file(where)) is None:
        with listening(where, address, port, tcp=tcp, silence_s=silence_s) as heard:
            yield heard
        return
    with sockets.listener(path, address, port, tcp=tcp) as sock:
        yield lambda: sockets.counted(sock, silence_s)


def send(where: Namespace, address: str, port: int, count: int = 5, size: int = 20) -> None:
    """Send datagrams to an address and port."""
    if path := namespace_file(where):
        sockets.send(path, address, port, count, size)
    else:
        subprocess.run(python(where, SEND, address, str(port), str(count), str(size)), check=True)


def delivered(
    address: str, port: int, *, to_peer: bool = False, count: int = 5, size: int = 20
) -> int:
    """How many of `count` datagrams to `address` arrive; sent by the peer, or to it."""
    receiver, sender = (OUTSIDE, HOST) if to_peer else (HOST, OUTSIDE)
    with hearing(receiver, address, port) as heard:
        send(sender, address, port, count, size)
        return heard()


def _sent_by_peer() -> int:
    """How many packets the peer has put on the wire."""
    listed = json.loads(run("ip", "-n", PEER, "-json", "-stats", "link", "show", "wire1"))
    return int(listed[0]["stats64"]["tx"]["packets"])


class Flood:
    """A peer that sends to UDP 1434 without end, and a listener that counts what arrives."""

    def __enter__(self) -> Self:
        before = _sent_by_peer()
        with ExitStack() as stack:
            self._heard = stack.enter_context(listening(HOST, HERE4, 1434))
            words = python(OUTSIDE, SEND, HERE4, "1434", str(10**9), "20")
            self._sending = stack.enter_context(subprocess.Popen(words))
            stack.callback(self._sending.kill)
            # Starting the sender takes seconds on a slow machine, and until then nothing is tested.
            assert eventually(lambda: _sent_by_peer() > before + 100, 10)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def received(self) -> int:
        """End the flood; how many datagrams were delivered while it lasted."""
        self._sending.kill()
        self._sending.wait()
        return self._heard()
