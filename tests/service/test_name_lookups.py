"""Who looks DNS names up for the service, with fetchers that answer, die, hang or lie."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ipsecd.host.resolver import AT_ONCE, Resolver, may_open_sockets
from ipsecd.model.addresses import Family, Network
from ipsecd.protocol.description import CONTROL
from ipsecd.service.names import NameLookups
from tests.service.harness import OUTCOME, Client, FakeEngine, Running, running, wait_until
from tests.service.test_domain import ANSWER, BUNDLE, child, engine_that_trusts, saying

ADDRESS = "192.0.2.7"
HOST = Network(Family.IPV4, 0xC0000207, 32)
CHANGE = {"policy": "p", "rules": [], "create": True, "assign": False}


async def by_itself(name: str) -> list[str]:
    assert name
    return ["198.51.100.1"]


def lookups(*, may: bool = False) -> NameLookups:
    return NameLookups(by_itself, lambda: may, arrival_s=0.2)


@contextmanager
def service_that_needs(
    *names: str, may: bool = False, timeout_s: float = 30.0
) -> Iterator[Running]:
    engine = FakeEngine()
    engine.needed = frozenset(names)
    own = lookups(may=may)
    resolver = Resolver(own.look_up, timeout_s)
    with running(engine=engine, lookups=own, resolver=resolver) as service:
        yield service


@contextmanager
def fetcher(service: Running) -> Iterator[Client]:
    """One that waits for questions."""
    before = service.calls.lookups.fetchers
    with service.client() as client:
        client.sock.sendall(client.request("AwaitNames", {"more": True}))
        wait_until(lambda: service.calls.lookups.fetchers > before, "the fetcher waits")
        yield client


@contextmanager
def change(service: Running, method: str = "PutRules", **given: Any) -> Iterator[Client]:
    """A call that needs names, whose reply is still to come."""
    with service.client() as client:
        client.send(method, **(given or CHANGE))
        yield client


def question(client: Client) -> tuple[int, list[str]]:
    reply = client.receive()
    assert reply is not None
    assert reply["continues"] is True
    return reply["parameters"]["number"], reply["parameters"]["names"]


def answer(service: Running, number: int, *answers: tuple[str, list[str], str]) -> dict[str, Any]:
    """The reply to an answer."""
    told = [{"name": n, "addresses": a, "problem": p} for n, a, p in answers]
    with service.client() as client:
        return client.call("AnswerNames", number=number, answers=told)


def refusal(client: Client) -> str:
    reply = client.receive()
    assert reply is not None
    assert reply["error"] == f"{CONTROL}.Refused"
    return f"{reply['parameters']['message']} {reply['parameters']['hint']}"


def test_the_fetcher_is_asked_although_the_service_could() -> None:
    """Its answer is what the engine gets, with all names in one question."""
    with service_that_needs("a.example", "b.example", may=True) as service:
        with fetcher(service) as waiting, change(service) as client:
            number, names = question(waiting)
            assert names == ["a.example", "b.example"]
            assert answer(service, number, ("b.example", ["2001:db8::1"], "")) == {"parameters": {}}
            assert answer(service, number, ("a.example", [ADDRESS], "")) == {"parameters": {}}
            assert client.receive() == {"parameters": OUTCOME}
        (given,) = [names for names in service.engine.names if names]
        assert given["a.example"] == (HOST,)
        assert [host.family for host in given["b.example"]] == [Family.IPV6]


def test_many_names_are_asked_for_a_few_at_a_time() -> None:
    """A fetcher has no more to do at once than the service had by itself."""
    names = [f"{n}.example" for n in range(3 * AT_ONCE)]
    with service_that_needs(*names) as service, fetcher(service) as waiting:
        with change(service) as client:
            asked: list[str] = []
            while len(asked) < len(names):
                number, some = question(waiting)
                assert len(some) <= AT_ONCE
                asked += some
                answer(service, number, *((name, [ADDRESS], "") for name in some))
            assert client.receive() == {"parameters": OUTCOME}
        assert sorted(asked) == sorted(names)


def test_a_name_that_two_want_is_asked_for_twice_and_answered_to_both() -> None:
    """Two changes at a time do not take each other's answers."""
    with (
        service_that_needs("a.example") as service,
        fetcher(service) as waiting,
        change(service) as first,
    ):
        number, _ = question(waiting)
        with change(service) as second:
            other, _ = question(waiting)
            assert other > number
            answer(service, other, ("a.example", [ADDRESS], ""))
            assert second.receive() == {"parameters": OUTCOME}
            answer(service, number, ("a.example", [ADDRESS], ""))
            assert first.receive() == {"parameters": OUTCOME}


