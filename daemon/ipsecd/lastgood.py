"""Owns the form of the last good policy on disk: what was in force, whole, so that boot can.

The file holds the policy as people wrote it, the addresses its names had, and its classifier.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.image import from_image, to_image
from ipsecd.errors import IpsecdError
from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.model.values import Policy
from ipsecd.stores.cache import CheckedFile, Names, names_from_json, names_to_json
from ipsecd.stores.names import policy_with_addresses


@dataclass(frozen=True, slots=True)
class Enforceable:
    """A policy with its classifier; ``key`` changes when anything that it was made from does."""

    key: str
    policy: Policy | None
    classifier: Classifier


def save(file: CheckedFile, good: Enforceable, names: Names) -> None:
    """Keep what is in force; raises ``StoreFailed``."""
    header = {
        "key": good.key,
        "document": format_policy(good.policy) if good.policy else None,
        "names": names_to_json(names).decode(),
    }
    file.save(json.dumps(header, ensure_ascii=False).encode() + b"\n" + to_image(good.classifier))


def load(file: CheckedFile) -> Enforceable | None:
    """What was kept last; None if there is nothing, or nothing that this version can read."""
    content = file.load()
    if content is None:
        return None
    try:
        line, _, image = content.partition(b"\n")
        header = json.loads(line)
        names = names_from_json(header["names"].encode())
        policy = parse_policy(header["document"]) if header["document"] is not None else None
        if policy:
            policy = policy_with_addresses(policy, names)
        return Enforceable(str(header["key"]), policy, from_image(image))
    except (IpsecdError, ValueError, KeyError, TypeError):
        return None
