"""Owns which names are surely none of hosts, but of interfaces or files."""

from __future__ import annotations

import re

from ipsecd.quoting import quote

_INTERFACE = re.compile(
    r"lo|(?:eth|ens|eno|enp|wlan|wlp|br|docker|veth|virbr|tun|tap|wg|bond|ppp|team)[0-9][a-z0-9]*"
)
_FILE = re.compile(r"[^=+]+\.(?:txt|list|lst|csv|netset|ipset|json|ya?ml|conf)", re.IGNORECASE)


def of_an_interface(name: str) -> tuple[str, str] | None:
    """What to say of a name that Linux gives to interfaces, and what to do; None if it is none."""
    if not _INTERFACE.fullmatch(name):
        return None
    return (
        f"{quote(name)} is an interface, and no address",
        f"write --interface {name} behind a filter, or interface: {name} in a rule of a document",
    )


def of_a_file(name: str) -> tuple[str, str] | None:
    """The same of a name that ends as those of files do, and as no DNS name."""
    if not _FILE.fullmatch(name):
        return None
    return (
        f"{quote(name)} looks like the name of a file",
        (
            f"write @{name} for the filters in it, or make a list of it: "
            f"ipsecctl list create NAME --from {name}"
        ),
    )
