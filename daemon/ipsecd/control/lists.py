"""Owns the methods about lists of addresses."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from math import inf
from typing import Any

from ipsecd.control.list_changes import carried_out, must_pass, places_of, reading, sentence
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.parameters import read_deadline
from ipsecd.control.stats import moment_text
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part
from ipsecd.errors import InvalidInput, Refused
from ipsecd.language.address_lists import ReadList, read_addresses
from ipsecd.language.list_entries import format_list
from ipsecd.model.addresses import OF_DOMAIN, Family, written_name
from ipsecd.model.list_names import lists_in
from ipsecd.model.lists import AddressList, Form, listed
from ipsecd.quoting import quote
from ipsecd.sources.domain_lists import DomainLists
from ipsecd.sources.list_files import shown_url
from ipsecd.sources.list_journal import text_of
from ipsecd.sources.list_parts import StoredList
from ipsecd.sources.lists import NOTHING, ListChange


def _list_lists(engine: Engine, _: Request) -> dict[str, Any]:
    of_host = [_described(engine, stored) for stored in engine.kept_lists.store.lists.values()]
    of_domain = [_of_domain(engine, name) for name in sorted(_carried(engine))]
    return {"lists": sorted(of_host + of_domain, key=lambda described: described["name"])}


def _get_list(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    written = written_name(name)
    if written in _carried(engine) and (name != written or not _is_of_host(engine, name)):
        addresses = _asked_for(engine.domain.lists[written].addresses, request)
        described = _of_domain(engine, written)
        entries = list(format_list(addresses))
        counters = _counters(engine, written, addresses, request)
        return {"list": described, "entries": entries, "ending": [], "counters": counters}
    stored = engine.kept_lists.store.get(name)
    addresses = _asked_for(stored.addresses, request)
    texts = list(format_list(addresses))
    ends = {text_of(key): end for key, end in stored.added.items() if end != inf}
    # Of a long list no set is made: nothing else runs meanwhile.
    ending = [{"entry": text, "ends": ends[text]} for text in texts if text in ends]
    return {
        "list": _described(engine, stored),
        "entries": texts,
        "ending": sorted(ending, key=lambda entry: (entry["ends"], entry["entry"])),
        "counters": _counters(engine, name, addresses, request),
    }


def _counters(
    engine: Engine, name: str, addresses: AddressList, request: Request
) -> dict[str, Any] | None:
    """What of these entries has matched anything, the most first; None if nobody asks."""
    if not request["counters"]:
        return None
    if name not in engine.kept_lists.counted:
        raise Refused(
            f"list {quote(name)} does not count what its entries match",
            "a list of the domain cannot"
            if name in _carried(engine) and not _is_of_host(engine, name)
            else f"have it count from now on with: ipsecctl list count {name} on",
        )
    found = engine.counting.entries.read(name).get(name)
    layers = addresses.layers
    counted = [
        {"entry": text_of(key), "packets": count.packets, "bytes": count.bytes}
        for key, count in (found.counts.items() if found else ())
        if layers.holds(Form(Family(key[0]), key[1]), key[2:])
    ]
    return {
        "since": moment_text(found.since) if found else None,
        "entries": sorted(counted, key=lambda each: (-each["packets"], each["entry"])),
    }


def _asked_for(addresses: AddressList, request: Request) -> AddressList:
    """Of the entries those that the address is in, if one is asked for."""
    return addresses if request["address"] is None else _covering(addresses, request["address"])


def _carried(engine: Engine) -> DomainLists:
    """The lists of the domain, where one is configured."""
    return engine.domain.lists if engine.config.domain else {}


def _is_of_host(engine: Engine, name: str) -> bool:
    return name in engine.kept_lists.store.lists


def _own(engine: Engine, name: str) -> StoredList:
    """The list of this host called `name`; raises ``NotFound``, or ``Refused`` for the domain's."""
    written = written_name(name)
    if written in _carried(engine) and (name != written or not _is_of_host(engine, name)):
        raise Refused(
            f"list {quote(written)} is the domain's, so it cannot be changed on this host",
            "whoever publishes it does: ipsecctl domain publish REPO POLICY --list "
            f"{written}=FILE; a list of this host beside it, for rules of this host, is made with: "
            f"ipsecctl list create {written}",
        )
    return engine.kept_lists.store.get(name)


