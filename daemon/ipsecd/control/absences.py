"""Owns what is said of filters in force that match nothing at the moment, and why.

Such a filter is no mistake: a container or a service may come later, and is covered when it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ipsecd.backend.nftables import cgroups
from ipsecd.host.container_engines import ABSENT, CONNECTED, UNUSED
from ipsecd.language.addresses import format_address
from ipsecd.language.filters import format_filter
from ipsecd.model.addresses import Process, Selector, SelectorKind
from ipsecd.model.inventory import Inventory, has_selectors
from ipsecd.model.values import Filter

if TYPE_CHECKING:
    from ipsecd.engine import Engine


def absences(engine: Engine, filters: Iterable[Filter]) -> list[str]:
    """A sentence for each name in `filters` that stands for nothing now; each only once."""
    if engine.stopped or engine.held:
        return []
    found: dict[str, None] = {}
    for one in filters:
        found |= dict.fromkeys(_about(engine, one))
    return list(found)


def filters_by_name(engine: Engine) -> tuple[Filter, ...]:
    """All filters in force that can be said something of."""
    return (*engine.policy_filters_by_name(), *engine.dynamic_filters_by_name())


def _about(engine: Engine, one: Filter) -> Iterator[str]:
    nameless = True
    for end in (one.source, one.destination):
        address = end.address
        why = ""
        if isinstance(address, Selector) and not engine.inventory.addresses(address):
            why = _why_no_address(engine, address)
        elif isinstance(address, Process) and cgroups.find(str(address)) is None:
            why = _why_no_group(address)
        if why:
            nameless = False
            yield f"{format_address(address)} matches nothing at the moment: {why}"
    if nameless and has_selectors(one) and engine.inventory.resolve(one) is None:
        yield (
            f"{format_filter(one)} matches nothing at the moment: "
            "its two sides have no addresses of the same IP version"
        )


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
    matching = [one for one in inventory.containers if one.matches(selector)]
    labelled = selector.kind is SelectorKind.LABEL
    what = "container with this label" if labelled else "such container"
    if not matching:
        return f"there is no {what}"
    if selector.network:
        return f"no {what} has an address in network {selector.network}"
    return f"no {what} has an address, so none runs"
