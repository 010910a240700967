"""Lists from a real web server, fetched by the real fetcher, on the wire; and what goes wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.domain.fake_web import FakeWeb, endless, fake_web, garbage, truncated
from tests.netns import site
from tests.netns.site import HERE4, PEER4, Daemon, eventually
from tests.netns.test_list_verbs import passes

pytestmark = pytest.mark.netns
OTHERS = "".join(f"203.0.113.{n}\n" for n in range(9))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FakeWeb]:
    (tmp_path / "web").mkdir()
    with fake_web(tmp_path / "web") as server:
        yield server


@pytest.fixture(params=["nftables", "xdp"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        site.block(running, "@drop=0")
        yield running


@contextmanager
def fetcher(daemon: Daemon) -> Iterator[None]:
    """The fetcher, as a process."""
    with (daemon.directory / "fetcher.log").open("ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ipsecd_domain"),
                *("--socket", daemon.environment["IPSECD_SOCKET"]),
            ],
            stderr=log,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def serve(web: FakeWeb, text: str) -> None:
    (web.directory / "drop").write_text(text)


def create(daemon: Daemon, url: str) -> None:
    """Make the list; the fetcher may not be there yet."""
    words = ("list", "create", "drop", "--from", url, "--every", "1h", "--plain-http")
    assert eventually(lambda: _done(daemon, words), 30)


def _done(daemon: Daemon, words: tuple[str, ...]) -> bool:
    return subprocess.run(
        [sys.executable, "-m", "ipsecctl", *words],
        env=daemon.environment,
        capture_output=True,
        check=False,
    ).returncode == 0  # fmt: skip


def test_a_list_from_the_web(daemon: Daemon, web: FakeWeb) -> None:
    """It is fetched, updated, kept through a crash, and in force at a start without a network."""
    serve(web, OTHERS)
    with fetcher(daemon):
        create(daemon, f"{web.url}/drop")
        assert passes()
        serve(web, f"{OTHERS}{PEER4}\n")
        assert "10 entries, 1 new" in daemon.ctl("list", "update", "drop")
        assert not passes()
        assert "nothing is new" in daemon.ctl("list", "update", "drop")
        assert [status for status, _ in web.answered][-1] == 304
    for number in (signal.SIGKILL, signal.SIGTERM):
        daemon.end(number)
        daemon.start()
        assert not passes()
    assert "does not run" in daemon.ctl("list", "update", "drop", code=1)
    assert not passes()
    with fetcher(daemon):
        serve(web, OTHERS)
        assert eventually(lambda: _done(daemon, ("list", "update", "drop")), 30)
        assert passes()


def test_a_server_that_misbehaves_weakens_nothing(daemon: Daemon, web: FakeWeb) -> None:
    """Whatever it does, what was fetched before stays in force, and status says what it did."""
    good = f"{OTHERS}{PEER4}\n"
    serve(web, good)
    with fetcher(daemon):
        create(daemon, f"{web.url}/drop")
        assert not passes()
        for misbehave in (garbage, truncated, endless):
            web.misbehave[:] = [misbehave]
            daemon.ctl("list", "update", "drop", code=1)
            assert "list 'drop' stays as it was" in daemon.ctl("status")
        web.misbehave[:] = []
        for text, why in (
            ("", "it has no entry"),
            ("<html>Sorry</html>\n", "holds no address list"),
            ("203.0.113.7\n", "would shrink from 10 entries to 1"),
            (f"{OTHERS}0.0.0.0/0\n", "every IPv4 address"),
            (f"{OTHERS}{HERE4}\n", f"covers {HERE4} (an address of this host)"),
        ):
            serve(web, text)
            assert why in daemon.ctl("list", "update", "drop", code=1)
            assert not passes()
        (web.directory / "drop").unlink()
        assert "HTTP status 404" in daemon.ctl("list", "update", "drop", code=1)
        serve(web, good)
        daemon.ctl("list", "update", "drop")
        assert "stays as it was" not in daemon.ctl("status")
        assert not passes()
        serve(web, "203.0.113.7\n")
        daemon.ctl("list", "update", "drop", "--accept")
        assert passes()


def test_plain_http_needs_an_option_and_files_are_read(
    daemon: Daemon, web: FakeWeb, tmp_path: Path
) -> None:
    """A list that is refused is not made."""
    serve(web, f"{PEER4}\n")
    words = ("list", "create", "drop", "--from")
    with fetcher(daemon):
        said = daemon.ctl(*words, f"{web.url}/drop", code=1)
        assert "--plain-http" in said
        assert passes()
        create(daemon, f"file://{tmp_path}/web/drop")
        assert not passes()
        daemon.ctl("list", "delete", "drop")
        assert passes()
