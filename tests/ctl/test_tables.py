"""Tables are as wide as the terminal at most, cut no word apart, and are whole in a pipe."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipsecctl.tables import GAP, laid_out

HEADER = ("ACTION", "FILTER", "LINKS", "RULE")
ROWS = [
    ("block", "*=0", "all", "Nothing gets in unasked"),
    ("permit", "*=0:22:TCP", "all", "ssh gets in"),
]
words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12)
cells = st.lists(words, max_size=6).map(" ".join)
tables = st.integers(1, 5).flatmap(
    lambda n: st.tuples(
        st.tuples(*[words] * n), st.lists(st.tuples(*[cells] * n), min_size=1, max_size=5)
    )
)


def text_of(columns: int | None) -> list[str]:
    return [GAP.join(line).rstrip() for line in laid_out(HEADER, ROWS, columns)]


def test_a_pipe_gets_a_line_for_each_row() -> None:
    assert text_of(None) == [
        "ACTION  FILTER      LINKS  RULE",
        "block   *=0         all    Nothing gets in unasked",
        "permit  *=0:22:TCP  all    ssh gets in",
    ]


def test_a_terminal_gets_what_fits() -> None:
    """Links say nothing here; the rule has the room that is left."""
    assert text_of(32) == [
        "ACTION  FILTER      RULE",
        "block   *=0         Nothing gets",
        "                    in unasked",
        "permit  *=0:22:TCP  ssh gets in",
    ]


@given(tables, st.integers(10, 100))
def test_it_fits_and_no_word_is_cut(
    table: tuple[tuple[str, ...], list[tuple[str, ...]]], columns: int
) -> None:
    header, rows = table
    lines = [*laid_out(header, rows, columns)]
    least = sum(max(len(w) for cell in column for w in [*cell.split(), ""])
                for column in zip(header, *rows, strict=True))  # fmt: skip
    least += len(GAP) * (len(header) - 1)
    assert all(len(GAP.join(line)) <= max(columns, least) for line in lines)
    told = sorted(word for line in lines for cell in line for word in cell.split())
    assert told == sorted(word for row in [header, *rows] for cell in row for word in cell.split())
