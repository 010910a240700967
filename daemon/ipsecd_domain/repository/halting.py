"""Owns taking canaries back; must not know why somebody does."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ipsecd.errors import NotFound
from ipsecd_domain.errors import DomainError
from ipsecd_domain.layout import Index, Offer
from ipsecd_domain.repository.content import Repository, read_repository
from ipsecd_domain.repository.keys import Keys
from ipsecd_domain.repository.store import Store


@dataclass(frozen=True)
class Halted:
    """The canaries that were taken back, by role, with the timestamp's version after it.

    `alone` are those of them that no policy was given out before; `withdrawn` are the roles that
    gave out nothing else, and `left` those that still have a canary for want of these keys.
    """

    halted: tuple[tuple[str, Offer], ...]
    alone: tuple[Offer, ...]
    withdrawn: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    version: int


def halt(
    directory: Path, keys_in: Path, now: datetime, *, digests: Collection[str] | None = None
) -> Halted:
    """Give out no canary any more: its hosts get the policy before it.

    `digests`: only those whose documents have one of these SHA-256. A role that gave out nothing
    but canaries is withdrawn. Raises ``NotFound`` if there is no canary.
    """
    store = Store(directory)
    with store.locked():
        keys = Keys(keys_in)
        repository = read_repository(store)
        meant = [
            (role, offer)
            for role, offer in canaries(repository)
            if digests is None or repository.digest(role, offer.path) in digests
        ]
        if not meant:
            raise NotFound("there is no canary to halt", "'ipsecctl domain status REPO' lists them")
        roles = sorted({role for role, _ in meant})
        wanting = {role: repository.missing(role, keys) for role in roles}
        at_hand = [(role, offer) for role, offer in meant if not wanting[role]]
        if not at_hand:
            raise DomainError(
                "the canary was not halted: of its keys there is not "
                + ", ".join(sorted(set(wanting.values()))),
                "run it where these keys are",
            )
        alone: list[Offer] = []
        withdrawn = []
        for role in [role for role in roles if not wanting[role]]:
            gone = [offer for of, offer in at_hand if of == role]
            rest = tuple(offer for offer in repository.index(role).offers if offer not in gone)
            repository.give_out(role, Index(rest, withdrawn=not rest), {})
            if rest:
                names = {offer.policy for offer in rest}
                alone += [offer for offer in gone if offer.policy not in names]
            else:
                withdrawn.append(role)
        repository.write(keys, now)
    left = tuple((role, needs) for role, needs in wanting.items() if needs)
    version = repository.timestamp.signed.version
    return Halted(tuple(at_hand), tuple(alone), tuple(withdrawn), left, version)


def canaries(repository: Repository) -> list[tuple[str, Offer]]:
    """All canaries that a repository gives out, by role."""
    return [
        (role, offer)
        for role in sorted(repository.roles)
        for offer in repository.index(role).offers
        if offer.is_canary
    ]