def test_without_a_fetcher_the_service_looks_up_where_it_may() -> None:
    """As on a host that has no systemd."""
    with service_that_needs("a.example", may=True) as service, change(service) as client:
        assert client.receive() == {"parameters": OUTCOME}


def test_where_it_may_not_it_says_what_to_do() -> None:
    """Nothing is asked of the engine, and a fetcher that has gone does not count."""
    with service_that_needs("a.example") as service:
        with change(service) as client:
            said = refusal(client)
        assert "'a.example' cannot be resolved" in said
        assert "systemctl start ipsecd-domain" in said
        with fetcher(service):
            pass
        wait_until(lambda: not service.calls.lookups.fetchers, "the fetcher is gone")
        with change(service) as client:
            assert "systemctl start ipsecd-domain" in refusal(client)
        assert not service.engine.calls


def test_a_fetcher_that_comes_back_at_once_is_waited_for() -> None:
    """After a restart of the service the first change does not fail."""
    own = NameLookups(by_itself, lambda: False, arrival_s=30.0)
    engine = FakeEngine()
    engine.needed = frozenset({"a.example"})
    with running(engine=engine, lookups=own) as service, change(service) as client:
        time.sleep(0.1)
        with fetcher(service) as waiting:
            number, _ = question(waiting)
            answer(service, number, ("a.example", [ADDRESS], ""))
            assert client.receive() == {"parameters": OUTCOME}


def test_a_fetcher_that_dies_fails_the_look_up_at_once() -> None:
    """What waits for it need not wait for the time to be over; the next one is asked afresh."""
    with service_that_needs("a.example", may=True) as service:
        with fetcher(service) as waiting, change(service) as client:
            question(waiting)
            waiting.sock.close()
            assert "'a.example' cannot be resolved: ipsecd-domain" in refusal(client)
        with fetcher(service) as waiting, change(service) as client:
            number, _ = question(waiting)
            answer(service, number, ("a.example", [ADDRESS], ""))
            assert client.receive() == {"parameters": OUTCOME}


def test_the_last_that_came_is_asked() -> None:
    """One before it may hang, or be dead without our knowing."""
    with (
        service_that_needs("a.example") as service,
        fetcher(service),
        fetcher(service) as second,
        change(service) as client,
    ):
        number, _ = question(second)
        answer(service, number, ("a.example", [ADDRESS], ""))
        assert client.receive() == {"parameters": OUTCOME}


def test_who_hands_a_bundle_over_is_asked_for_its_names() -> None:
    """The fetcher waits for the answer to its bundle, and answers beside that."""
    engine = engine_that_trusts()
    engine.needed = frozenset({"a.example"})
    with (
        running(engine=engine, lookups=lookups(), verification=child(saying(ANSWER))) as service,
        fetcher(service) as waiting,
        change(service, "TakeDomain", document=BUNDLE, refresh=0) as client,
    ):
        number, _ = question(waiting)
        answer(service, number, ("a.example", [ADDRESS], ""))
        assert client.receive() == {"parameters": OUTCOME}
        assert {"a.example": (HOST,)} in service.engine.names


def test_a_fetcher_that_hangs_takes_no_longer_than_a_name_server() -> None:
    """The time is over as ever, and an answer that comes later counts for nothing."""
    with service_that_needs("a.example", timeout_s=0.2) as service, fetcher(service) as waiting:
        with change(service) as client:
            number, _ = question(waiting)
            assert "no answer within 0.2 s" in refusal(client)
        assert answer(service, number, ("a.example", [ADDRESS], ""))["error"].endswith(".NotFound")
        assert not [m for m, *_ in service.engine.calls if m == "PutRules"]


def test_a_reload_goes_on_without_the_names_of_a_fetcher_that_dies() -> None:
    """As without the names that have no answer: the engine lets them keep what they have."""
    with (
        service_that_needs("a.example", "b.example") as service,
        fetcher(service) as waiting,
        change(service, "Reload", resolve=True) as client,
    ):
        number, _ = question(waiting)
        answer(service, number, ("b.example", [ADDRESS], ""))
        waiting.sock.close()
        reply = client.receive()
        assert reply is not None
        assert "error" not in reply
        assert service.engine.names[-1] == {"a.example": (), "b.example": (HOST,)}


