"""Owns DNS look-ups: names to addresses, outside the engine's thread; must not know filters.

Whoever looks up is not trusted: what is no address is refused here, whoever gave it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from ipsecd.errors import Refused
from ipsecd.model.addresses import Family, Network
from ipsecd.quoting import quote, shorten

TIMEOUT_S = 5.0
AT_ONCE = 8
"""Look-ups that run at the same time; each holds one thread of whoever looks up."""
MAX_ADDRESSES = 4096
"""Of one name: an answer of DNS, at most 64 KiB, has room for about as many."""

Lookup = Callable[[str], Awaitable[list[str]]]
"""Gives all addresses of a name. Raises ``OSError`` with the reason, or ``Refused``."""


async def system_lookup(name: str) -> list[str]:
    """All addresses of `name` as the system's resolver gives them; raises ``OSError``."""
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in answers]


def may_open_sockets() -> bool:
    """Whether this process may speak to name servers, as far as its unit is concerned."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM):
            return True
    return False


class Resolver:
    """Looks names up, several at a time, each within ``TIMEOUT_S`` seconds."""

    def __init__(self, lookup: Lookup = system_lookup, timeout_s: float = TIMEOUT_S) -> None:
        self._lookup = lookup
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def resolve(self, names: Iterable[str]) -> dict[str, tuple[Network, ...]]:
        """The addresses of every name; raises ``Refused`` for the first that has none."""
        sorted_names = sorted(names)
        tasks = [asyncio.create_task(self._resolve_name(name)) for name in sorted_names]
        try:
            addresses = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return dict(zip(sorted_names, addresses, strict=True))

    async def resolve_those_there_are(
        self, names: Iterable[str]
    ) -> tuple[dict[str, tuple[Network, ...]], tuple[Refused, ...]]:
        """The addresses of every name, and for each name that has none the reason why."""
        sorted_names = sorted(names)
        tasks = [self._resolve_name(name) for name in sorted_names]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        addresses: dict[str, tuple[Network, ...]] = {}
        failures = []
        for name, answer in zip(sorted_names, answers, strict=True):
            if isinstance(answer, Refused):
                failures.append(answer)
                addresses[name] = ()
            elif isinstance(answer, BaseException):
                raise answer
            else:
                addresses[name] = answer
        return addresses, tuple(failures)

    async def _resolve_name(self, name: str) -> tuple[Network, ...]:
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout_s):
                    texts = await self._lookup(name)
            except TimeoutError as error:
                raise _unresolved(name, f"no answer within {self._timeout_s:g} s") from error
            except UnicodeError as error:
                raise _unresolved(name, "it is not a name that DNS can hold") from error
            except OSError as error:
                raise _unresolved(name, shorten(error.strerror or str(error))) from error
        if not texts:
            raise _unresolved(name, "it has no addresses")
        if len(texts) > MAX_ADDRESSES:
            raise _unresolved(name, f"it has more than {MAX_ADDRESSES:,} addresses")
        hosts = {_host(name, text) for text in texts}
        return tuple(sorted(hosts, key=lambda host: (host.family, host.address)))


def _host(name: str, text: str) -> Network:
    """The host whose address is `text`, without a scope such as ``%eth0``."""
    address = text.partition("%")[0]
    kind, family = (
        (socket.AF_INET6, Family.IPV6) if ":" in address else (socket.AF_INET, Family.IPV4)
    )
    try:
        number = int.from_bytes(socket.inet_pton(kind, address), "big")
    except (OSError, ValueError) as error:
        raise _unresolved(name, f"the answer has {quote(text)}, which is no address") from error
    return Network(family, number, family.bits)


def _unresolved(name: str, reason: str) -> Refused:
    return Refused(
        f"DNS name {quote(name)} cannot be resolved: {reason}",
        "nothing has changed; check the name and the resolver, or give the addresses",
    )
