"""Owns what all changes of lists by the interface share: what is held back, and what is replied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from ipsecd.control.contradictions import entries_overruled
from ipsecd.control.method import Request
from ipsecd.engine import Engine
from ipsecd.engine.compiling import policy_rules_by_name
from ipsecd.engine.feeds import stays
from ipsecd.engine.lists import ListChanges
from ipsecd.errors import Refused
from ipsecd.host.needed import HostNeeds
from ipsecd.language.address_lists import ReadList, read_list
from ipsecd.language.list_guard import reasons_to_hold
from ipsecd.model.addresses import OF_DOMAIN
from ipsecd.model.list_names import lists_in
from ipsecd.model.lists import AddressList
from ipsecd.model.protected_filters import BY_SETTINGS
from ipsecd.model.values import Filter, Origin
from ipsecd.quoting import count, few, quote
from ipsecd.sources.lists import ListChange

needed_addresses = HostNeeds().addresses
ACCEPT = "look at it, and have it taken all the same with --accept"


def must_pass(
    old: AddressList,
    new: AddressList,
    request: Request,
    *,
    malformed: int = 0,
    shrinks: float = 0.5,
) -> None:
    """Raise ``Refused`` if new content looks like a mistake, and nobody accepts it."""
    if request["accept"]:
        return
    reasons = reasons_to_hold(old, new, needed_addresses(), malformed=malformed, shrinks=shrinks)
    if reasons:
        raise Refused(f"{stays(request['name'])}{few(list(reasons))}", ACCEPT)


@contextmanager
def reading(
    engine: Engine, name: str, text: bytes, source: str, form: str = "", *, dry_run: bool = False
) -> Iterator[ReadList]:
    """What a text holds; a long one is loaded while it is read, and put in force inside of this.

    What is not in force at the end is discarded, so nothing has to be judged before. Raises as
    ``read_list`` does.
    """
    ahead = None if dry_run else engine.list_changes.load_ahead(name, len(text))
    if ahead is None:
        yield read_list(text, source, form)
        return
    with closing(ahead):
        read = read_list(text, source, form, ahead.take)
        ahead.end(read.addresses)
        yield read


def carried_out(
    engine: Engine,
    name: str,
    change: ListChange,
    message: str,
    read: ReadList | None = None,
    *,
    changed: bool | None = None,
    dry_run: bool = False,
    new_counts: bool | None = None,
) -> dict[str, Any]:
    """Make a change, and the reply that says what it did; for a `dry_run` what it would do.

    `changed` says whether that is anything for people; None: if the change itself is. Of a list
    that it makes, `new_counts` says whether it counts what its entries match.
    """
    before = engine.lists.get(name, AddressList())
    after = change.changes.get(name, before) or AddressList()
    difference = before.change_to(after)
    added, removed = len(AddressList(difference.added)), len(AddressList(difference.removed))
    if dry_run:
        engine.list_changes.check(change.changes)
    elif new_counts is not None:
        engine.kept_lists.create(change, name, counts=new_counts)
    else:
        engine.kept_lists.carry_out(change)
    return {
        "outcome": {
            "changed": bool(change.changes) if changed is None else changed,
            "message": f"{message}: {_counts(len(after), added, removed)}",
            "name": name,
            "entries": len(after),
            "added": added,
            "removed": removed,
            "malformed": read.malformed if read else 0,
            "warnings": [
                *_about_text(read),
                *_about_rules(engine, name),
                *entries_overruled(engine, name, AddressList(difference.added)),
            ],
        }
    }


def sentence(request: Request, done: str) -> str:
    """What is done with a list, or would be: it is "changed"."""
    return f"list {request['name']!r} {'would be' if request['dry_run'] else 'is'} {done}"


def _counts(entries: int, added: int, removed: int) -> str:
    new = f", {added:,} new" if added else ""
    return f"{count(entries, 'entry')}{new}" + (f", {removed:,} gone" if removed else "")


def _about_text(read: ReadList | None) -> Iterator[str]:
    if read is None:
        return
    if read.malformed:
        shown = "; ".join(map(str, read.shown[:3]))
        yield f"{count(read.malformed, 'malformed line')} left out: {shown}"
    if read.cleared:
        entries = count(read.cleared, "entry")
        yield f"{entries} had address bits set beyond the prefix length, which were cleared"


def _about_rules(engine: Engine, name: str) -> Iterator[str]:
    """That rules name a list that is not there any more, or that a name means two lists."""
    if name in engine.lists and f"{OF_DOMAIN}{name}" in engine.lists and engine.overriding:
        yield (
            f"the policy of the domain carries a list @{name} of its own: there @{name} means that "
            "one, and this one is for rules of this host"
        )
    places = places_of(engine, name)
    if places and name not in engine.lists:
        named = few([f"{origin.rule!r}" for origin in places])
        yield f"filters of {named} match nothing by it until it is made again"


def lists_differences(engine: Engine, changes: ListChanges) -> list[str]:
    """What becomes of the lists that change, a line each."""
    lines = []
    for name, after in sorted(changes.items()):
        before = engine.lists.get(name)
        if after is None:
            lines.append(f"- list {quote(name)}")
        elif before is None:
            lines.append(f"+ list {quote(name)}: {count(len(after), 'entry')}")
        else:
            lines.append(f"~ list {quote(name)}: {_difference(before, after)}")
    return lines


def _difference(before: AddressList, after: AddressList) -> str:
    difference = before.change_to(after)
    new, gone = len(AddressList(difference.added)), len(AddressList(difference.removed))
    if not new and not gone:
        return "comments, ends of entries or where it comes from"
    return f"{count(len(after), 'entry')}, {new:,} new, {gone:,} gone"


def places_of(engine: Engine, name: str) -> list[Origin]:
    """The rules in force that name a list."""
    return list(
        dict.fromkeys(
            origin for origin, filters in _rules(engine) for flt in filters if name in lists_in(flt)
        )
    )


def _rules(engine: Engine) -> Iterator[tuple[Origin, tuple[Filter, ...]]]:
    compiled = engine.state.compiled
    if compiled.protected and not engine.stopped:
        yield BY_SETTINGS, compiled.protected
    if compiled.policy and not engine.stopped:
        for rule in policy_rules_by_name(compiled, engine.lists):
            yield Origin(compiled.store.value, compiled.policy.name, rule.name), rule.filters
    for dynamic_rule in engine.dynamic.listing.values():
        yield dynamic_rule.origin, dynamic_rule.filters