def _covering(addresses: AddressList, text: str) -> AddressList:
    """The entries that the one address is in."""
    asked = list(read_addresses([text]).networks())
    if len(asked) != 1 or asked[0].length != asked[0].family.bits:
        raise InvalidInput(
            f"{quote(text)} is not one address", "name a single address", source=text, position=0
        )
    return listed(addresses.sharing(asked[0]))


def _create_list(engine: Engine, request: Request) -> dict[str, Any]:
    store, name = engine.kept_lists.store, request["name"]
    store.must_be_new(name)
    with _read(engine, request) as read:
        # A file that is empty may be a mistake; a list that is made without one is not.
        if request["source"] is not None or request.text:
            must_pass(AddressList(), read.addresses, request, malformed=read.malformed)
        change = store.create(name, request.text, read)
        counts = bool(request["counted"])
        return _carried_out(engine, request, change, "made", read, new_counts=counts)


def _replace_list(engine: Engine, request: Request) -> dict[str, Any]:
    store, name = engine.kept_lists.store, request["name"]
    old = _own(engine, name)
    with _read(engine, request) as read:
        must_pass(old.addresses, read.addresses, request, malformed=read.malformed)
        change = store.replace(name, request.text, read)
        return _carried_out(engine, request, change, "replaced", read)


def _add_to_list(engine: Engine, request: Request) -> dict[str, Any]:
    store, name = engine.kept_lists.store, request["name"]
    old = _own(engine, name)
    addresses = read_addresses(_some(request["addresses"]))
    end = read_deadline(request["ttl_s"], time.time())
    must_pass(old.addresses, addresses, request, shrinks=1.0)
    return _carried_out(engine, request, store.add(name, addresses, end), "changed")


def _remove_from_list(engine: Engine, request: Request) -> dict[str, Any]:
    store, name = engine.kept_lists.store, request["name"]
    _own(engine, name)
    change = store.remove(name, read_addresses(_some(request["addresses"])))
    return _carried_out(engine, request, change, "changed")


