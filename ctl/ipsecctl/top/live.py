"""Owns the turn of ``top`` at a terminal: what is known is drawn, and a key changes what is shown.

Must not know how the daemon is asked, nor how anything looks.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ipsecctl.client import Client
from ipsecctl.explain import lines_of_explanation
from ipsecctl.failures import DONE
from ipsecctl.top.feed import INTERVAL_S, Feed, Known
from ipsecctl.top.keys import Keys
from ipsecctl.top.layout import frame, frame_of_lines, page_of
from ipsecctl.top.rates import Sight, SourceRate
from ipsecctl.top.screen import Ended, Screen
from ipsecctl.top.view import RULES, Row, View, pressed, rows_of
from ipsecd.errors import IpsecdError
from ipsecd.output import broken, draw, screen_size
from ipsecd.quoting import quote

ESCAPE_S = 0.05
"""The rest of a sequence of bytes comes at once; what comes later is another key."""
DRAW_S = 0.05
"""What is new is drawn at most so often, however often something is new."""


def look(client: Client) -> int:
    """Show rules and sources until somebody ends it; the exit code.

    Raises what the daemon answers, or why it cannot be asked, before anything is drawn.
    """
    screen = Screen()
    feed = Feed(client.path, screen.wake)
    feed.count(client)
    client.close()
    turn = _Turn(feed)
    try:
        with screen:
            feed.start()
            turn.until_ended(screen)
    except Ended as ended:
        return ended.code
    finally:
        feed.close()
    return DONE


class _Turn:
    """What is shown now, and what it is made of."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._keys = Keys()
        self._view = View()
        self._known = feed.known()
        self._rows: list[Row] = []
        self._answers: queue.SimpleQueue[tuple[Row, dict[str, Any] | IpsecdError]]
        self._answers = queue.SimpleQueue()
        self._explained: tuple[Row, Sight | None, dict[str, Any] | IpsecdError | None] | None = None

    def until_ended(self, screen: Screen) -> None:
        """Draw and read until the view is ended."""
        drawn_s = 0.0
        self._sort()
        while not self._view.ended and not broken():
            now_s = time.monotonic()
            if now_s - drawn_s >= DRAW_S:
                self._draw()
                drawn_s, wait_s = now_s, INTERVAL_S
            else:
                wait_s = DRAW_S - (now_s - drawn_s)
            typed = screen.read(ESCAPE_S if self._keys.waits() else wait_s)
            keys = self._keys.typed(typed) if typed else self._keys.no_more()
            for key in keys:
                self._press(key)
                drawn_s = 0.0
            self._hear()

    def _hear(self) -> None:
        """Take what has come; while nothing is to move, only answers."""
        while not self._answers.empty():
            row, answer = self._answers.get()
            if self._explained and self._explained[0] == row:
                self._explained = (row, self._explained[1], answer)
        known = self._feed.known()
        if not self._view.paused:
            self._known = known
            self._sort()

    def _press(self, key: str) -> None:
        before = self._view
        page = page_of(screen_size().lines)
        self._view = pressed(before, key, self._rows, page)
        row = self._view.explaining
        if row is not None and row is not before.explaining:
            self._explain(row)
        self._sort()

    def _explain(self, row: Row) -> None:
        last = row.last if isinstance(row, SourceRate) else self._feed.last_of_rule(row.key)
        self._explained = (row, last, None)
        if last:
            self._feed.explain(last.packet, lambda answer: self._answers.put((row, answer)))

    def _sort(self) -> None:
        every: Sequence[Row] = (
            self._known.rules if self._view.table == RULES else self._known.sources
        )
        self._rows = rows_of(self._view, every)

    def _draw(self) -> None:
        columns, lines = screen_size()
        if self._view.explaining is not None and self._explained:
            row, last, answer = self._explained
            rest = f"and more: ipsecctl explain {quote(last.packet)}" if last else ""
            texts = _lines_of_row(row, last, answer, self._known)
            draw(frame_of_lines(_title(row), texts, rest, columns, lines))
        else:
            draw(frame(self._view, self._known, self._rows, columns, lines))


def _title(row: Row) -> str:
    if isinstance(row, SourceRate):
        return f"source {row.source}"
    return f"rule {_named(row.policy, row.rule, row.store)}: {row.action}"


def _named(policy: str, rule: str, store: str) -> str:
    of_policy = f" of policy {quote(policy)}" if policy else ""
    return f"{quote(rule)}{of_policy} ({store})"


def _lines_of_row(
    row: Row, last: Sight | None, answer: dict[str, Any] | IpsecdError | None, known: Known
) -> Iterator[str]:
    """What decided about the last packet of a row, and what decides about it now."""
    filters = () if isinstance(row, SourceRate) else row.filters
    yield from (f"  filter  {each}" for each in filters)
    yield ""
    if last is None:
        why = known.no_sources or "no packet that it decided about was reported yet"
        yield f"nothing to explain: {why}"
        return
    yield f"the last packet that was reported, at {last.at}:"
    yield f"  {last.packet}"
    if last.filter:
        yield f"  {last.action} by {last.filter}  {_named(last.policy, last.rule, last.store)}"
    else:
        yield f"  {last.action}, and which filter decided is not known"
    yield ""
    yield "what decides about such a packet now:"
    match answer:
        case None:
            yield "  the daemon is asked ..."
        case IpsecdError():
            yield f"  the daemon cannot tell: {answer.message}"
        case _:
            yield from (f"  {line}" for line in lines_of_explanation(answer, str))
