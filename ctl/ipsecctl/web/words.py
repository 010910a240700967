"""Owns how numbers, times, actions and errors are written on the page; must not know any page."""

from __future__ import annotations

import time

from ipsecctl.presentation import one_line, span
from ipsecctl.web.markup import Content, Markup, join, tag
from ipsecd.errors import IpsecdError
from ipsecd.quoting import first_lines

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def amount(number: float) -> str:
    """``1,234``."""
    return f"{number:,.0f}"


def size(number: float) -> str:
    """A number of bytes by its largest unit: ``1.2 MB``."""
    for unit in _UNITS[:-1]:
        if number < 1000:
            return f"{number:.3g} {unit}" if unit != "B" else f"{number:.0f} B"
        number /= 1000
    return f"{number:,.0f} {_UNITS[-1]}"


def moment(epoch_s: float | None, none: str = "-") -> Content:
    """A time of this host's clock and zone."""
    if epoch_s is None:
        return none
    try:
        local = time.localtime(epoch_s)
        exact = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch_s))
    except (OverflowError, OSError, ValueError):
        return none
    return tag("time", time.strftime("%Y-%m-%d %H:%M:%S", local), datetime=exact)


def ago(epoch_s: float | None, now: float, none: str = "never") -> str:
    """How long ago something was."""
    return none if epoch_s is None else f"{span(max(0.0, now - epoch_s))} ago"


def left(seconds: float | None) -> str:
    """How long something has left."""
    return "for good" if seconds is None else span(seconds)


def action(name: str) -> Markup:
    """An action in its colour, which is not all that tells it."""
    kind = name if name in ("block", "permit", "audit") else "other"
    return tag("span", name, class_=f"action {kind}")


def code(text: str) -> Markup:
    """A filter, a packet or an address, as one types it."""
    return tag("code", text)


def trouble(error: IpsecdError) -> Markup:
    """What went wrong and what to do, in a box."""
    hint = tag("p", error.hint, class_="hint") if error.hint else None
    return tag("div", tag("p", one_line(error.message)), hint, class_="notice bad", role="alert")


def notice(kind: str, title: str, texts: list[str], todo: str = "") -> Markup | None:
    """A box with sentences, the first ten of them; nothing if there are none. `kind`: bad, warn."""
    if not texts:
        return None
    items = [tag("li", one_line(text)) for text in first_lines(texts)]
    hint = tag("p", todo, class_="hint") if todo else None
    return tag("div", tag("h2", title), tag("ul", items), hint, class_=f"notice {kind}")


def facts(*pairs: tuple[str, Content]) -> Markup:
    """Names with what there is to say about each; what is None is left out."""
    return tag(
        "dl",
        [
            tag("div", tag("dt", name), tag("dd", value))
            for name, value in pairs
            if value is not None
        ],
        class_="facts",
    )


def few_codes(texts: list[str], most: int = 4) -> Content:
    """The first of some filters or addresses, and how many more there are."""
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return [join([code(text) for text in texts[:most]], " "), more] if texts else "-"
