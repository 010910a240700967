"""Owns the messages of ICMP that filters can ask for, and their names; must not know any syntax.

They are from IANA's registries of types for ICMP (RFC 792 and later) and ICMPv6 (RFC 4443 and
later). The names are those of the registries with hyphens, in their American spelling. Types that
are deprecated and were never used on the Internet are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipsecd.errors import InvalidInput

MAX_NUMBER = 255

NAMES: dict[str, tuple[int | None, int | None]] = {
    "echo-reply": (0, 129),
    "destination-unreachable": (3, 1),
    "packet-too-big": (None, 2),
    "source-quench": (4, None),
    "redirect": (5, 137),
    "echo-request": (8, 128),
    "router-advertisement": (9, 134),
    "router-solicitation": (10, 133),
    "time-exceeded": (11, 3),
    "parameter-problem": (12, 4),
    "timestamp-request": (13, None),
    "timestamp-reply": (14, None),
    "information-request": (15, None),
    "information-reply": (16, None),
    "address-mask-request": (17, None),
    "address-mask-reply": (18, None),
    "traceroute": (30, None),
    "photuris": (40, None),
    "extended-echo-request": (42, 160),
    "extended-echo-reply": (43, 161),
    "multicast-listener-query": (None, 130),
    "multicast-listener-report": (None, 131),
    "multicast-listener-done": (None, 132),
    "neighbor-solicitation": (None, 135),
    "neighbor-advertisement": (None, 136),
    "router-renumbering": (None, 138),
    "node-information-query": (None, 139),
    "node-information-response": (None, 140),
    "inverse-neighbor-discovery-solicitation": (None, 141),
    "inverse-neighbor-discovery-advertisement": (None, 142),
    "version-2-multicast-listener-report": (None, 143),
    "home-agent-address-discovery-request": (None, 144),
    "home-agent-address-discovery-reply": (None, 145),
    "mobile-prefix-solicitation": (None, 146),
    "mobile-prefix-advertisement": (None, 147),
    "certification-path-solicitation": (None, 148),
    "certification-path-advertisement": (None, 149),
    "multicast-router-advertisement": (None, 151),
    "multicast-router-solicitation": (None, 152),
    "multicast-router-termination": (None, 153),
    "fmipv6": (None, 154),
    "rpl-control": (None, 155),
    "duplicate-address-request": (None, 157),
    "duplicate-address-confirmation": (None, 158),
    "mpl-control": (None, 159),
}
"""The type of each name in IPv4 and in IPv6; None where there is no such message."""

_NAMED = frozenset(NAMES.values())


@dataclass(frozen=True, slots=True)
class IcmpMessage:
    """A type of ICMP in each IP version (None: it has no such message), and a code (None: any).

    If both versions have it, either the numbers are equal or one name stands for both.
    """

    ipv4: int | None
    ipv6: int | None
    code: int | None = None

    def __post_init__(self) -> None:
        for word, number in (("type", self.ipv4), ("type", self.ipv6), ("code", self.code)):
            if number is not None and not 0 <= number <= MAX_NUMBER:
                raise InvalidInput(f"ICMP {word} {number} is not between 0 and {MAX_NUMBER}")
        numbers = (self.ipv4, self.ipv6)
        if numbers == (None, None):
            raise InvalidInput("the IP version that the protocol belongs to has no such message")
        if None not in numbers and self.ipv4 != self.ipv6 and numbers not in _NAMED:
            raise InvalidInput(f"no name stands for ICMP type {self.ipv4} and ICMPv6 {self.ipv6}")

    def number(self, version: int) -> int | None:
        """The type in IP version 4 or 6."""
        return self.ipv4 if version == 4 else self.ipv6

    def common(self, other: IcmpMessage) -> IcmpMessage | None:
        """The messages that `self` and `other` both match; None if there are none."""
        if None not in (self.code, other.code) and self.code != other.code:
            return None
        ipv4 = self.ipv4 if self.ipv4 == other.ipv4 else None
        ipv6 = self.ipv6 if self.ipv6 == other.ipv6 else None
        if ipv4 is None and ipv6 is None:
            return None
        return IcmpMessage(ipv4, ipv6, other.code if self.code is None else self.code)

    def within(self, versions: frozenset[int]) -> IcmpMessage:
        """The same message in some IP versions only; raises ``InvalidInput`` if none has it.

        For both versions, a message that only one of them has needs a name: no text could say it.
        """
        numbers = (self.ipv4 if 4 in versions else None, self.ipv6 if 6 in versions else None)
        if len(versions) > 1 and None in numbers and numbers not in _NAMED:
            raise InvalidInput(
                "only one IP version has this type, and no name stands for it",
                "give 1 or 58 as the protocol, for ICMP of IPv4 or of IPv6",
            )
        return IcmpMessage(*numbers, self.code)
