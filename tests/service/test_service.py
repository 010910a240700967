"""Tests of the service with clients on a real socket: what they ask, and what they get."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ipsecd.engine.caller import DAEMON, ChangeOptions
from ipsecd.errors import InvalidInput
from ipsecd.host.resolver import Resolver
from ipsecd.protocol.description import CONTROL, SERVICE, load_interface
from ipsecd.service.engine_lines import EngineLines
from tests.descriptors import open_descriptors
from tests.service.harness import (
    NOBODY,
    PATIENCE_S,
    VIEW_GID,
    FakeEngine,
    Running,
    running,
    wait_until,
)

ADD: dict[str, Any] = {"filters": ["*=0:1434:UDP"], "action": "block"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run clients as others")


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


LIVE = {"looked_at": 1, "cut": 0, "perhaps": 0, "groups": []}


def test_a_call_reaches_the_engine_and_comes_back() -> None:
    """The engine gets every declared parameter and who asks; the client gets its reply."""
    with running() as service, service.client() as client:
        reply = client.call("AddDynamic", **ADD)
        assert reply["parameters"]["rule"]["name"] == "dynamic-1"
        method, parameters, by = service.engine.calls[0]
        assert method == "AddDynamic"
        asked = {"interface": None, "when": None}
        assert parameters == {**ADD, "name": None, "ttl_s": None, **asked}
        assert by.startswith(f"uid {os.geteuid()}")
        assert by.endswith(f" pid {os.getpid()}")


def test_a_change_is_asked_for_with_who_wants_it_and_how() -> None:
    """The engine gets the process that asks, and what it wants of the change beside the rest."""
    change = {"force": True, "message": "why", "sudo_user": "ann"}
    with running() as service, service.client() as client:
        assert "parameters" in client.call("AddDynamic", **ADD, change=change)
        assert "parameters" in client.call("ListDynamic")
        assert "change" not in service.engine.calls[0][1]
        caller, reader = service.engine.callers
    assert (caller.uid, caller.pid) == (os.geteuid(), os.getpid())
    assert caller.options == ChangeOptions(force=True, message="why", sudo_user="ann")
    assert reader == DAEMON


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"confirm_s": 4.9}, "a change cannot wait 4.9 s to be confirmed"),
        ({"confirm_s": 86401.0}, "a change cannot wait 86401 s to be confirmed"),
        ({"message": "x" * 1001}, "1,001 characters"),
    ],
)
def test_what_cannot_be_wanted_of_a_change(change: dict[str, Any], said: str) -> None:
    """It is refused before anything happens."""
    with running() as service, service.client() as client:
        reply = client.call("AddDynamic", **ADD, change=change)
        assert reply["error"] == f"{CONTROL}.InvalidInput"
        assert said in reply["parameters"]["message"]
        assert service.engine.calls == []


def test_what_cannot_be_put_back_cannot_be_confirmed() -> None:
    """Nobody relies on being let in again by what will not happen."""
    with running() as service, service.client() as client:
        reply = client.call("RefreshDomain", wait_s=0.0, change={"confirm_s": 60.0})
        assert reply["error"] == f"{CONTROL}.Refused"
        assert "nothing to confirm" in reply["parameters"]["message"]
        assert service.engine.calls == []


def test_trying_backends_delays_nobody() -> None:
    """While ``doctor`` tries, which takes its time, the engine goes on answering."""
    tried, over = threading.Event(), threading.Event()

    def assessments() -> list[dict[str, Any]]:
        tried.set()
        assert over.wait(PATIENCE_S)
        return [{"name": "xdp", "usable": True, "reasons_for": [], "reasons_against": []}]

    def examine(_: dict[str, Any]) -> dict[str, Any]:
        return {"examination": {"assessments": []}}

    with running() as service:
        service.engine.hooks["Examine"] = examine
        service.engine.assessments = assessments  # type: ignore[method-assign]
        with ThreadPoolExecutor(1) as pool, service.client() as doctor, service.client() as second:
            examined = pool.submit(doctor.call, "Examine")
            assert tried.wait(PATIENCE_S)
            assert "parameters" in second.call("AddDynamic", **ADD)
            assert not examined.done()
            over.set()
            reply = examined.result(PATIENCE_S)
        assert reply["parameters"]["examination"]["assessments"][0]["name"] == "xdp"


def test_judging_open_connections_delays_nobody() -> None:
    """It is done outside of every line of work, one reply after the other."""
    begun, may_go_on = threading.Semaphore(0), threading.Event()
    threads = []

    class Slow(FakeEngine):
        def judge_live(self, reply: dict[str, Any]) -> None:
            threads.append(threading.current_thread().name)
            begun.release()
            assert may_go_on.wait(PATIENCE_S)
            reply["live"] = {**LIVE, "cut": 1}

    engine = Slow()
    engine.hooks["GetCuts"] = lambda _: {"live": LIVE}
    with running(engine=engine) as service:
        askers = [service.client() for _ in range(2)]
        for asker in askers:
            asker.send("GetCuts", document="policy: x")
        assert begun.acquire(timeout=PATIENCE_S)
        with service.client() as other:
            assert "parameters" in other.call("AddDynamic", **ADD)
            assert "parameters" in other.call("Status")
            assert "parameters" in other.call("ListFilters")
            assert "parameters" in other.call("CreatePolicy", name="P")
        assert not begun.acquire(blocking=False)
        may_go_on.set()
        for asker in askers:
            with asker:
                assert asker.receive() == {"parameters": {"live": {**LIVE, "cut": 1}}}
    assert not {*threads} & {"engine", "changes", "reads", "MainThread"}


def test_the_engine_lives_in_one_thread() -> None:
    """Whatever clients do at once, the engine meets one thread, and never the loop's."""
    with running() as service:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: add_and_remove(service, 5, "t"), range(8)))
        assert len(service.engine.threads) == 1
        assert "service" not in service.engine.threads


