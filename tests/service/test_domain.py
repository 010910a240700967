"""What the service does about the domain: who waits, who is told, and the process that verifies."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ipsecd.errors import Refused
from ipsecd.service.verification import Verification
from ipsecd.sources.domain import Taken
from tests.engine.domain import root
from tests.service.harness import NOBODY, OUTCOME, Client, FakeEngine, Running, running, wait_until

ANSWER = {
    "outcome": "nothing",
    "reason": "",
    "hint": "",
    "version": 1,
    "expires": "2100-01-01T00:00:00Z",
    "interval_s": None,
    "why": "none is for this host",
    "trusted": {"root.json": root()},
}
BUNDLE = json.dumps({"metadata": {}, "targets": {}})


def child(code: str, timeout_s: float = 30.0) -> Verification:
    """A process that does something else than to verify, with the limits of one that does."""
    return Verification((sys.executable, "-I", "-c", code), timeout_s)


def saying(answer: object) -> str:
    return f"import sys; sys.stdin.read(); print({json.dumps(json.dumps(answer))})"


def engine_that_trusts() -> FakeEngine:
    engine = FakeEngine()
    engine.taken = Taken({"root.json": root()})
    return engine


@pytest.fixture
def service() -> Iterator[Running]:
    with running(engine=engine_that_trusts(), verification=child(saying(ANSWER))) as service:
        yield service


def fetcher(service: Running, refresh: int = 0) -> Client:
    """A client that waits to be asked for a look at the domain."""
    client = service.client()
    client.sock.sendall(client.request("AwaitDomain", {"more": True}, refresh=refresh))
    return client


def refreshed(service: Running, wait_s: float) -> tuple[threading.Thread, list[dict[str, Any]]]:
    """A look that is asked for in a thread of its own, and the reply when it is there."""
    replies: list[dict[str, Any]] = []

    def ask() -> None:
        with service.client() as client:
            replies.append(client.call("RefreshDomain", wait_s=wait_s))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, replies


def test_who_asks_waits_until_the_fetcher_has_looked(service: Running) -> None:
    """The fetcher hears of every look that is asked for, and its answer ends the waiting."""

    def report(given: dict[str, Any]) -> dict[str, Any]:
        service.engine.tell_of_domain(given["refresh"], "nothing is new")
        return {}

    service.engine.hooks["ReportDomain"] = report
    with fetcher(service) as waiting, service.client() as teller:
        for number in (1, 2):
            wait_until(partial(_follows, service), "the fetcher waits")
            thread, replies = refreshed(service, 60.0)
            assert waiting.receive() == {"parameters": {"refresh": number}, "continues": True}
            assert not replies
            assert teller.call("ReportDomain", problem="", refresh=number) == {"parameters": {}}
            thread.join(60)
            assert replies == [{"parameters": OUTCOME}]
            method, parameters, _ = service.engine.calls[-1]
            assert (method, parameters) == ("RefreshDomain", {"wait_s": 60.0, "asked": number})


def _follows(service: Running) -> bool:
    return service.calls.waiting.lookers > 0


def test_nobody_is_asked_in_vain(service: Running) -> None:
    """Without a fetcher it is refused with what to do, also after one has died."""
    with service.client() as client:
        reply = client.call("RefreshDomain", wait_s=5.0)
        assert reply["error"].endswith(".Refused")
        assert "systemctl start ipsecd-domain" in reply["parameters"]["hint"]
        waiting = fetcher(service)
        wait_until(partial(_follows, service), "the fetcher waits")
        waiting.sock.close()
        wait_until(lambda: not _follows(service), "the fetcher is gone")
        assert client.call("RefreshDomain", wait_s=5.0)["error"].endswith(".Refused")


def test_a_fetcher_that_is_silent_keeps_nobody_waiting_for_ever(service: Running) -> None:
    """Who asked hears after the time that was given that no answer has come."""
    with fetcher(service):
        wait_until(partial(_follows, service), "the fetcher waits")
        begun = time.monotonic()
        with service.client() as client:
            assert client.call("RefreshDomain", wait_s=0.2) == {"parameters": OUTCOME}
        assert time.monotonic() - begun >= 0.2
        assert service.engine.calls[-1][1]["asked"] == 1


def test_a_number_of_an_earlier_daemon_counts_for_nothing(service: Running) -> None:
    """Numbers begin anew with each daemon, and a fetcher may still have the one before."""
    with fetcher(service, 5) as waiting:
        wait_until(partial(_follows, service), "the fetcher waits")
        thread, _ = refreshed(service, 0.1)
        assert waiting.receive() == {"parameters": {"refresh": 1}, "continues": True}
        thread.join(60)


def test_a_call_ends_the_waiting(service: Running) -> None:
    """Whoever says something more gets the last reply to what was before, and is answered."""
    with fetcher(service) as client:
        wait_until(partial(_follows, service), "the fetcher waits")
        client.send("ListExemptions")
        assert client.receive() == {"parameters": {"refresh": 0}}
        assert client.receive() == {"parameters": {"exemptions": []}}
        wait_until(lambda: not _follows(service), "nobody waits")


def test_many_that_wait_and_die_leave_nothing(service: Running) -> None:
    """A fetcher that is killed again and again takes nobody's place."""
    for _ in range(100):
        # A busy service may not have noticed yet that those before have gone.
        with suppress(BrokenPipeError), fetcher(service):
            pass
    wait_until(lambda: not _follows(service), "nobody waits")
    with service.client() as client:
        assert "parameters" in client.call("ListExemptions")


