"""Owns how things look in a terminal: columns, colour, times; must not know what they are."""

from __future__ import annotations

from ipsecd import output
from ipsecd.output import complain, say, say_json, say_text
from ipsecd.quoting import few, first_lines, visible

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "bold": 1, "reverse": 7}
_SPANS_S = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def paint(text: str, colour: str) -> str:
    """`text` in `colour`, if standard output is a terminal that shows colours."""
    return output.paint(text, _COLOURS[colour])


def paint_action(action: str) -> str:
    """An action in the colour it always has."""
    return paint(action, {"block": "red", "audit": "yellow"}.get(action, "green"))


def one_line(text: str) -> str:
    """An error with its hint, as the daemon has it, on one line."""
    return "; ".join(line.strip() for line in text.split("\n"))


def span(seconds: float) -> str:
    """A length of time by its two largest units: ``9m 58s``."""
    remaining_s = max(0, round(seconds))
    parts = []
    for size, unit in _SPANS_S:
        if remaining_s >= size:
            parts.append(f"{remaining_s // size}{unit}")
            remaining_s %= size
    return " ".join(parts[:2]) or "0s"


_SHOWN_ADDRESSES = 4


def resolved(entry: dict[str, Any]) -> str:
    """What the DNS names of an entry stand for, to be put behind its filter; empty without any.

    A daemon that is older does not say.
    """
    names = entry.get("names") or []
    texts = []
    for each in names:
        text = few(each["addresses"], _SHOWN_ADDRESSES)
        texts.append(text if len(names) == 1 else f"{each['name']}: {text}")
    return f" [{'; '.join(texts)}]" if texts else ""


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print rows of plain text in columns; a cell that is an action has its colour.

    On a terminal it is no wider than that, if no word has to be cut apart for it. Whoever reads it
    through a pipe gets all columns, and a line for each row.
    """
    from ipsecctl.tables import GAP, laid_out

    lines = laid_out(header, [tuple(map(visible, row)) for row in rows], output.columns())
    say(paint(GAP.join(next(lines)).rstrip(), "bold"))
    for line in lines:
        cells = list(line)
        for n, cell in enumerate(line):
            action = cell.rstrip()
            if action in ("block", "permit", "audit"):
                cells[n] = paint_action(action) + cell[len(action) :]
        say(GAP.join(cells).rstrip())


def outcome_line(outcome: dict[str, Any]) -> str:
    """What a change did, and what is assigned after it, as the daemon says."""
    assigned = outcome.get("assigned")
    now = f"assigned: {assigned!r}" if assigned else "no policy is assigned"
    message = str(outcome["message"]).rstrip(".")
    if message == now or (assigned and message.startswith(f"policy {assigned!r} is assigned")):
        return message
    return f"{message}\n{now}" if "\n" in message else f"{message} · {now}"


def print_outcome(outcome: dict[str, Any], *, as_json: bool) -> None:
    """Print what a change did."""
    if outcome.get("live"):
        from ipsecctl.live import named

        outcome["live"] = named(outcome["live"])
    if as_json:
        say_json(outcome)
    else:
        say_text(outcome_line(outcome))
        # A daemon that is older does not say.
        if outcome.get("verdicts"):
            print_verdicts(outcome["verdicts"])
        if outcome.get("live"):
            print_live(outcome["live"])
        print_warnings(outcome["warnings"])


def print_verdicts(verdicts: dict[str, Any]) -> None:
    """Print which packets are decided differently."""
    from ipsecd.proof.words import lines_of_changes

    say(*lines_of_changes(verdicts))


def print_live(live: dict[str, Any]) -> None:
    """Print which open connections a change would cut."""
    from ipsecctl.live import lines_of_live

    say(*lines_of_live(live))


def print_warnings(warnings: list[str]) -> None:
    """Say on standard error which filters match nothing now; what was asked for is done."""
    complain(*(f"warning: {line}" for line in first_lines(warnings)))
