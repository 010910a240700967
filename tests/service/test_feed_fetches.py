"""Feeds that a fetcher is asked for, and what it may answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ipsecd.control.feeds import Fetched, Wanted
from ipsecd.errors import NotFound, Refused
from ipsecd.service.feeds import FeedFetches

WANTED = Wanted("https://feeds.example/drop", '"tag"', "")
ANSWER = {"problem": "", "hint": "", "unchanged": False, "etag": '"new"', "modified": ""}


def run(story: Callable[[FeedFetches], Awaitable[None]], **times: float) -> None:
    asyncio.run(asyncio.wait_for(_within(story, FeedFetches(**times)), 60))


async def _within(story: Callable[[FeedFetches], Awaitable[None]], fetches: FeedFetches) -> None:
    await story(fetches)


async def asked(fetches: FeedFetches) -> tuple[Any, dict[str, Any]]:
    """A fetcher, and the first question that it is asked."""
    questions = fetches.questions()
    return questions, await anext(questions)


def test_what_was_fetched_is_handed_on() -> None:
    """The question says what is here, and the answer what the server said."""

    async def story(fetches: FeedFetches) -> None:
        fetching = asyncio.create_task(fetches.fetch(WANTED))
        questions, question = await asked(fetches)
        assert question == {"number": 1, "url": WANTED.url, "etag": WANTED.etag, "modified": ""}
        for number in (0, 2):
            with pytest.raises(NotFound):
                fetches.take({**ANSWER, "number": number}, b"x")
        fetches.take({**ANSWER, "number": 1, "modified": "x" * 300}, b"192.0.2.7")
        assert await fetching == Fetched(b"192.0.2.7", unchanged=False, etag='"new"')
        with pytest.raises(NotFound, match="nobody waits"):
            fetches.take({**ANSWER, "number": 1}, b"x")
        await questions.aclose()

    run(story)


def test_nothing_new_has_no_text() -> None:
    """Whatever came with it."""

    async def story(fetches: FeedFetches) -> None:
        fetching = asyncio.create_task(fetches.fetch(WANTED))
        _, question = await asked(fetches)
        fetches.take({**ANSWER, "number": question["number"], "unchanged": True}, b"0.0.0.0/0")
        assert await fetching == Fetched(b"", unchanged=True, etag='"new"')

    run(story)


@pytest.mark.parametrize("tag", ["a\r\nX: y", "\u2603", "x" * 257])
def test_tags_that_cannot_be_sent_back_are_forgotten(tag: str) -> None:
    """They would be part of a request."""

    async def story(fetches: FeedFetches) -> None:
        fetching = asyncio.create_task(fetches.fetch(WANTED))
        _, question = await asked(fetches)
        fetches.take({**ANSWER, "number": question["number"], "etag": tag, "modified": tag}, b"")
        assert await fetching == Fetched(b"")

    run(story)


def test_what_fails_is_told() -> None:
    """A problem, a fetcher that goes, that does not answer, or that does not come."""

    async def story(fetches: FeedFetches) -> None:
        with pytest.raises(Refused, match="does not run"):
            await fetches.fetch(WANTED)
        fetching = asyncio.create_task(fetches.fetch(WANTED))
        questions, question = await asked(fetches)
        fetches.take({**ANSWER, "number": question["number"], "problem": "HTTP 500"}, b"0.0.0.0/0")
        with pytest.raises(Refused, match="HTTP 500"):
            await fetching
        with pytest.raises(Refused, match=r"did not answer within 0\.2 s"):
            await fetches.fetch(WANTED)
        fetching = asyncio.create_task(fetches.fetch(WANTED))
        await anext(questions)
        await questions.aclose()
        with pytest.raises(Refused, match="has ended"):
            await fetching

    run(story, arrival_s=0.2, answer_s=0.2)