def add_and_remove(service: Running, count: int, prefix: str) -> int:
    with service.client() as client:
        for number in range(count):
            name = f"{prefix}-{threading.get_ident()}-{number}"
            assert "error" not in client.call("AddDynamic", name=name, **ADD)
            assert client.call("RemoveDynamic", selector=name)["parameters"] == {"removed": [name]}
    return count


def test_twenty_clients_at_once_are_all_answered() -> None:
    """A thousand adds and removes from twenty clients leave exactly what they should."""
    with running() as service:
        with ThreadPoolExecutor(20) as pool:
            assert sum(pool.map(lambda n: add_and_remove(service, 50, f"c{n}"), range(20))) == 1000
        assert service.engine.rules == {}
        assert len(service.engine.calls) == 2000


def test_requests_of_one_connection_are_answered_in_order() -> None:
    """Calls sent without waiting come back in the order in which they were sent."""
    with running() as service, service.client() as client:
        requests = [client.request("AddDynamic", name=f"r{n}", **ADD) for n in range(300)]
        client.sock.sendall(b"".join(requests))
        for number in range(300):
            reply = client.receive()
            assert reply is not None
            assert reply["parameters"]["rule"]["name"] == f"r{number}"


def test_oneway_calls_have_no_reply() -> None:
    """The call is carried out; the next reply belongs to the next call, after errors too."""
    with running() as service, service.client() as client:
        client.sock.sendall(client.request("AddDynamic", {"oneway": True}, name="quiet", **ADD))
        client.sock.sendall(client.request("RemoveDynamic", {"oneway": True}, selector="absent"))
        reply = client.call("ListDynamic")
        assert [rule["name"] for rule in reply["parameters"]["rules"]] == ["quiet"]


def test_more_gets_a_single_reply() -> None:
    """No method streams, so a caller that would take more gets one reply that is the last."""
    with running() as service, service.client() as client:
        client.sock.sendall(client.request("Stats", {"more": True}))
        assert client.receive() == {"parameters": {"rules": [], "unparsable": 0, "lists": None}}


def test_upgrades_are_refused() -> None:
    """There is no other protocol to change to."""
    with running() as service, service.client() as client:
        client.sock.sendall(client.request("Stats", {"upgrade": True}))
        reply = client.receive()
        assert reply is not None
        assert reply["error"] == f"{CONTROL}.Refused"
        assert "parameters" in client.call("Stats")