@pytest.mark.parametrize(
    ("addresses", "problem", "reason"),
    [
        ([], "Name or service not known", "Name or service not known"),
        ([ADDRESS], "both\nat once", r"both\u000aat once"),
        ([], "", "it has no addresses"),
        (["::ffff:zz"], "", "'::ffff:zz', which is no address"),
        (["1.2.3.4.5"], "", "which is no address"),
        ([ADDRESS, "0/0"], "", "which is no address"),
        (["1.2.3.4\0"], "", "which is no address"),
        (["192.0.2.٣"], "", "which is no address"),
        ([""], "", "which is no address"),
        ([ADDRESS] * 5000, "", "more than 4,096 addresses"),
        ([], "x" * 100_000, "xxx…xxx"),
    ],
)
def test_an_answer_that_is_none_fails_the_look_up(
    addresses: list[str], problem: str, reason: str
) -> None:
    """A fetcher that is the attacker gives nothing but addresses, and not too many."""
    with (
        service_that_needs("a.example") as service,
        fetcher(service) as waiting,
        change(service) as client,
    ):
        number, _ = question(waiting)
        answer(service, number, ("a.example", addresses, problem))
        said = refusal(client)
        assert reason in said
        assert len(said) < 1000
        assert not [m for m, *_ in service.engine.calls if m == "PutRules"]


def test_only_what_was_asked_is_taken() -> None:
    """Other names, other numbers and other shapes are refused as a whole, and change nothing."""
    with (
        service_that_needs("a.example") as service,
        fetcher(service) as waiting,
        change(service) as client,
    ):
        number, _ = question(waiting)
        good = ("a.example", ["203.0.113.9"], "")
        refused = answer(service, number, good, ("bank.example", [ADDRESS], ""))
        assert refused["error"].endswith(".Refused")
        assert "'bank.example'" in refused["parameters"]["message"]
        for other in (0, -1, number + 1, 1 << 62):
            assert answer(service, other, good)["error"].endswith(".NotFound")
        with service.client() as liar:
            for wrong in ({}, {"number": number}, {"number": number, "answers": [{"name": "x"}]}):
                assert "error" in liar.call("AnswerNames", **wrong)
        answer(service, number, ("a.example", [ADDRESS], ""))
        assert client.receive() == {"parameters": OUTCOME}
        assert service.engine.names[-1] in ({}, {"a.example": (HOST,)})
        assert {"a.example": (HOST,)} in service.engine.names


def test_whoever_asks_once_gets_no_names() -> None:
    """Without "more" there is one reply, and a fetcher that says something more waits no longer."""
    with service_that_needs() as service:
        nothing = {"parameters": {"number": 0, "names": []}}
        with service.client() as client:
            assert client.call("AwaitNames") == nothing
        with fetcher(service) as client:
            client.send("ListExemptions")
            assert client.receive() == nothing
            assert client.receive() == {"parameters": {"exemptions": []}}
            wait_until(lambda: not service.calls.lookups.fetchers, "nobody waits")


def test_fetchers_that_come_and_go_leave_nothing() -> None:
    """A change in the middle of it all ends, and the last fetcher serves."""
    with service_that_needs("a.example", may=True, timeout_s=5.0) as service:
        ends: list[object] = []
        threads = [threading.Thread(target=_change, args=(service, ends.append)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            with service.client() as client:
                client.sock.sendall(client.request("AwaitNames", {"more": True}))
        for thread in threads:
            thread.join(60)
        assert len(ends) == len(threads)
        wait_until(lambda: not service.calls.lookups.fetchers, "nobody waits")
        with fetcher(service) as waiting, change(service) as client:
            number, _ = question(waiting)
            answer(service, number, ("a.example", [ADDRESS], ""))
            assert client.receive() == {"parameters": OUTCOME}


def _change(service: Running, tell: Callable[[object], None]) -> None:
    with change(service) as client:
        tell(client.receive())


def test_a_unit_that_forbids_internet_sockets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address family is refused; one of both is enough to look up."""
    assert may_open_sockets()
    allowed = {socket.AF_INET6}

    class Confined(socket.socket):
        def __init__(self, family: int, kind: int) -> None:
            if family not in allowed:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            super().__init__(family, kind)

    monkeypatch.setattr(socket, "socket", Confined)
    assert may_open_sockets()
    allowed.clear()
    assert not may_open_sockets()
