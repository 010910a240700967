"""Those who keep dynamic rules hear when all may be gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.harness import OUTCOME, Client, FakeEngine, Running, running


@pytest.fixture
def service() -> Iterator[Running]:
    with running() as service:
        yield service


def listener(service: Running) -> Client:
    """A client that has heard that it is listened to."""
    client = service.client()
    client.sock.sendall(client.request("AwaitStart", {"more": True}))
    assert client.receive() == {"parameters": {}, "continues": True}
    return client


def test_a_start_is_told_to_all_who_listen(service: Running) -> None:
    """Once for each start that changed something; a call ends the listening."""
    with listener(service) as first, listener(service) as second, service.client() as other:
        for _ in range(2):
            other.call("Start")
            for client in (first, second):
                assert client.receive() == {"parameters": {}, "continues": True}
        first.send("ListDynamic")
        assert first.receive() == {"parameters": {}}
        assert first.receive() == {"parameters": {"rules": []}}


def test_what_was_running_has_forgotten_nothing(service: Running) -> None:
    """Neither a start that changes nothing nor another change is told."""
    unchanged = {"outcome": {**OUTCOME["outcome"], "changed": False}}
    with listener(service) as client, service.client() as other:
        service.engine.hooks["Start"] = lambda _: unchanged
        other.call("Start")
        other.call("Stop")
        client.send("ListDynamic")
        assert client.receive() == {"parameters": {}}


def test_the_end_of_the_daemon_ends_the_connection() -> None:
    """So it is heard, too, without anybody asking."""
    engine = FakeEngine()
    with running(engine=engine) as service:
        client = listener(service)
    assert client.receive() is None
    client.sock.close()


def test_without_more_there_is_one_reply(service: Running) -> None:
    """It comes at once."""
    with service.client() as client:
        assert client.call("AwaitStart") == {"parameters": {}}
