"""Owns how a fleet stands: what its hosts report, beside what a repository gives them.

Must not change either. A host is known by its report alone, and the report is its own word: no
more comes of it than its line here, and that a canary is not given to more hosts or is halted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from ipsecd.quoting import count, few, quote, shorten
from ipsecd_domain.errors import DomainError
from ipsecd_domain.fetcher.schedule import JITTER
from ipsecd_domain.layout import TARGETS, Index, Offer, role_of
from ipsecd_domain.reports import Report, Unusable, read_reports
from ipsecd_domain.repository.content import Repository, read_repository
from ipsecd_domain.repository.halting import canaries
from ipsecd_domain.repository.store import Store
from ipsecd_domain.repository.threshold import Threshold
from ipsecd_domain.selection import Candidate, Choice, choose, selects

GRACE_S = 60.0
"""What a look may take, and clocks may differ, before a host counts as silent."""
_MOST_NAMED = 10


@dataclass(frozen=True)
class Member:
    """A host of the fleet: its report, and what the repository gives it now.

    `behind`: it has something else, or has seen an older version. `silent`: it has not reported
    for longer than the time between two of its looks, `unheard_s` seconds.
    """

    report: Report
    choice: Choice
    behind: bool
    silent: bool
    unheard_s: float

    @property
    def straggler(self) -> bool:
        """Whether it lags behind, or nobody knows whether it does."""
        return self.behind or self.silent

    @property
    def current(self) -> bool:
        """Whether it has what the repository gives it; who is given nothing keeps what it has."""
        return _has_what_is_given(self.report, self.choice)


@dataclass(frozen=True)
class Trial:
    """How hosts fare with a document that they are given, or have.

    `having` have it. `failing` say that something is wrong, and have it or were to have taken it.
    Of those that are given it as a canary and have said nothing since: `lost` should have by now
    and reported in time before, `awaited` still may.
    """

    given: tuple[Member, ...]
    having: tuple[Member, ...]
    failing: tuple[Member, ...]
    lost: tuple[Member, ...]
    awaited: tuple[Member, ...]

    def fails(self, threshold: Threshold, *, at_worst: bool = False) -> bool:
        """Whether enough hosts fail; at worst all that are awaited do."""
        failed = len(self.failing) + len(self.lost) + (len(self.awaited) if at_worst else 0)
        return failed >= threshold.number(len(self.given))


@dataclass(frozen=True)
class Canary:
    """A canary, with the SHA-256 of its document, and how hosts fare with it."""

    role: str
    offer: Offer
    sha256: str
    trial: Trial


@dataclass(frozen=True)
class Fleet:
    """All hosts that report, stragglers first, and what was wrong with reports of others."""

    version: int
    members: tuple[Member, ...]
    canaries: tuple[Canary, ...]
    unusable: tuple[Unusable, ...]
    open_to_all: bool


def look(directory: Path, reports_in: Path, now: datetime) -> Fleet:
    """How the fleet of a repository stands by the reports in a directory."""
    repository, reports = read_repository(Store(directory)), read_reports(reports_in)
    given = _Given(repository)
    version = repository.timestamp.signed.version
    members = [_member(report, given, version, now) for report in reports.usable]
    members.sort(key=lambda member: (not member.straggler, not member.report.problem))
    return Fleet(
        version=version,
        members=tuple(members),
        canaries=tuple(
            Canary(role, offer, sha256, trial_of(members, sha256, now))
            for role, offer in canaries(repository)
            for sha256 in [repository.digest(role, offer.path)]
        ),
        unusable=reports.unusable,
        open_to_all=reports.open_to_all,
    )


def trial_of(members: Iterable[Member], sha256: str, now: datetime) -> Trial:
    """How hosts fare with a document."""
    given, having, failing, lost, awaited = [], [], [], [], []
    for member in members:
        has = member.report.digest == sha256
        chosen = member.choice.chosen
        offer = chosen.offer if chosen is not None and chosen.sha256 == sha256 else None
        if offer is not None or has:
            given.append(member)
        if has:
            having.append(member)
        if has or (offer is not None and member.report.heard >= _published(offer)):
            if member.report.problem:
                failing.append(member)
        elif offer is not None and offer.is_canary:
            patience_s = _patience_s(member.report)
            if now.timestamp() <= _published(offer) + patience_s:
                awaited.append(member)
            elif member.report.heard >= _published(offer) - patience_s:
                lost.append(member)
    return Trial(tuple(given), tuple(having), tuple(failing), tuple(lost), tuple(awaited))


def must_not_fail(trial: Trial, threshold: Threshold) -> None:
    """Raise ``DomainError`` if too many hosts fail with a document, or nobody knows yet."""
    if trial.fails(threshold):
        named = few(
            [
                *(f"{name_of(member)}: {problem_of(member)}" for member in trial.failing),
                *(f"{name_of(member)}: {LOST}" for member in trial.lost),
            ],
            _MOST_NAMED,
        )
        raise DomainError(
            f"nothing was published: hosts report that they fail with this policy: {named}",
            "take it back with 'ipsecctl domain halt', publish a better one, or go on with --force",
        )
    if trial.fails(threshold, at_worst=True):
        named = few([name_of(member) for member in trial.awaited], _MOST_NAMED)
        raise DomainError(
            f"nothing was published: {count(len(trial.awaited), 'host')} of the canary "
            f"{'has' if len(trial.awaited) == 1 else 'have'} not reported since: {named}",
            "wait until they have, or go on with --force; 'ipsecctl domain fleet' shows them",
        )


LOST = "nothing was heard of it since it was given this policy"


def name_of(member: Member) -> str:
    """The name of a host, to be shown."""
    return quote(member.report.host.name)


def problem_of(member: Member) -> str:
    """What a host says that is wrong, to be shown in a line."""
    return shorten(member.report.problem)


class _Given:
    """What a repository gives to hosts; each index is read once."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    @cached_property
    def _indexes(self) -> dict[str, Index]:
        return {role: self._repository.index(role) for role in self._repository.roles}

    def to(self, report: Report) -> Choice:
        """What a host chooses: of what is for all, and of what is for its groups."""
        asked = [TARGETS, *map(role_of, report.host.groups)]
        indexes = {role: self._indexes[role] for role in asked if role in self._indexes}
        candidates = [
            Candidate(offer, role, self._repository.digest(role, offer.path))
            for role, index in indexes.items()
            for offer in index.offers
            if selects(offer, report.host)
        ]
        return choose(indexes.items(), candidates, report.host)


def _member(report: Report, given: _Given, version: int, now: datetime) -> Member:
    choice = given.to(report)
    unheard_s = max(0.0, now.timestamp() - report.heard)
    return Member(
        report,
        choice,
        behind=report.version < version or not _has_what_is_given(report, choice),
        silent=unheard_s > _patience_s(report),
        unheard_s=unheard_s,
    )


def _has_what_is_given(report: Report, choice: Choice) -> bool:
    if choice.chosen is not None:
        return report.digest == choice.chosen.sha256 and not report.withdrawn
    return report.withdrawn or not choice.withdrawn


def _published(offer: Offer) -> float:
    return datetime.fromisoformat(offer.published).timestamp()


def _patience_s(report: Report) -> float:
    """How long a host may take until it reports again."""
    return report.interval_s * (1 + JITTER) + GRACE_S
