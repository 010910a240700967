"""One feed from a server that does what it should, or anything else; nothing waits for it."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ipsecd_domain.errors import NotFetched
from ipsecd_domain.fetcher import feeds
from ipsecd_domain.fetcher.daemon import FeedQuestion
from ipsecd_domain.fetcher.feed import Answer, Question, fetch
from tests.domain.certificates import Authority
from tests.domain.fake_web import (
    FakeWeb,
    Handler,
    broken,
    dripping,
    endless,
    fake_web,
    garbage,
    truncated,
)
from tests.domain.tunnels import tunnels

TEXT = b"192.0.2.7\n"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FakeWeb]:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/drop").write_bytes(TEXT)
    with fake_web(tmp_path / "web") as server:
        yield server


class Target:
    """A file in memory to fetch into."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("target")

    def fetch(self, url: str, *, most: int = 10_000, **known: str) -> Answer:
        return fetch(Question(url, **known), self.descriptor, most)

    @property
    def content(self) -> bytes:
        return os.pread(self.descriptor, 1 << 20, 0)


@pytest.fixture
def target() -> Iterator[Target]:
    target = Target()
    yield target
    os.close(target.descriptor)


def redirecting(location: str, times: int = 1) -> Any:
    """A server that leads elsewhere, so many times."""
    left = times

    def misbehave(handler: Handler) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            return False
        handler.answer(302, b"", Location=location)
        return True

    return misbehave


def test_a_feed_is_fetched_and_asked_for_again(web: FakeWeb, target: Target) -> None:
    """Its tag comes back with the next question, and nothing is sent again."""
    answer = target.fetch(f"{web.url}/drop")
    assert target.content == TEXT
    assert answer.etag
    assert (answer.unchanged, answer.modified) == (False, "")
    again = target.fetch(f"{web.url}/drop", etag=answer.etag)
    assert (again.unchanged, again.etag) == (True, answer.etag)
    assert [status for status, _ in web.answered] == [200, 304]
    assert not target.fetch(f"{web.url}/drop", etag='"other"').unchanged


def test_a_date_is_sent_where_there_is_no_tag(web: FakeWeb, target: Target) -> None:
    """As the server gave it."""
    asked: list[str | None] = []
    date = "Mon, 30 Nov 2026 00:00:00 GMT"

    def dated(handler: Handler) -> bool:
        asked.append(handler.headers.get("If-Modified-Since"))
        handler.answer(304 if asked[-1] else 200, b"" if asked[-1] else TEXT, Last_Modified=date)
        return True

    web.misbehave.append(dated)
    answer = target.fetch(f"{web.url}/drop")
    assert (answer.etag, answer.modified) == ("", date)
    assert target.fetch(f"{web.url}/drop", modified=date).unchanged
    assert asked == [None, date]


@pytest.mark.parametrize("misbehave", [garbage, truncated, broken])
def test_a_server_that_breaks_off_gives_nothing(
    web: FakeWeb, target: Target, misbehave: Any
) -> None:
    """It is told, and what came is not taken."""
    web.misbehave.append(misbehave)
    with pytest.raises(NotFetched) as error:
        target.fetch(f"{web.url}/drop?key=secret")
    assert "secret" not in str(error.value)


def test_what_does_not_end_ends_early(web: FakeWeb, target: Target) -> None:
    """No more than allowed is read, announced or not."""
    web.misbehave.append(endless)
    with pytest.raises(NotFetched, match="longer than 10,000 bytes"):
        target.fetch(f"{web.url}/drop")
    assert len(target.content) <= 10_000
    web.misbehave[:] = [lambda handler: announce(handler, 10 << 30)]
    with pytest.raises(NotFetched, match="longer than 10,000 bytes"):
        target.fetch(f"{web.url}/drop")


def announce(handler: Handler, length: int) -> bool:
    handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode())
    handler.wfile.write(b"x")
    handler.close_connection = True
    return True


