"""Owns names and paths in a repository, and the index of a role; must not know who signs or reads.

1. A role gives out only what lies in its own directory: ``all`` for targets, ``group/NAME`` for
   the role of a group.
2. Whatever exists as an ``Index`` was checked: names are plain words, lengths have limits.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote

FORMAT = 1
TARGETS = "targets"
"""The role that gives out policies for all hosts, and delegates to those of groups."""
INDEX = "index.json"
CANARY = ".canary.yaml"
"""What the path of a canary ends with."""
MAX_INDEX_BYTES = 1 << 20
MAX_OFFERS = 1000
MAX_PATTERNS = 1000
MAX_LABELS = 64
MAX_WORD = 255
MAX_NAME = 256
MAX_PRECEDENCE = 1_000_000
INTERVAL_S = (10.0, 31 * 86_400.0)
"""The shortest and the longest time between two looks that a policy can ask for."""

_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\.yaml")
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_PATTERN = re.compile(r"[A-Za-z0-9._?*-]+")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_HASHED = re.compile(r"[0-9a-f]{64}\.(.+)", re.DOTALL)


@dataclass(frozen=True)
class Offer:
    """A policy in the index of a role, and which hosts it is for.

    `canary` is the share of these hosts in percent, `interval_s` the time between two looks that
    hosts with it take, `published` a time in UTC. Every selector that is given must match; one of
    several `hosts` is enough.
    """

    path: str
    policy: str
    hosts: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    precedence: int = 0
    canary: float = 100.0
    interval_s: float | None = None
    published: str = "1970-01-01T00:00:00Z"

    def __post_init__(self) -> None:
        directory, _, name = self.path.rpartition("/")
        _must(directory in ("all", *_group_directory(directory)), "path", self.path)
        _must(bool(_FILE.fullmatch(name)), "path", self.path)
        _must(0 < len(self.policy) <= MAX_NAME, "policy", self.policy)
        _must(len(self.hosts) <= MAX_PATTERNS, "hosts", f"{len(self.hosts)} patterns")
        for pattern in self.hosts:
            check_pattern(pattern)
        _must(len(self.labels) <= MAX_LABELS, "labels", f"{len(self.labels)} labels")
        for name, value in self.labels:
            check_label(name, value)
        _must(abs(self.precedence) <= MAX_PRECEDENCE, "precedence", str(self.precedence))
        _must(0 < self.canary <= 100, "canary", str(self.canary))
        least, most = INTERVAL_S
        asked = self.interval_s
        _must(asked is None or least <= asked <= most, "interval_s", str(asked))
        _must(bool(_TIME.fullmatch(self.published)), "published", self.published)

    @property
    def is_canary(self) -> bool:
        """Whether it is for some hosts first, beside the one of its name that is for the others."""
        return self.canary < 100 or self.path.endswith(CANARY)


@dataclass(frozen=True)
class Index:
    """What a role gives out: policies, or the word that there is none any more."""

    offers: tuple[Offer, ...] = ()
    withdrawn: bool = False

    def __post_init__(self) -> None:
        _must(not (self.withdrawn and self.offers), "policies", "policies of a withdrawn index")
        _must(len(self.offers) <= MAX_OFFERS, "policies", f"{len(self.offers)} policies")
        paths = [offer.path for offer in self.offers]
        _must(len(set(paths)) == len(paths), "policies", "a path twice")


def check_group(name: str) -> str:
    """`name`, if a group can be called so; raises ``InvalidInput``."""
    _must(bool(_GROUP.fullmatch(name)), "group", name)
    return name


def check_host(name: str) -> str:
    """`name`, if a host can be called so; raises ``InvalidInput``."""
    _must(len(name) <= MAX_WORD and bool(_HOST.fullmatch(name)), "host", name)
    return name


def check_pattern(pattern: str) -> str:
    """`pattern`, if it is one for names of hosts; raises ``InvalidInput``."""
    _must(len(pattern) <= MAX_WORD and bool(_PATTERN.fullmatch(pattern)), "hosts", pattern)
    return pattern


def check_label(name: str, value: str) -> None:
    """Raise ``InvalidInput`` if no host can have this label."""
    _must(len(name) <= MAX_WORD and bool(_LABEL.fullmatch(name)), "labels", name)
    _must(len(value) <= MAX_WORD and value.isprintable(), "labels", value)


def role_of(group: str | None) -> str:
    """The role that gives out the policies of a group; None: those for all."""
    return TARGETS if group is None else f"group-{check_group(group)}"


def group_of(role: str) -> str | None:
    """The group whose policies a role gives out; None for targets."""
    return None if role == TARGETS else check_group(role.removeprefix("group-"))


def directory_of(role: str) -> str:
    """Where all that a role gives out lies."""
    group = group_of(role)
    return "all" if group is None else f"group/{group}"


def index_path(role: str) -> str:
    """The path of the index of a role."""
    return f"{directory_of(role)}/{INDEX}"


def hashed(path: str, sha256: str) -> str:
    """Under which name a repository keeps the file that is at `path` for those who trust it."""
    directory, _, name = path.rpartition("/")
    return f"{directory}/{sha256}.{name}"


def unhashed(path: str) -> str:
    """The path of a file by the name that a repository keeps it under."""
    directory, _, name = path.rpartition("/")
    match = _HASHED.fullmatch(name)
    return f"{directory}/{match[1]}" if match else path


def read_index(text: bytes, role: str) -> Index:
    """The index that `text` is for a role; raises ``InvalidInput``."""
    if len(text) > MAX_INDEX_BYTES:
        raise _wrong("index", f"{len(text):,} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong("index", "no JSON") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _wrong("format", _shown(document.get("format") if type(document) is dict else None))
    listed = document.get("policies")
    withdrawn = document.get("withdrawn")
    if not isinstance(listed, list) or not isinstance(withdrawn, bool):
        raise _wrong("policies", _shown(listed))
    index = Index(tuple(map(read_offer, listed)), withdrawn)
    for offer in index.offers:
        _must(offer.path.rpartition("/")[0] == directory_of(role), "path", offer.path)
    return index


def write_index(index: Index) -> bytes:
    """The text of an index, for people to read as well."""
    policies = [offer_to_json(offer) for offer in index.offers]
    document = {"format": FORMAT, "withdrawn": index.withdrawn, "policies": policies}
    return json.dumps(document, indent=1).encode() + b"\n"


def offer_to_json(offer: Offer) -> dict[str, Any]:
    """An offer as it stands in an index."""
    return {
        "path": offer.path,
        "policy": offer.policy,
        "hosts": list(offer.hosts),
        "labels": dict(offer.labels),
        "precedence": offer.precedence,
        "canary": offer.canary,
        "interval_s": offer.interval_s,
        "published": offer.published,
    }


def read_offer(given: object) -> Offer:
    """An offer, from what stands in an index; raises ``InvalidInput``."""
    if not isinstance(given, dict):
        raise _wrong("policies", _shown(given))
    labels = _value(given, "labels", dict, {})
    interval = given.get("interval_s")
    return Offer(
        path=_value(given, "path", str),
        policy=_value(given, "policy", str),
        hosts=tuple(_text("hosts", item) for item in _value(given, "hosts", list, [])),
        labels=tuple(sorted((name, _text("labels", labels[name])) for name in labels)),
        precedence=_value(given, "precedence", int, 0),
        canary=_number("canary", given.get("canary", 100.0)),
        interval_s=None if interval is None else _number("interval_s", interval),
        published=_value(given, "published", str),
    )


def _value(given: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    value = given.get(name, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _wrong(name, _shown(value))
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(name, _shown(value))
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, _shown(value))
    # A whole number in JSON can be longer than any float.
    if not abs(value) < 1e12 or not math.isfinite(value):
        raise _wrong(name, "a number out of bounds")
    return float(value)


def _group_directory(directory: str) -> tuple[str, ...]:
    """`directory`, if it is the one of a group."""
    parent, _, name = directory.rpartition("/")
    return (directory,) if parent == "group" and _GROUP.fullmatch(name) else ()


def _must(holds: bool, name: str, value: str) -> None:
    if not holds:
        raise _wrong(name, value)


def _shown(value: object) -> str:
    """What was written in the place of something else, if it is short enough to be told."""
    return str(value) if isinstance(value, str | int | float | None) else type(value).__name__


def _wrong(name: str, value: str) -> InvalidInput:
    return InvalidInput(f"{name}: {quote(value)} cannot stand there", _HINTS.get(name, ""))


_HINTS = {
    "group": "a group is up to 63 letters, digits, dots, dashes and underscores",
    "host": "a host is named with letters, digits, dots, dashes and underscores",
    "hosts": "a pattern is a name of hosts, in which * stands for any text and ? for one character",
    "labels": "a label is NAME=VALUE, such as site=paris",
    "canary": "it is a share of the hosts: more than 0%, at most 100%",
    "interval_s": "it is between 10 seconds and 31 days",
    "precedence": f"it is a whole number between -{MAX_PRECEDENCE:,} and {MAX_PRECEDENCE:,}",
}
