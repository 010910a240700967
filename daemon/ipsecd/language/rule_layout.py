"""Owns how one rule that a person wrote is changed; must not know the document around it.

ruamel.yaml reads and writes it. What it would merely lay out in another way stays as it was.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from ipsecd.language.documents import rule_keys, scalar
from ipsecd.language.filters import format_filter, parse_short
from ipsecd.model.values import Rule

_WIDTH = 1 << 30
"""Lines are not broken where they are not."""
_MOST_PAIRS = 5_000_000
"""How many pairs of equal lines are looked at, which takes a second."""


class WrittenRule(NamedTuple):
    """A rule as a document has it: with ``rests`` it is switched off."""

    rule: Rule
    rests: bool


def load(text: str) -> Any:
    """The document in `text` with its comments and layout; raises ``YAMLError``."""
    return _yaml().load(text)


def changed_rule(
    lines: Sequence[str], column: int, before: WrittenRule, now: WrittenRule
) -> list[str]:
    """The `lines` of a rule, whose keys stand in `column`, with what it is `now`.

    A comment whose place is gone comes to stand at the beginning of the rule.
    """
    own = [" " * column + lines[0][column:], *lines[1:]]
    bare = [line[column:] if not line[:column].strip() else line.lstrip() for line in own]
    text = "\n".join(bare) + "\n"
    unchanged, rule = _written(load(text)), load(text)
    _change(rule, before, now)
    merged = list(_merged(bare, unchanged, _written(rule), own, " " * column))
    merged[0] = lines[0][:column] + merged[0][column:]
    homeless = Counter(_comments(lines)) - Counter(_comments(merged))
    return [merged[0], *(" " * column + text for text in homeless.elements()), *merged[1:]]


def _yaml() -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415 - few need it, and it takes long to import
    from ruamel.yaml.nodes import ScalarNode, SequenceNode  # noqa: PLC0415
    from ruamel.yaml.resolver import VersionedResolver  # noqa: PLC0415

    class Words(VersionedResolver):
        """Takes every scalar for text, as policies do: ``no`` is a word, and 007 as well."""

        def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
            del value, implicit
            if kind is ScalarNode:
                return self.DEFAULT_SCALAR_TAG
            is_list = kind is SequenceNode
            return self.DEFAULT_SEQUENCE_TAG if is_list else self.DEFAULT_MAPPING_TAG

    yaml: Any = YAML(typ="rt")
    yaml.Resolver = Words
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    return yaml


def _written(rule: Any) -> list[str]:
    yaml, written = _yaml(), io.StringIO()
    filters = rule.get("filters")
    if filters and not filters.fa.flow_style():
        # One that was not there, or empty, is written as in canonical form.
        dash, column = (filters.lc.col, filters.lc.item(0)[1]) if filters.lc.data else (2, 4)
        yaml.indent(mapping=2, sequence=max(column, dash + 2), offset=dash)
    yaml.dump(rule, written)
    return written.getvalue().rstrip("\n").split("\n")


def _change(entry: Any, before: WrittenRule, now: WrittenRule) -> None:
    """Have a rule that was read be what it is to be."""
    from ruamel.yaml.comments import CommentedSeq  # noqa: PLC0415 - as in _yaml
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString  # noqa: PLC0415

    rule = now.rule
    if rule.action is not before.rule.action:
        entry["action"] = rule.action.value
    were = rule_keys(before.rule, rests=before.rests)
    at = list(entry).index("action") + 1
    for key, value in rule_keys(rule, rests=now.rests).items():
        # Quoted where another reader of YAML would take it for something else.
        is_text = key != "enabled" and scalar(value) != value
        written = DoubleQuotedScalarString(value) if is_text else value
        if value and key not in entry:
            entry.insert(at, key, written)
        elif value != were[key]:
            if value:
                entry[key] = written
            else:
                entry.pop(key, None)
        if key in entry:
            at = list(entry).index(key) + 1
    if rule.filters != before.rule.filters:
        if "filters" not in entry:
            entry["filters"] = CommentedSeq()
        _change_filters(entry["filters"], rule)


def _change_filters(filters: Any, now: Rule) -> None:
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString  # noqa: PLC0415

    present = [parse_short(str(text)) for text in filters]
    wanted = [DoubleQuotedScalarString(format_filter(flt)) for flt in now.filters]
    matcher = _matcher(present, now.filters)
    for tag, first, last, new_first, new_last in reversed(matcher.get_opcodes()):
        if tag == "equal":
            continue
        both = min(last - first, new_last - new_first)
        for at in range(both):
            filters[first + at] = wanted[new_first + at]
        for at in range(last - 1, first + both - 1, -1):
            _hand_comments_on(filters, at)
            del filters[at]
        for at, text in enumerate(wanted[new_first + both : new_last], first + both):
            filters.insert(at, text)


def _hand_comments_on(filters: Any, at: int) -> None:
    """Give the comments between an item that goes and the next one to the item before."""
    comments = filters.ca.items.get(at)
    if not comments or not comments[0] or at == 0:
        return
    own, earlier = comments[0], filters.ca.items.get(at - 1)
    following = own.value.partition("\n")[2]
    if not following.strip():
        return
    if earlier and earlier[0]:
        earlier[0].value = earlier[0].value.rstrip("\n") + "\n" + following
    else:
        own.value = "\n" + following
        filters.ca.items[at - 1] = [own, None]


def _merged(
    bare: Sequence[str],
    unchanged: Sequence[str],
    changed: Sequence[str],
    own: Sequence[str],
    indent: str,
) -> Iterator[str]:
    """The lines of `changed`, as they are in `own` where they are no others than `unchanged`.

    `unchanged` is how the library lays out `bare`, which is `own` without its indentation.
    """
    places = _places(bare, unchanged)
    for tag, first, last, new_first, new_last in _matcher(unchanged, changed).get_opcodes():
        if tag != "equal":
            yield from (indent + line if line else line for line in changed[new_first:new_last])
            continue
        at = first
        while at < last:
            begin, end, after = places[at]
            if begin is None or after > last:
                yield indent + unchanged[at]
                at += 1
            else:
                yield from own[begin:end]
                at = after


def _places(
    bare: Sequence[str], unchanged: Sequence[str]
) -> dict[int, tuple[int | None, int, int]]:
    """For every line of `unchanged`, the lines of `bare` that it begins, and the line after those.

    One that begins none has None.
    """
    if len(bare) == len(unchanged):
        return {at: (at, at + 1, at + 1) for at in range(len(bare))}
    places: dict[int, tuple[int | None, int, int]] = {}
    for tag, first, last, new_first, new_last in _matcher(bare, unchanged).get_opcodes():
        if tag == "equal":
            places |= {
                new_first + at: (first + at, first + at + 1, new_first + at + 1)
                for at in range(last - first)
            }
            continue
        places |= {at: (None, 0, at + 1) for at in range(new_first, new_last)}
        if new_last > new_first:
            places[new_first] = (first, last, new_last)
    return places


def _matcher(before: Sequence[Any], after: Sequence[Any]) -> SequenceMatcher[Any]:
    """What compares two sequences; raises ``ValueError`` if that would take long."""
    times = Counter(after)
    if sum(times[item] for item in before) > _MOST_PAIRS:
        raise ValueError("too many lines are the same")
    return SequenceMatcher(None, before, after, autojunk=False)


def _comments(lines: Iterable[str]) -> Iterator[str]:
    """The lines that are comments, without their indentation."""
    return (line.strip() for line in lines if line.strip().startswith("#"))
