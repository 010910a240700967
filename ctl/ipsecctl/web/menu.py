"""Owns which pages there are, and the order in which people find them."""

from __future__ import annotations

from ipsecctl.web.pages import (
    containers,
    counts,
    drops,
    explain,
    fleet,
    history,
    lists,
    overview,
    policies,
    rules,
)
from ipsecctl.web.pages.page import Page

MENU: tuple[Page, ...] = (
    overview.PAGE,
    rules.PAGE,
    rules.DYNAMIC,
    policies.PAGE,
    drops.PAGE,
    explain.PAGE,
    counts.PAGE,
    lists.PAGE,
    containers.PAGE,
    history.PAGE,
    fleet.PAGE,
)
PAGES: dict[str, Page] = {page.path: page for page in (*MENU, policies.ONE, lists.ONE)}
TITLES = {"explain": "Why?", "counts": "Counts", "dynamic": "Dynamic", "drops": "Live drops"}
"""What pages are called in the menu, if that is shorter."""


def links() -> list[tuple[str, str]]:
    """The path of each page in the menu, and what it is called there."""
    return [(page.path, TITLES.get(page.path, page.title)) for page in MENU]
