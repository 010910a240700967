"""Owns how the command lines of daemons are read; must not know what the words of one are for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import NoReturn

from ipsecd import __version__
from ipsecd.errors import MAX_MESSAGE
from ipsecd.output import complain, complain_text, finish
from ipsecd.protocol.connecting import DEFAULT_PATH
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


def parser_beside_the_daemon(program: str, description: str) -> ArgumentParser:
    """The parser of a `program` that asks the daemon, with the options that all of these have."""
    parser = ArgumentParser(prog=program, description=description, allow_abbrev=False)
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default=os.environ.get("IPSECD_SOCKET") or DEFAULT_PATH,
        help=f"where the daemon listens (default: $IPSECD_SOCKET, or {DEFAULT_PATH})",
    )
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    return parser