def test_a_bundle_is_verified_before_it_is_taken(service: Running) -> None:
    """The engine gets the verdict of the process, whoever asks meanwhile is answered."""
    with service.client() as client:
        assert client.call("TakeDomain", document=BUNDLE, refresh=3) == {"parameters": OUTCOME}
    method, parameters, _ = service.engine.calls[-1]
    assert method == "TakeDomain"
    assert parameters["verdict"].why == "none is for this host"
    assert service.engine.documents[-1] is None


def test_a_bundle_comes_by_descriptor(service: Running) -> None:
    """As a policy does, and may be longer."""
    descriptor = os.memfd_create("bundle")
    os.write(descriptor, json.dumps({"metadata": {"x": "y" * (20 << 20)}, "targets": {}}).encode())
    with service.client() as client:
        reply = client.call("TakeDomain", pass_fds=(descriptor,), refresh=0)
    os.close(descriptor)
    assert reply == {"parameters": OUTCOME}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "gave no verdict"),
        ("print('{')", "gave no verdict"),
        ("print('[' * 100000)", "gave no verdict"),
        ("import sys; sys.exit('it is broken')", "ended with code 1: it is broken"),
        ("import os; os.kill(os.getpid(), 9)", "ended with signal 9"),
        ("import time; time.sleep(600)", "could not be verified within 2 s"),
        ("raise ModuleNotFoundError(\"No module named 'tuf'\")", "No module named 'tuf'"),
    ],
)
def test_a_process_that_does_not_verify_changes_nothing(code: str, reason: str) -> None:
    """Whether it hangs, dies or says nonsense, the engine is not called, and why is told."""
    engine = engine_that_trusts()
    with running(engine=engine, verification=child(code, 2.0)) as service:
        with service.client() as client:
            client.send("TakeDomain", document=BUNDLE, refresh=0)
            with service.client() as other:
                assert "parameters" in other.call("ListExemptions")
            reply = client.receive()
            assert reply is not None
            assert reply["error"].endswith(".Refused")
            assert reason in reply["parameters"]["message"]
        assert reason in engine.lookups.problem
        assert "TakeDomain" not in [method for method, *_ in engine.calls]


def test_one_bundle_is_taken_at_a_time() -> None:
    """A fetcher that is an attacker cannot fill the memory with bundles that wait."""
    engine = engine_that_trusts()
    with (
        running(engine=engine, verification=child("import time; time.sleep(60)", 2.0)) as service,
        service.client() as first,
        service.client() as second,
    ):
        first.send("TakeDomain", document=BUNDLE, refresh=0)
        wait_until(lambda: service.calls._takes_bundle, "the first is being taken")
        reply = second.call("TakeDomain", document=BUNDLE, refresh=0)
        assert reply["parameters"]["message"] == "another bundle is being taken"
        late = first.receive()
        assert late is not None
        assert "within 2 s" in late["parameters"]["message"]
        assert (
            "within 2 s"
            in second.call("TakeDomain", document=BUNDLE, refresh=0)["parameters"]["message"]
        )


