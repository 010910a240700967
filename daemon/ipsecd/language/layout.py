"""Owns how rules of a document that a person wrote are changed, and all else stays as it is.

ruamel.yaml, whose reader knows comments and layout, says where each rule stands, and writes those
that change. All other lines are taken over as they are. What comes out is read again by the one
reader of documents, and has to mean the policy that is wanted.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ipsecd.errors import InvalidInput
from ipsecd.language.documents import parse_policy, rule_lines
from ipsecd.language.rule_layout import WrittenRule, changed_rule, load
from ipsecd.model.values import Policy

MAX_CHARACTERS = 1 << 19
"""How long a document may be to keep its layout: 100,000 characters take 0.3 to 0.7 s."""
_RULES_KEY = re.compile(r"""(["']?rules["']?\s*:)(\s*\[\s*\])?(\s*(#.*)?)""")
_END = re.compile(r"(---|\.\.\.)(\s|$)")
_ERRORS = (InvalidInput, ValueError, TypeError, LookupError, AttributeError)


class _Rules(NamedTuple):
    """Where the rules of a document stand: in lines from ``starts`` on, up to ``ends``.

    ``dash`` is the column of the dash before each, ``column`` that of its keys.
    """

    starts: list[int]
    ends: list[int]
    dash: int
    column: int


def edited_text(text: str, wanted: Policy) -> str | None:
    """The document `text` with the rules of `wanted`, whose other parts are the same.

    Rules that were there stand where they stood, whatever the order of those in `wanted`. None if
    its layout cannot be kept: it is too long, or written in a way that is not known here.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        from ruamel.yaml.error import YAMLError  # noqa: PLC0415 - few need it, and it may be missing
    except ImportError:
        return None
    try:
        edited = _edited(text, parse_policy(text), wanted)
        return edited if _in_order(parse_policy(edited)) == _in_order(wanted) else None
    except (*_ERRORS, YAMLError):
        return None


def _in_order(policy: Policy) -> Policy:
    """A policy to compare with others whose rules stand in another order, which means nothing."""
    both = (policy.rules, policy.resting)
    rules, resting = (tuple(sorted(each, key=lambda rule: rule.name)) for each in both)
    return policy.with_rules(rules, resting)


def _edited(text: str, before: Policy, wanted: Policy) -> str:
    """The document with other rules, and with or without ``audit``; raises any of ``_ERRORS``."""
    if before.audit != wanted.audit:
        text = _with_audit(text, audit=wanted.audit)
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.split(newline)
    document = load(text)
    if not document.get("rules"):
        return newline.join(_with_first_rules(lines, document, wanted))
    rules = _places(lines, document)
    by_name = {rule.name: WrittenRule(rule, rests) for rule, rests in wanted.written_rules()}
    were = {rule.name: WrittenRule(rule, rests) for rule, rests in before.written_rules()}
    out = lines[: rules.starts[0]]
    for at, entry in enumerate(document["rules"]):
        start, end = rules.starts[at], rules.ends[at]
        was = were[str(entry["rule"])]
        now = by_name.get(was.rule.name)
        if now == was:
            out += lines[start:end]
        elif now:
            out += changed_rule(lines[start:end], rules.column, was, now)
        gap = lines[end : rules.starts[at + 1] if at + 1 < len(rules.starts) else end]
        # A rule that goes takes the empty line with it that set it off.
        if now is None and gap and not gap[0].strip() and not out[-1].strip():
            gap = gap[1:]
        out += gap
    between = lines[rules.ends[0] : rules.starts[1]] if len(rules.starts) > 1 else []
    is_set_off = not all(line.strip() for line in between)
    for name, written in by_name.items():
        if name not in were:
            out += [""] if is_set_off else []
            out += _lines_of(written, rules.dash, rules.column)
    if not by_name:
        line = document.lc.key("rules")[0]
        out[line] = _RULES_KEY.sub(r"\1 []\3", out[line], count=1)
    return newline.join([*out, *lines[rules.ends[-1] :]])


def _with_audit(text: str, *, audit: bool) -> str:
    """The document with the line ``audit: true`` behind its description, or without that line."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.split(newline)
    document = load(text)
    if "audit" in document:
        at = document.lc.key("audit")[0]
        return newline.join([*lines[:at], *["audit: true"] * audit, *lines[at + 1 :]])
    head = max(document.lc.key(key)[0] for key in ("policy", "description") if key in document)
    keys = (document.lc.key(key)[0] for key in document)
    after = _end(lines, head, min((line for line in keys if line > head), default=len(lines)))
    return newline.join([*lines[:after], "audit: true", *lines[after:]])


def _places(lines: list[str], document: Any) -> _Rules:
    """Where the rules stand; raises ``ValueError`` unless each begins on a line of its own."""
    rules = document["rules"]
    starts, columns = zip(*(rules.lc.item(at) for at in range(len(rules))), strict=True)
    dash, column = rules.lc.col, columns[0]
    beginning = " " * dash + "-" + " " * (column - dash - 1)
    if rules.fa.flow_style() or not all(lines[at].startswith(beginning) for at in starts):
        raise ValueError("the rules are not written one below the other")
    if set(columns) != {column}:
        raise ValueError("the rules are not in line")
    keys = (document.lc.key(key)[0] for key in document)
    limit = min((line for line in keys if line > starts[-1]), default=len(lines))
    ends = [
        _end(lines, start, nxt) for start, nxt in zip(starts, (*starts[1:], limit), strict=True)
    ]
    return _Rules(list(starts), ends, dash, column)


def _end(lines: list[str], start: int, limit: int) -> int:
    """The line after the last one of what begins at `start` that is no comment, and not empty."""
    for line in range(limit - 1, start, -1):
        text = lines[line].strip()
        if text and not text.startswith("#") and not _END.match(lines[line]):
            return line + 1
    return start + 1


def _with_first_rules(lines: list[str], document: Any, wanted: Policy) -> list[str]:
    """The lines of a document that has no rule yet, with rules."""
    written = (WrittenRule(rule, rests) for rule, rests in wanted.written_rules())
    added = [line for rule in written for line in _lines_of(rule, 2, 4)]
    if "rules" in document:
        at = document.lc.key("rules")[0]
        key = _RULES_KEY.fullmatch(lines[at].rstrip())
        if key is None:
            raise ValueError("the rules are not written in a known way")
        return [*lines[:at], key[1] + key[3], *added, *lines[at + 1 :]]
    end = _end(lines, 0, len(lines))
    return [*lines[:end], "rules:", *added, *lines[end:]]


def _lines_of(written: WrittenRule, dash: int, column: int) -> list[str]:
    """A rule in canonical form, a line each."""
    first, others = " " * dash + "-" + " " * (column - dash - 1), " " * column
    head, *following = rule_lines(written.rule, rests=written.rests)
    return [first + head, *(others + line for line in following)]
