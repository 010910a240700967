"""Owns telling which filters in force match nothing at the moment, and why.

Such a filter is no mistake: the container or service may be started later, or the list be made,
and is covered then. What only loopback has matches nothing for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ipsecd.backend.nftables import cgroups
from ipsecd.host.container_engines import ABSENT, CONNECTED, UNUSED
from ipsecd.language.addresses import format_address
from ipsecd.language.filters import format_filter
from ipsecd.model.addresses import (
    Family,
    ListName,
    Network,
    Process,
    Selector,
    SelectorKind,
)
from ipsecd.model.inventory import Inventory, has_selectors
from ipsecd.model.values import Filter

if TYPE_CHECKING:
    from ipsecd.engine import Engine


def absences(engine: Engine, filters: Iterable[Filter]) -> list[str]:
    """A sentence for each name in `filters` that stands for nothing now; each only once."""
    if engine.stopped or engine.held:
        return []
    sentences: dict[str, None] = {}
    for rule_filter in filters:
        sentences |= dict.fromkeys(_absences_in(engine, rule_filter))
    return list(sentences)


def filters_by_name(engine: Engine) -> tuple[Filter, ...]:
    """All filters in force that name containers, lists or local processes."""
    return (*engine.policy_filters_by_name(), *engine.dynamic_filters_by_name())


def _absences_in(engine: Engine, rule_filter: Filter) -> Iterator[str]:
    all_names_stand_for_something = True
    for endpoint in (rule_filter.source, rule_filter.destination):
        address = endpoint.address
        why = ""
        if isinstance(address, Selector) and not engine.inventory.addresses(address):
            why = _why_no_address(engine, address)
        elif isinstance(address, Process) and cgroups.find(str(address)) is None:
            why = _why_no_group(address)
        elif isinstance(address, ListName) and address.name not in engine.lists:
            why = "there is no such list"
        elif isinstance(address, Network) and _is_loopback(address):
            yield f"{format_address(address)} is loopback, which is never filtered"
        if why:
            all_names_stand_for_something = False
            yield f"{format_address(address)} matches nothing at the moment: {why}"
    if not all_names_stand_for_something or not has_selectors(rule_filter):
        return
    if engine.inventory.resolve(rule_filter) is None:
        yield (
            f"{format_filter(rule_filter)} matches nothing at the moment: "
            "its two sides have no addresses of the same IP version"
        )


def _is_loopback(network: Network) -> bool:
    if network.family is Family.IPV6:
        return network.length == network.family.bits and network.address == 1
    return network.length >= 8 and network.address >> 24 == 127


def _why_no_group(process: Process) -> str:
    if cgroups.root() is None:
        return "this host has no unified control group hierarchy"
    if process.kind == "service":
        return "no such unit runs"
    return "there is no such control group"


def _why_no_address(engine: Engine, selector: Selector) -> str:
    sockets = engine.config.container_engines
    if not sockets:
        return "the settings name no container engine"
    states = {
        str(path): engine.states_of_container_engines.get(str(path), UNUSED) for path in sockets
    }
    silent = [
        f"the container engine at {socket} does not answer ({state})"
        for socket, state in states.items()
        if state not in {ABSENT, UNUSED, CONNECTED}
    ]
    if CONNECTED in states.values():
        return "; ".join([_why_not_there(engine.inventory, selector), *silent])
    if silent:
        return "; ".join(silent)
    waiting = [socket for socket, state in states.items() if state == UNUSED]
    if waiting:
        return f"the container engine at {waiting[0]} has not been asked yet"
    return f"no container engine listens at {' or '.join(states)}"


def _why_not_there(inventory: Inventory, selector: Selector) -> str:
    if selector.kind is SelectorKind.NETWORK:
        return "there is no such network, or it has no subnet"
    matching = [container for container in inventory.containers if container.matches(selector)]
    labelled = selector.kind is SelectorKind.LABEL
    what = "container with this label" if labelled else "such container"
    if not matching:
        return f"there is no {what}"
    if selector.network:
        return f"no {what} has an address in network {selector.network}"
    return f"no {what} has an address, so none runs"
