"""Owns what is given out to whom: publishing and withdrawing; must not know how it is signed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tuf.api.metadata import DelegatedRole, Delegations, Targets

from ipsecd.errors import NotFound, Refused
from ipsecd.language.documents import parse_policy
from ipsecd.language.expectations import must_be_met
from ipsecd.quoting import quote
from ipsecd_domain.carried import Carried
from ipsecd_domain.errors import DomainError
from ipsecd_domain.layout import CANARY, TARGETS, Index, Offer, directory_of, group_of, role_of
from ipsecd_domain.repository.content import Repository, read_repository, unsigned
from ipsecd_domain.repository.keys import Keys
from ipsecd_domain.repository.lists import GivenLists, lists_to_publish
from ipsecd_domain.repository.store import Store

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Selection:
    """Whom a policy is for; what is None stays as it was, `everywhere` forgets what was.

    `canary` is the share in percent of these hosts that have it first, even if that is all of
    them; None: it is no canary, or is one no longer.
    """

    hosts: tuple[str, ...] | None = None
    labels: tuple[tuple[str, str], ...] | None = None
    precedence: int | None = None
    interval_s: float | None = None
    canary: float | None = None
    everywhere: bool = False


@dataclass(frozen=True)
class Published:
    """What was published: the offer, its role, the timestamp's version, names of new keys.

    ``lists`` are the names of the lists that it carries, ``own_lists`` of those that hosts have.
    """

    offer: Offer
    role: str
    version: int
    new_keys: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    own_lists: tuple[str, ...] = ()


@dataclass(frozen=True)
class Withdrawn:
    """Which roles give out nothing any more, and which still do for want of these keys."""

    roles: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    version: int


def publish(
    directory: Path,
    keys_in: Path,
    document: bytes,
    selection: Selection,
    now: datetime,
    *,
    group: str | None = None,
    source: str = "<document>",
    lists: GivenLists | None = None,
) -> Published:
    """Give out a policy to all hosts, or to those of a group, with the lists that it names.

    It takes the place of the policy of its name. With a canary the one that is given out stays for
    the others; without, what was for a share of the hosts is for all. Raises ``Refused`` for one
    that does not meet its own expectations.
    """
    policy = parse_policy(document, source)
    must_be_met(policy)
    store, role = Store(directory), role_of(group)
    with store.locked():
        keys = Keys(keys_in)
        repository = read_repository(store)
        new_keys = () if role in repository.roles else _delegate(repository, role, keys)
        index = repository.index(role) if not new_keys else Index()
        offer = _offer(index, role, policy.name, selection, now)
        before = [other for other in index.offers if other.policy == policy.name]
        carried, contents = lists_to_publish(
            repository, role, policy, before[-1] if before else None, lists or GivenLists()
        )
        if offer.is_canary:
            _must_be_told_apart(repository, role, before, document, carried)
        offers = [
            other
            for other in index.offers
            if other.policy != policy.name or (offer.is_canary and not other.is_canary)
        ]
        new = Index((*offers, offer))
        repository.give_out(role, new, {offer.path: document}, carried, contents)
        repository.write(keys, now)
    version = repository.timestamp.signed.version
    return Published(offer, role, version, new_keys, tuple(carried.paths), carried.own)


def withdraw(
    directory: Path, keys_in: Path, now: datetime, *, group: str | None = None
) -> Withdrawn:
    """Tell the hosts of a group that it has no policy any more; None: of all roles at hand."""
    store = Store(directory)
    with store.locked():
        keys = Keys(keys_in)
        repository = read_repository(store)
        if group is not None and role_of(group) not in repository.roles:
            raise NotFound(
                f"the repository has no group {quote(group)}",
                "'ipsecctl domain status REPO' lists them",
            )
        roles = sorted(repository.roles) if group is None else [role_of(group)]
        wanting = {role: repository.missing(role, keys) for role in roles}
        at_hand = [role for role in roles if not wanting[role]]
        if not at_hand:
            raise DomainError(
                "nothing was withdrawn: the keys of no role are at hand, not "
                + ", ".join(sorted(set(wanting.values()))),
                "run it where these keys are",
            )
        for role in at_hand:
            repository.give_out(role, Index(withdrawn=True), {})
        repository.write(keys, now)
    left = [
        (role, wanting[role])
        for role in roles
        if wanting[role] and not repository.index(role).withdrawn
    ]
    return Withdrawn(tuple(at_hand), tuple(left), repository.timestamp.signed.version)


def remove(
    directory: Path, keys_in: Path, name: str, now: datetime, *, group: str | None = None
) -> Withdrawn:
    """Give out one policy of a role no more; its last one withdraws the role."""
    store, role = Store(directory), role_of(group)
    with store.locked():
        keys = Keys(keys_in)
        repository = read_repository(store)
        offers = repository.index(role).offers if role in repository.roles else ()
        left = tuple(offer for offer in offers if offer.policy != name)
        if left == offers:
            raise NotFound(
                f"no policy {quote(name)} is published there",
                "'ipsecctl domain status REPO' lists them",
            )
        repository.give_out(role, Index(left, withdrawn=not left), {})
        repository.write(keys, now)
    return Withdrawn(() if left else (role,), (), repository.timestamp.signed.version)


def _offer(index: Index, role: str, name: str, selection: Selection, now: datetime) -> Offer:
    """What is to be given out, beside or in the place of what was under that name."""
    earlier = [offer for offer in index.offers if offer.policy == name]
    canary = selection.canary is not None
    before = Offer(_path(index, role, name, canary=canary), name)
    if earlier and not selection.everywhere:
        before = replace(earlier[-1], path=before.path)
        whole = [offer for offer in earlier if not offer.is_canary]
        if whole and not canary:
            # A canary may have been for fewer; what completes it is for whom the policy was.
            before = replace(before, hosts=whole[0].hosts, labels=whole[0].labels)
    return replace(
        before,
        hosts=before.hosts if selection.hosts is None else selection.hosts,
        labels=before.labels if selection.labels is None else selection.labels,
        precedence=before.precedence if selection.precedence is None else selection.precedence,
        interval_s=before.interval_s if selection.interval_s is None else selection.interval_s,
        canary=100.0 if selection.canary is None else selection.canary,
        published=_later(index, now),
    )


def _must_be_told_apart(
    repository: Repository,
    role: str,
    before: Sequence[Offer],
    document: bytes,
    carried: Carried,
) -> None:
    """Raise ``Refused`` for a canary whose reports could not be told from those of the others.

    Hosts report which document they have, and nothing of lists.
    """
    for other in before:
        is_same = repository.digest(role, other.path) == hashlib.sha256(document).hexdigest()
        if is_same and not other.is_canary and repository.carried(role, other.path) != carried:
            raise Refused(
                f"policy {quote(other.policy)} is given out already with other lists, and hosts "
                "report its document alone, so nobody could tell who has the canary",
                "change its description too, or publish it to all without --canary",
            )


def _later(index: Index, now: datetime) -> str:
    """When something is published now: after all that was, even in the same second."""
    moments = [datetime.fromisoformat(offer.published) for offer in index.offers]
    after = [moment + timedelta(seconds=1) for moment in moments]
    return max([now.astimezone(UTC), *after]).strftime("%Y-%m-%dT%H:%M:%SZ")


def _path(index: Index, role: str, name: str, *, canary: bool) -> str:
    """Where a policy lies: where it did, or at a path that no other one has."""
    others = {offer.path for offer in index.offers if offer.policy != name}
    word = _NOT_IN_A_NAME.sub("-", name.lower()).strip("-")[:_LONGEST_NAME].strip("-") or "policy"
    ending = CANARY if canary else ".yaml"
    number = 1
    while True:
        path = f"{directory_of(role)}/{word}{f'-{number}' if number > 1 else ''}{ending}"
        if path not in others:
            return path
        number += 1


def _delegate(repository: Repository, role: str, keys: Keys) -> tuple[str, ...]:
    """Let a new role give out the policies of its group, by a new key."""
    key = keys.add(role)
    signed = repository.targets.signed
    signed.delegations = signed.delegations or Delegations({}, {})
    roles = signed.delegations.roles
    if roles is None:
        raise DomainError(
            "the targets of this repository are delegated by the digests of their paths",
            "groups can be added to repositories that 'ipsecctl domain init' made",
        )
    roles[role] = DelegatedRole(role, [], 1, terminating=True, paths=[f"group/{group_of(role)}/*"])
    signed.add_key(key.public, role)
    repository.roles[role] = unsigned(Targets())
    repository.touch(TARGETS)
    return (role,)