def _delete_list(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    _own(engine, name)
    _must_hold_no_filters(engine, name)
    change = engine.kept_lists.store.delete(name)
    reply = _carried_out(engine, request, change, "deleted")
    engine.counting.entries.keep()
    return reply


def _must_hold_no_filters(engine: Engine, name: str) -> None:
    """Raise ``Refused`` if a list holds the filters of a filter list, which would lose them."""
    shared = engine.loaded.shared
    for filter_list in shared.filters.lists.values() if shared else ():
        if any(name in lists_in(flt) for each in filter_list.filters for flt in each.filters()):
            raise Refused(
                f"list {quote(name)} holds the filters of filter list {quote(filter_list.name)}, "
                "which policies can share",
                f"delete them with: netsh ipsec static delete filterlist {quote(filter_list.name)}",
            )


def _count_list(engine: Engine, request: Request) -> dict[str, Any]:
    """Have a list count what its entries match, or no more; entries stay as they are."""
    name, counts = request["name"], bool(request["counted"])
    _own(engine, name)
    kept = engine.kept_lists
    changed = counts is not (name in kept.counted)
    kept.count(kept.counted | {name} if counts else kept.counted - {name})
    # What has ended is forgotten on disk as well, before the list may count again.
    engine.counting.entries.keep()
    done = "counts what each entry matches" if counts else "does not count"
    return carried_out(engine, name, NOTHING, f"list {name!r} {done}", changed=changed)


def _carried_out(
    engine: Engine,
    request: Request,
    change: ListChange,
    done: str,
    read: ReadList | None = None,
    *,
    new_counts: bool | None = None,
) -> dict[str, Any]:
    words, dry_run = sentence(request, done), bool(request["dry_run"])
    name = request["name"]
    return carried_out(engine, name, change, words, read, dry_run=dry_run, new_counts=new_counts)


def _some(addresses: list[str]) -> list[str]:
    if not addresses:
        raise InvalidInput("no address is named", "name at least one")
    return addresses


def _read(engine: Engine, request: Request) -> AbstractContextManager[ReadList]:
    name, source, form = request["name"], request["source"], request["format"]
    text, dry_run = request.text, bool(request["dry_run"])
    return reading(engine, name, text, source or "<document>", form or "", dry_run=dry_run)


def _described(engine: Engine, stored: StoredList) -> dict[str, Any]:
    """A list of this host, as the type ``AddressList`` of the interface has it."""
    ends = [end for end in stored.added.values() if end != inf]
    feed = stored.feed
    return {
        **_counted(stored.name, stored.addresses),
        "added": len(stored.added),
        "ending": len(ends),
        "ends": min(ends, default=None),
        "path": engine.kept_lists.store.path_of(stored.name) if stored.file else None,
        "url": shown_url(feed.url) if feed else None,
        "every_s": float(feed.every_s) if feed else None,
        "fetched": feed.fetched if feed else None,
        "checked": feed.checked if feed else None,
        "problems": [
            *stored.problems,
            *engine.kept_lists.feeds.problem_of(stored.name),
            *_waiting(engine, stored.name),
        ],
        "rules": _named_by(engine, stored.name),
        "domain": False,
        "counted": stored.name in engine.kept_lists.counted,
    }


def _waiting(engine: Engine, name: str) -> tuple[str, ...]:
    """That a change of the list waits to be confirmed, if one does."""
    change, left_s = engine.confirmation.change, engine.confirmation.left_s()
    if change is None or left_s is None or name not in (change.lists or {}):
        return ()
    said = f"the change by {change.by} is put back in {left_s:.0f} s"
    return (f"{said}\n  hint: keep it with: ipsecctl confirm; from a new login",)


def _of_domain(engine: Engine, name: str) -> dict[str, Any]:
    """A list that the policy of the domain carries, likewise."""
    carried = engine.domain.lists[name]
    return {
        **_counted(name, carried.addresses),
        "added": 0,
        "ending": 0,
        "ends": None,
        "path": None,
        "url": None,
        "every_s": None,
        "fetched": None,
        "checked": None,
        "problems": [carried.problem] if carried.problem else [],
        "rules": _named_by(engine, f"{OF_DOMAIN}{name}"),
        "domain": True,
        "counted": False,
    }


def _counted(name: str, addresses: AddressList) -> dict[str, Any]:
    by_family = {
        family: sum(addresses.count(form) for form in addresses.entries if form.family is family)
        for family in Family
    }
    return {
        "name": name,
        "entries": sum(by_family.values()),
        "ipv4": by_family[Family.IPV4],
        "ipv6": by_family[Family.IPV6],
    }


def _named_by(engine: Engine, name: str) -> list[dict[str, str]]:
    """The rules in force that name a list."""
    return [
        {"store": origin.store, "policy": origin.policy, "rule": origin.rule}
        for origin in places_of(engine, name)
    ]


METHODS = (
    Method("ListLists", Role.VIEW, Work.LONG, _list_lists),
    Method("GetList", Role.VIEW, Work.LONG, _get_list),
    Method(
        "CreateList",
        Role.CHANGE,
        Work.CHANGE,
        _create_list,
        takes_document=True,
        takes_list=True,
        part=Part.LISTS,
    ),
    Method(
        "ReplaceList",
        Role.CHANGE,
        Work.CHANGE,
        _replace_list,
        takes_document=True,
        takes_list=True,
        part=Part.LISTS,
    ),
    Method("AddToList", Role.CHANGE, Work.CHANGE, _add_to_list, part=Part.LISTS),
    Method("RemoveFromList", Role.CHANGE, Work.CHANGE, _remove_from_list, part=Part.LISTS),
    Method("CountList", Role.CHANGE, Work.CHANGE, _count_list),
    Method("DeleteList", Role.CHANGE, Work.CHANGE, _delete_list, part=Part.LISTS),
)
