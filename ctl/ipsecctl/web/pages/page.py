"""Owns what a page is: where it stands, and how it is made; must not know any of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from ipsecctl.web.asking import Daemon
from ipsecctl.web.live import Live
from ipsecctl.web.markup import Content
from ipsecctl.web.samples import Samples
from ipsecctl.web.tables import Query


@dataclass(frozen=True, slots=True)
class Sight:
    """What a page is made of: what was asked for, whom to ask, and the time, as of the epoch.

    `fleet` has the directories of a repository and of the reports of its hosts, if there are any.
    """

    query: Query
    daemon: Daemon
    samples: Samples
    live: Live
    now: float
    fleet: tuple[Path, Path] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page at `path`. `make` raises ``IpsecdError`` if the daemon does not tell what it needs.

    `under` is the page in the menu that it belongs to, if it is not there itself. Scripts look at
    it again every `seconds`, browsers without them every `plain_seconds`; 0 is never.
    """

    path: str
    title: str
    make: Callable[[Sight], Awaitable[Content]]
    under: str = ""
    seconds: int = 0
    plain_seconds: int = 0
