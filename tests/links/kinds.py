"""Every kind of link that is tried, and the rows that they have in the table."""

from tests.links import esp, ethernet, tunnels
from tests.links.results import BEFORE

KINDS = (*ethernet.KINDS, *tunnels.KINDS, *esp.KINDS)
ROWS = tuple(
    title
    for kind in KINDS
    for title in (kind.title, *([f"{kind.title}{BEFORE}"] if kind.ordered else []))
)
