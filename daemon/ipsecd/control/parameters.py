"""Owns turning the parameters of calls into values of the model."""

from __future__ import annotations

from math import inf

from ipsecd.control.method import Names
from ipsecd.errors import InvalidInput
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Filter
from ipsecd.quoting import quote
from ipsecd.sources.names import with_addresses


def read_filters(texts: list[str], names: Names) -> tuple[Filter, ...]:
    """The filters with the addresses of their DNS names; raises ``InvalidInput``."""
    return tuple(with_addresses(parse_filter(text), names) for text in texts)


def read_action(text: str) -> Action:
    """The action called `text`, in any letter case; raises ``InvalidInput``."""
    try:
        return Action(text.lower())
    except ValueError:
        raise InvalidInput(f"{quote(text)} is not an action", "write block or permit") from None


def read_deadline(ttl_s: float | None, now: float) -> float:
    """When something ends that lives `ttl_s`, on the clock of `now`; raises ``InvalidInput``."""
    if ttl_s is None:
        return inf
    if not 0.001 <= ttl_s <= 10 * 365 * 86400:
        raise InvalidInput(
            f"a time to live of {ttl_s:g} s is not between a millisecond and ten years",
            "leave it out for a rule that stays until it is removed",
        )
    return now + ttl_s
