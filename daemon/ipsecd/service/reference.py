"""Owns the reference page of the protocol: what can be called, and by whom; and writes it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ipsecd.control import METHODS
from ipsecd.control.method import Role
from ipsecd.protocol.description import CONTROL, interface_text

PAGE = Path(__file__).parents[3] / "docs/reference/protocol.md"
WRITTEN = "<!-- make generated writes this page from the description of the interface. -->"
_ROLES = {
    Role.VIEW: "root, and the groups `ipsec` and `ipsec-view`",
    Role.SAVE: "root and the group `ipsec`",
    Role.CHANGE: "root and the group `ipsec`",
    Role.FETCH: "root, and the process that fetches",
}
_TOPIC = re.compile(r"^(type|method|error) (\w+)")


def protocol() -> str:
    """Every method, type and error of the socket, and who may call which."""
    roles = {method.name: method.role for method in METHODS.values()}
    sections: dict[str, list[str]] = {"method": [], "type": [], "error": []}
    for kind, name, comment, definition in _topics(interface_text(CONTROL)):
        lines = [f"### {name}"]
        if comment:
            lines.append(comment.replace("*", "\\*").replace("<", "&lt;"))
        lines.append(f"```text\n{definition}\n```")
        if kind == "method":
            lines.append(f"Who may call it: {_ROLES[roles[name]]}.")
        sections[kind].append("\n\n".join(lines))
    return (
        "\n\n".join(
            [
                WRITTEN,
                "# The protocol of the socket",
                _PROTOCOL,
                "## Methods",
                *sections["method"],
                "## Types",
                *sections["type"],
                "## Errors",
                *sections["error"],
            ]
        )
        + "\n"
    )


_PROTOCOL = """\
`ipsecd` speaks [Varlink](https://varlink.org) at `/run/ipsecd/ipsecd.sock`: a call is a JSON
object with a NUL after it, and so is its reply. The interface is `io.ipsecd.control`; any Varlink
client can use it, and `org.varlink.service.GetInterfaceDescription` has it described. Every change
is atomic: when a method replies, it is in force, and on disk if it is to stay; when it replies with
an error, nothing has changed."""


def _topics(description: str) -> Iterator[tuple[str, str, str, str]]:
    """What an interface defines: kind, name, the comment before it, and the definition."""
    comment: list[str] = []
    lines = iter(description.splitlines())
    for line in lines:
        if line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif match := _TOPIC.match(line):
            definition = [line]
            # Its parentheses may be closed on a later line, or others begin there.
            while _is_open(definition):
                definition.append(next(lines))
            yield match[1], match[2], " ".join(comment), "\n".join(definition)
            comment = []
        else:
            comment = []


def _is_open(definition: list[str]) -> bool:
    text = "\n".join(re.sub(r"#.*", "", line) for line in definition)
    incomplete = definition[0].startswith("method") and "->" not in text
    return incomplete or text.count("(") != text.count(")")


def main() -> int:
    """Write the page anew."""
    PAGE.write_text(protocol(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
