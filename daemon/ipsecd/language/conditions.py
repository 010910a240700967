"""Owns the text of what rules ask of packets besides their filters; must not know documents."""

from __future__ import annotations

from ipsecd.errors import InvalidInput
from ipsecd.model.kinds import OPENING, Conditions, InterfaceType, LinkName
from ipsecd.quoting import quote


def parse_conditions(interface: str | None, when: str | None) -> Conditions:
    """The conditions on the link and on the connection; None asks nothing.

    Raises ``InvalidInput``.
    """
    return Conditions(
        None if interface is None else parse_interface(interface),
        when is not None and parse_when(when),
    )


def parse_interface(text: str) -> InterfaceType | LinkName:
    """The type of links that `text` names, in any letter case, or else their name.

    Raises ``InvalidInput``.
    """
    try:
        return InterfaceType(text.lower())
    except ValueError:
        return LinkName(text)


def parse_when(text: str) -> bool:
    """Whether only packets that open a connection are meant; raises ``InvalidInput``."""
    if text.lower() != OPENING:
        raise InvalidInput(
            f"{quote(text)} does not say when a rule applies",
            f"write {OPENING}, or leave it out for a rule that applies to every packet",
        )
    return True
