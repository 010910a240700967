"""Owns what the author of a policy expects of it; must not know how that is judged.

An expectation is the same on every host. So ``me`` in its packet is no host's address: it is that
of ``SOME_HOST``, which stands for any, and which nobody has or writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action
from ipsecd.model.packets import Host, Packet
from ipsecd.quoting import quote

MAX_EXPECTATIONS = 1000
"""Of one policy: each is judged by all of its filters whenever it changes."""
MAX_TEXT = 4096
"""Characters of a packet: the longest path of a control group has as many."""
MAX_REASON = 256

SOME_HOST = Host(
    frozenset({(Family.IPV4, 0xF7DB2665), (Family.IPV6, 0xE7DB_2665_41B3_9C08 << 64 | 0x8D11)})
)
"""Its addresses are of the ranges that are reserved (RFC 1112) or not assigned (RFC 4291)."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is to become of a packet; ``packet`` is what ``text`` says, as ``SOME_HOST`` sees it.

    With ``any_source_port`` it is expected of the packet with each source port. ``reason`` is why,
    in the words of the author, "" for none.
    """

    action: Action
    text: str
    packet: Packet = field(compare=False)
    any_source_port: bool = field(default=False, compare=False)
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.text.isprintable() or len(self.text) > MAX_TEXT:
            raise InvalidInput(
                f"{quote(self.text)} cannot stand for a packet",
                f"use at most {MAX_TEXT:,} printable characters",
            )
        if not self.reason.isprintable() or len(self.reason) > MAX_REASON:
            raise InvalidInput(
                f"{quote(self.reason)} cannot be the reason of an expectation",
                f"use at most {MAX_REASON:,} printable characters",
            )


def each_once(expect: Iterable[Expectation]) -> tuple[Expectation, ...]:
    """The expectations of a policy; raises ``InvalidInput`` if they are too many, or disagree."""
    by_packet: dict[str, Expectation] = {}
    for expectation in expect:
        admit(expectation, by_packet)
    return tuple(by_packet.values())


def admit(expectation: Expectation, by_packet: dict[str, Expectation]) -> None:
    """Put `expectation` beside the others, unless its packet is among them already.

    Raises ``InvalidInput`` if they disagree, and for the first that is more than there can be.
    """
    other = by_packet.setdefault(expectation.text, expectation)
    if other.action is not expectation.action:
        raise InvalidInput(
            f"{quote(expectation.text)} is expected to be blocked and to be permitted",
            "keep one of the two expectations",
        )
    if other is expectation and len(by_packet) == MAX_EXPECTATIONS + 1:
        raise InvalidInput(
            f"there are more than {MAX_EXPECTATIONS:,} expectations",
            "keep those that say most",
        )
