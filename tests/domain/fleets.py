"""Repositories for tests, made by the operator's own commands, and hosts that read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ipsecd_domain.places import reader
from ipsecd_domain.repository.creation import init
from ipsecd_domain.repository.publishing import Published, Selection, publish
from ipsecd_domain.selection import Host
from ipsecd_domain.trusted import Refreshed, newest_root, refresh

WEB = b'policy: Web\nrules:\n  - rule: telnet\n    action: block\n    filters: ["*=0:23:TCP"]\n'
WORM = b'policy: Worm\nrules:\n  - rule: worm\n    action: block\n    filters: ["*=0:1434:UDP"]\n'


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Fleet:
    """A repository and the directory of its keys."""

    repository: Path
    keys: Path

    @classmethod
    def made_in(cls, directory: Path) -> Fleet:
        fleet = cls(directory / "repo", directory / "keys")
        init(fleet.repository, fleet.keys, now())
        return fleet

    def publish(
        self, document: bytes = WEB, group: str | None = None, **selection: object
    ) -> Published:
        chosen = Selection(**selection)  # type: ignore[arg-type]
        return publish(self.repository, self.keys, document, chosen, now(), group=group)

    def root(self) -> str:
        return newest_root(reader(str(self.repository)))[1]


@dataclass
class Member:
    """A host of a fleet: what it trusts, and what it was told last."""

    name: str = "web1"
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    trusted: Mapping[str, str] = field(default_factory=dict)

    def look(self, repository: Path) -> Refreshed:
        """Refresh from a directory; what is raised leaves what it trusts as it was."""
        host = Host(self.name, self.groups, self.labels)
        new = refresh(self.trusted, host, reader(str(repository)))
        self.trusted = new.trusted
        return new

    @classmethod
    def of(cls, fleet: Fleet, name: str = "web1", *groups: str, **labels: str) -> Member:
        return cls(name, groups, tuple(sorted(labels.items())), {"root.json": fleet.root()})
