"""Owns what a request leads to: a page, a file or the stream of packets; must not know sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from ipsecctl.failures import UnreachableError
from ipsecctl.web.asking import Daemon
from ipsecctl.web.layout import FILES, HERE, Frame, page
from ipsecctl.web.live import Live, Told
from ipsecctl.web.markup import Content
from ipsecctl.web.menu import MENU, PAGES, links
from ipsecctl.web.pages.drops import told_of
from ipsecctl.web.pages.page import Page, Sight
from ipsecctl.web.request import BadRequest, Request
from ipsecctl.web.response import HTML, Response, plain
from ipsecctl.web.samples import Samples
from ipsecctl.web.words import trouble
from ipsecd.errors import IpsecdError, NotFound
from ipsecd.quoting import visible

EVENTS = "drops.events"


class Site:
    """All pages, with what they are made of."""

    def __init__(
        self, daemon: Daemon, samples: Samples, live: Live, fleet: tuple[Path, Path] | None = None
    ) -> None:
        self._daemon = daemon
        self._samples = samples
        self._live = live
        self._fleet = fleet
        self._host = socket.gethostname()
        self._files = {name: (HERE / name).read_bytes() for name in FILES}

    async def answer(self, name: str, request: Request) -> Response:
        """The answer to a request for `name`, a path below that of all pages."""
        if name in self._files:
            return Response(200, self._files[name], FILES[name])
        if name == "":
            return plain(303, "", Location=MENU[0].path)
        if name not in PAGES:
            raise BadRequest(404, "there is no such page; the first one is: overview")
        status, content = await self._content(PAGES[name], request)
        return Response(status, self._framed(PAGES[name], content), HTML)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Packets as they are dropped, as server-sent events (HTML Living Standard)."""
        with self._live.watch() as all_told:
            # What came since the page was made, or since a stream before this broke, is in it.
            yield _event(self._live.last, whole=True)
            async for told in all_told:
                yield _event(told)

    async def _content(self, shown: Page, request: Request) -> tuple[int, Content]:
        """What is on a page; an error of the daemon is shown in its place."""
        sight = Sight(
            request.query, self._daemon, self._samples, self._live, time.time(), self._fleet
        )
        try:
            return 200, await shown.make(sight)
        except UnreachableError as error:
            return 503, trouble(error)
        except NotFound as error:
            return 404, trouble(error)
        except IpsecdError as error:
            return 200, trouble(error)

    def _framed(self, shown: Page, content: Content) -> bytes:
        path = shown.under or shown.path
        frame = Frame(path, shown.title, self._host, shown.seconds, shown.plain_seconds)
        return page(frame, links(), content)


def _event(told: Told, *, whole: bool = False) -> bytes:
    """What was told, as an event; `whole` is all there is, and no addition."""
    packets = [
        {name: visible(text) for name, text in told_of(packet).items()} for packet in told.packets
    ]
    data = {
        "whole": whole,
        "packets": packets,
        "blocked": told.blocked,
        "lost": told.lost,
        "trouble": visible(told.trouble),
    }
    return f"data: {json.dumps(data)}\n\n".encode()
