"""Owns one look at the source: whether it has anything new, and what; must not know the daemon.

Most looks bring nothing, and cost one question about timestamp.json, which names the state of the
whole repository. Only where that has changed TUF's workflow is gone through. Once a day it is gone
through in any case: a root with new keys can be published without a new timestamp.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ipsecd_domain.errors import NotTrusted, required_packages
from ipsecd_domain.fetcher.deadline import limited_to
from ipsecd_domain.fetcher.settings import TIMESTAMP, Domain, Settings
from ipsecd_domain.fetcher.source import Content, Source
from ipsecd_domain.fetcher.sources import open_source
from ipsecd_domain.selection import Host

LOOK_S = 300.0
"""How long a look may take as a whole."""
WHOLE_EVERY = timedelta(days=1)
MOST_TIMESTAMP = 16 << 10
_PATH = f"metadata/{TIMESTAMP}"


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last state that was gone through as a whole: for whom, when, and what the source had."""

    settings: Settings
    content: Content
    expires: datetime
    at: datetime
    lists: frozenset[str]
    """The digests of the lists that the policy carries."""


@dataclass(frozen=True, slots=True)
class News:
    """What is to be handed over, in pieces, and the interval that the chosen policy asks for."""

    bundle: tuple[bytes, ...]
    interval_s: float | None


class Looker:
    """Looks, and remembers what it saw last."""

    def __init__(self) -> None:
        self._seen: _Seen | None = None

    def look(self, domain: Domain, *, whole: bool, rung: bool) -> News | None:
        """What the source has that the daemon does not; None if there is nothing.

        With `whole` the source is gone through also where nothing has changed. When it was `rung`
        for another state, the word of the source that nothing has changed is not enough. Raises
        ``IpsecdError``.
        """
        if "root.json" not in domain.trusted:
            raise NotTrusted(
                "this host trusts no repository yet",
                "take the root of the repository with 'ipsecctl domain trust REPO'",
            )
        with limited_to(LOOK_S), closing(open_source(domain.settings)) as source:
            seen = None if whole else self._still_valid(domain)
            tag = seen.content.tag if seen and not rung else ""
            content = source.read_if_changed(_PATH, MOST_TIMESTAMP, tag)
            if content is None or (seen and content.data == seen.content.data):
                return None
            return self._go_through(domain, source, content)

    def forget(self) -> None:
        """Go through the source the next time, whatever it says."""
        self._seen = None

    def _still_valid(self, domain: Domain) -> _Seen | None:
        """What was seen, if no change of this host and no clock makes more of it now."""
        seen, time = self._seen, datetime.now(UTC)
        if (
            seen is None
            or seen.settings != domain.settings
            or seen.content.data != domain.trusted.get(TIMESTAMP, "").encode()
            or seen.expires <= time
            or not seen.at <= time < seen.at + WHOLE_EVERY
            # It has lost one on its disk.
            or not seen.lists <= domain.lists
        ):
            return None
        return seen

    def _go_through(self, domain: Domain, source: Source, timestamp: Content) -> News | None:
        with required_packages():
            # It takes more time and memory than all the rest.
            from ipsecd_domain.bundle import write_bundle  # noqa: PLC0415
            from ipsecd_domain.carried import fetched  # noqa: PLC0415
            from ipsecd_domain.trusted import refresh  # noqa: PLC0415

        def fetch(path: str, most: int) -> bytes:
            # The one that was asked for, so that its tag belongs to what was gone through.
            return timestamp.data if path == _PATH else source.read(path, most)

        settings = domain.settings
        self._seen = None
        host = Host(settings.host, settings.groups, settings.labels)
        refreshed = refresh(domain.trusted, host, fetch)
        lists = fetched(refreshed.lists, fetch, domain.lists)
        digests = frozenset(each.sha256 for each in refreshed.lists)
        self._seen = _Seen(settings, timestamp, refreshed.expires, datetime.now(UTC), digests)
        return News(write_bundle(refreshed.bundle, lists), refreshed.interval_s)
