"""Owns the setting ``protect``: what nothing but the settings may have blocked.

An entry is an address or network, which no dynamic rule may block, or a filter, which passes.
"""

from __future__ import annotations

from ipsecd.config.reading import SettingsReader
from ipsecd.errors import InvalidInput
from ipsecd.language.addresses import parse_address
from ipsecd.language.filters import parse_short
from ipsecd.language.protocols import is_protocol_name
from ipsecd.language.yamltree import Node, Scalar, Sequence
from ipsecd.model.addresses import Network
from ipsecd.model.protected import Protected
from ipsecd.model.protected_filters import MAX_FILTERS, protected_filter
from ipsecd.model.values import Filter
from ipsecd.quoting import quote


def read_protect(
    reader: SettingsReader, node: Node | None
) -> tuple[tuple[Protected, ...], tuple[Filter, ...]]:
    """The addresses in the list at `node`, with the lines they stand in, and the filters in it.

    Raises ``InvalidInput``.
    """
    if node is None:
        return (), ()
    if not isinstance(node, Sequence):
        raise reader.wrong(
            node, "protect is not a list of addresses and filters", "write [] for none"
        )
    addresses: list[Protected] = []
    filters: dict[Filter, None] = {}
    for item in node.items:
        if not isinstance(item, Scalar):
            raise reader.wrong(item, "protect holds something that is not an address or a filter")
        if _is_filter(item.text):
            filters[_filter(reader, item)] = None
        else:
            addresses.append(_protected(reader, item))
        if len(filters) > MAX_FILTERS:
            raise reader.wrong(
                item,
                f"protect has more than {MAX_FILTERS} filters",
                "put the addresses into a list and name that: @office=0:22:TCP",
            )
    return tuple(addresses), tuple(filters)


def _is_filter(text: str) -> bool:
    """Whether an entry is a filter: two sides, or in short a protocol by its name with ports."""
    protocol, slash, _ = text.strip().partition("/")
    return bool(set(text) & set("=+")) or (bool(slash) and is_protocol_name(protocol))


def _filter(reader: SettingsReader, item: Scalar) -> Filter:
    try:
        return protected_filter(parse_short(item.text))
    except InvalidInput as error:
        raise reader.wrong(item, f"protect: {error.message}", error.hint) from error


def _protected(reader: SettingsReader, item: Scalar) -> Protected:
    text = item.text
    # In a list of addresses nothing else has colons, so IPv6 needs no brackets.
    host, slash, length = text.partition("/")
    written = f"[{host}]{slash}{length}" if ":" in host and "[" not in host else text
    try:
        address = parse_address(written)
    except InvalidInput as error:
        raise reader.wrong(item, f"protect: {error.message}", error.hint) from error
    if not isinstance(address, Network):
        raise reader.wrong(
            item,
            f"protect: {quote(text)} is not an address",
            "it has addresses and networks, 192.0.2.7, 192.0.2.0/24, 2001:db8::/32, without names, "
            "since what these stand for changes; and filters, *=0:22:TCP, @office=0:22:TCP",
        )
    return Protected(address, text, reader.where(item))
