"""Owns reading many lines at once that are as plain as can be; must not know malformed ones.

Lines go from one function of C to the next, with few steps of Python between. What is not exactly
an address or a prefix is left to those who look at each line by itself.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from itertools import repeat

from ipsecd.language.list_entries import MAPPED
from ipsecd.model.addresses import Family
from ipsecd.model.lists import Form

_VERSIONS = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


def entries_of_plain(lines: Sequence[str]) -> Mapping[Form, Sequence[bytes]] | None:
    """The entries in lines that are each an address, or an address with ``/`` and a length, or "".

    None if there is any other line. The entries come in no particular order, and with the bits
    that are written behind the length.
    """
    entries: dict[Form, list[bytes]] = {}
    ipv6, ipv4 = _divided(list(filter(None, lines)), ":")
    try:
        _read(Family.IPV4, ipv4, entries)
        _read(Family.IPV6, ipv6, entries)
    except (OSError, ValueError, KeyError):
        return None
    return entries


def _divided(lines: list[str], mark: str) -> tuple[list[str], list[str]]:
    """The lines that have a mark in them, and those that do not."""
    if mark not in "\n".join(lines):
        return [], lines
    marked = [line for line in lines if mark in line]
    if len(marked) == len(lines):
        return lines, []
    return marked, [line for line in lines if mark not in line]


def _read(family: Family, lines: list[str], entries: dict[Form, list[bytes]]) -> None:
    """Add the entries of one IP version; raises the error of whatever takes a line for none."""
    prefixes, addresses = _divided(lines, "/")
    if addresses:
        entries.setdefault(Form(family, family.bits), []).extend(_packed(family, addresses))
    if prefixes:
        # Each has a mark in it, so if there are two parts for each, each has two.
        parts = "/".join(prefixes).split("/")
        if len(parts) != 2 * len(prefixes):
            raise ValueError("there is a line with two marks")
        put = {
            str(length): entries.setdefault(Form(family, length), []).append
            for length in range(family.bits + 1)
        }
        for length, address in zip(parts[1::2], _packed(family, parts[::2]), strict=True):
            put[length](address)


def _packed(family: Family, addresses: list[str]) -> list[bytes]:
    """The addresses in network byte order; raises ``OSError`` or ``ValueError`` if any is none."""
    packed = list(map(socket.inet_pton, repeat(_VERSIONS[family]), addresses))
    if family is Family.IPV6 and MAPPED in b"".join(packed):
        raise ValueError("there may be an IPv4 address that is written as IPv6")
    return packed
