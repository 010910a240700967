"""Owns which files come from the tables of the programs, and writes them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ipsecctl.generate import bash, fish, manual, reference, zsh

ROOT = Path(__file__).parents[3]
COMPLETIONS = ROOT / "ctl/completions"
MANUAL = ROOT / "docs/man/ipsecctl.1"
REFERENCE = ROOT / "docs/reference"


def texts() -> Iterator[tuple[Path, str]]:
    """Each file, and what should be in it."""
    yield COMPLETIONS / "ipsecctl.bash", bash.completion()
    yield COMPLETIONS / "_ipsecctl", zsh.completion()
    yield COMPLETIONS / "ipsecctl.fish", fish.completion()
    yield MANUAL, manual.with_synopses(MANUAL.read_text(encoding="utf-8"))
    yield REFERENCE / "commands.md", reference.commands()
    yield REFERENCE / "policy-documents.md", reference.policy_document()


def main() -> int:
    """Write the files anew."""
    for path, text in texts():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
