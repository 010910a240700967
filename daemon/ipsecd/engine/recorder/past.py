"""Owns what was in force at a moment of the past, read from the record; writes nothing.

It says since when that was so and by which change, and it says so where that moment was not
recorded: before what is kept, while nothing was written, or when the clock showed it twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

from ipsecd.compiler.classifier import Classifier
from ipsecd.config import Config
from ipsecd.engine.recorder.contents import unpacked, with_difference
from ipsecd.engine.recorder.journal import CLOCK, MISSED, SIZE
from ipsecd.engine.recorder.snapshots import (
    INVENTORY,
    LINK,
    LIST,
    ME,
    POLICY,
    PROTECTED,
    RULE,
    SHARED,
    STATE,
    Surroundings,
    address_of,
    type_of,
)
from ipsecd.engine.sources import SourceName
from ipsecd.engine.state import Condition, State
from ipsecd.errors import InvalidInput, IpsecdError, NotFound, StoreFailed
from ipsecd.language.documents import parse_policy
from ipsecd.language.filters import parse_filter
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Host
from ipsecd.model.values import Origin, Policy, Store
from ipsecd.sources.blobs import Blobs
from ipsecd.sources.dynamic import DynamicRule, DynamicRules
from ipsecd.sources.dynamic_file import read_record
from ipsecd.sources.inventory_file import inventory_from_json
from ipsecd.sources.last_good import CompiledPolicy
from ipsecd.sources.names import policy_with_addresses
from ipsecd.sources.names_file import names_from_json
from ipsecd.sources.ring import Json, Ring
from ipsecd.sources.strict_json import integer, items, members, text

MOST_NS = 1 << 63


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of which nothing is recorded, in nanoseconds since the epoch, and why."""

    since: int
    until: int
    why: str
    left: str
    """What the daemon left in force before it, if it said so: "" where it did not."""


@dataclass(frozen=True, slots=True)
class Past:
    """What was in force at a moment.

    ``change`` is the change that made it so, as it was recorded; None if that is not known.
    ``since`` is when that was, in nanoseconds since the epoch, or since when it is recorded.
    ``parts`` has for the policy and lists, by their keys, the change that made them what they were.
    ``gap`` is the stretch without record that the moment lies in, ``twice`` says that the clock was
    set back, and showed the moment before that, too.
    """

    state: State
    surroundings: Surroundings
    config: Config
    backend: str
    since: int
    change: Json | None
    parts: Mapping[str, Json]
    gap: Gap | None = None
    twice: bool = False


