"""Tests against another implementation of varlink: asyncvarlink's client talks to this service."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import asyncvarlink
import pytest
from asyncvarlink.serviceinterface import VarlinkServiceInterface

from ipsecd.progress import Phase, Progress
from ipsecd.protocol.description import CONTROL, SERVICE, load_interface
from tests.service.harness import OUTCOME, PATIENCE_S, FakeEngine, Running, running

Talk = Callable[[asyncvarlink.VarlinkClientProtocol], Awaitable[Any]]


def talk_to(service: Running, talk: Talk) -> Any:
    """What `talk` gives back, over a connection of asyncvarlink's."""

    async def run() -> Any:
        transport, protocol = await asyncvarlink.connect_unix_varlink(
            asyncvarlink.VarlinkClientProtocol, service.path
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await talk(protocol)
        finally:
            transport.close()
            await transport.closed_future

    return asyncio.run(run())


async def call(protocol: asyncvarlink.VarlinkClientProtocol, method: str, **parameters: Any) -> Any:
    answer = await protocol.call(asyncvarlink.VarlinkMethodCall(method, parameters))
    assert answer is not None
    return answer[0]


def test_it_asks_what_this_service_is() -> None:
    """GetInfo and GetInterfaceDescription answer as its own types want them."""

    async def talk(protocol: asyncvarlink.VarlinkClientProtocol) -> tuple[Any, Any]:
        service = asyncvarlink.VarlinkInterfaceProxy(protocol, VarlinkServiceInterface)
        info = await service.GetInfo()
        described = await service.GetInterfaceDescription(interface=CONTROL)
        return info, described

    with running() as service:
        info, described = talk_to(service, talk)
    assert info["product"] == "ipsecd"
    assert info["interfaces"] == [CONTROL, SERVICE]
    assert described["description"] == load_interface(CONTROL).description


def test_it_makes_calls_without_waiting_for_replies() -> None:
    """Many calls at once on one connection each get their own reply."""

    async def talk(protocol: asyncvarlink.VarlinkClientProtocol) -> list[str]:
        replies = await asyncio.gather(
            *(
                call(
                    protocol, f"{CONTROL}.AddDynamic", filters=["0+*"], action="block", name=f"r{n}"
                )
                for n in range(50)
            )
        )
        return [reply.parameters["rule"]["name"] for reply in replies]

    with running() as service:
        assert talk_to(service, talk) == [f"r{n}" for n in range(50)]


def test_it_passes_a_descriptor() -> None:
    """The document behind a descriptor that it sends is what the engine gets."""

    async def talk(protocol: asyncvarlink.VarlinkClientProtocol) -> Any:
        descriptor = os.memfd_create("policy")
        os.write(descriptor, b"policy: x\n")
        request = asyncvarlink.VarlinkMethodCall(
            f"{CONTROL}.ApplyPolicy", {"assign": True, "dry_run": False}
        )
        try:
            answer = await protocol.call(request, [descriptor])
        finally:
            os.close(descriptor)
        assert answer is not None
        return answer[0].error

    with running() as service:
        assert talk_to(service, talk) is None
        assert service.engine.documents == [b"policy: x\n"]


@pytest.mark.parametrize(
    ("method", "parameters", "error"),
    [
        (f"{CONTROL}.RemoveDynamic", {"selector": "x"}, f"{CONTROL}.NotFound"),
        (f"{CONTROL}.RemoveDynamic", {}, f"{SERVICE}.InvalidParameter"),
        (f"{CONTROL}.Missing", {}, f"{SERVICE}.MethodNotFound"),
        ("org.example.Missing", {}, f"{SERVICE}.InterfaceNotFound"),
    ],
)
def test_it_understands_errors(method: str, parameters: dict[str, Any], error: str) -> None:
    """Errors of both interfaces arrive under their names."""

    async def talk(protocol: asyncvarlink.VarlinkClientProtocol) -> Any:
        return (await call(protocol, method, **parameters)).error

    with running() as service:
        assert talk_to(service, talk) == error


def test_it_asks_for_more_and_hears_of_progress() -> None:
    """Its replies that continue end with one that does not, and the connection goes on."""
    engine, heard = FakeEngine(), threading.Event()

    def work(_parameters: dict[str, Any]) -> dict[str, Any]:
        engine.tell(Progress(Phase.LOADING, 3, 5))
        assert heard.wait(PATIENCE_S)
        return OUTCOME

    engine.hooks["Reload"] = work

    async def talk(protocol: asyncvarlink.VarlinkClientProtocol) -> list[Any]:
        request = asyncvarlink.VarlinkMethodCall(f"{CONTROL}.Reload", {"resolve": False}, more=True)
        replies = []
        async for reply, _ in protocol.call_more(request):
            replies.append(reply)
            heard.set()
        replies.append(await call(protocol, f"{CONTROL}.Stats"))
        return replies

    with running(engine=engine) as service:
        told, last, stats = talk_to(service, talk)
    assert told.continues
    assert told.parameters["progress"] == {
        "phase": "loading into the kernel",
        "done": 3,
        "total": 5,
    }
    assert not last.continues
    assert last.parameters == OUTCOME
    assert stats.error is None
