"""Owns who fetches feeds of addresses: the fetcher that is connected; must not know lists.

A fetcher is asked for a feed once. If it goes, what it was asked for has failed. What it answers is
the text of a stranger, and is only handed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ipsecd.control.feeds import Fetched, Wanted
from ipsecd.errors import MAX_HINT, MAX_MESSAGE, NotFound, Refused
from ipsecd.quoting import cut

ARRIVAL_S = 2.0
"""The time that a fetcher has to come, after a restart of this process, if it is needed."""
ANSWER_S = 300.0
"""The time that a fetcher has for a feed. It ends by itself long before."""
MAX_TAG = 256
"""Characters of what a server says of the state of a feed."""


@dataclass(eq=False, slots=True)
class _Question:
    """A feed that somebody waits for; ``number`` is 0 until a fetcher is asked."""

    wanted: Wanted
    answer: asyncio.Future[Fetched]
    number: int = 0


@dataclass(eq=False, slots=True)
class _Fetcher:
    """One that fetches feeds for us, and what is asked of it."""

    questions: list[_Question] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)


class FeedFetches:
    """Has feeds fetched."""

    def __init__(self, arrival_s: float = ARRIVAL_S, answer_s: float = ANSWER_S) -> None:
        self._arrival_s = arrival_s
        self._answer_s = answer_s
        self._fetchers: list[_Fetcher] = []
        self._arrived = asyncio.Event()
        self._numbers = count(1)

    async def fetch(self, wanted: Wanted) -> Fetched:
        """What a feed holds; raises ``Refused`` with the reason if it cannot be had."""
        await self._arrival()
        # The last one that came: one before it may be dead without our knowing.
        fetcher = self._fetchers[-1]
        question = _Question(wanted, asyncio.get_running_loop().create_future())
        fetcher.questions.append(question)
        fetcher.asked.set()
        try:
            async with asyncio.timeout(self._answer_s):
                return await question.answer
        except TimeoutError as error:
            raise Refused(
                f"ipsecd-domain did not answer within {self._answer_s:g} s",
                "see its log: journalctl -u ipsecd-domain",
            ) from error
        finally:
            fetcher.questions.remove(question)

    async def questions(self) -> AsyncGenerator[dict[str, Any], None]:
        """What is asked of one fetcher, as long as it is connected."""
        fetcher = _Fetcher()
        self._fetchers.append(fetcher)
        self._arrived.set()
        try:
            while True:
                await fetcher.asked.wait()
                fetcher.asked.clear()
                for question in [asked for asked in fetcher.questions if not asked.number]:
                    question.number = next(self._numbers)
                    wanted = question.wanted
                    yield {
                        "number": question.number,
                        "url": wanted.url,
                        "etag": wanted.etag,
                        "modified": wanted.modified,
                    }
        finally:
            self._fetchers.remove(fetcher)
            if not self._fetchers:
                self._arrived.clear()
            for question in fetcher.questions:
                if not question.answer.done():
                    question.answer.set_exception(
                        Refused(
                            "ipsecd-domain, which was to fetch it, has ended",
                            "it is tried again; its log says more: journalctl -u ipsecd-domain",
                        )
                    )

    def take(self, answer: dict[str, Any], document: bytes) -> None:
        """Take the answer to a question; raises ``NotFound`` if nobody waits for it."""
        for fetcher in self._fetchers:
            for question in fetcher.questions:
                if question.number == answer["number"] != 0 and not question.answer.done():
                    _answer(question, answer, document)
                    return
        raise NotFound(
            f"nobody waits for feed {answer['number']:,}", "it came too late; the next is as good"
        )

    async def _arrival(self) -> None:
        """Wait until a fetcher is connected; raises ``Refused`` if none comes in time."""
        try:
            async with asyncio.timeout(self._arrival_s):
                while not self._fetchers:
                    await self._arrived.wait()
        except TimeoutError as error:
            raise Refused(
                "ipsecd-domain, which fetches feeds, does not run",
                "run: systemctl start ipsecd-domain; its log says why it does not",
            ) from error


def _answer(question: _Question, answer: dict[str, Any], document: bytes) -> None:
    if answer["problem"]:
        question.answer.set_exception(
            Refused(cut(answer["problem"], MAX_MESSAGE), cut(answer["hint"], MAX_HINT))
        )
        return
    unchanged = answer["unchanged"]
    etag, modified = (_tag(answer[key]) for key in ("etag", "modified"))
    question.answer.set_result(Fetched(b"" if unchanged else document, unchanged, etag, modified))


def _tag(text: str) -> str:
    """What a server says of a state, if it can be sent back in a line of HTTP."""
    return text if len(text) <= MAX_TAG and text.isascii() and text.isprintable() else ""