@dataclass(slots=True)
class _Replayed:
    """The values at a moment, and since when they are what they are."""

    values: dict[str, object] = field(default_factory=dict)
    edits: dict[str, list[object]] = field(default_factory=dict)
    parts: dict[str, Json] = field(default_factory=dict)
    change: Json | None = None
    begin: int = 0
    left: str = ""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A file: what it holds, until when, and when and why the next one begins by the clock.

    That is none whose clock showed an earlier time, as after a boot until the time is known.
    """

    records: tuple[Json, ...]
    until: int
    next_since: int
    next_why: str


def past_at(ring: Ring, blobs: Blobs, at: int, now: int) -> Past:
    """What was in force at `at`; both are in nanoseconds since the epoch.

    Raises ``NotFound`` if that is before what is kept, ``InvalidInput`` if it is to come, and
    ``StoreFailed`` if the record is damaged.
    """
    stretches = list(_stretches(ring, at, now))
    if not stretches:
        raise NotFound(
            "nothing is recorded of that moment: it is before what is kept",
            "name a later moment; ipsecctl history has older changes of policies",
        )
    holding = [each for each in stretches if at <= each.until]
    if not holding and at > now:
        raise InvalidInput("that moment is still to come", "name one that has passed")
    chosen = holding[0] if holding else max(stretches, key=lambda stretch: stretch.until)
    try:
        replayed = _replay(chosen.records, at)
        gap = None
        if not holding:
            gap = Gap(chosen.until, chosen.next_since, chosen.next_why or MISSED, replayed.left)
        return _past(replayed, blobs, gap, twice=len(holding) > 1)
    except (ValueError, KeyError, IpsecdError) as error:
        reason = error.message if isinstance(error, IpsecdError) else str(error)
        raise StoreFailed(
            f"what is recorded of that moment cannot be used: {reason}",
            "ask for another moment; if that fails too, look at the disk",
        ) from error


def parts_before(ring: Ring) -> dict[str, tuple[object, Json]]:
    """What the last file of an earlier process ends with: values, and the changes that made them.

    Lists that were edited since they were kept as a whole are left out. It is empty where there is
    nothing, or what there is cannot be used.
    """
    for number in reversed(ring.numbers):
        records = ring.contents(number).records
        if not any(record.get("kind") == "whole" for record in records):
            continue
        try:
            replayed = _replay(records, MOST_NS)
        except (ValueError, KeyError):
            return {}
        return {
            key: (replayed.values[key], change)
            for key, change in replayed.parts.items()
            if key in replayed.values and key not in replayed.edits
        }
    return {}


def _stretches(ring: Ring, at: int, now: int) -> Iterator[_Stretch]:
    """The file that `at` may be in, as it begins with a whole moment before that.

    Where the clock was set that may be several, the newest first.
    """
    begins = [(number, ring.first(number) or {}) for number in reversed(ring.numbers)]
    was_set = any(first.get("why") == CLOCK for _, first in begins)
    next_since, next_why, is_found = now, "", False
    later, why_later = now, ""
    for number, first in begins:
        since, why = first.get("at"), first.get("why")
        if not isinstance(since, int) or not isinstance(why, str):
            continue
        # What need not be read is not: that takes longer than all the rest.
        if since > at or (is_found and next_why == SIZE and next_since < at):
            next_since, next_why = since, why
            if since > at:
                later, why_later = since, why
            continue
        contents = ring.contents(number)
        if not any(record.get("kind") == "whole" for record in contents.records):
            # A crash came before all of it was written.
            continue
        if number == ring.current:
            until = now
        elif next_why == SIZE:
            until = next_since
        else:
            until = _last_at(contents.records, since)
        yield _Stretch(contents.records, until, later, why_later)
        if not was_set:
            return
        next_since, next_why, is_found = since, why, True


def _last_at(records: tuple[Json, ...], since: int) -> int:
    moments = (record.get("at") for record in records)
    return max((at for at in moments if isinstance(at, int)), default=since)


def _replay(records: tuple[Json, ...], at: int) -> _Replayed:
    """The values at a moment, of the records of a file."""
    replayed = _Replayed()
    for record in records:
        kind = record.get("kind")
        if kind == "begin":
            replayed.begin = integer(record["at"], "the time", 0, MOST_NS)
            last = record.get("last")
            replayed.change = members(last, "a change") if last is not None else None
        elif kind == "part":
            for row in items(record["rows"], "the values"):
                _take_row(replayed, items(row, "a value"))
        elif kind == "change":
            if integer(record["at"], "the time", 0, MOST_NS) > at:
                break
            _take_change(replayed, record)
        elif kind == "end" and integer(record["at"], "the time", 0, MOST_NS) <= at:
            replayed.left = text(record["left"], "what was left")
    return replayed


def _take_row(replayed: _Replayed, row: list[object]) -> None:
    key = text(row[0], "a key")
    replayed.values[key] = row[1]
    if len(row) > 2:
        replayed.parts[key] = members(row[2], "a change")


def _take_change(replayed: _Replayed, record: Json) -> None:
    put, edits = (members(record[name], name) for name in ("put", "edits"))
    for key in map(str, items(record["drop"], "what is gone")):
        replayed.values.pop(key, None)
        replayed.edits.pop(key, None)
        replayed.parts.pop(key, None)
    for key, value in put.items():
        replayed.values[key] = value
        replayed.edits.pop(key, None)
    for key, value in edits.items():
        replayed.edits.setdefault(key, []).append(value)
    replayed.change = {key: record[key] for key in record if key not in ("put", "drop", "edits")}
    for key in (*put, *edits):
        if not key.startswith(RULE):
            replayed.parts[key] = replayed.change


def _past(replayed: _Replayed, blobs: Blobs, gap: Gap | None, *, twice: bool) -> Past:
    values = replayed.values
    facts = members(values[STATE], "the state")
    config = Config(
        essentials=tuple(text(each, "an essential") for each in items(facts["essentials"], "them")),
        default_exempt=_number_or_none(facts["default_exempt"]),
    )
    state = State(
        condition=Condition(facts["condition"]),
        source=SourceName(text(facts["source"], "the source")),
        compiled=_policy(values, blobs),
        dynamic=_rules(values),
        inventory=inventory_from_json(values[INVENTORY]),
        lists=_lists(replayed, blobs),
    )
    change = replayed.change
    known = change is not None and change.get("known") is True
    since = change["at"] if change is not None and known else replayed.begin
    return Past(
        state,
        _surroundings(values),
        config,
        text(facts["backend"], "the backend"),
        integer(since, "the time", 0, MOST_NS),
        change if known else None,
        replayed.parts,
        gap,
        twice,
    )


def _number_or_none(value: object) -> int | None:
    return None if value is None else integer(value, "the exemptions", 0, 3)


def _policy(values: Mapping[str, object], blobs: Blobs) -> CompiledPolicy:
    protected = tuple(
        parse_filter(text(each, "a filter")) for each in items(values[PROTECTED], "the filters")
    )
    if values.get(POLICY) is None:
        return CompiledPolicy("", None, Classifier(), protected=protected)
    facts = members(values[POLICY], "the policy", ("name", "store", "blob", "names"))
    document = _blob(blobs, facts["blob"])
    policy: Policy = parse_policy(document, "<document>")
    names = names_from_json(text(facts["names"], "the names").encode())
    return CompiledPolicy(
        "",
        policy_with_addresses(policy, names),
        Classifier(),
        document.decode(),
        Store(text(facts["store"], "the store")),
        protected,
    )


def _rules(values: Mapping[str, object]) -> DynamicRules:
    numbered = []
    for key, value in values.items():
        if key.startswith(RULE):
            facts = members(value, "a rule", ("n", "rule"))
            rule = read_record(key, facts["rule"])
            if not isinstance(rule, DynamicRule):
                raise ValueError("a rule is none")
            numbered.append((integer(facts["n"], "its place", 0, MOST_NS), rule))
    numbered.sort(key=itemgetter(0))
    return DynamicRules().with_rules(rule for _, rule in numbered)


def _lists(replayed: _Replayed, blobs: Blobs) -> dict[str, AddressList]:
    lists = {}
    for key, value in replayed.values.items():
        if key.startswith(LIST):
            facts = members(value, "a list", ("blob", "gone", "came"))
            addresses = with_difference(unpacked(_blob(blobs, facts["blob"])), facts)
            for edit in replayed.edits.get(key, ()):
                addresses = with_difference(addresses, members(edit, "a difference"))
            lists[key.removeprefix(LIST)] = addresses
    return dict(sorted(lists.items()))


def _blob(blobs: Blobs, digest: object) -> bytes:
    content = blobs.get(text(digest, "a digest"))
    if content is None:
        raise ValueError(f"what has the digest {digest} is gone or damaged")
    return content


def _surroundings(values: Mapping[str, object]) -> Surroundings:
    own, shared = (
        frozenset(address_of(key.removeprefix(kind)) for key in values if key.startswith(kind))
        for kind in (ME, SHARED)
    )
    types = {
        key.removeprefix(LINK): type_of(value)
        for key, value in values.items()
        if key.startswith(LINK)
    }
    return Surroundings(Host(own, shared), types)


def part_of(origin: Origin) -> str:
    """The key of the value that a filter in force was part of."""
    if origin.volatile:
        return RULE + origin.rule
    return PROTECTED if origin.protected else POLICY
