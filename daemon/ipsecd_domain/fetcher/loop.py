"""Owns the fetcher's life: what makes a look due, and what comes of it; names have their own.

1. Nothing is kept on disk: what is trusted is asked of the daemon before each look.
2. Whatever fails, the next look is due after a pause; what is in force stays in force.
3. Only this thread looks and hands over; the others wake it.
"""

from __future__ import annotations

import logging
import random
import threading

from ipsecd.errors import IpsecdError
from ipsecd.log import record, record_bug
from ipsecd.quoting import shorten
from ipsecd_domain.fetcher.daemon import Daemon
from ipsecd_domain.fetcher.ears import Ears
from ipsecd_domain.fetcher.faults import DaemonUnreachable
from ipsecd_domain.fetcher.feeds import Feeds
from ipsecd_domain.fetcher.listening import listen_for_ever
from ipsecd_domain.fetcher.look import Looker, News
from ipsecd_domain.fetcher.names import Names
from ipsecd_domain.fetcher.reports import send_report
from ipsecd_domain.fetcher.schedule import Backoff, Schedule
from ipsecd_domain.fetcher.settings import Domain, Settings
from ipsecd_domain.fetcher.wake import Reason, Wake, now

DAEMON_FIRST_S, DAEMON_MOST_S = 0.2, 30.0
"""The pauses while the daemon is away, the first and the longest."""


class Fetcher:
    """Looks when something makes a look due, and hands over what it brings."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._wake = Wake()
        self._looker = Looker()
        self._schedule = Schedule(random.random)
        self._away = Backoff(DAEMON_FIRST_S, DAEMON_MOST_S, random.random)
        self._ears = Ears(self._wake)
        self._answered: int | None = None
        self._interval_s: float | None = None
        self._settings: Settings | None = None
        self._said = ""

    def run(self) -> None:
        """Look at the domain, look DNS names up and fetch feeds, for ever."""
        threading.Thread(target=self._hear_daemon, name="daemon", daemon=True).start()
        threading.Thread(target=Names(self._daemon).run, name="names", daemon=True).start()
        threading.Thread(target=Feeds(self._daemon).run, name="feeds", daemon=True).start()
        self._schedule.due_at = now()
        while True:
            try:
                due_at = self._turn()
                self._away.reset()
            except IpsecdError as error:
                self._say("daemon-away", error)
                due_at = now() + self._away.next_s()
            self._heed(self._wake.wait_until(due_at))

    def look_once(self) -> str:
        """Look at once; what is wrong, "" if all is well. Raises ``IpsecdError`` of the daemon."""
        domain = self._daemon.domain()
        if not domain.settings.source:
            return "no source of a domain policy is set: see ipsecd.yaml(5)"
        problem = self._look(domain, whole=True, rung=False)
        self._report(self._daemon.domain(), problem)
        return problem

    def _turn(self) -> float:
        """Look if it is due; when the next look is. Raises ``IpsecdError`` of the daemon."""
        domain = self._daemon.domain()
        settings = domain.settings
        if settings != self._settings:
            self._settings, self._interval_s = settings, None
            self._schedule.look_now(now())
            self._ears.listen(settings)
            record(logging.INFO, "source", source=settings.source or "none", host=settings.host)
        if not settings.source:
            # The daemon reads its settings when it starts, and that is noticed.
            return now() + settings.interval_s
        asked = domain.refresh != self._answered
        rung = self._hear_ring(domain)
        if asked or self._schedule.due_at <= now():
            problem = self._look(domain, whole=asked, rung=rung)
            # What the look brought is in force now, or the ring was for what is not there yet.
            domain = self._daemon.domain()
            self._hear_ring(domain)
            self._report(domain, problem)
        return self._schedule.due_at

    def _look(self, domain: Domain, *, whole: bool, rung: bool) -> str:
        """Look, hand over or report, and say when the next look is; what is wrong, or ""."""
        # Until it went well, so that a daemon that ends meanwhile does not make it come at once.
        self._schedule.look_failed(now(), self._interval(domain))
        try:
            news = self._looker.look(domain, whole=whole, rung=rung)
        except IpsecdError as error:
            self._say("look-failed", error)
            problem = str(error)
        except Exception as error:
            record_bug("look-failed", error)
            problem = "the fetcher failed: see its log with 'journalctl -u ipsecd-domain'"
        else:
            problem = self._hand_over(news, domain) if news else ""
            if not problem:
                self._interval_s = news.interval_s if news else self._interval_s
                self._said = ""
                self._schedule.look_went_well(now(), self._interval(domain), news=bool(news))
        if problem:
            self._looker.forget()
        if problem or not news:
            self._daemon.report(problem, domain.refresh)
        self._answered = domain.refresh
        return problem

    def _interval(self, domain: Domain) -> float:
        return self._interval_s or domain.settings.interval_s

    def _hand_over(self, news: News, domain: Domain) -> str:
        """What is wrong with a bundle that the daemon does not take, or ""."""
        try:
            message = self._daemon.take(news.bundle, domain.refresh)
        except DaemonUnreachable:
            raise
        except IpsecdError as error:
            self._say("not-taken", error)
            return str(error)
        length = sum(map(len, news.bundle))
        record(logging.INFO, "handed-over", bytes=length, message=shorten(message))
        return ""

    def _report(self, domain: Domain, problem: str) -> None:
        """Tell whoever gathers reports; that nobody hears it is no problem of this host."""
        if domain.settings.reports:
            try:
                send_report(domain, problem, self._interval(domain))
            except IpsecdError as error:
                record(logging.WARNING, "report-failed", reason=error.message)

    def _hear_ring(self, domain: Domain) -> bool:
        """Whether the doorbell says that there is another state than the trusted one.

        If so, the next look is soon.
        """
        ring = self._ears.ring()
        if ring is None or ring.digest == domain.timestamp_digest:
            return False
        self._schedule.was_rung(now())
        return True

    def _heed(self, reasons: frozenset[Reason]) -> None:
        if Reason.FILES in reasons:
            self._schedule.look_now(now())

    def _hear_daemon(self) -> None:
        """Wake the fetcher when somebody asks for a look, and when the daemon comes back."""

        def wake() -> None:
            self._wake.tell(Reason.DAEMON)

        def listen() -> None:
            for _ in self._daemon.asked(self._answered or 0):
                wake()

        listen_for_ever(listen, DAEMON_FIRST_S, DAEMON_MOST_S, "daemon-not-heard", wake)

    def _say(self, event: str, error: IpsecdError) -> None:
        """Log what is wrong, once as long as it stays the same."""
        if self._said != error.message:
            record(logging.WARNING, event, reason=error.message, hint=error.hint or None)
        self._said = error.message
