"""Owns the two words that packets, expectations and rules share: action, and type of interface."""

from __future__ import annotations

from enum import Enum


class Action(Enum):
    """What a filter does with a packet: drop it silently, or let it through."""

    BLOCK = "block"
    PERMIT = "permit"


class InterfaceType(Enum):
    """The kind of link a rule is limited to: ``dialup`` is point-to-point (PPP, WWAN)."""

    LAN = "lan"
    DIALUP = "dialup"
