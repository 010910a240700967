"""Makes docs/links.md of the results of runs: ``python -m tests.links.table [DIRECTORY]``.

The directory is the one in which runs leave their results.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.links import results
from tests.links.kinds import ROWS
from tests.links.probes import DIRECTIONS
from tests.links.results import Cell
from tests.netns.site import BACKENDS

PAGE = Path(__file__).parents[2] / "docs/links.md"
INTRODUCTION = """# Links

What came out when every kind of link was tried on each kernel, with each backend. `in` is what
arrives at this host, `out` what it sends. **held** means: of five UDP datagrams and a TCP
connection, over IPv4 and IPv6, none came to a port that was blocked, be it in words of this host or
with addresses, and all came to a port that was not. Links were made while the daemon ran, or
were there before it where the name says so. Without the daemon everything came through.

`python -m tests.links.table` makes this page of what the tests in `tests/links` left in the
directory of `IPSECD_LINK_RESULTS`.
"""
COLUMNS = [(backend, direction) for backend in BACKENDS for direction in DIRECTIONS]


def render(cells: Iterable[Cell]) -> str:
    """The page: a table for each kernel, a row for each kind of link."""
    by_key = {cell.key: cell for cell in cells}
    kernels = sorted(
        {kernel for _, kernel, _, _ in by_key},
        key=lambda text: [int(number) for number in text.split(".")],
    )
    lines = [INTRODUCTION]
    for kernel in kernels:
        lines += [
            f"## Linux {kernel}\n",
            _row("link", *(f"{backend}, {direction}" for backend, direction in COLUMNS)),
            _row(*["---"] * (len(COLUMNS) + 1)),
        ]
        for title in ROWS:
            row = [by_key.get((title, kernel, *column)) for column in COLUMNS]
            lines.append(_row(title, *(str(cell) if cell else "" for cell in row)))
        lines.append("")
    return "\n".join(lines)


def _row(*texts: str) -> str:
    escaped = (text.replace("|", "\\|") for text in texts)
    return f"| {' | '.join(escaped)} |"


def rows(page: str) -> Iterator[tuple[str, list[str]]]:
    """The rows of the tables of a page: the kernel, and the texts of the cells."""
    kernel = ""
    for line in page.splitlines():
        if line.startswith("## Linux "):
            kernel = line.removeprefix("## Linux ")
        elif line.startswith("| ") and not line.startswith(("| link |", "| --- |")):
            cells = line.replace("\\|", "\0").strip("| ").split(" | ")
            yield kernel, [cell.replace("\0", "|") for cell in cells]


def main() -> None:
    directory = sys.argv[1] if len(sys.argv) > 1 else os.environ[results.VARIABLE]
    PAGE.write_text(render(results.read(Path(directory))))


if __name__ == "__main__":
    main()