@pytest.mark.parametrize("status", [204, 206, 301, 304, 401, 403, 404, 429, 500, 503])
def test_other_answers_are_no_content(web: FakeWeb, target: Target, status: int) -> None:
    """Also a 304 that nobody asked for, and a redirect that leads nowhere."""

    def answer(handler: Handler) -> bool:
        handler.answer(status, b"" if status in (204, 304) else TEXT)
        return True

    web.misbehave.append(answer)
    with pytest.raises(NotFetched):
        target.fetch(f"{web.url}/drop")


def test_what_comes_encoded_is_refused(web: FakeWeb, target: Target) -> None:
    """A little on the wire is never much in memory."""

    def encoded(handler: Handler) -> bool:
        handler.answer(200, TEXT, Content_Encoding="gzip")
        return True

    web.misbehave.append(encoded)
    with pytest.raises(NotFetched, match="came encoded"):
        target.fetch(f"{web.url}/drop")


def test_redirects_are_followed_as_far_as_they_are_safe(
    web: FakeWeb, target: Target, tmp_path: Path
) -> None:
    """Not to a file, to no other scheme, and not for ever."""
    web.misbehave[:] = [redirecting(f"{web.url}/drop")]
    target.fetch(f"{web.url}/elsewhere")
    assert target.content == TEXT
    secret = tmp_path / "secret"
    secret.write_bytes(TEXT)
    for location in (f"file://{secret}", "ftp://127.0.0.1/x", "gopher:x"):
        web.misbehave[:] = [redirecting(location)]
        with pytest.raises(NotFetched, match="not as safe"):
            target.fetch(f"{web.url}/elsewhere")
    web.misbehave[:] = [redirecting("/elsewhere", 100)]
    with pytest.raises(NotFetched, match="after 5 redirects"):
        target.fetch(f"{web.url}/elsewhere")