def test_who_waits_hears_why_a_bundle_was_refused(service: Running) -> None:
    """A bundle that is refused is an answer too."""
    service.engine.taken = Taken()
    with fetcher(service), service.client() as client:
        wait_until(partial(_follows, service), "the fetcher waits")
        thread, replies = refreshed(service, 60.0)
        wait_until(lambda: service.engine.lookups.asked == 1, "a look was asked for")
        reply = client.call("TakeDomain", document=BUNDLE, refresh=1)
        assert "trusts no root" in reply["parameters"]["message"]
        thread.join(60)
        assert len(replies) == 1
        assert "trusts no root" in service.engine.lookups.problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_only_the_fetcher_hands_over() -> None:
    """Another user of the group ipsec is refused, and the user ipsecd-domain does nothing else."""
    engine = engine_that_trusts()
    verification = child(saying(ANSWER))
    with running(engine=engine, verification=verification, fetcher_uid=NOBODY) as service:
        taken = _as(NOBODY, NOBODY, service.path, "TakeDomain", document=BUNDLE, refresh=0)
        assert taken == {"parameters": OUTCOME}
        for method in ("ListExemptions", "FlushDynamic", "Status"):
            reply = _as(NOBODY, NOBODY, service.path, method)
            assert reply["error"].endswith(".AccessDenied"), method
        reply = _as(1234, os.getegid(), service.path, "TakeDomain", document=BUNDLE, refresh=0)
        assert reply["error"].endswith(".AccessDenied")
        engine.hooks["GetDomain"] = lambda _: {
            "domain": {
                "source": "file:///x",
                "doorbell": "etcd://u:p@h:1/k",
                "proxy": None,
                "trusted": {"a": "b"},
            }
        }
        seen = _as(NOBODY, NOBODY, service.path, "GetDomain")
        assert seen["parameters"]["domain"]["doorbell"] == "etcd://u:p@h:1/k"
        seen = _as(1234, os.getegid(), service.path, "GetDomain")
        assert seen["parameters"]["domain"]["doorbell"] == "etcd://u:…@h:1/k"
        assert seen["parameters"]["domain"]["trusted"] == {}


def _as(uid: int, gid: int, path: Path, method: str, **given: Any) -> Any:
    """The reply to one call that a process of another user makes."""
    code = (
        "import json, socket, sys\n"
        "client = socket.socket(socket.AF_UNIX); client.connect(sys.argv[1])\n"
        "client.sendall(sys.argv[2].encode() + b'\\0'); reply = b''\n"
        "while not reply.endswith(b'\\0'):\n"
        "    piece = client.recv(65536)\n"
        "    if not piece: sys.exit('no answer')\n"
        "    reply += piece\n"
        "print(reply[:-1].decode())\n"
    )
    message = {"method": f"io.ipsecd.control.{method}", "parameters": given}
    ran = subprocess.run(
        [sys.executable, "-c", code, str(path), json.dumps(message)],
        check=True,
        capture_output=True,
        text=True,
        user=uid,
        group=gid,
        extra_groups=[],
        cwd="/",
        timeout=60,
    )
    return json.loads(ran.stdout)


# -- the process ---------------------------------------------------------------------------------


def answered(code: str) -> bytes:
    """What a confined process says that runs `code`; the launcher takes modules only."""
    launcher = f"import sys, ipsecd.host.confined as c; c.main(['timeit', '-n1', '-r1', {code!r}])"

    async def ask() -> bytes:
        return await Verification((sys.executable, "-I", "-c", launcher), 60.0).answer(b"")

    return asyncio.run(ask())


