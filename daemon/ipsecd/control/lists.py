"""Owns the methods about lists of addresses."""

from __future__ import annotations

import time
from math import inf
from typing import Any

from ipsecd.control.list_changes import carried_out, must_pass, places_of
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.parameters import read_deadline
from ipsecd.engine import Engine
from ipsecd.errors import InvalidInput
from ipsecd.language.address_lists import ReadList, read_addresses, read_list
from ipsecd.language.list_entries import format_list
from ipsecd.model.addresses import Family
from ipsecd.model.lists import AddressList, listed
from ipsecd.quoting import quote
from ipsecd.sources.list_files import shown_url
from ipsecd.sources.list_journal import text_of
from ipsecd.sources.list_parts import StoredList


def _list_lists(engine: Engine, _: Request) -> dict[str, Any]:
    return {
        "lists": [_described(engine, stored) for stored in engine.kept_lists.store.lists.values()]
    }


def _get_list(engine: Engine, request: Request) -> dict[str, Any]:
    stored = engine.kept_lists.store.get(request["name"])
    addresses = stored.addresses
    if request["address"] is not None:
        addresses = _covering(addresses, request["address"])
    texts = list(format_list(addresses))
    shown = set(texts)
    ending = [
        {"entry": text, "ends": end}
        for text, end in ((text_of(key), end) for key, end in stored.added.items() if end != inf)
        if text in shown
    ]
    return {
        "list": _described(engine, stored),
        "entries": texts,
        "ending": sorted(ending, key=lambda entry: (entry["ends"], entry["entry"])),
    }


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
    read = _read(request)
    # A file that is empty may be a mistake; a list that is made without one is not.
    if request["source"] is not None or request.text:
        must_pass(AddressList(), read.addresses, request, malformed=read.malformed)
    change = store.create(name, request.text, read)
    return carried_out(engine, name, change, f"list {name!r} is made", read)


def _replace_list(engine: Engine, request: Request) -> dict[str, Any]:
    store, name = engine.kept_lists.store, request["name"]
    old = store.get(name)
    read = _read(request)
    must_pass(old.addresses, read.addresses, request, malformed=read.malformed)
    change = store.replace(name, request.text, read)
    return carried_out(engine, name, change, f"list {name!r} is replaced", read)


def _add_to_list(engine: Engine, request: Request) -> dict[str, Any]:
    store, name = engine.kept_lists.store, request["name"]
    old = store.get(name)
    addresses = read_addresses(_some(request["addresses"]))
    end = read_deadline(request["ttl_s"], time.time())
    must_pass(old.addresses, addresses, request, shrinks=1.0)
    return carried_out(engine, name, store.add(name, addresses, end), f"list {name!r} is changed")


def _remove_from_list(engine: Engine, request: Request) -> dict[str, Any]:
    store, name = engine.kept_lists.store, request["name"]
    change = store.remove(name, read_addresses(_some(request["addresses"])))
    return carried_out(engine, name, change, f"list {name!r} is changed")


def _delete_list(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    change = engine.kept_lists.store.delete(name)
    return carried_out(engine, name, change, f"list {name!r} is deleted")


def _some(addresses: list[str]) -> list[str]:
    if not addresses:
        raise InvalidInput("no address is named", "name at least one")
    return addresses


def _read(request: Request) -> ReadList:
    return read_list(request.text, request["source"] or "<document>", request["format"] or "")


def _described(engine: Engine, stored: StoredList) -> dict[str, Any]:
    """A list, as the type ``AddressList`` of the interface has it."""
    ends = [end for end in stored.added.values() if end != inf]
    by_family = {
        family: sum(
            stored.addresses.count(form)
            for form in stored.addresses.entries
            if form.family is family
        )
        for family in Family
    }
    feed = stored.feed
    return {
        "name": stored.name,
        "entries": sum(by_family.values()),
        "ipv4": by_family[Family.IPV4],
        "ipv6": by_family[Family.IPV6],
        "added": len(stored.added),
        "ending": len(ends),
        "ends": min(ends, default=None),
        "path": engine.kept_lists.store.path_of(stored.name) if stored.file else None,
        "url": shown_url(feed.url) if feed else None,
        "every_s": float(feed.every_s) if feed else None,
        "fetched": feed.fetched if feed else None,
        "checked": feed.checked if feed else None,
        "problems": [*stored.problems, *engine.kept_lists.feeds.problem_of(stored.name)],
        "rules": [
            {"store": origin.store, "policy": origin.policy, "rule": origin.rule}
            for origin in places_of(engine, stored.name)
        ],
    }


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
    ),
    Method(
        "ReplaceList",
        Role.CHANGE,
        Work.CHANGE,
        _replace_list,
        takes_document=True,
        takes_list=True,
    ),
    Method("AddToList", Role.CHANGE, Work.CHANGE, _add_to_list),
    Method("RemoveFromList", Role.CHANGE, Work.CHANGE, _remove_from_list),
    Method("DeleteList", Role.CHANGE, Work.CHANGE, _delete_list),
)