def test_the_service_describes_itself() -> None:
    """Both interfaces are listed, and their texts parse to what is served."""
    with running() as service, service.client() as client:
        info = client.call(f"{SERVICE}.GetInfo")["parameters"]
        load_interface(SERVICE).check_reply("GetInfo", info)
        assert info["interfaces"] == [CONTROL, SERVICE]
        for name in info["interfaces"]:
            reply = client.call(f"{SERVICE}.GetInterfaceDescription", interface=name)
            assert reply["parameters"] == {"description": load_interface(name).description}


@pytest.mark.parametrize(
    ("method", "parameters", "error", "details"),
    [
        (f"{CONTROL}.Missing", {}, "MethodNotFound", {"method": f"{CONTROL}.Missing"}),
        ("x.y.Status", {}, "InterfaceNotFound", {"interface": "x.y"}),
        (f"{CONTROL}.Explain", {}, "InvalidParameter", {"parameter": "packet"}),
        (f"{CONTROL}.Status", {"x": 1}, "InvalidParameter", {"parameter": "x"}),
        (f"{CONTROL}.Explain", {"packet": 1}, "InvalidParameter", {"parameter": "packet"}),
        (
            f"{SERVICE}.GetInterfaceDescription",
            {"interface": "x.y"},
            "InterfaceNotFound",
            {"interface": "x.y"},
        ),
    ],
)
def test_calls_that_do_not_fit_get_varlinks_errors(
    method: str, parameters: dict[str, Any], error: str, details: dict[str, str]
) -> None:
    """Nothing of it reaches the engine, and the connection goes on."""
    with running() as service, service.client() as client:
        reply = client.call(method, **parameters)
        assert reply == {"error": f"{SERVICE}.{error}", "parameters": details}
        assert service.engine.calls == []
        assert "parameters" in client.call("Stats")


def test_errors_of_the_engine_reach_the_client_whole() -> None:
    """Kind, words and position are those that were raised."""

    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise InvalidInput("no such port", "write a number", source="*=0:http", position=4)

    engine = FakeEngine()
    engine.hooks["AddDynamic"] = refuse
    with running(engine=engine) as service, service.client() as client:
        assert client.call("AddDynamic", **ADD) == {
            "error": f"{CONTROL}.InvalidInput",
            "parameters": {
                "message": "no such port",
                "hint": "write a number",
                "source": "*=0:http",
                "line": 0,
                "position": 4,
            },
        }


@pytest.mark.parametrize(
    "result",
    [ZeroDivisionError("what"), RecursionError("deep"), MemoryError(), {"x": object()}],
)
def test_a_bug_is_logged_and_the_daemon_goes_on(
    result: object, caplog: pytest.LogCaptureFixture
) -> None:
    """An unforeseen error, or a reply that cannot be sent, is one failed call and a traceback."""

    def fail(_: dict[str, Any]) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    engine = FakeEngine()
    engine.hooks["Status"] = fail
    with running(engine=engine) as service, service.client() as client:
        reply = client.call("Status")
        assert reply["error"] == f"{CONTROL}.Failed"
        assert "journalctl" in reply["parameters"]["hint"]
        assert "parameters" in client.call("Stats")
    bugs = [fields_of(r) for r in caplog.records if r.message == "bug"]
    assert len(bugs) == 1
    assert "Traceback" in bugs[0]["traceback"]


def test_the_log_says_who_changed_what(caplog: pytest.LogCaptureFixture) -> None:
    """Changes and refusals are logged with user, process, object and outcome; reads are not."""
    caplog.set_level(logging.INFO, "ipsecd")
    with running() as service, service.client() as client:
        client.call("AddDynamic", name="one", **ADD)
        client.call("AddDynamic", filters=["0+*", "0:80+*::TCP"], action="block")
        client.call("RemoveDynamic", selector="absent")
        client.call("ApplyPolicy", document="policy: x", assign=True, dry_run=False)
        client.call("ListDynamic")
    calls = [fields_of(r) for r in caplog.records if r.message == "call"]
    assert [(c["method"], c["object"], c["outcome"]) for c in calls] == [
        ("AddDynamic", "one", "done"),
        ("AddDynamic", "0+* 0:80+*::TCP", "done"),
        ("RemoveDynamic", "absent", "NotFound"),
        ("ApplyPolicy", None, "done"),
    ]
    assert [c["message"] for c in calls[2:]] == ["there is no dynamic rule 'absent'", "done"]
    assert all((c["uid"], c["pid"]) == (os.geteuid(), os.getpid()) for c in calls)


