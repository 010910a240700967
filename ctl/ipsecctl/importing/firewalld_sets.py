"""Owns reading one ipset of firewalld; must not know what uses it."""

from __future__ import annotations

from ipsecctl.importing.firewalld import IpSet
from ipsecctl.importing.firewalld_traffic import network_of, wrong
from ipsecctl.importing.firewalld_xml import Element, read_xml
from ipsecctl.importing.source import InputFile
from ipsecd.model.addresses import Family

_OF_ADDRESSES = frozenset({"hash:ip", "hash:net"})


def read_ipset(name: str, file: InputFile) -> IpSet:
    """The set in a file; raises ``InvalidInput`` with the line of an entry that is none."""
    root = read_xml(file, "ipset", f"ipset {name}")
    line = root.line
    kind = root.get("type")
    if not kind:
        raise wrong(line, "<ipset> has no type", 'write <ipset type="hash:net">')
    options = {one.get("name"): one.get("value") for one in root.children if one.tag == "option"}
    entries = [one for one in root.children if one.tag == "entry"]
    family = Family.IPV6 if options.get("family") == "inet6" else Family.IPV4
    reason = _reason(kind, options, entries)
    if reason:
        return IpSet(name, line, kind, family, reason=reason)
    networks = [(network_of(one.text.strip(), one.line), one.line) for one in entries]
    for network, at in networks:
        if network.family is not family:
            raise wrong(
                at,
                f"an address of IPv{int(network.family)} is in a set for IPv{int(family)}",
                "put it into a set of its own",
            )
    return IpSet(name, line, kind, family, tuple(dict.fromkeys(one for one, _ in networks)))


def _reason(kind: str, options: dict[str, str], entries: list[Element]) -> str:
    """Why the set cannot be a list of addresses; "" if it can."""
    if kind not in _OF_ADDRESSES:
        return f"it is of type {kind}, and a list holds addresses and prefixes alone"
    if options.get("timeout", "0") not in {"", "0"} and not entries:
        return "its entries are added while the host runs, and its file has none"
    return ""
