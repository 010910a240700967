"""Owns turning the parameters of calls into values of the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import inf
from typing import Any

from ipsecd.control.method import Names
from ipsecd.engine.caller import NO_OPTIONS, ChangeOptions
from ipsecd.errors import InvalidInput, IpsecdError
from ipsecd.language.conditions import parse_conditions
from ipsecd.language.filter_lists import parse_filter_list
from ipsecd.language.filters import parse_filter
from ipsecd.language.rule_parameters import read_action
from ipsecd.model.values import Filter
from ipsecd.quoting import quote
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.names import dns_names_in, with_addresses

LEAST_CONFIRM_S, MOST_CONFIRM_S = 5.0, 86400.0
"""How soon, and how late, a change that nobody confirms is put back."""
MOST_MESSAGE = 1000
"""How many characters a message about a change may have."""
MOST_NAME = 64
"""How many characters of names are kept that the caller says of himself."""
NOBODY_UID = (1 << 32) - 1


def read_change(given: dict[str, Any] | None) -> ChangeOptions:
    """The parameter ``change`` that all methods have that change something.

    Raises ``InvalidInput``.
    """
    if given is None:
        return NO_OPTIONS
    confirm_s, message = given["confirm_s"], given["message"] or ""
    login_uid = given["login_uid"]
    if confirm_s is not None and not LEAST_CONFIRM_S <= confirm_s <= MOST_CONFIRM_S:
        raise InvalidInput(
            f"a change cannot wait {confirm_s:g} s to be confirmed",
            f"give between {LEAST_CONFIRM_S:g} s and a day",
        )
    if len(message) > MOST_MESSAGE:
        raise InvalidInput(
            f"the message about the change has {len(message):,} characters",
            f"say it in {MOST_MESSAGE:,}",
        )
    return ChangeOptions(
        confirm_s,
        bool(given["force"]),
        message,
        given["terminal"] or "",
        given["login"] or "",
        (given["sudo_user"] or "")[:MOST_NAME],
        login_uid if login_uid is not None and 0 <= login_uid < NOBODY_UID else None,
        (given["command"] or "")[:MOST_NAME],
        given["connection"] or "",
    )


def read_filters(texts: list[str], names: Names) -> tuple[Filter, ...]:
    """The filters with the addresses of their DNS names; raises ``InvalidInput``."""
    return tuple(with_addresses(parse_filter(text), names) for text in texts)


def read_dynamic(
    wanted: dict[str, Any], filters: tuple[Filter, ...], now: float, created: float, by: str
) -> DynamicRule:
    """The dynamic rule that the type ``WantedRule`` describes; its `filters` have been read.

    `now` is of the monotonic clock, and `created` in seconds since the epoch. Raises
    ``InvalidInput``.
    """
    return DynamicRule(
        wanted["name"],
        filters,
        read_action(wanted["action"]),
        parse_conditions(wanted.get("interface") or None, wanted.get("when")),
        read_deadline(wanted["ttl_s"], now),
        created,
        by,
        created if dns_names_in(filters) else 0.0,
    )


def read_all_filters(
    texts: list[str] | None, document: bytes | None, source: str
) -> tuple[Filter, ...]:
    """The filters of a call, as texts or as the lines of a `document`, without addresses of names.

    Raises ``InvalidInput``, with the line in `source` for those of a document.
    """
    if (texts is None) == (document is None):
        raise InvalidInput(
            "the filters of a call come in it or as the content of a file", "give one of both"
        )
    if document is not None:
        filters = tuple(parse_filter_list(document, source))
    else:
        filters = tuple(map(parse_filter, texts or ()))
    if not filters:
        raise InvalidInput(f"there is no filter in {quote(source)}", "give one at least")
    return filters


def read_moment(until: float, now: float, monotonic_now: float) -> float:
    """The moment `until` on the clock of `monotonic_now`; raises ``InvalidInput`` if it is past.

    `until` and `now` are in seconds since the epoch.
    """
    if until <= now:
        raise InvalidInput(
            f"the end is {now - until:.0f} s in the past", "name a moment that is to come"
        )
    return read_deadline(until - now, monotonic_now)


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


def with_lists(texts: Iterable[str]) -> Iterator[Filter]:
    """Those of the filters that name lists; what is no filter is left out."""
    for text in texts:
        if "@" in text:
            with suppress(IpsecdError):
                yield parse_filter(text)
