"""Owns the reference pages of the book; must not know how pages become HTML.

They come from the tables that the programs use themselves: the verbs, and the schema of policy
documents. ``ipsecd.service.reference`` has that of the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ipsecctl.grammar import JSON, OF_CHANGES, Argument, Option, Verb
from ipsecctl.usage import synopses
from ipsecctl.verbs import DIALECTS, GROUPS, VERBS
from ipsecd.language.documents import policy_schema

WRITTEN = "<!-- make generated writes this page from the tables of the programs. -->"


def commands() -> str:
    """Every command of ``ipsecctl``, in the groups of its help."""
    parts = [WRITTEN, "# Commands of ipsecctl", _COMMANDS, _options_of_all()]
    for title, names in GROUPS.items():
        parts.append(f"## {title}")
        for name in names:
            parts += _verb(VERBS[name])
    parts += ["## The old commands", _OLD, ", ".join(f"`{name}`" for name in DIALECTS) + "."]
    return "\n\n".join(parts) + "\n"


_COMMANDS = """\
`ipsecctl help COMMAND` says the same in a terminal, and `man ipsecctl` says more about each. Words
in capitals stand for what you write. Every command takes `--socket PATH` before or after it, for a
daemon that listens elsewhere than at `/run/ipsecd/ipsecd.sock`.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | refused; `status`: failed or drifted; `diff`: different; `explain --expect`: not so |
| 2 | the command is not written as it must be |
| 3 | the daemon cannot be reached |"""
_OLD = """\
They are typed as they were on Windows, with every option that `man ipseccmd` lists, and so are
whole scripts of theirs: see [scripts](../scripts.md) and [netsh](../netsh.md)."""


def _options_of_all() -> str:
    rows = [f"| `{each.written}` | {_cell(each.explanation)} |" for each in (*OF_CHANGES, JSON)]
    return "\n".join(
        [
            "Every command that changes something takes these options, and every command the last:",
            "",
            "| option | what it does |",
            "| --- | --- |",
            *rows,
        ]
    )


def _verb(verb: Verb) -> Iterator[str]:
    yield f"### ipsecctl {verb.name}"
    yield f"{verb.does[0].upper()}{verb.does[1:]}."
    written = list(map(_without_common, synopses(verb)))
    yield "```text\n" + "\n".join(written) + "\n```"
    if verb.actions:
        rows = [f"| `{action.name}` | {_cell(action.does)} |" for action in verb.actions.values()]
        yield "\n".join(["| action | what it does |", "| --- | --- |", *rows])
    parts: dict[str, str] = {}
    for described in (verb, *verb.actions.values()):
        for thing in (*described.arguments, *described.options):
            if thing not in (*OF_CHANGES, JSON):
                parts.setdefault(_written(thing), thing.explanation)
    if parts:
        rows = [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in parts.items()]
        yield "\n".join(["| part | meaning |", "| --- | --- |", *rows])
    examples = dict.fromkeys(each.example for each in (verb, *verb.actions.values()))
    if more := [example for example in examples if example not in written]:
        yield "For example:"
        yield "```sh\n" + "\n".join(more) + "\n```"


def _written(thing: Argument | Option) -> str:
    return thing.written if isinstance(thing, Option) else thing.name


def _without_common(synopsis: str) -> str:
    """A synopsis without the options that every command has, which stand at the beginning."""
    for option in (*OF_CHANGES, JSON):
        synopsis = synopsis.replace(f" [{option.written}]", "")
    return synopsis


def _cell(text: str) -> str:
    """A text as it stands in a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def policy_document() -> str:
    """Every field of a policy document, from its schema."""
    return (
        "\n\n".join(
            [
                WRITTEN,
                "# Policy documents",
                _DOCUMENT,
                "\n".join(
                    [
                        "| field | kind | meaning |",
                        "| --- | --- | --- |",
                        *_fields(policy_schema(), ""),
                    ]
                ),
                _AFTER,
            ]
        )
        + "\n"
    )


_DOCUMENT = """\
A policy is a YAML document. `ipsecctl check FILE` says what is wrong in one, with the line, and
`ipsecctl format FILE` writes it in the usual layout. A field that is not in this table is refused,
so that no misspelt one is ignored."""
_AFTER = """\
How filters are written is in `man ipsec-policy`, and what they mean in
[the glossary](../glossary.md) and in [how a packet is decided](../how-it-works.md)."""


def _fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        kind = field.get("type", "")
        kind = f"list of {_kind_of(field.get('items', {}))}" if kind == "array" else _kind(kind)
        needed = ", required" if name in required else ""
        items = field.get("items", {})
        choices = [items, *items.get("oneOf", [])]
        meaning = field.get("description") or " ".join(
            each["description"] for each in choices if "description" in each
        )
        yield f"| `{path}{name}` | {kind}{needed} | {_cell(meaning)} |"
        for each in choices:
            yield from _fields(each, f"{path}{name}[].")


def _kind(kind: str) -> str:
    return {"string": "text", "boolean": "true or false", "object": "mapping"}.get(kind, kind)


def _kind_of(items: dict[str, Any]) -> str:
    if "oneOf" in items:
        return " or ".join(dict.fromkeys(f"{_kind(each['type'])}s" for each in items["oneOf"]))
    return f"{_kind(items.get('type', ''))}s"
