"""The table of links in the documentation is whole: no kind is missing, no cell is empty."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from tests.links import results
from tests.links.kinds import ROWS
from tests.links.results import HELD, NOT_HELD, NOT_POSSIBLE, Cell
from tests.links.table import COLUMNS, PAGE, render, rows

KERNELS = {"6.1", "6.12", "6.18"}


def unfinished(page: str) -> list[str]:
    """What a page lacks."""
    said = []
    tried = {(kernel, link): cells for kernel, (link, *cells) in rows(page)}
    for kernel, title in product(sorted(KERNELS), ROWS):
        cells = tried.get((kernel, title), [])
        held = [cell == HELD or cell.startswith(f"{NOT_POSSIBLE}: ") for cell in cells]
        if len(cells) != len(COLUMNS) or not all(held):
            said.append(f"Linux {kernel}, {title}: {cells}")
    return said


def whole() -> list[Cell]:
    return [
        Cell(title, kernel, *column, HELD)
        for title, kernel, column in product(ROWS, sorted(KERNELS), COLUMNS)
    ]


def test_every_kind_of_link_has_its_row_and_every_cell_its_result() -> None:
    """The page says of each kind, kernel, backend and direction that it held, or why not."""
    assert unfinished(PAGE.read_text()) == []


def test_a_page_that_lacks_something_is_noticed() -> None:
    """A row, a cell, a reason: each can be missed; what was not held is no result to publish."""
    cells = whole()
    assert unfinished(render(cells)) == []
    lost = [cell for cell in cells if cell.link != ROWS[3]]
    assert len(unfinished(render(lost))) == len(KERNELS)
    assert len(unfinished(render(cells[1:]))) == 1
    for outcome, why in ((NOT_HELD, "a | b"), (NOT_POSSIBLE, "")):
        first = cells[0]
        bad = Cell(first.link, first.kernel, first.backend, first.direction, outcome, why)
        assert len(unfinished(render([bad, *cells[1:]]))) == 1
    assert unfinished(render(cells[: len(cells) // 3])) != []


def test_the_last_result_of_a_cell_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again replaces what was there, and reads back as it was written."""
    monkeypatch.setenv(results.VARIABLE, str(tmp_path / "results"))
    cells = [
        Cell("veth", "6.1", "xdp", "in", NOT_HELD, "5 of 5"),
        Cell("veth", "6.1", "xdp", "in", HELD),
    ]
    results.write(cells[:1])
    assert results.read(tmp_path / "results") == cells[:1]
    results.write(cells[1:])
    assert results.read(tmp_path / "results") == cells[1:]
