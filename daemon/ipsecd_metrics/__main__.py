"""Owns the command line of the exporter: words to settings, and errors to an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from functools import partial

from ipsecd.arguments import ArgumentParser, parser_beside_the_daemon
from ipsecd.errors import IpsecdError
from ipsecd.output import begin, complain, complain_text, finish, say
from ipsecd.quoting import quote
from ipsecd_metrics.asking import Answers, Unreachable, ask
from ipsecd_metrics.serving import Render, Server

DONE, REFUSED, UNREACHABLE = 0, 1, 3
_HINT = (
    "  hint: write 127.0.0.1:9633, [::1]:9633, or the path of a socket, where nobody else listens"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until it is ended; 0 nobody wants metrics, 1 refused, 2 usage, 3 no daemon."""
    begin()
    options = _parser().parsed(arguments)
    # It keeps nothing that could be left half done.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    question = partial(ask, options.socket)
    try:
        listen = options.listen or question()["listen"]
    except IpsecdError as error:
        complain_text(f"ipsecd-metrics: {error}")
        code = UNREACHABLE if isinstance(error, Unreachable) else REFUSED
        return finish(code, "ipsecd-metrics")
    if listen is None:
        say("ipsecd-metrics: nobody wants metrics: metrics is not set in ipsecd.yaml")
        return finish(DONE, "ipsecd-metrics")
    try:
        render = renderer(Answers(question))
    except ModuleNotFoundError:
        complain(
            "ipsecd-metrics: the client library of Prometheus is missing: apt install "
            "python3-prometheus-client"
        )
        return finish(REFUSED, "ipsecd-metrics")
    try:
        server = Server(listen, render)
    except (OSError, ValueError, OverflowError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "that is no place to listen at"
        complain_text(
            f"ipsecd-metrics: metrics cannot be had at {quote(listen)}: {reason}\n{_HINT}"
        )
        return finish(REFUSED, "ipsecd-metrics")
    say(f"ipsecd-metrics: metrics are at {listen}")
    server.serve_forever()
    return finish(DONE, "ipsecd-metrics")


def renderer(answers: Answers) -> Render:
    """What makes metrics of answers; raises ``ModuleNotFoundError`` without the client library."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    from ipsecd_metrics.families import Families

    registry = CollectorRegistry()
    registry.register(Families(answers))

    def render(accept: str) -> tuple[bytes, str]:
        encode, kind = choose_encoder(accept)
        return encode(registry), kind

    return render


def _parser() -> ArgumentParser:
    parser = parser_beside_the_daemon(
        "ipsecd-metrics", "Has metrics of ipsecd for Prometheus, where the setting metrics says."
    )
    parser.add_argument(
        "--listen", metavar="WHERE", help="ADDRESS:PORT or a path, in the place of the setting"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
