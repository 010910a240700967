"""Owns asking the daemon for what is exported; must not know any form of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ipsecctl.client import Client
from ipsecctl.netsh.folding import PREFIX
from ipsecd.errors import InvalidInput, NotFound
from ipsecd.language.addresses import format_address
from ipsecd.language.documents import parse_policy
from ipsecd.language.filters import format_filter
from ipsecd.language.list_entries import entries_in
from ipsecd.language.rule_parameters import read_in_force
from ipsecd.model.addresses import HostName, ListName, Network, Process, Selector
from ipsecd.model.exemptions import Exemption, exemption
from ipsecd.model.list_names import as_domain_means, lists_in
from ipsecd.model.lists import AddressList, listed
from ipsecd.model.values import Endpoint, Filter, InForce, Policy, Rule, Store, filters_of

Names = Mapping[str, tuple[Network, ...]]


@dataclass(frozen=True)
class LeftOut:
    """Something that a form has no words for: what, of which rule, and why."""

    rule: str
    what: str
    why: str

    def __str__(self) -> str:
        """In one sentence."""
        return f"{self.rule}: {self.what} is left out: {self.why}"


@dataclass
class Exported:
    """What is written in some form, and what is not."""

    text: str
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True)
class Stored:
    """A policy that the daemon has. ``store`` is ``static`` or ``domain``."""

    policy: Policy
    store: Store
    assigned: bool


@dataclass(frozen=True)
class Decided:
    """Filters and what else decides about packets.

    ``filters`` have their names resolved; ``title`` says in words what they are.
    """

    title: str
    filters: tuple[InForce, ...]
    lists: Mapping[str, AddressList]
    exemptions: tuple[Exemption, ...]
    drop_unparsable: bool


def stored_policies(client: Client, names: Iterable[str]) -> list[Stored]:
    """The policies of these names, or without any all that this host has itself and can use."""
    wanted = [
        summary["name"]
        for summary in client.call("ListPolicies")["policies"]
        if summary["error"] is None and summary["store"] == Store.STATIC.value
    ]
    found = []
    for name in dict.fromkeys(names) or wanted:
        stored = client.call("GetPolicy", {"name": name})
        policy = parse_policy(stored["document"])
        found.append(Stored(policy, Store(stored["store"]), bool(stored["assigned"])))
    return found


def without_filter_lists_folded(client: Client, policy: Policy) -> Policy:
    """The policy with every filter of its filter lists, also those that a list holds for one.

    Other lists stay named: what they hold is no part of a policy.
    """

    def each_in(rule: Rule) -> Rule:
        if not rule.filter_list:
            return rule
        filters = (one for flt in rule.filters for one in _unfolded(client, flt))
        return replace(rule, filters=tuple(dict.fromkeys(filters)))

    return policy.with_rules(tuple(map(each_in, policy.rules)), tuple(map(each_in, policy.resting)))


def _unfolded(client: Client, flt: Filter) -> Iterator[Filter]:
    for side in ("source", "destination"):
        end = getattr(flt, side)
        if isinstance(end.address, ListName) and end.address.name.startswith(PREFIX):
            for network in _list(client, end.address.name).networks():
                yield replace(flt, **{side: replace(end, address=network)})
            return
    yield flt


def unusable_policies(client: Client) -> list[LeftOut]:
    """The files of policies that cannot be used, and the policy of the domain."""
    return [
        LeftOut(
            f"policy {summary['name']!r}",
            "all of it",
            "its file cannot be used" if summary["error"] else "it is the domain's",
        )
        for summary in client.call("ListPolicies")["policies"]
        if summary["error"] is not None or summary["store"] != Store.STATIC.value
    ]


def dynamic_rules(client: Client) -> list[dict[str, Any]]:
    """The dynamic rules, as the daemon tells them."""
    rules: list[dict[str, Any]] = client.call("ListDynamic")["rules"]
    return rules


def decided(client: Client, name: str | None) -> Decided:
    """What decides now, or would if the policy called `name` and nothing else were in force.

    What the settings protect is in force with every policy. Raises ``NotFound``.
    """
    status = client.call("Status")["status"]
    told = client.call("ListFilters")["filters"]
    addresses = _addresses(told)
    known = [entry["name"] for entry in client.call("ListLists")["lists"]]
    of_now = [_in_force(entry, addresses) for entry in told]
    if name is None:
        filters, title = of_now, "what is in force"
    else:
        (stored,) = stored_policies(client, [name])
        protected = [one for one in of_now if one.origin.protected]
        title = f"policy {name!r}"
        filters = [*protected]
        for one in filters_of(stored.policy, stored.store):
            filters.append(replace(one, filter=_resolved(one.filter, addresses)))
    filters = [
        replace(one, filter=as_domain_means(one.filter, known))
        if one.origin.store == Store.DOMAIN.value
        else one
        for one in filters
    ]
    named = sorted({name for one in filters for name in lists_in(one.filter)})
    return Decided(
        title,
        tuple(filters),
        {list_name: _list(client, list_name) for list_name in named if list_name in known},
        tuple(exemption(entry["name"]) for entry in status["exemptions"]),
        status["unparsable"] == "drop",
    )


def rule_name(in_force: InForce) -> str:
    """The rule that a filter belongs to, in words."""
    origin = in_force.origin
    if origin.protected:
        return "the settings"
    if origin.volatile:
        return f"dynamic rule {origin.rule!r}"
    return f"policy {origin.policy!r}, rule {origin.rule!r}"


def without_fixed_addresses(flt: Filter) -> str:
    """Why a filter stands for no addresses that can be written down; "" if it does."""
    for end in (flt.source, flt.destination):
        address = end.address
        if isinstance(address, Selector):
            return f"{format_address(address)} has other addresses whenever it is started"
        if isinstance(address, Process):
            return f"{address} is known to a daemon that follows control groups"
        if isinstance(address, HostName) and not address.addresses:
            return f"{address.name} is not in force, so its addresses are not known here"
    return ""


def written(flt: Filter) -> str:
    """A filter as people write it."""
    return format_filter(flt)


def _list(client: Client, name: str) -> AddressList:
    try:
        entries = client.call("GetList", {"name": name, "address": None})["entries"]
    except NotFound:
        return listed(())
    return listed(network for text in entries for network in _networks(text))


def _networks(text: str) -> Iterator[Network]:
    for form, entry in entries_in(text):
        yield Network(form.family, int.from_bytes(entry, "big"), form.length)


def _addresses(told: Iterable[Mapping[str, Any]]) -> Names:
    """What DNS names in force stand for."""
    return {
        each["name"]: tuple(network for text in each["addresses"] for network in _networks(text))
        for entry in told
        for each in entry.get("names") or ()
    }


def _in_force(entry: Mapping[str, Any], addresses: Names) -> InForce:
    """A filter in force, as the daemon tells it."""
    in_force = read_in_force(entry)
    return replace(in_force, filter=_resolved(in_force.filter, addresses))


def _resolved(flt: Filter, addresses: Names) -> Filter:
    def known(end: Endpoint) -> Endpoint:
        if not isinstance(end.address, HostName):
            return end
        name = end.address.name
        return replace(end, address=HostName(name, addresses.get(name, ())))

    try:
        return replace(flt, source=known(flt.source), destination=known(flt.destination))
    except InvalidInput:
        # The name has no address of the IP version that the other side is of.
        return flt