def test_the_log_says_what_a_change_was_to_do(caplog: pytest.LogCaptureFixture) -> None:
    """Not only the name of a rule, but its filters and its end, and what the change is for."""
    caplog.set_level(logging.INFO, "ipsecd")
    change = {"message": "ticket 7", "force": True}
    with running() as service, service.client() as client:
        client.call("AddDynamic", name="one", ttl_s=600.0, change=change, **ADD)
        client.call("ApplyPolicy", document="policy: x", assign=True, dry_run=True)
    ban, dry = (fields_of(r) for r in caplog.records if r.message == "call")
    assert (ban["filters"], ban["action"], ban["ttl_s"]) == ("*=0:1434:UDP", "block", 600.0)
    assert (ban["why"], ban["force"]) == ("ticket 7", True)
    assert dry["outcome"] == "dry-run"


def test_names_are_looked_up_before_the_engine_is_asked() -> None:
    """The engine says which names it needs, and gets their addresses with the call."""

    async def lookup(name: str) -> list[str]:
        return {"good.example": ["192.0.2.1"]}.get(name, [])

    engine = FakeEngine()
    engine.needed = frozenset({"good.example"})
    with running(engine=engine, resolver=Resolver(lookup)) as service, service.client() as client:
        assert "error" not in client.call("AddDynamic", **ADD)
        assert [len(network) for network in engine.names[0].values()] == [1]
        engine.needed = frozenset({"bad.example"})
        reply = client.call("AddDynamic", **ADD)
        assert reply["error"] == f"{CONTROL}.Refused"
        assert "DNS name 'bad.example' cannot be resolved" in reply["parameters"]["message"]
        assert len(engine.calls) == 1


def test_a_reload_goes_on_without_the_names_that_have_no_answer() -> None:
    """The engine gets these with no addresses, and all others with theirs."""

    async def lookup(name: str) -> list[str]:
        return {"good.example": ["192.0.2.1"]}.get(name, [])

    engine = FakeEngine()
    engine.needed = frozenset({"good.example", "bad.example"})
    with running(engine=engine, resolver=Resolver(lookup)) as service, service.client() as client:
        assert "error" not in client.call("Reload", resolve=True)
        assert {name: len(addresses) for name, addresses in engine.names[0].items()} == {
            "bad.example": 0,
            "good.example": 1,
        }


def test_a_slow_look_up_holds_up_nobody_else() -> None:
    """While one client waits for DNS, others change what they like."""
    release = threading.Event()

    async def lookup(_: str) -> list[str]:
        await asyncio.to_thread(release.wait, 10)
        return ["192.0.2.1"]

    engine = FakeEngine()
    engine.needed = frozenset({"slow.example"})
    with (
        running(engine=engine, resolver=Resolver(lookup)) as service,
        service.client() as waiting,
        service.client() as second,
    ):
        waiting.send("AddDynamic", **ADD)
        assert "error" not in second.call("RemoveRules", policy="p", rules=[], delete_empty=False)
        assert [method for method, _, _ in engine.calls] == ["RemoveRules"]
        release.set()
        assert waiting.receive() is not None


CLIENT = """
import json, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(60)
sock.connect(sys.argv[1])
for method in sys.argv[2:]:
    try:
        sock.sendall(json.dumps({"method": "io.ipsecd.control." + method}).encode() + b"\\0")
        received = b""
        while not received.endswith(b"\\0"):
            piece = sock.recv(65536)
            if not piece:
                sys.exit("closed")
            received += piece
        print(json.loads(received[:-1]).get("error", "answered"))
    except (ConnectionResetError, BrokenPipeError):
        sys.exit("closed")
"""


