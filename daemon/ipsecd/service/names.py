"""Owns who looks DNS names up: the fetcher if it is connected, else this process if it may.

1. A fetcher is asked for a name once. If it goes, what it was asked for has failed.
2. What it answers is not trusted: only names that it was asked for are taken, and whether they have
   addresses is for the resolver to judge.

Must not know sockets, nor how a name is looked up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ipsecd.errors import NotFound, Refused
from ipsecd.host.resolver import Lookup, may_open_sockets, system_lookup
from ipsecd.quoting import quote

ARRIVAL_S = 2.0
"""The time that a fetcher has to come back, after a restart of this process, if it is needed."""


@dataclass(eq=False, slots=True)
class _Question:
    """A name that somebody waits for.

    ``number`` is 0 until the fetcher is asked, and ``names`` are all that are in one question.
    """

    name: str
    answer: asyncio.Future[list[str]]
    number: int = 0
    names: frozenset[str] = frozenset()


@dataclass(eq=False, slots=True)
class _Fetcher:
    """One that looks names up for us, and what is asked of it."""

    questions: set[_Question] = field(default_factory=set)
    asked: asyncio.Event = field(default_factory=asyncio.Event)


class NameLookups:
    """Has names looked up."""

    def __init__(
        self,
        by_itself: Lookup = system_lookup,
        may_by_itself: Callable[[], bool] = may_open_sockets,
        arrival_s: float = ARRIVAL_S,
    ) -> None:
        """`by_itself` looks up without a fetcher, if `may_by_itself` says that it can."""
        self._by_itself = by_itself
        self._may_by_itself = may_by_itself
        self._arrival_s = arrival_s
        self._fetchers: list[_Fetcher] = []
        self._arrived = asyncio.Event()
        self._numbers = count(1)

    @property
    def fetchers(self) -> int:
        """How many are connected."""
        return len(self._fetchers)

    async def look_up(self, name: str) -> list[str]:
        """What is said to be the addresses of `name`, unchecked.

        Raises ``OSError`` with the reason if there are none, and ``Refused`` if nobody can look.
        """
        if not self._fetchers:
            if self._may_by_itself():
                return await self._by_itself(name)
            await self._arrival(name)
        # The last one that came: one before it may be dead without our knowing.
        fetcher = self._fetchers[-1]
        question = _Question(name, asyncio.get_running_loop().create_future())
        fetcher.questions.add(question)
        fetcher.asked.set()
        try:
            return await question.answer
        finally:
            fetcher.questions.discard(question)

    async def questions(self) -> AsyncGenerator[dict[str, Any], None]:
        """What is asked of one fetcher, as long as it is connected."""
        fetcher = _Fetcher()
        self._fetchers.append(fetcher)
        self._arrived.set()
        try:
            while True:
                await fetcher.asked.wait()
                fetcher.asked.clear()
                new = [question for question in fetcher.questions if not question.number]
                if new:
                    number = next(self._numbers)
                    names = frozenset(question.name for question in new)
                    for question in new:
                        question.number, question.names = number, names
                    yield {"number": number, "names": sorted(names)}
        finally:
            self._fetchers.remove(fetcher)
            if not self._fetchers:
                self._arrived.clear()
            for question in fetcher.questions:
                if not question.answer.done():
                    gone = OSError("ipsecd-domain, which was to look it up, has ended")
                    question.answer.set_exception(gone)

    def take(self, number: int, answers: list[dict[str, Any]]) -> None:
        """Take answers to the question with a number: all or none of them.

        Raises ``NotFound`` if nobody waits for any answer to it, and ``Refused`` if one of the
        answers is to something else.
        """
        asked = [
            question
            for fetcher in self._fetchers
            for question in fetcher.questions
            if question.number == number and number
        ]
        if not asked:
            raise NotFound(
                f"nobody waits for an answer to question {number:,}",
                "it came too late; the next one is as good",
            )
        for answer in answers:
            if answer["name"] not in asked[0].names:
                raise Refused(
                    f"question {number:,} is not about {quote(answer['name'])}",
                    "answer what was asked",
                )
        by_name = {answer["name"]: answer for answer in answers}
        for question in asked:
            if question.name in by_name and not question.answer.done():
                _answer(question, by_name[question.name])

    async def _arrival(self, name: str) -> None:
        """Wait until a fetcher is connected; raises ``Refused`` if none comes in time."""
        try:
            async with asyncio.timeout(self._arrival_s):
                while not self._fetchers:
                    await self._arrived.wait()
        except TimeoutError as error:
            raise Refused(
                f"DNS name {quote(name)} cannot be resolved: this service opens no connections, "
                "and ipsecd-domain, which looks names up for it, does not run",
                "run: systemctl start ipsecd-domain; or give the addresses",
            ) from error


def _answer(question: _Question, answer: dict[str, Any]) -> None:
    if answer["problem"]:
        question.answer.set_exception(OSError(answer["problem"]))
    else:
        question.answer.set_result(answer["addresses"])
