"""Owns the command line of the fetcher: words to settings, and errors to an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from ipsecd import log
from ipsecd.arguments import ArgumentParser, parser_beside_the_daemon
from ipsecd.errors import IpsecdError
from ipsecd.output import begin, complain, complain_text, finish
from ipsecd_domain.fetcher.daemon import Daemon
from ipsecd_domain.fetcher.faults import DaemonUnreachable
from ipsecd_domain.fetcher.loop import Fetcher

DONE, REFUSED, UNREACHABLE = 0, 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fetcher; 0 done, 1 a look failed, 2 usage, 3 the daemon cannot be reached."""
    begin()
    options = _parser().parsed(arguments)
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


def _parser() -> ArgumentParser:
    parser = parser_beside_the_daemon(
        "ipsecd-domain", "Fetches the domain policy for ipsecd, which has all settings."
    )
    parser.add_argument("--once", action="store_true", help="look once and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