def test_the_process_has_no_environment_and_no_descriptors() -> None:
    """It has three descriptors, and of the environment only where its files go."""
    said = answered("import os; print(sorted(os.environ), sorted(os.listdir('/proc/self/fd')))")
    environment, descriptors = said.decode().split("\n")[0].split("] [")
    assert "IPSECD" not in environment
    assert set(environment.strip("[]").replace("'", "").split(", ")) <= {"TMPDIR", "LC_CTYPE"}
    # The fourth is the directory that is listed.
    assert len(descriptors.split(",")) == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_the_process_is_nobody() -> None:
    """Where that can be, it has no rights of the daemon."""
    assert answered("import os; print(os.getresuid(), os.getgroups())").startswith(
        b"(65534, 65534, 65534) []"
    )


@pytest.fixture
def no_other_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under systemd, where the daemon may change neither users nor owners."""
    if os.geteuid() != 0:
        pytest.skip("it is about root without its powers")
    start = asyncio.create_subprocess_exec

    async def refuse(*words: str, **given: Any) -> asyncio.subprocess.Process:
        if "user" in given:
            raise PermissionError(1, "no")
        return await start(*words, **given)

    def no_owner(*_: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    monkeypatch.setattr(os, "chown", no_owner)


@pytest.mark.usefixtures("no_other_user")
def test_the_process_is_this_user_where_it_can_be_no_other() -> None:
    """It can use its directory all the same."""
    code = "import os; open(os.environ['TMPDIR'] + '/x', 'w').close(); print(os.getuid())"
    assert answered(code).startswith(b"0\n")


def status_of_the_process() -> dict[str, str]:
    """What the kernel says of a confined process."""
    lines = answered("print(open('/proc/self/status').read())").decode().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_the_process_has_no_capabilities() -> None:
    """Neither some to use nor any to come, whatever it would run."""
    status = status_of_the_process()
    assert (status["Uid"].split()[0], status["NoNewPrivs"]) == ("65534", "1")
    names = ("CapInh", "CapPrm", "CapEff", "CapAmb")
    assert {name: int(status[name], 16) for name in names} == dict.fromkeys(names, 0)


@pytest.mark.usefixtures("no_other_user")
def test_root_has_no_capabilities_in_the_process_either() -> None:
    """User 0 keeps them otherwise, and gets them again with every program."""
    status = status_of_the_process()
    assert (status["Uid"].split()[0], status["NoNewPrivs"]) == ("0", "1")
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {name: int(status[name], 16) for name in names} == dict.fromkeys(names, 0)


@pytest.mark.usefixtures("no_other_user")
@pytest.mark.parametrize(
    "deed",
    [
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_INET)",
        "os.kill(os.getppid(), 0)",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "open(MINE, 'a')",
        "open(MINE)",
        "os.unlink(MINE)",
        "os.listdir('/etc')",
    ],
)
def test_the_process_reaches_nobody(deed: str, tmp_path: Path) -> None:
    """The files of user 0 are not its own, nor is the daemon's socket, which obeys that user."""
    mine = tmp_path / "mine"
    mine.write_text("as it was")
    attempt = f"""
import os, socket
MINE = {str(mine)!r}
try:
    {deed}
except OSError as error:
    print("no:", error.errno)
"""
    # timeit adds a line of its own; 1 is EPERM, 13 is EACCES.
    assert answered(attempt).split(b"\n")[0] in {b"no: 1", b"no: 13"}
    assert mine.read_text() == "as it was"


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(2 << 30)",
        "import os; f = open(os.environ['TMPDIR'] + '/x', 'wb'); f.truncate(1 << 30)",
        "import os\nfor _ in range(100): os.dup(0)",
        "import sys; sys.stdout.write('x' * (200 << 20)); sys.stdout.flush()",
    ],
)
def test_the_process_has_limits(code: str) -> None:
    """Memory, files, descriptors and what it says have an end."""
    with pytest.raises(Refused, match="ended with"):
        answered(code)


def test_the_process_leaves_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it made is deleted, also if it was ended."""

    async def ask() -> None:
        code = "import os, time; open(os.environ['TMPDIR'] + '/x', 'w').close(); time.sleep(60)"
        with pytest.raises(Refused, match="within"):
            await child(code, 1.0).answer(b"")

    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        monkeypatch.setattr("tempfile.tempdir", directory)
        asyncio.run(ask())
        assert list(Path(directory).iterdir()) == []
