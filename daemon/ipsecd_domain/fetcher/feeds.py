"""Owns fetching feeds of addresses for the daemon, which needs no internet sockets so.

1. Nothing is kept: the daemon says what it has, and gets what is new.
2. Each feed is fetched by a process of its own, which is ended after a time. What it says is not
   believed here nor there: the daemon reads it as any text of a stranger.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from ipsecd.errors import IpsecdError
from ipsecd.log import record, record_bug
from ipsecd.quoting import quote_path
from ipsecd_domain.errors import required_packages
from ipsecd_domain.fetcher.daemon import Daemon, FeedQuestion
from ipsecd_domain.fetcher.faults import DaemonUnreachable
from ipsecd_domain.fetcher.listening import listen_for_ever

AT_ONCE = 2
FETCH_S = 120.0
"""The time that a feed may take as a whole, however it comes."""
AWAY_FIRST_S, AWAY_MOST_S = 0.1, 1.0
MAX_ANSWER = 1 << 16
COMMAND = (sys.executable, "-I", "-m", "ipsecd_domain.fetcher.feed")


class Feeds:
    """Fetches what the daemon asks for."""

    def __init__(self, daemon: Daemon, fetch_s: float = FETCH_S) -> None:
        self._daemon = daemon
        self._fetch_s = fetch_s
        self._threads = ThreadPoolExecutor(AT_ONCE, "feed")

    def run(self) -> None:
        """Answer for ever."""
        listen_for_ever(self._listen, AWAY_FIRST_S, AWAY_MOST_S, "feeds-not-heard")

    def _listen(self) -> None:
        for question in self._daemon.feeds_wanted():
            self._threads.submit(self._answer, question)

    def _answer(self, question: FeedQuestion) -> None:
        content = os.memfd_create("feed", os.MFD_CLOEXEC)
        try:
            answer = self._fetched(question, content)
            if answer.get("problem"):
                record(
                    logging.WARNING,
                    "feed-failed",
                    url=_shown(question.url),
                    reason=answer["problem"],
                )
            self._daemon.answer_feed(question.number, answer, content)
        except DaemonUnreachable:
            # It has ended, and with it whoever waited.
            pass
        except IpsecdError as error:
            record(logging.INFO, "answer-not-taken", url=_shown(question.url), reason=error.message)
        except Exception as error:
            record_bug("feed-not-answered", error)
        finally:
            os.close(content)

    def _fetched(self, question: FeedQuestion, content: int) -> dict[str, object]:
        """What came of fetching a feed into `content`."""
        asked = {"url": question.url, "etag": question.etag, "modified": question.modified}
        try:
            with required_packages():
                import urllib3  # noqa: F401, PLC0415 - said in words if it is not there
            done = subprocess.run(  # noqa: S603 - our own module, by our own interpreter
                COMMAND,
                input=json.dumps(asked).encode(),
                stdout=content,
                stderr=subprocess.PIPE,
                timeout=self._fetch_s,
                check=False,
            )
            answer = json.loads(done.stderr[-MAX_ANSWER:])
        except IpsecdError as error:
            return {**NOTHING, "problem": error.message, "hint": error.hint}
        except subprocess.TimeoutExpired:
            return {
                **NOTHING,
                "problem": f"{quote_path(_shown(question.url))} did not give all within "
                f"{self._fetch_s:g} s",
                "hint": "see whether its server is overloaded, or what is between",
            }
        except ValueError:
            return {
                **NOTHING,
                "problem": "the process that fetched "
                f"{quote_path(_shown(question.url))} ended without an answer",
                "hint": "the log of ipsecd-domain says more",
            }
        return {**NOTHING, **answer}


def _shown(url: str) -> str:
    """A URL as everybody may see it: what is behind the question mark may be a secret."""
    return url.partition("?")[0]


NOTHING: dict[str, object] = {
    "problem": "",
    "hint": "",
    "unchanged": False,
    "etag": "",
    "modified": "",
}
