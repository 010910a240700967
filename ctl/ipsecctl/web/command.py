"""Owns the verb ``web``: it begins to serve the page, says where, and ends when it is told to."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from ipsecctl.client import Client
from ipsecctl.failures import DONE, UsageError
from ipsecctl.options import Options
from ipsecctl.web.asking import Daemon
from ipsecctl.web.listening import DEFAULT, Listener, listen
from ipsecctl.web.live import Live
from ipsecctl.web.pages.fleet import look
from ipsecctl.web.samples import Samples, keep
from ipsecctl.web.server import Server
from ipsecctl.web.site import Site
from ipsecd.output import flush, say, say_json


def run(client: Client, options: Options) -> int:
    """Serve until SIGINT or SIGTERM; a daemon that is not there is waited for."""
    fleet = _fleet(options)
    listener = listen(options.value("--listen") or DEFAULT)
    try:
        if options.has("--json"):
            say_json({"at": listener.place}, indent=None)
        else:
            say(listener.place)
        flush()
        asyncio.run(_serve(listener, Daemon(client.path), fleet))
    finally:
        listener.close()
    return DONE


def _fleet(options: Options) -> tuple[Path, Path] | None:
    """The repository of a fleet and the directory of its reports, if they are given.

    A wrong place is told to who wrote it, and not to who looks at the page one day.
    """
    places = []
    for name in ("--fleet", "--reports"):
        place = options.value(name)
        if place is None:
            return None
        if not place:
            # A variable that is not set would else show no fleet, or that of this directory.
            raise UsageError(f"{name} is empty", "name a directory; without a fleet leave out both")
        places.append(Path(place))
    repository, reports = places
    look(repository, reports)
    return repository, reports


async def _serve(listener: Listener, daemon: Daemon, fleet: tuple[Path, Path] | None) -> None:
    samples, live = Samples(), Live(daemon)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(Server(listener, Site(daemon, samples, live, fleet)).serve()),
        asyncio.create_task(keep(samples, daemon)),
        asyncio.create_task(ended.wait()),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        done = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await live.close()
        await asyncio.wait(tasks)
    for task in done:
        task.result()
