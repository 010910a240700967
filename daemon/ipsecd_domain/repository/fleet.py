"""Owns how a fleet stands: what its hosts report, beside what a repository gives them.

Must not change either. A host is known by its report alone, and the report is its own word: no
more comes of it than its line here, and that a canary is not given to more hosts or is halted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from ipsecd.quoting import quote, shorten
from ipsecd_domain.errors import DomainError
from ipsecd_domain.fetcher.schedule import JITTER
from ipsecd_domain.layout import TARGETS, Index, Offer, role_of
from ipsecd_domain.reports import Report, Unusable, read_reports
from ipsecd_domain.repository.content import Repository, read_repository
from ipsecd_domain.repository.halting import canaries
from ipsecd_domain.repository.store import Store
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
class Canary:
    """A canary, with the SHA-256 of its document, and the hosts that have it, failing or not."""

    role: str
    offer: Offer
    sha256: str
    members: tuple[Member, ...]
    failing: tuple[Member, ...]


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
            _canary(members, role, offer, repository.digest(role, offer.path))
            for role, offer in canaries(repository)
        ),
        unusable=reports.unusable,
        open_to_all=reports.open_to_all,
    )


def failing(members: tuple[Member, ...], sha256: str) -> tuple[Member, ...]:
    """Those who have a document, or were to have taken it by now, and say that they failed."""
    return tuple(
        member
        for member in members
        if member.report.problem and (member.report.digest == sha256 or _was_told(member, sha256))
    )


def must_not_fail(members: tuple[Member, ...], sha256: str) -> None:
    """Raise ``DomainError`` if hosts report that they fail with a document."""
    failed = failing(members, sha256)
    if failed:
        named = [
            f"{quote(member.report.host.name)}: {shorten(member.report.problem)}"
            for member in failed[:_MOST_NAMED]
        ]
        if len(failed) > _MOST_NAMED:
            named.append(f"and {len(failed) - _MOST_NAMED:,} more")
        raise DomainError(
            "nothing was published: hosts report that they fail with this policy: "
            f"{'; '.join(named)}",
            "take it back with 'ipsecctl domain halt', publish a better one, or go on with --force",
        )


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
        silent=unheard_s > report.interval_s * (1 + JITTER) + GRACE_S,
        unheard_s=unheard_s,
    )


def _has_what_is_given(report: Report, choice: Choice) -> bool:
    if choice.chosen is not None:
        return report.digest == choice.chosen.sha256 and not report.withdrawn
    return report.withdrawn or not choice.withdrawn


def _canary(members: list[Member], role: str, offer: Offer, sha256: str) -> Canary:
    having = tuple(member for member in members if member.report.digest == sha256)
    return Canary(role, offer, sha256, having, failing(tuple(members), sha256))


def _was_told(member: Member, sha256: str) -> bool:
    """Whether a host has reported since it is given a document, which it may not have taken."""
    chosen = member.choice.chosen
    if chosen is None or chosen.sha256 != sha256:
        return False
    published = datetime.fromisoformat(chosen.offer.published)
    return member.report.heard >= published.timestamp()
