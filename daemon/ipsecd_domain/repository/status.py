"""Owns what is to be said of a repository; must not change it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata

from ipsecd.quoting import quote
from ipsecd_domain.layout import Offer, group_of, offer_to_json
from ipsecd_domain.repository.content import Repository, in_utc, read_repository
from ipsecd_domain.repository.keys import name_of
from ipsecd_domain.repository.store import Store


def status(directory: Path, now: datetime) -> dict[str, Any]:
    """The roles of a repository with their versions, ends and signatures, and the policies."""
    repository = read_repository(Store(directory))
    parts: dict[str, Metadata[Any]] = {
        "root": repository.root,
        "timestamp": repository.timestamp,
        "snapshot": repository.snapshot,
        **repository.roles,
    }
    following = repository.next_root
    return {
        "repository": str(directory),
        "version": repository.timestamp.signed.version,
        "expires": _written(min(in_utc(part.signed) for part in parts.values())),
        "expired": any(in_utc(part.signed) <= now for part in parts.values()),
        "roles": [_role(repository, role, part, now) for role, part in parts.items()],
        "waiting_root": _waiting(repository, following) if following else None,
        "policies": [{"role": role, **_policies(repository, role)} for role in repository.roles],
    }


def describe(offer: Offer, role: str) -> str:
    """Whom an offer is for, in words."""
    group = group_of(role)
    words = ["all hosts" if group is None else f"group {quote(group)}"]
    if offer.hosts:
        words.append("named " + " or ".join(map(quote, offer.hosts)))
    words += [f"with {name}={value}" for name, value in offer.labels]
    if offer.is_canary:
        words.append(f"· {offer.canary:g}% of them")
    return " ".join(words)


def _role(repository: Repository, role: str, part: Metadata[Any], now: datetime) -> dict[str, Any]:
    keys, threshold = repository.keys_of(role)
    return {
        "role": role,
        "version": part.signed.version,
        "expires": _written(in_utc(part.signed)),
        "expired": in_utc(part.signed) <= now,
        "keys": sorted(name_of(key) for key in keys.values()),
        "threshold": threshold,
        "signed_by": sorted(
            name_of(key) for keyid, key in keys.items() if keyid in part.signatures
        ),
    }


def _waiting(repository: Repository, following: Metadata[Any]) -> dict[str, Any]:
    root, new = repository.root.signed, following.signed
    keys = {keyid: root.keys[keyid] for keyid in root.roles["root"].keyids}
    keys |= {keyid: new.keys[keyid] for keyid in new.roles["root"].keyids}
    return {
        "version": new.version,
        "signed_by": sorted(name_of(key) for at, key in keys.items() if at in following.signatures),
        "not_by": sorted(
            name_of(key) for at, key in keys.items() if at not in following.signatures
        ),
    }


def _policies(repository: Repository, role: str) -> dict[str, Any]:
    index = repository.index(role)
    return {
        "withdrawn": index.withdrawn,
        "offers": [
            {**offer_to_json(offer), **_lists(repository, role, offer)} for offer in index.offers
        ],
    }


def _lists(repository: Repository, role: str, offer: Offer) -> dict[str, Any]:
    """The lists that a policy carries, with their paths, and those that hosts have of their own."""
    carried = repository.carried(role, offer.path)
    return {"lists": dict(sorted(carried.paths.items())), "own_lists": list(carried.own)}


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
