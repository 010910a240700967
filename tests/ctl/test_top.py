"""Tests of what ``top`` is made of: rates, keys, the view and its lines. No terminal is needed."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ipsecctl.top.feed import Known
from ipsecctl.top.keys import Keys
from ipsecctl.top.layout import frame, frame_of_lines, page_of
from ipsecctl.top.rates import MOST_SOURCES, WINDOW_S, RuleRate, RuleRates, Sight, SourceRates
from ipsecctl.top.view import COLUMNS, RULES, SOURCES, Order, View, amount, pressed, rate, rows_of
from tests.ctl.watched_daemon import counted, seen

TEXT = st.text(st.characters(exclude_categories=()))


def rule(name: str, packets: int = 0, rate: float | None = 0.0, policy: str = "Web") -> RuleRate:
    return RuleRate("static", policy, name, "block", packets, packets * 40, rate)


def monitored(*packets: dict[str, Any], blocked: int, lost: int = 0) -> dict[str, Any]:
    return {"packets": list(packets), "blocked": blocked, "lost": lost}


def test_a_rate_is_what_was_counted_by_the_time() -> None:
    """A new rule has no rate yet, and one that counts anew has what it counted since."""
    rates = RuleRates()
    assert [row.rate for row in rates.take([counted("A", 100)], 10.0)] == [None]
    rows = rates.take([counted("A", 150), counted("B", 7)], 12.0)
    assert [(row.rule, row.rate) for row in rows] == [("A", 25.0), ("B", None)]
    rows = rates.take([counted("A", 40), counted("B", 7)], 16.0)
    assert [(row.rule, row.rate) for row in rows] == [("A", 10.0), ("B", 0.0)]
    # A rule of that name in another store, and in another policy, is another rule.
    rows = rates.take([counted("A", 9, store="dynamic"), counted("A", 9, policy="Old")], 17.0)
    assert [row.rate for row in rows] == [None, None]


def test_reports_stand_for_those_that_were_lost() -> None:
    """A source that sent half of what was reported sent half of what was dropped."""
    rates = SourceRates()
    rates.begin(0.0)
    some = [seen("192.0.2.1")] * 6 + [seen("192.0.2.2")] * 4
    rates.take(monitored(*some, blocked=1000, lost=990), 1.0)
    rates.take(monitored(*some, blocked=3000, lost=2980), 2.0)
    rows = {row.source: row for row in rates.rates(2.0)}
    assert {source: row.rate for source, row in rows.items()} == pytest.approx(
        {"192.0.2.1": 3000 * 0.6 / 2, "192.0.2.2": 3000 * 0.4 / 2}
    )
    assert rows["192.0.2.1"].packets == pytest.approx(1800)
    # What was long ago is no rate of now, and is still known.
    rows = {row.source: row for row in rates.rates(2.0 + WINDOW_S)}
    assert [row.rate for row in rows.values()] == [0.0, 0.0]
    assert rows["192.0.2.2"].packets == pytest.approx(1200)


def test_numbers_that_begin_anew_are_no_packets() -> None:
    """After the daemon was started again its numbers begin at 0."""
    rates = SourceRates()
    rates.begin(0.0)
    rates.take(monitored(seen("192.0.2.1"), blocked=1000, lost=999), 1.0)
    rates.begin(60.0)
    rates.take(monitored(seen("192.0.2.1"), blocked=2, lost=1), 61.0)
    (row,) = rates.rates(61.0)
    assert (row.rate, row.packets) == (2.0, 1002.0)


def test_packets_that_are_counted_later_are_counted() -> None:
    """A report that comes before the number it is part of is one packet, and never none."""
    rates = SourceRates()
    rates.begin(0.0)
    rates.take(monitored(seen("192.0.2.1"), seen("192.0.2.1"), blocked=0), 1.0)
    (row,) = rates.rates(1.0)
    assert (row.rate, row.packets) == (2.0, 2.0)


def test_a_flood_of_sources_takes_no_more_memory() -> None:
    """Those that were seen last are kept, and the last packet of a rule is known."""
    rates = SourceRates()
    rates.begin(0.0)
    for n in range(0, MOST_SOURCES + 500, 100):
        some = [seen(f"10.0.{m >> 8}.{m & 255}", rule=f"R{m}") for m in range(n, n + 100)]
        rates.take(monitored(*some, blocked=n + 100), 1.0)
    rows = rates.rates(1.0)
    assert len(rows) == MOST_SOURCES
    assert rows[-1].source == f"10.0.{(MOST_SOURCES + 499) >> 8}.{(MOST_SOURCES + 499) & 255}"
    assert rates.last_of_rule(("static", "Web", "R0")) is None
    last = rates.last_of_rule(("static", "Web", "R10000"))
    assert last is not None
    assert last.packet == seen("10.0.39.16")["packet"]


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q", ["q"]),
        (b"\x1b[A\x1b[B\x1bOA\x1b[5~\x1b[6~\x1b[H\x1b[F", ["up", "down", "up", "page up",
         "page down", "home", "end"]),
        (b"\r\n\t\x7f\b", ["enter", "enter", "tab", "backspace", "backspace"]),
        ("ä語".encode(), ["ä", "語"]),
        (b"\x1b[200~x\x1b[?1;2c\x1b[<0;1;1M", ["x"]),
        (b"\x1bx", ["escape", "x"]),
        (b"\x00\x01\xff", ["\ufffd"]),
    ],
)  # fmt: skip
def test_keys(data: bytes, keys: list[str]) -> None:
    """Keys have names, signs are themselves, and whatever else a terminal says is nothing."""
    assert Keys().typed(data) == keys
    # Byte by byte it is the same.
    typed = Keys()
    assert [key for at in range(len(data)) for key in typed.typed(data[at : at + 1])] == keys


def test_escape_alone() -> None:
    """The key that sends the beginning of sequences is known once nothing follows."""
    keys = Keys()
    assert (keys.typed(b"\x1b"), keys.waits()) == ([], True)
    assert (keys.no_more(), keys.waits()) == (["escape"], False)
    assert keys.no_more() == []


@given(st.binary())
def test_any_bytes_are_keys(data: bytes) -> None:
    """Nothing that a terminal sends is an error, and nothing of it drives one."""
    keys = Keys()
    typed = [*keys.typed(data), *keys.no_more()]
    assert all(key.isprintable() for key in typed)
    assert not keys.waits()


def after(view: View, *keys: str, rows: tuple[RuleRate, ...] = ()) -> View:
    for key in keys:
        view = pressed(view, key, rows_of(view, rows), page=10)
    return view


ROWS = (rule("b", 10, 1.0), rule("a", 30, 0.5, policy="Mail"), rule("C", 20, None))


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("", "baC"), ("1", "Cab"), ("2", "aCb"), ("22", "bCa"), ("6", "Cab"), ("66", "baC"),
        ("5", "aCb"), ("9", "baC"), ("0", "baC"), ("²", "baC"),
    ],
)  # fmt: skip
def test_every_column_sorts(keys: str, shown: str) -> None:
    """Numbers from the greatest, text from the first; the same key again turns it round."""
    assert "".join(row.key[2] for row in rows_of(after(View(), *keys), ROWS)) == shown


@pytest.mark.parametrize("table", [RULES, SOURCES])
def test_every_column_has_a_key(table: str) -> None:
    """Whatever is shown can be sorted by."""
    for number in range(1, len(COLUMNS[table]) + 1):
        order = after(View(table=table), str(number)).orders[table]
        assert order == Order(number - 1, backwards=number == 1)


def test_search() -> None:
    """What is typed narrows the rows, whatever its case; other keys are letters then."""
    view = after(View(), "/", *"mail", rows=ROWS)
    assert (view.search, view.typing) == ("mail", True)
    assert [row.key[2] for row in rows_of(view, ROWS)] == ["a"]
    assert not after(view, "q").ended
    assert after(view, "backspace", "enter").search == "mai"
    assert after(view, "enter", "escape").search == ""
    assert len(after(view, *"x" * 1000).search) == 100


def test_moving() -> None:
    """The chosen row stays chosen where it goes, and nothing leads out of the table."""
    assert after(View(), "down", rows=ROWS).chosen == ROWS[1].key
    view = after(View(), "down", "1", rows=ROWS)
    assert rows_of(view, ROWS)[1].key == view.chosen
    for keys, row in [("up", 0), ("end", 2), ("page down", 2), ("home", 0), ("page up", 0)]:
        assert after(View(), "down", keys, rows=ROWS).chosen == ROWS[[0, 1, 2][row]].key
    assert after(View(), "down", "enter").explaining is None


def test_explaining_and_ending() -> None:
    """Enter explains the chosen row and leads back, and q ends from both."""
    view = after(View(), "enter", rows=ROWS)
    assert view.explaining == ROWS[0]
    assert after(view, "enter").explaining is None
    assert after(view, "escape").explaining is None
    assert after(view, "down", " ", "/") == view
    assert after(view, "q").ended
    assert after(View(), "q").ended
    assert after(View(), " ").paused
    assert after(View(), "tab").table == SOURCES
    assert after(View(), "tab", "tab").table == RULES
    assert after(View(), "s").table == SOURCES


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (0.44, "0.4"), (9.96, "10"), (1234.4, "1,234"), (9_999_999.0, "9,999,999"),
     (12_345_678_901.0, "12.3 G"), (5e13, "50.0 T"), (2.0**64, "1.84e+19")],
)  # fmt: skip
def test_amounts(number: float, text: str) -> None:
    """A number is short, and never cut."""
    assert rate(number) == text
    assert len(amount(number)) <= 14


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5), TEXT, st.integers(1, 120), st.integers(1, 40))
def test_a_frame_fits(names: list[tuple[str, str]], note: str, columns: int, lines: int) -> None:
    """Whatever rules are called, there are as many lines as the terminal has, and none is wider."""
    rows = [rule(name, n, policy=policy) for n, (name, policy) in enumerate(names)]
    known = Known(rules=tuple(rows), problem=note)
    for view in (View(), View(table=SOURCES), View(search=note, typing=True)):
        shown = frame(view, known, rows, columns, lines)
        assert len(shown) == lines
        assert all(cell_len(line) <= columns for line in shown)
        assert all(line.isprintable() for line in shown)
    shown = frame_of_lines(note, [note, *(name for name, _ in names)], note, columns, lines)
    assert len(shown) == lines
    assert all(cell_len(line) <= columns and line.isprintable() for line in shown)


def test_markup_is_text() -> None:
    """What Rich would take for a colour, a link or a picture is what somebody wrote."""
    name = "[red]x[/red] :boom: https://example.com"
    shown = frame(View(), Known(rules=(rule(name),)), [rule(name)], 160, 10)
    assert name in shown[3]


def test_the_chosen_row_is_on_the_page() -> None:
    """However far down it is, and the last page is full."""
    rows = [rule(f"R{n:05}", rate=float(-n)) for n in range(100)]
    known = Known(rules=tuple(rows))
    for place in (0, 7, 50, 95, 99):
        view = View(chosen=rows[place].key)
        shown = frame(view, known, rows, 80, 24)
        (marked,) = [line for line in shown if line.startswith(">")]
        assert rows[place].rule in marked
        assert sum("R000" in line for line in shown) == page_of(24)


def test_ten_thousand_rules_are_quick() -> None:
    """A key is answered within what a person takes for at once; it sorts, and lays out one page."""
    rows = tuple(rule(f"Rule {n:05}", n, float(n % 97), policy=f"P{n % 7}") for n in range(10_000))
    known = Known(rules=rows)
    frame(View(), known, rows_of(View(), rows), 200, 50)
    took = []
    for _ in range(5):
        began = time.process_time()
        view = View(search="rule", orders={RULES: Order(4), SOURCES: Order()})
        frame(view, known, rows_of(view, rows), 200, 50)
        took.append(time.process_time() - began)
    assert min(took) < 0.2


def test_a_sight_of_an_unknown_rule() -> None:
    """What the daemon could not attribute has a source all the same."""
    rates = SourceRates()
    rates.begin(0.0)
    unknown = dict.fromkeys(("store", "policy", "rule", "filter"))
    rates.take(monitored(seen("192.0.2.1", **unknown), blocked=1), 1.0)
    (row,) = rates.rates(1.0)
    assert row.last == Sight(seen("x")["at"], "block", "", "", "", "", seen("192.0.2.1")["packet"])
    shown = frame(View(table=SOURCES), Known(sources=(row,), blocked=1), [row], 80, 24)
    assert any("192.0.2.1" in line for line in shown)
