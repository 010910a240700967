"""Owns the address lists that options give to what works without a daemon."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ipsecctl.failures import UsageError
from ipsecctl.files import list_files, read_bytes
from ipsecctl.options import Options
from ipsecd.language.address_lists import read_list
from ipsecd.model.list_names import lists_in
from ipsecd.model.lists import AddressList
from ipsecd.model.values import Policy
from ipsecd.quoting import quote


def named_lists(policy: Policy) -> frozenset[str]:
    """The names of the lists in the filters of a policy."""
    rules = policy.facts.by_name
    return frozenset(name for rule in rules for flt in rule.filters for name in lists_in(flt))


def given_lists(options: Options, named: frozenset[str]) -> dict[str, AddressList]:
    """The address lists by name that ``--list NAME=FILE`` and ``--lists DIRECTORY`` give.

    A list that is given by itself goes before a file of its name in the directory, of which only
    those that are `named` are read: others may be long.
    """
    paths = paths_of_lists(options, named)
    return {name: read_list(read_bytes(path), path).addresses for name, path in paths.items()}


def paths_of_lists(options: Options, named: frozenset[str]) -> dict[str, str]:
    """Where the lists are that the options give, by name."""
    paths = {}
    if directory := options.value("--lists"):
        paths = {name: f"{directory}/{name}" for name in list_files(directory) if name in named}
    for text in options.values.get("--list", []):
        name, sign, path = text.partition("=")
        if not sign or not path:
            raise UsageError(
                f"--list {quote(text)} names no file", "write --list NAME=FILE, without the @"
            )
        paths[name.removeprefix("@")] = path
    return paths


def missing_lists(named: Iterable[str], given: Mapping[str, object]) -> list[str]:
    """The names of the lists that were not given, in order."""
    return sorted(set(named) - given.keys())


def words_of_missing(missing: Iterable[str], path: str = "") -> list[str]:
    """A sentence for each list that was not given; `path` is the file that names it, if needed."""
    place = f"{path}: " if path else ""
    return [
        f"{place}list @{name} was not given, so it matches nothing here: give its file with "
        f"--list {name}=FILE"
        for name in missing
    ]
