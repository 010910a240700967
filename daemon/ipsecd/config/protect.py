"""Owns the setting ``protect``: addresses and networks that no dynamic rule may block."""

from __future__ import annotations

from ipsecd.config.reading import SettingsReader
from ipsecd.errors import InvalidInput
from ipsecd.language.addresses import parse_address
from ipsecd.language.yamltree import Node, Scalar, Sequence
from ipsecd.model.addresses import Network
from ipsecd.model.protected import Protected
from ipsecd.quoting import quote


def read_protect(reader: SettingsReader, node: Node | None) -> tuple[Protected, ...]:
    """The entries of the list at `node`, with the lines they stand in; raises ``InvalidInput``."""
    if node is None:
        return ()
    if not isinstance(node, Sequence):
        raise reader.wrong(node, "protect is not a list of addresses", "write [] for none")
    return tuple(_protected(reader, item) for item in node.items)


def _protected(reader: SettingsReader, item: Node) -> Protected:
    if not isinstance(item, Scalar):
        raise reader.wrong(item, "protect holds something that is not an address")
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
            "it has addresses and networks: 192.0.2.7, 192.0.2.0/24, 2001:db8::/32; no names, "
            "since what they stand for changes",
        )
    return Protected(address, text, reader.where(item))
