"""Rules by names that the real fetcher looks up, on a name server that answers, hangs or lies.

Only the fetcher has this name server: the daemon, in the same network, has none that it can reach.
"""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, PEER4, Daemon, delivered, eventually

pytestmark = pytest.mark.netns

PORT = 1434
ADDRESS, IN = 1, 1
"""The type A and the class, as RFC 1035 numbers them."""
FETCH = """
mount --bind "$1" /etc/resolv.conf
mount --bind "$2" /etc/hosts
shift 2
exec "$@"
"""


class NameServer:
    """A name server on the loopback address; names that it does not know do not exist."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.silent: set[str] = set()
        self.garbled: set[str] = set()
        self.asked: list[str] = []
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 53))
        self._sock.settimeout(0.1)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self._sock.close()

    def _serve(self) -> None:
        while not self._ending.is_set():
            with suppress(OSError):
                query, client = self._sock.recvfrom(512)
                answer = self._answer(query)
                if answer is not None:
                    self._sock.sendto(answer, client)

    def _answer(self, query: bytes) -> bytes | None:
        """The reply to one question, laid out as RFC 1035, section 4.1, says."""
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        (kind,) = struct.unpack_from(">H", query, at + 1)
        name, question = ".".join(labels).lower(), query[12 : at + 5]
        self.asked.append(name)
        if name in self.silent:
            return None
        if name in self.garbled:
            return query[:2] + b"\xff" * 100
        found = name in self.names
        records = [
            b"\xc0\x0c" + struct.pack(">HHIH", kind, IN, 0, 4) + socket.inet_aton(address)
            for address in self.names.get(name, [])
            if kind == ADDRESS
        ]
        flags = 0x8180 if found else 0x8183
        header = query[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0)
        return header + question + b"".join(records)


class Site:
    """A daemon, its name server, and the fetcher that alone has it."""

    def __init__(self, daemon: Daemon, server: NameServer) -> None:
        self.daemon = daemon
        self.server = server
        self._log = daemon.directory / "fetcher.log"

    @contextmanager
    def fetcher(self) -> Iterator[subprocess.Popen[bytes]]:
        """The fetcher; when the block begins it waits for questions."""
        resolv, hosts = (self.daemon.directory / name for name in ("resolv.conf", "hosts"))
        resolv.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:2\n")
        hosts.write_text("127.0.0.1 localhost\n192.0.2.50 ready.example\n")
        words = [
            *("unshare", "--mount", "sh", "-ec", FETCH, "sh", str(resolv), str(hosts)),
            *(sys.executable, "-m", "ipsecd_domain"),
            *("--socket", self.daemon.environment["IPSECD_SOCKET"]),
        ]
        with self._log.open("ab") as log:
            process = subprocess.Popen(words, stderr=log)
        try:
            assert eventually(self._answers, 30), self._log.read_text()
            yield process
        finally:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        done = subprocess.run(
            [sys.executable, "-m", "ipsecctl", "block", "ready.example=0", "--name", "ready"],
            capture_output=True,
            env=self.daemon.environment,
            check=False,
        )
        return done.returncode == 0

    def names(self) -> str:
        return self.daemon.ctl("show", "names")


@pytest.fixture(params=site.BACKENDS)
def names(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A host that speaks with its peer, and a name server that knows the peer as worm.example."""
    site.needs_isolation()
    with ExitStack() as stack:
        daemon = stack.enter_context(site.daemon(tmp_path, request.param))
        server = NameServer()
        stack.callback(server.close)
        server.names["worm.example"] = [PEER4]
        yield Site(daemon, server)


def test_a_block_by_a_name_is_enforced_by_what_the_fetcher_says(names: Site) -> None:
    """Without it the name is not known here; with it packets of its address are dropped."""
    assert delivered(HERE4, PORT)
    assert "cannot be resolved" in names.daemon.ctl("block", "worm.example=0", code=1)
    with names.fetcher():
        names.daemon.ctl("block", "worm.example=0", "--name", "worm")
        assert PEER4 in names.names()
        for verb in (("show",), ("show", "dynamic"), ("explain", f"udp {PEER4}:4000 > me:{PORT}")):
            assert f"worm.example=0 [{PEER4}]" in names.daemon.ctl(*verb)
        assert not delivered(HERE4, PORT)
        assert "cannot be resolved" in names.daemon.ctl("block", "absent.example=0", code=1)
        names.server.names["worm.example"] = ["192.0.2.66"]
        names.daemon.ctl("reload", "--resolve")
        assert "192.0.2.66" in names.names()
        assert delivered(HERE4, PORT)
        names.server.names["worm.example"] = [PEER4]
        names.daemon.ctl("reload", "--resolve")
    assert not delivered(HERE4, PORT)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_fetcher_that_is_killed_or_hangs_in_the_middle_changes_nothing(
    names: Site, number: signal.Signals
) -> None:
    """The change is refused, names in force keep their addresses, and the next fetcher serves."""
    for words, code in ((("block", "slow.example=0"), 1), (("reload", "--resolve"), 0)):
        names.server.silent.clear()
        with names.fetcher() as process:
            names.daemon.ctl("block", "worm.example=0", "--name", "worm")
            names.server.silent |= {"worm.example", "slow.example"}
            names.server.asked.clear()
            waiting = subprocess.Popen(
                [sys.executable, "-m", "ipsecctl", *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=names.daemon.environment,
            )
            assert eventually(lambda: bool(names.server.asked), 20)
            process.send_signal(number)
            said, _ = waiting.communicate(timeout=60)
            assert waiting.returncode == code, said
            if code:
                assert ("has ended" if number == signal.SIGKILL else "no answer within") in said
            assert not delivered(HERE4, PORT)
            assert PEER4 in names.names()
    names.server.silent.clear()
    with names.fetcher():
        names.daemon.ctl("reload", "--resolve")
        assert not delivered(HERE4, PORT)
        assert "cannot be resolved" in names.daemon.ctl("block", "slow.example=0", code=1)


def test_garbage_of_a_name_server_changes_nothing(names: Site) -> None:
    """Nonsense in the place of an answer is no answer, and does not end the fetcher."""
    with names.fetcher() as process:
        names.daemon.ctl("block", "worm.example=0", "--name", "worm")
        names.server.garbled |= {"worm.example", "other.example"}
        assert "cannot be resolved" in names.daemon.ctl("block", "other.example=0", code=1)
        names.daemon.ctl("reload", "--resolve")
        assert not delivered(HERE4, PORT)
        assert process.poll() is None
        names.server.garbled.clear()
        names.daemon.ctl("reload", "--resolve")
        assert not delivered(HERE4, PORT)
