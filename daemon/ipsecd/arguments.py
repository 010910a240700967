"""Owns how the command lines of daemons are read; must not know which words there are."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from ipsecd.errors import MAX_MESSAGE
from ipsecd.output import complain, complain_text, finish
from ipsecd.quoting import cut


class ArgumentParser(argparse.ArgumentParser):
    """Shortens and escapes wrong arguments like all other text of users."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and end."""
        complain_text(self.format_usage())
        complain(f"{self.prog}: error: {cut(message, MAX_MESSAGE)}")
        raise SystemExit(2)

    def parsed(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """What the arguments say; raises ``SystemExit`` once all output is written."""
        try:
            return self.parse_args(arguments)
        except SystemExit as end:
            raise SystemExit(finish(int(end.code or 0), self.prog)) from None
