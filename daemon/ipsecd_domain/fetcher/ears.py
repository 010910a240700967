"""Owns what is listened to for news of a source: its doorbell, and its directory on this host."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ipsecd.errors import IpsecdError
from ipsecd.log import record
from ipsecd_domain.doorbell import Ring, parse_doorbell
from ipsecd_domain.errors import required_packages
from ipsecd_domain.fetcher.directory import directory_of
from ipsecd_domain.fetcher.file_watch import FileWatch
from ipsecd_domain.fetcher.settings import Settings
from ipsecd_domain.fetcher.wake import Reason, Wake


class Ears:
    """What listens for news of the source: to the doorbell, or to a directory."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._retire: list[Callable[[], None]] = []
        self._last_ring: Callable[[], Ring | None] = _silent

    def ring(self) -> Ring | None:
        """What the doorbell says, None if it says nothing."""
        return self._last_ring()

    def listen(self, settings: Settings) -> None:
        """Listen to what `settings` name, and to nothing else; what cannot be is logged."""
        for retire in self._retire:
            retire()
        self._retire, self._last_ring = [], _silent
        for listen in (self._listen_to_files, self._listen_to_doorbell):
            try:
                listen(settings)
            except IpsecdError as error:
                record(logging.WARNING, "not-listening", reason=error.message, hint=error.hint)

    def _listen_to_files(self, settings: Settings) -> None:
        if settings.source.startswith("file:"):
            watch = FileWatch(directory_of(settings.source), lambda: self._wake.tell(Reason.FILES))
            self._retire.append(watch.retire)

    def _listen_to_doorbell(self, settings: Settings) -> None:
        if settings.doorbell:
            with required_packages():
                # Most hosts have no doorbell, and this takes time and memory.
                from ipsecd_domain.fetcher.bell import Bell  # noqa: PLC0415
            bell = Bell(
                parse_doorbell(settings.doorbell),
                settings.tls,
                lambda: self._wake.tell(Reason.RING),
            )
            self._retire.append(bell.retire)
            self._last_ring = lambda: bell.latest


def _silent() -> None:
    return None
