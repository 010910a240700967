"""Owns the synopses in the manual page; must not know what else is in it."""

from __future__ import annotations

import re

from ipsecctl.usage import synopses
from ipsecctl.verbs import VERBS

BEGIN = '.\\" What follows is written by make generated.\n'
END = '.\\" What follows is written by hand.\n'
_TOKEN = re.compile(r"(?P<value>\b[A-Z][A-Z]+\b)|(?P<word>-{0,2}[a-z][a-z:-]*)|.")


def with_synopses(page: str) -> str:
    """The manual page with the synopses of all verbs as they are now."""
    before, begin, following = page.partition(BEGIN)
    _, end, after = following.partition(END)
    lines = [line for verb in VERBS.values() for line in synopses(verb)]
    text = "\n.br\n".join(map(roff, lines))
    return f"{before}{begin}.ad l\n{text}\n.ad\n{end}{after}"


def roff(text: str) -> str:
    """A synopsis in roff: what is typed is bold, what stands for something is italic."""
    return re.sub(r"\\fR\\f", r"\\f", _TOKEN.sub(_roff, text))


def _roff(match: re.Match[str]) -> str:
    text = match.group().replace("…", "...").replace("-", "\\-")
    if match["value"]:
        return f"\\fI{text}\\fR"
    return f"\\fB{text}\\fR" if match["word"] else text
