"""Owns the DNS names on disk: those in use, with the addresses they had when last looked up.

Losing the file does no harm to what people wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from ipsecd.model.addresses import Family, HostName, Network
from ipsecd.quoting import quote
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.files import Disk
from ipsecd.sources.strict_json import decode, integer, items, members, text

Names = Mapping[str, tuple[Network, ...]]

FORM = Form(
    "names",
    1,
    16 << 20,
    "the names are looked up again by: ipsecctl reload --resolve",
)
_HEXADECIMAL = re.compile(r"[0-9a-f]{1,32}")


class NamesFile:
    """The file of names and their addresses, which is always replaced as a whole."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._file = CheckedFile(state_dir / "names", FORM, disk)

    def check(self, names: Names) -> None:
        """Raise ``LimitExceeded`` if `names` are too many to be read again."""
        self._file.check(names_to_json(names))

    def save(self, names: Names) -> None:
        """Save `names`; raises ``StoreFailed``."""
        self._file.save(names_to_json(names))

    def load(self) -> dict[str, tuple[Network, ...]]:
        """What was saved last; raises ``StoreFailed`` if the file cannot be used."""
        return self._file.load(names_from_json) or {}


def names_to_json(names: Names) -> bytes:
    """The names as JSON, always in the same order."""
    plain = {
        name: [[int(network.family), f"{network.address:x}"] for network in networks]
        for name, networks in sorted(names.items())
    }
    return json.dumps(plain, ensure_ascii=False).encode()


def names_from_json(content: bytes) -> dict[str, tuple[Network, ...]]:
    """The inverse of ``names_to_json``; raises ``ValueError`` or ``InvalidInput``."""
    addresses_by_name = {}
    for name, networks in members(decode(content), "the whole").items():
        hosts = tuple(_host(address, name) for address in items(networks, quote(name)))
        if not hosts:
            raise ValueError(f"{quote(name)} has no addresses")
        HostName(name, hosts)
        addresses_by_name[name] = hosts
    return addresses_by_name


def _host(family_and_address: object, name: str) -> Network:
    number, address = items(family_and_address, f"an address of {quote(name)}", 2)
    family = Family(integer(number, "an IP version", 4, 6))
    digits = text(address, "an address")
    if not _HEXADECIMAL.fullmatch(digits):
        raise ValueError(f"an address of {quote(name)} is not hexadecimal")
    return Network(family, int(digits, 16), family.bits)
