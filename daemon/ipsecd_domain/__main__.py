"""Owns the command line of the fetcher: words to settings, and errors to an exit code."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from ipsecd import __version__, log
from ipsecd.errors import MAX_MESSAGE, IpsecdError
from ipsecd.output import begin, complain, complain_text, finish
from ipsecd.quoting import cut
from ipsecd_domain.fetcher.daemon import DEFAULT_PATH, Daemon
from ipsecd_domain.fetcher.faults import DaemonUnreachable
from ipsecd_domain.fetcher.loop import Fetcher

DONE, REFUSED, UNREACHABLE = 0, 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fetcher; 0 done, 1 a look failed, 2 usage, 3 the daemon cannot be reached."""
    begin()
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as end:
        raise SystemExit(finish(int(end.code or 0), "ipsecd-domain")) from None
    log.set_up()
    # It keeps nothing that could be left half done, so it ends where it is, whatever it waits for.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    fetcher = Fetcher(Daemon(options.socket))
    if not options.once:
        fetcher.run()
    try:
        problem = fetcher.look_once()
    except IpsecdError as error:
        complain_text(f"ipsecd-domain: {error}")
        code = UNREACHABLE if isinstance(error, DaemonUnreachable) else REFUSED
        return finish(code, "ipsecd-domain")
    if problem:
        complain(f"ipsecd-domain: {problem}")
    return finish(REFUSED if problem else DONE, "ipsecd-domain")


class _Parser(argparse.ArgumentParser):
    """Quotes wrong arguments as everything else is quoted."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and end."""
        complain_text(self.format_usage())
        complain(f"{self.prog}: error: {cut(message, MAX_MESSAGE)}")
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ipsecd-domain",
        description="Fetches the domain policy for ipsecd, which has all settings.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default=os.environ.get("IPSECD_SOCKET") or DEFAULT_PATH,
        help=f"where the daemon listens (default: $IPSECD_SOCKET, or {DEFAULT_PATH})",
    )
    parser.add_argument("--once", action="store_true", help="look once and exit")
    parser.add_argument("--version", action="version", version=f"ipsecd-domain {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
