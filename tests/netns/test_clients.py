"""Many clients at once against the real daemon, edits by hand, and kernels without ownership."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.config import Config, Directories
from ipsecd.engine import Engine
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Policy, Rule
from tests.netns import site
from tests.netns.site import HERE4, PEER4, Daemon, Flood, delivered

pytestmark = pytest.mark.netns


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        yield running


class Client:
    """A connection that speaks varlink."""

    def __init__(self, daemon: Daemon) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(daemon.environment["IPSECD_SOCKET"])
        self._stream = self._socket.makefile("rb")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        frame = {"method": f"io.ipsecd.control.{method}", "parameters": parameters}
        self._socket.sendall(json.dumps(frame).encode() + b"\0")
        data = b""
        while not data.endswith(b"\0"):
            data += self._stream.read(1)
        reply: dict[str, Any] = json.loads(data[:-1])
        return reply

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


def memory_kib(daemon: Daemon) -> int:
    assert daemon.pid is not None
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def test_twenty_clients_change_at_once(daemon: Daemon) -> None:
    """1,000 adds and removes by 20 clients: each is answered, and the last state is exact."""
    errors: list[dict[str, Any]] = []

    def work(number: int) -> None:
        client = Client(daemon)
        for n in range(25):
            name = f"c{number}-{n}"
            text = f"10.{number}.{n}.1=0:{80 + n % 3}:TCP"
            errors.extend(
                reply
                for reply in [
                    client.call("AddDynamic", filters=[text], action="block", name=name),
                    *([client.call("RemoveDynamic", selector=name)] if n % 5 else []),
                ]
                if "error" in reply
            )
        client.close()

    def round_of_work() -> None:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()

    round_of_work()
    assert errors == []
    rules = json.loads(daemon.ctl("show", "dynamic", "--json"))
    names = {rule["name"] for rule in (rules["rules"] if isinstance(rules, dict) else rules)}
    assert names == {f"c{number}-{n}" for number in range(20) for n in range(0, 25, 5)}
    assert len(site.dynamic_entries(daemon)) == 100
    assert "in step" in daemon.ctl("status")
    used = memory_kib(daemon)
    for _ in range(3):
        daemon.ctl("flush")
        round_of_work()
    assert errors == []
    # The flight recorder holds what it has not written yet.
    assert memory_kib(daemon) < used + 8192


def test_edits_by_hand_are_picked_up_and_never_overwritten(daemon: Daemon) -> None:
    """An edited file refuses changes until it is loaded, and is in force after a reload."""
    daemon.type('ipseccmd -w REG -p P -r R -f "*=0:1434:UDP" -n BLOCK -x')
    file = next(daemon.policies.glob("*.yaml"))
    file.write_text(file.read_text().replace("1434", "1435"))
    said = daemon.type('ipseccmd -w REG -p P -r S -f "*=0:1436:UDP" -n BLOCK', code=1)
    assert "was edited since it was loaded" in said
    assert "ipsecctl reload" in said
    assert "1435" in file.read_text()
    assert delivered(HERE4, 1434) == 0
    daemon.ctl("reload")
    assert delivered(HERE4, 1434) == 5
    assert delivered(HERE4, 1435) == 0


def test_a_narrow_permit_is_an_exception_to_a_wide_block(daemon: Daemon) -> None:
    """The most specific filter decides, whichever came first and whichever store it is in."""
    daemon.ctl("block", "*=0:1434:UDP")
    assert delivered(HERE4, 1434) == 0
    daemon.ctl("permit", f"{PEER4}=0:1434:UDP", "--name", "friend")
    assert delivered(HERE4, 1434) == 5
    said = daemon.ctl("explain", f"udp {PEER4}:4000 > me:1434")
    assert said.startswith("permit")
    assert "friend" in said
    daemon.ctl("unblock", "friend")
    assert delivered(HERE4, 1434) == 0


def test_without_ownership_a_flush_is_put_right_within_a_second(tmp_path: Path) -> None:
    """Where the kernel cannot protect the table, a foreign change is undone and logged."""
    site.needs_isolation()
    with site.wire():
        directories = Directories(tmp_path / "etc", tmp_path / "lib", tmp_path / "run")
        engine = Engine(Config(), directories, lambda: NftablesBackend(protect=False))
        engine.start()
        assert engine.backend.probe() == ("watched",)
        rule = Rule("R", (parse_filter("*=0:1434:UDP"),), Action.BLOCK)
        engine.change(put=[Policy("P", (rule,))], assign="P")
        engine.watch()
        assert delivered(HERE4, 1434) == 0
        ended = threading.Event()

        def watch() -> None:
            while not ended.is_set():
                engine.watch()
                time.sleep(0.05)

        site.run("nft", "flush", "ruleset")
        assert engine.observe().digest is None
        thread = threading.Thread(target=watch)
        thread.start()
        time.sleep(1)
        ended.set()
        thread.join()
        assert engine.observe().drift == ()
        assert delivered(HERE4, 1434) == 0
        with Flood() as flood:
            engine.change(put=[Policy("P", (rule,), "another description")])
            assert flood.received() == 0
        engine.stop()
        engine.close()
