"""Owns the fetcher's talk with the daemon over its socket; must not know sources.

https://varlink.org: a call and its reply are JSON objects, each ended by NUL.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ipsecd.errors import IpsecdError, NotFound
from ipsecd.protocol.connecting import connected, send_frame
from ipsecd.protocol.description import CONTROL
from ipsecd.protocol.errors import from_wire
from ipsecd.protocol.frames import FrameDecoder, ProtocolError, encode_frame
from ipsecd.quoting import quote_path
from ipsecd_domain.fetcher.faults import DaemonUnreachable
from ipsecd_domain.fetcher.settings import Domain, NotUnderstood, Settings, domain_of

ANSWER_S = 600.0
"""A policy of a million prefixes takes minutes until it is in force."""
MAX_REPLY_BYTES = 64 << 20
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class FeedQuestion:
    """A feed that is to be fetched, and by what its server knows the state that the daemon has."""

    number: int
    url: str
    etag: str
    modified: str


class Daemon:
    """The daemon behind a socket; each call has a connection of its own."""

    def __init__(self, path: str, answer_s: float = ANSWER_S) -> None:
        self._path = path
        self._answer_s = answer_s

    def domain(self) -> Domain:
        """Settings, trust, and what is in force; without any where none is configured.

        Raises ``IpsecdError``.
        """
        try:
            return domain_of(self._call("GetDomain", {}))
        except NotFound:
            return Domain(Settings())

    def take(self, bundle: Iterable[bytes], refresh: int) -> str:
        """Hand over a bundle, which comes in pieces; what the daemon says about it.

        Raises its error if it refuses.
        """
        descriptor = os.memfd_create("bundle", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.writelines(bundle)
            reply = self._call("TakeDomain", {"refresh": refresh}, descriptor)
        finally:
            os.close(descriptor)
        outcome = reply.get("outcome")
        return str(outcome.get("message", "")) if isinstance(outcome, dict) else ""

    def report(self, problem: str, refresh: int) -> None:
        """Say that a look brought nothing new: "", or what went wrong."""
        self._call("ReportDomain", {"problem": problem, "refresh": refresh})

    def asked(self, refresh: int) -> Iterator[int]:
        """The number of the last refresh asked for, each time that there is a new one.

        Waits for as long as it takes; raises ``IpsecdError`` when the daemon ends.
        """
        for parameters in self._replies("AwaitDomain", {"refresh": refresh}):
            yield _number(parameters, "refresh")

    def names_wanted(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """DNS names that are to be looked up, each time with the number of the question.

        Waits for as long as it takes; raises ``IpsecdError`` when the daemon ends.
        """
        for parameters in self._replies("AwaitNames", {}):
            names = parameters.get("names")
            if not isinstance(names, list):
                raise NotUnderstood("the daemon's answer to AwaitNames has no names")
            yield _number(parameters, "number"), tuple(str(name) for name in names)

    def answer_name(self, number: int, name: str, addresses: list[str], problem: str) -> None:
        """Say what a look-up of a name came to, in answer to the question with this number."""
        answer = {"name": name, "addresses": addresses, "problem": problem}
        self._call("AnswerNames", {"number": number, "answers": [answer]})

    def feeds_wanted(self) -> Iterator[FeedQuestion]:
        """Feeds that are to be fetched.

        Waits for as long as it takes; raises ``IpsecdError`` when the daemon ends.
        """
        for parameters in self._replies("AwaitFeeds", {}):
            url, etag, modified = (str(parameters.get(key)) for key in ("url", "etag", "modified"))
            yield FeedQuestion(_number(parameters, "number"), url, etag, modified)

    def answer_feed(self, number: int, answer: Mapping[str, object], content: int) -> None:
        """Say what came of fetching a feed, with an open file that holds it."""
        self._call("AnswerFeed", {"number": number, **answer}, content)

    def _replies(self, method: str, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What the daemon replies again and again to one call, until it says that it ends."""
        with closing(self._connect()) as connection:
            decoder = FrameDecoder(MAX_REPLY_BYTES)
            self._send(connection, method, parameters, more=True)
            connection.settimeout(None)
            continues = True
            while continues:
                reply = self._receive(connection, decoder)
                yield _parameters(reply)
                continues = reply.get("continues") is True

    def _call(
        self, method: str, parameters: dict[str, Any], descriptor: int | None = None
    ) -> dict[str, Any]:
        with closing(self._connect()) as connection:
            self._send(connection, method, parameters, descriptor)
            return _parameters(self._receive(connection, FrameDecoder(MAX_REPLY_BYTES)))

    def _connect(self) -> _socket.socket:
        try:
            return connected(self._path, self._answer_s)
        except OSError as error:
            raise DaemonUnreachable(
                f"the daemon cannot be reached at {quote_path(self._path)}: "
                f"{error.strerror or error}",
                "start it with 'systemctl start ipsecd', or say where it is with --socket",
            ) from error

    def _send(
        self,
        connection: _socket.socket,
        method: str,
        parameters: dict[str, Any],
        descriptor: int | None = None,
        *,
        more: bool = False,
    ) -> None:
        message: dict[str, Any] = {"method": f"{CONTROL}.{method}", "parameters": parameters}
        frame = encode_frame({**message, "more": True} if more else message)
        try:
            send_frame(connection, frame, descriptor)
        except OSError as error:
            raise self._no_answer(error) from error

    def _receive(self, connection: _socket.socket, decoder: FrameDecoder) -> dict[str, Any]:
        """The next reply as it is."""
        try:
            while (message := decoder.next_message()) is None:
                piece = connection.recv(_CHUNK)
                if not piece:
                    raise self._no_answer(None)
                decoder.feed(piece)
        except OSError as error:
            raise self._no_answer(error) from error
        except ProtocolError as error:
            raise NotUnderstood(f"the daemon's answer is none: {error.message}") from error
        return message

    def _no_answer(self, error: OSError | None) -> DaemonUnreachable:
        why = f": {error.strerror or error}" if error else ""
        return DaemonUnreachable(
            f"the daemon at {quote_path(self._path)} gave no answer{why}",
            "it answers root and user ipsecd-domain; its log says more: journalctl -u ipsecd",
        )


def _parameters(reply: dict[str, Any]) -> dict[str, Any]:
    """What a reply gives back; raises the error that it carries."""
    parameters = reply.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise NotUnderstood("the daemon's answer has no parameters")
    if "error" in reply:
        raise _error(str(reply["error"]), parameters)
    return parameters


def _error(name: str, parameters: dict[str, Any]) -> IpsecdError:
    try:
        return from_wire(name, parameters)
    except (TypeError, ValueError):
        return NotUnderstood(f"the daemon answered {name}")


def _number(parameters: dict[str, Any], key: str) -> int:
    number = parameters.get(key)
    if not isinstance(number, int):
        raise NotUnderstood(f"the daemon's answer has no number {key}")
    return number
