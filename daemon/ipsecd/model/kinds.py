"""Owns what packets, expectations and rules share: actions, types of links, conditions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote

OPENING = "opening"
"""The word of a rule for packets that belong to no connection which the host knows."""
MAX_LINK_NAME = 15
"""Bytes of the name of a link (IFNAMSIZ without the NUL, include/uapi/linux/if.h)."""


class Action(Enum):
    """What a filter does with a packet: drop it silently, let it through, or only count it.

    AUDIT decides nothing: its rule counts what a block in its place would have dropped.
    """

    # The hash of an Enum is a Python function, and every look for a table takes it.
    __hash__ = object.__hash__

    BLOCK = "block"
    PERMIT = "permit"
    AUDIT = "audit"


VERDICTS = (Action.BLOCK, Action.PERMIT)
"""What becomes of a packet in the end."""


class InterfaceType(Enum):
    """The kind of link a rule is limited to: ``dialup`` is point-to-point (PPP, WWAN)."""

    LAN = "lan"
    DIALUP = "dialup"


@dataclass(frozen=True, slots=True)
class LinkName:
    """The name of the link that a rule is limited to, or with ``*`` at its end of several links.

    ``eth1`` is one link; ``wg*`` is every link whose name begins with ``wg``.
    """

    pattern: str

    def __post_init__(self) -> None:
        name = self.pattern.removesuffix("*")
        possible = name.isprintable() and name not in ("", "lo", ".", "..")
        if not possible or len(name.encode()) > MAX_LINK_NAME or any(c in "*/: " for c in name):
            raise InvalidInput(
                f"{quote(self.pattern)} cannot be the name of an interface",
                "write lan, dialup, or a name such as eth1 or wg*; lo is never filtered",
            )
        if self.pattern in {kind.value for kind in InterfaceType}:
            raise InvalidInput(f"{quote(self.pattern)} is a type of interfaces, and not a name")

    @property
    def is_prefix(self) -> bool:
        """Whether it stands for all links whose names begin so."""
        return self.pattern.endswith("*")

    def covers(self, name: str) -> bool:
        """Whether the link called `name` is meant."""
        if self.is_prefix:
            return name.startswith(self.pattern[:-1])
        return name == self.pattern


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a rule asks of packets besides its filters; nothing, unless something is given.

    ``interface`` is the link by which they come in or go out. ``opening`` leaves out packets that
    belong to a connection which the host knows: those that are part of it, or are about it.
    """

    interface: InterfaceType | LinkName | None = None
    opening: bool = False

    def __str__(self) -> str:
        """In words, as in ``on lan, when opening``; "" for no condition."""
        on = f"on {self.interface_text}" if self.interface else ""
        return ", ".join(filter(None, (on, self.when and f"when {self.when}")))

    @property
    def interface_text(self) -> str | None:
        """The type or the name of the link as it is written; None for any link."""
        if isinstance(self.interface, LinkName):
            return self.interface.pattern
        return self.interface.value if self.interface else None

    @property
    def when(self) -> str | None:
        """The word for which packets of a connection are meant; None for all."""
        return OPENING if self.opening else None

    @property
    def interface_type(self) -> InterfaceType | None:
        """The type of the link, if it is given by its type."""
        return self.interface if isinstance(self.interface, InterfaceType) else None

    @property
    def interface_name(self) -> LinkName | None:
        """The name of the link, if it is given by its name."""
        return self.interface if isinstance(self.interface, LinkName) else None


ALWAYS = Conditions()
"""Those of a rule that asks nothing besides its filters."""
