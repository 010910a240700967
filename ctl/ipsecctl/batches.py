"""Owns reading filters from arguments, files and standard input, and handing many to the daemon.

An argument ``-`` is standard input, and one that begins with ``@`` and has neither ``=`` nor ``+``
is a file: a filter has one of these signs, also one that begins with a list, as ``@drop=0``.
"""

from __future__ import annotations

import os

from ipsecctl.plain import plain_filter, plain_filters
from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MOST_IN_A_CALL = 1000
"""How many filters are sent within a call. More are handed over as a file, which has no limit that
a list of bans would meet; a call may have a megabyte."""


def canonical_filter(text: str) -> str:
    """The filter that `text`, perhaps a short form, stands for; raises ``InvalidInput``."""
    if plain := plain_filter(text):
        return plain
    from ipsecd.language.filters import format_filter, parse_short

    return format_filter(parse_short(text))


def filters_in(arguments: Sequence[str]) -> list[str]:
    """The filters that `arguments` name, in their canonical form; raises ``IpsecdError``."""
    return [*dict.fromkeys(plain_filters(arguments) or _all_filters(arguments))]


def _all_filters(arguments: Sequence[str]) -> Iterator[str]:
    typed: list[str] = []
    for argument in arguments:
        path = _path(argument)
        if path is None:
            typed.append(argument)
            continue
        yield from _canonical(typed)
        typed = []
        yield from _filters_of_file(path)
    yield from _canonical(typed)


def _canonical(arguments: list[str]) -> Iterable[str]:
    from ipsecd.language.filters import join_arguments

    return map(canonical_filter, join_arguments(arguments))


def _path(argument: str) -> str | None:
    """The path of the file that an argument stands for, ``-`` for standard input, else None."""
    if argument == "-":
        return argument
    if not argument.startswith("@") or set(argument) & set("=+"):
        return None
    path = argument[1:]
    if not path:
        raise InvalidInput(
            "'@' names no file", "write @FILE for a file of filters, and - for standard input"
        )
    # Elsewhere a path of this name means standard input.
    return "./-" if path == "-" else path


def _filters_of_file(path: str) -> Iterator[str]:
    from ipsecctl.files import read_bytes
    from ipsecd.language.filter_lists import parse_filter_list
    from ipsecd.language.filters import format_filter

    source = "<stdin>" if path == "-" else path
    filters = [format_filter(member) for member in parse_filter_list(read_bytes(path), source)]
    if not filters:
        raise InvalidInput(
            f"{'standard input' if path == '-' else quote(path)} has no filter in it",
            "nothing has changed; it has a filter or an address on each line",
        )
    yield from filters


def descriptor_of(filters: Iterable[str]) -> int:
    """An open file with a filter on each line, which the caller closes."""
    descriptor = os.memfd_create("filters")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.writelines(f"{text}\n".encode() for text in filters)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
