"""Owns the names of IP protocols; must not know what text they are part of."""

from __future__ import annotations

from difflib import get_close_matches

from ipsecd.errors import InvalidInput
from ipsecd.language.quoting import is_number
from ipsecd.model.values import ICMP, IcmpOfFamily
from ipsecd.quoting import quote

MAX_PROTOCOL = 255

_NAMES: dict[int, tuple[str, ...]] = {
    0: ("HOPOPT",),
    2: ("IGMP",),
    3: ("GGP",),
    4: ("IPIP", "IPENCAP", "IP-ENCAP", "IPv4"),
    5: ("ST",),
    6: ("TCP",),
    7: ("CBT",),
    8: ("EGP",),
    9: ("IGP",),
    12: ("PUP",),
    17: ("UDP",),
    20: ("HMP",),
    22: ("XNS-IDP",),
    27: ("RDP",),
    28: ("IRTP",),
    29: ("ISO-TP4",),
    33: ("DCCP",),
    36: ("XTP",),
    37: ("DDP",),
    38: ("IDPR-CMTP",),
    41: ("IPv6",),
    42: ("SDRP",),
    43: ("IPv6-Route",),
    44: ("IPv6-Frag",),
    45: ("IDRP",),
    46: ("RSVP",),
    47: ("GRE",),
    48: ("DSR",),
    50: ("ESP",),
    51: ("AH",),
    54: ("NARP",),
    57: ("SKIP",),
    58: ("ICMPv6", "IPv6-ICMP", "ICMP6"),
    59: ("IPv6-NoNxt",),
    60: ("IPv6-Opts",),
    73: ("RSPF", "CPHB"),
    81: ("VMTP",),
    88: ("EIGRP",),
    89: ("OSPF", "OSPFIGP"),
    93: ("AX.25",),
    97: ("EtherIP",),
    98: ("ENCAP",),
    103: ("PIM",),
    108: ("IPComp",),
    112: ("VRRP", "CARP"),
    113: ("PGM",),
    115: ("L2TP",),
    124: ("ISIS",),
    132: ("SCTP",),
    133: ("FC",),
    135: ("Mobility-Header",),
    136: ("UDPLite", "UDP-Lite"),
    137: ("MPLS-in-IP",),
    138: ("MANET",),
    139: ("HIP",),
    140: ("Shim6",),
    141: ("WESP",),
    142: ("ROHC",),
    143: ("Ethernet",),
    255: ("RAW", "Reserved"),
}
"""The canonical name of each number, then other names that are understood.

They are IANA's protocol numbers, with two exceptions: IPIP is 4, as in ``IPPROTO_IPIP`` of
linux/in.h and in common use (IANA gives the name to 94, a protocol without users), and RAW is 255,
as in ``IPPROTO_RAW``. Number 1 has no name here: ``ICMP`` is the protocol of either IP version.
"""

_BY_NAME: dict[str, int | IcmpOfFamily] = {
    name.casefold(): number for number, names in _NAMES.items() for name in names
}
_BY_NAME["icmp"] = ICMP
_SPELLING = {name.casefold(): name for names in _NAMES.values() for name in names} | {
    "icmp": "ICMP"
}
_USUAL = ("tcp", "udp", "icmp", "icmpv6", "sctp", "gre", "esp")
"""What nearly everybody means who mistypes a protocol."""
_WORDS_FOR_ANY = frozenset({"any", "all", "ip"})


def parse_protocol(text: str) -> int | IcmpOfFamily:
    """The protocol that `text` names, by number or by name in any letter case.

    Raises ``InvalidInput`` for a number above 255 and for a name that is not known.
    """
    if is_number(text):
        number = int(text) if len(text) <= 3 else MAX_PROTOCOL + 1
        if number > MAX_PROTOCOL:
            raise InvalidInput(
                f"protocol {quote(text)} is not between 0 and {MAX_PROTOCOL}",
                "a port stands before the protocol, as in *=0:1434:UDP",
                source=text,
                position=0,
            )
        return number
    name = text.casefold()
    protocol = _BY_NAME.get(name)
    if protocol is not None:
        return protocol
    if name in _WORDS_FOR_ANY:
        hint = "leave the protocol out, or write *, for any protocol"
    elif close := _like(name):
        hint = f"did you mean {_SPELLING[close]}?"
    else:
        hint = "use TCP, UDP, ICMP, SCTP or another IANA name, or the protocol's number"
    raise InvalidInput(f"{quote(text)} is not a known protocol", hint, source=text, position=0)


def _like(name: str) -> str:
    """The name that was most likely meant; empty if none is like it."""
    for usual in _USUAL:
        if sorted(usual) == sorted(name):
            return usual
    usual_or_any = get_close_matches(name, _USUAL, 1) or get_close_matches(name, _BY_NAME, 1)
    return usual_or_any[0] if usual_or_any else ""


def is_protocol_name(text: str) -> bool:
    """Whether `text` names a protocol, not counting numbers."""
    return text.casefold() in _BY_NAME


def format_protocol(protocol: int | IcmpOfFamily) -> str:
    """The canonical text of `protocol`: its name if it has one here, else its number."""
    if isinstance(protocol, IcmpOfFamily):
        return protocol.value
    names = _NAMES.get(protocol)
    return names[0] if names else str(protocol)
