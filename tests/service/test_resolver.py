"""Tests of DNS look-ups, with a resolver that answers as told."""

from __future__ import annotations

import asyncio

import pytest

from ipsecd.errors import Refused
from ipsecd.host.resolver import AT_ONCE, Resolver, system_lookup
from ipsecd.model.addresses import Family, Network


def resolve(resolver: Resolver, *names: str) -> dict[str, tuple[Network, ...]]:
    return asyncio.run(resolver.resolve(names))


async def two_of_each(name: str) -> list[str]:
    assert name
    return ["2001:db8::1", "192.0.2.9", "192.0.2.1", "192.0.2.9", "fe80::1%eth0"]


def test_addresses_are_hosts_in_order() -> None:
    """All addresses of both families are given once, sorted, scopes left out."""
    assert resolve(Resolver(two_of_each), "a.example") == {
        "a.example": (
            Network(Family.IPV4, 0xC0000201, 32),
            Network(Family.IPV4, 0xC0000209, 32),
            Network(Family.IPV6, 0x20010DB8 << 96 | 1, 128),
            Network(Family.IPV6, 0xFE80 << 112 | 1, 128),
        )
    }


def test_no_names_need_no_look_up() -> None:
    """Most changes name no host at all."""
    assert resolve(Resolver(two_of_each)) == {}


def test_the_system_knows_this_host() -> None:
    """The system's own resolver is asked."""
    addresses = asyncio.run(system_lookup("localhost"))
    assert {"127.0.0.1", "::1"} & set(addresses)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(-2, "Name or service not known"), "Name or service not known"),
        (UnicodeError("label too long"), "not a name that DNS can hold"),
        (None, "it has no addresses"),
    ],
)
def test_what_cannot_be_resolved_is_refused(failure: Exception | None, reason: str) -> None:
    """The name and the resolver's own words are in the error."""

    async def fail(_: str) -> list[str]:
        if failure is not None:
            raise failure
        return []

    with pytest.raises(Refused, match=f"DNS name 'b.example' cannot be resolved: .*{reason}"):
        resolve(Resolver(fail), "b.example")


def test_a_resolver_that_does_not_answer_is_given_up() -> None:
    """One name takes no longer than its time."""

    async def hang(_: str) -> list[str]:
        await asyncio.sleep(60)
        return []

    with pytest.raises(Refused, match=r"no answer within 0\.05 s"):
        resolve(Resolver(hang, timeout_s=0.05), "c.example")


def test_names_are_looked_up_together_and_bounded() -> None:
    """Many names run at the same time, and never more than the limit."""
    running = 0
    most = 0

    async def count(_: str) -> list[str]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return ["192.0.2.1"]

    names = [f"{n}.example" for n in range(40)]
    assert set(resolve(Resolver(count), *names)) == set(names)
    assert most == AT_ONCE


def test_one_failure_calls_the_others_off() -> None:
    """The first name that cannot be resolved ends the wait for the rest."""
    ended = []

    async def mixed(name: str) -> list[str]:
        if name == "bad.example":
            raise OSError(-2, "unknown")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)
        return []

    with pytest.raises(Refused, match=r"bad\.example"):
        resolve(Resolver(mixed), "bad.example", "slow.example")
    assert ended == ["slow.example"]