def run_client(path: Path, group: int, *methods: str) -> subprocess.CompletedProcess[str]:
    """A client that is nobody, in one group and no other."""
    return subprocess.run(
        [os.path.realpath(sys.executable), "-I", "-S", "-c", CLIENT, str(path), *methods],
        user=NOBODY,
        group=group,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


@as_root
def test_strangers_get_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """A user in neither group is disconnected without a byte, and the log says who it was."""
    with running() as service:
        done = run_client(service.path, NOBODY, "Status")
        assert (done.stdout, done.stderr) == ("", "closed\n")
        assert service.engine.calls == []
    refused = [fields_of(r) for r in caplog.records if r.message == "connection-refused"]
    assert f"uid {NOBODY}" in str(refused[0]["peer"])


@as_root
def test_viewers_read_and_do_not_change(caplog: pytest.LogCaptureFixture) -> None:
    """A user in the viewing group is answered, and told that a change is not theirs to make."""
    with running() as service:
        done = run_client(service.path, VIEW_GID, "Stats", "FlushDynamic", "Stop", "Stats")
        assert done.stdout.split() == [
            "answered",
            f"{CONTROL}.AccessDenied",
            f"{CONTROL}.AccessDenied",
            "answered",
        ]
        assert [method for method, _, _ in service.engine.calls] == ["Stats", "Stats"]
    denied = [r for r in caplog.records if fields_of(r).get("outcome") == "AccessDenied"]
    assert [r.levelno for r in denied] == [logging.WARNING] * 2


@as_root
def test_members_change() -> None:
    """A user in the changing group may do what root may."""
    with running() as service:
        done = run_client(service.path, os.getegid(), "Stats", "Stop")
        assert done.stdout.split() == ["answered", "answered"]


def test_memory_and_descriptors_are_stable() -> None:
    """Thousands of calls and hundreds of connections leave nothing behind."""
    with running() as service:
        add_and_remove(service, 100, "warm-up")
        service.engine.calls.clear()
        before, descriptors = resident_bytes(), open_descriptors()
        for _ in range(200):
            add_and_remove(service, 10, "x")
            service.engine.calls.clear()
            service.engine.documents.clear()
            service.engine.names.clear()
        wait_until(lambda: open_descriptors() <= descriptors, "descriptors as they were")
        wait_until(lambda: resident_bytes() - before < 8 << 20, "memory as it was")


def resident_bytes() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGESIZE")


def test_a_call_that_takes_long_does_not_hold_up_the_loop() -> None:
    """While the engine works, the service still describes itself to others."""
    release = threading.Event()

    def work(_: dict[str, Any]) -> dict[str, Any]:
        release.wait(PATIENCE_S)
        return {"outcome": {"changed": True, "message": "", "assigned": None}}

    engine = FakeEngine()
    engine.hooks["Stop"] = work
    with running(engine=engine) as service, service.client() as slow, service.client() as second:
        slow.send("Stop")
        begun = time.monotonic()
        assert "error" not in second.call(f"{SERVICE}.GetInfo")
        assert time.monotonic() - begun < PATIENCE_S / 2
        release.set()
        assert slow.receive() is not None


@as_root
def test_a_stranger_who_insists_costs_little(caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of refused connections are a few lines in the log, and root is served."""
    insist = (
        "import os, socket, sys\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "for _ in range(500):\n"
        "    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.close()\n"
    )
    with running() as service:
        subprocess.run([sys.executable, "-I", "-c", insist, str(service.path)], check=True)
        with service.client() as client:
            assert "error" not in client.call("Stats")
    refused = [r for r in caplog.records if r.message == "connection-refused"]
    assert 1 <= len(refused) < 50


def test_changes_do_not_wait_for_reads() -> None:
    """However many reads wait, what changes something comes next."""
    done: list[str] = []
    gate = threading.Event()

    async def scenario() -> None:
        thread = EngineLines(FakeEngine())
        running_now = asyncio.create_task(thread.run(gate.wait))
        reads = [asyncio.create_task(thread.run_when_idle(done.append, "read")) for _ in range(20)]
        await asyncio.sleep(0.05)
        change = asyncio.create_task(thread.run(done.append, "change"))
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(running_now, change, *reads)
        thread.shut_down()

    asyncio.run(scenario())
    assert done == ["change"] + ["read"] * 20
