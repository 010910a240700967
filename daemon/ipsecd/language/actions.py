"""Owns the words that other firewalls have for what a rule does."""

from __future__ import annotations

_OTHERS = {
    "block": ("deny", "drop", "reject", "ban", "refuse", "discard"),
    "permit": ("accept", "allow", "pass", "return", "let", "open"),
    "audit": ("log", "count", "test"),
}


def word_for(word: str) -> str:
    """The action of ours that another firewall calls `word`; empty if none is known."""
    lower = word.lower()
    return next((action for action, others in _OTHERS.items() if lower in others), "")
