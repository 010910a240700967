"""Owns which lists are published with a policy; must not know how they are signed.

Each list that a policy names is given, was published with the policy before, or is one that hosts
have of their own. There is no fourth: a list that is forgotten would block nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ipsecd.errors import InvalidInput, Refused
from ipsecd.language.address_lists import ReadList
from ipsecd.language.list_guard import reasons_to_hold
from ipsecd.model.list_names import lists_in
from ipsecd.model.lists import AddressList
from ipsecd.model.packed_form import MAX_CARRIED, MAX_CARRIED_BYTES, pack, unpack_strictly
from ipsecd.model.values import Policy
from ipsecd.quoting import count, few, quote
from ipsecd_domain.carried import Carried, list_path
from ipsecd_domain.layout import Offer
from ipsecd_domain.repository.content import Repository


@dataclass(frozen=True, slots=True)
class GivenLists:
    """The lists that are given, by name, and the names of those that hosts have of their own.

    With `accept` one is taken that looks like a mistake.
    """

    read: Mapping[str, ReadList] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    accept: bool = False


def lists_to_publish(
    repository: Repository, role: str, policy: Policy, before: Offer | None, given: GivenLists
) -> tuple[Carried, dict[str, bytes]]:
    """What a policy is to carry, and the content of lists by their paths.

    `before` is what is given out under its name. Raises ``Refused`` if a list is missing, or looks
    like a mistake, ``InvalidInput`` if one is given that the policy does not name.
    """
    named = _named(policy)
    _must_be_named(named, given)
    earlier = repository.carried(role, before.path) if before else Carried()
    own = tuple(
        name for name in sorted(named) if name in given.own or _is_still_own(name, earlier, given)
    )
    paths: dict[str, str] = {}
    contents: dict[str, bytes] = {}
    missing = []
    for name in sorted(named - set(own)):
        if name in given.read:
            old = _published(repository, role, earlier, name)
            _must_pass(name, old, given)
            content = pack(given.read[name].addresses)
            paths[name] = list_path(role, name, content)
            contents[paths[name]] = content
        elif name in earlier.paths:
            paths[name] = earlier.paths[name]
            contents[paths[name]] = repository.file(role, paths[name])
        else:
            missing.append(name)
    if missing:
        raise Refused(
            f"policy {quote(policy.name)} names lists that are not given: "
            + few([f"@{name}" for name in missing]),
            f"give each with --list {missing[0]}=FILE; with --own-list {missing[0]} it is a list "
            "that every host has of its own",
        )
    _must_not_be_too_much(contents)
    return Carried(paths, own), contents


def _named(policy: Policy) -> frozenset[str]:
    rules = policy.facts.by_name
    return frozenset(name for rule in rules for flt in rule.filters for name in lists_in(flt))


def _must_be_named(named: frozenset[str], given: GivenLists) -> None:
    for name in (*given.read, *given.own):
        if name not in named:
            raise InvalidInput(
                f"list {quote(f'@{name}')} is given, and no filter of the policy names it",
                "see whether its name is right, or leave it out",
            )
    both = sorted(given.read.keys() & set(given.own))
    if both:
        raise InvalidInput(
            f"list {quote(f'@{both[0]}')} is given, and is to be one that hosts have of their own",
            "keep one of the two options",
        )


def _is_still_own(name: str, earlier: Carried, given: GivenLists) -> bool:
    """What is not given stays as it was."""
    return name in earlier.own and name not in given.read


def _published(repository: Repository, role: str, earlier: Carried, name: str) -> AddressList:
    """The list that was published under this name before."""
    if name not in earlier.paths:
        return AddressList()
    try:
        return unpack_strictly(repository.file(role, earlier.paths[name]))
    except ValueError:
        # It was signed by another version, and only what is new is judged by it.
        return AddressList()


def _must_pass(name: str, old: AddressList, given: GivenLists) -> None:
    """Raise ``Refused`` if a list looks like a mistake, and nobody accepts it."""
    read = given.read[name]
    reasons = reasons_to_hold(old, read.addresses, malformed=read.malformed)
    if reasons and not given.accept:
        raise Refused(
            f"list @{name} looks like a mistake, so nothing was published: {few(list(reasons))}",
            "look at it, and have it taken all the same with --accept",
        )


def _must_not_be_too_much(contents: Mapping[str, bytes]) -> None:
    for reason in _too_much(contents):
        raise Refused(
            f"the policy cannot carry its lists: {reason}",
            "have hosts fetch the long ones by themselves: ipsecctl list create NAME --from URL, "
            "and publish with --own-list NAME",
        )


def _too_much(contents: Mapping[str, bytes]) -> Iterator[str]:
    whole = sum(map(len, contents.values()))
    if whole > MAX_CARRIED_BYTES:
        yield f"they have {count(whole, 'byte')} together, and {MAX_CARRIED_BYTES:,} are the most"
    if len(contents) > MAX_CARRIED:
        yield f"they are {len(contents):,}, and {MAX_CARRIED} are the most"