def test_who_answers_is_verified(
    tmp_path: Path, web: FakeWeb, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of an unknown authority is none; and nothing leads back to plain HTTP."""
    authority = Authority(tmp_path)
    files = authority.certify("server")
    context = authority.server(files)
    context.verify_mode = ssl.CERT_NONE
    with fake_web(tmp_path / "web", context) as safe:
        with pytest.raises(NotFetched, match=r"(?i)certificate"):
            target.fetch(f"{safe.url}/drop")
        monkeypatch.setenv("SSL_CERT_FILE", files.ca)
        target.fetch(f"{safe.url}/drop")
        assert target.content == TEXT
        safe.misbehave[:] = [redirecting(f"{web.url}/drop")]
        with pytest.raises(NotFetched, match="not as safe"):
            target.fetch(f"{safe.url}/drop")


def test_files_of_this_host(target: Target, tmp_path: Path) -> None:
    """A regular file is read, and nothing that could block or that is too long."""
    (tmp_path / "a b").write_bytes(TEXT)
    target.fetch(f"file://{tmp_path}/a%20b")
    assert target.content == TEXT
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "long").write_bytes(bytes(10_001))
    for name in ("fifo", "long", "gone", "."):
        with pytest.raises(NotFetched):
            target.fetch(f"file://{tmp_path}/{name}")


class Asking(feeds.Feeds):
    """What a fetcher does with one question, without a daemon."""

    def __init__(self, fetch_s: float = 60.0) -> None:
        self._fetch_s = fetch_s

    def ask(self, url: str) -> tuple[Mapping[str, object], bytes]:
        content = os.memfd_create("feed")
        try:
            answer = self._fetched(FeedQuestion(1, url, "", ""), content)
            return answer, os.pread(content, 1 << 20, 0)
        finally:
            os.close(content)


def test_a_process_of_its_own_answers(web: FakeWeb) -> None:
    """With what it found, or with the problem in words."""
    answer, content = Asking().ask(f"{web.url}/drop")
    assert (answer["problem"], content) == ("", TEXT)
    answer, _ = Asking().ask(f"{web.url}/gone?key=secret")
    assert "HTTP status 404" in str(answer["problem"])
    assert "secret" not in json.dumps(answer)


def test_the_process_resolves_names_and_verifies_who_answers(
    tmp_path: Path, web: FakeWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Confined as it is, it reads what it needs for that."""
    authority = Authority(tmp_path)
    files = authority.certify("server")
    context = authority.server(files)
    context.verify_mode = ssl.CERT_NONE
    with fake_web(tmp_path / "web", context) as safe:
        answer, _ = Asking().ask(f"{safe.url}/drop")
        assert "certificate" in str(answer["problem"]).lower()
        monkeypatch.setenv("SSL_CERT_FILE", files.ca)
        answer, content = Asking().ask(f"{safe.url}/drop")
        assert (answer["problem"], content) == ("", TEXT)
    port = web.url.rpartition(":")[2]
    answer, content = Asking().ask(f"http://localhost:{port}/drop")
    assert (answer["problem"], content) == ("", TEXT)


def test_a_proxy_of_the_environment_is_used(
    tmp_path: Path, web: FakeWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the hosts that it is for; the server behind it is verified."""
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    authority = Authority(tmp_path)
    files = authority.certify("server")
    context = authority.server(files)
    context.verify_mode = ssl.CERT_NONE
    with tunnels() as proxy, fake_web(tmp_path / "web", context) as safe:
        monkeypatch.setenv("https_proxy", proxy.url)
        answer, _ = Asking().ask(f"{safe.url}/drop")
        assert "certificate" in str(answer["problem"]).lower()
        monkeypatch.setenv("SSL_CERT_FILE", files.ca)
        answer, content = Asking().ask(f"{safe.url}/drop")
        assert (answer["problem"], content) == ("", TEXT)
        assert proxy.asked == [safe.url.rpartition("/")[2]] * 2
        answer, content = Asking().ask(f"{web.url}/drop")
        assert (answer["problem"], content) == ("", TEXT)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        answer, content = Asking().ask(f"{safe.url}/drop")
        assert (answer["problem"], content) == ("", TEXT)
        assert len(proxy.asked) == 2
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("https_proxy", "socks9://nowhere")
        answer, _ = Asking().ask(f"{safe.url}/drop")
        assert "proxy" in str(answer["problem"])


CONFINED = """
import os, socket, sys
from ipsecd_domain.fetcher.feed import confine
secret, local, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
if not confine(f"file://{local}"):
    sys.exit("without landlock")
socket.create_connection(("127.0.0.1", port)).close()
print(open(local).read())
print([line for line in open("/proc/self/status") if line.startswith("NoNewPrivs")])
for tried in (lambda: open(secret), lambda: open(secret, "w"), lambda: os.listdir("/root")):
    try:
        tried()
    except PermissionError:
        print("denied")
"""


def test_the_process_reaches_servers_and_no_files(web: FakeWeb, tmp_path: Path) -> None:
    """But for its own libraries and the file that was asked for, also as root."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "local").write_text("local")
    port = web.url.rpartition(":")[2]
    paths = (str(tmp_path / name) for name in ("secret", "local"))
    words = [sys.executable, "-I", "-c", CONFINED, *paths, port]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "without landlock" in done.stderr:
        pytest.skip("the kernel has no landlock")
    said = done.stdout.splitlines()
    assert said == ["local", r"['NoNewPrivs:\t1\n']", *["denied"] * 3], done.stderr


def test_a_server_that_drips_is_given_up(web: FakeWeb) -> None:
    """The time is for all of it, however it comes, and the process is gone afterwards."""
    web.misbehave.append(dripping)
    answer, _ = Asking(fetch_s=1.5).ask(f"{web.url}/drop")
    assert "did not give all within 1.5 s" in str(answer["problem"])
    left = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, check=False
    )
    assert b"fetcher.feed" not in left.stdout


def test_a_process_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it says, it is no answer."""
    for code in ("import os; os.abort()", "import sys; sys.stderr.write('{')"):
        monkeypatch.setattr(feeds, "COMMAND", (sys.executable, "-c", code))
        answer, _ = Asking().ask("https://feeds.example/drop")
        assert "ended without an answer" in str(answer["problem"])
    with contextlib.suppress(FileNotFoundError):
        Path("core").unlink()
