"""Owns addresses as other firewalls write them; must not know whose they are.

Bits behind a prefix length are cleared, as those firewalls do.
"""

from __future__ import annotations

from ipsecd.language.list_entries import entries_in
from ipsecd.model.addresses import Network


def networks_in(text: str) -> list[Network]:
    """The networks of an address, a network or a range ``FIRST-LAST``.

    A network has a length or, in IPv4, a mask; IPv6 may be in brackets. Raises ``ValueError``,
    whose words go on from the text.
    """
    found = []
    for form, packed in entries_in(text):
        size = form.family.bits - form.length
        value = int.from_bytes(packed, "big") >> size << size
        found.append(Network(form.family, value, form.length))
    return found


def network_in(text: str) -> Network:
    """The one network that a text names; raises ``ValueError`` likewise."""
    if "-" in text:
        raise ValueError("is no address and no prefix")
    return networks_in(text)[0]
