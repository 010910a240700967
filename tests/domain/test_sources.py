"""What is read from a web server or a directory is bounded, and failures are told in words."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from ipsecd.errors import InvalidInput, IpsecdError
from ipsecd_domain.errors import Missing, NotFetched, words_of
from ipsecd_domain.fetcher.deadline import limited_to
from ipsecd_domain.fetcher.directory import directory_of
from ipsecd_domain.fetcher.faults import TookTooLong
from ipsecd_domain.fetcher.settings import Settings
from ipsecd_domain.fetcher.source import Source
from ipsecd_domain.fetcher.sources import open_source
from ipsecd_domain.tls import TlsFiles
from tests.domain.certificates import Authority
from tests.domain.fake_web import (
    FakeWeb,
    Handler,
    Misbehave,
    broken,
    dripping,
    encoded,
    endless,
    fake_web,
    garbage,
    redirect_to,
    truncated,
    without_end,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "fleet/metadata").mkdir(parents=True)
    (tmp_path / "fleet/metadata/timestamp.json").write_bytes(b"0123456789")
    return tmp_path / "fleet"


@pytest.fixture
def web(directory: Path) -> Iterator[FakeWeb]:
    with fake_web(directory) as server:
        yield server


@pytest.fixture(params=["file", "http"])
def source(request: pytest.FixtureRequest, directory: Path) -> Source:
    if request.param == "file":
        return open_source(Settings(f"file://{directory}"))
    return open_source(Settings(request.getfixturevalue("web").url))


def test_a_file_is_read_up_to_its_greatest_length(source: Source) -> None:
    """One byte more is refused, and what is not there is told apart from what fails."""
    path = "metadata/timestamp.json"
    assert source.read(path, 10) == b"0123456789"
    with pytest.raises(NotFetched, match="longer than 9 bytes"):
        source.read(path, 9)
    with pytest.raises(Missing):
        source.read("metadata/2.root.json", 10)


@pytest.mark.parametrize(
    "path", ["", "../secret", "metadata/../../x", "/etc/passwd", "a//b", "a\0"]
)
def test_no_path_leads_out_of_the_repository(source: Source, path: str) -> None:
    """Names in signed files are a stranger's too."""
    with pytest.raises(NotFetched, match="not the name of a file"):
        source.read(path, 10)


def test_what_is_no_file_is_not_waited_for(directory: Path) -> None:
    """A FIFO would hold whoever opens it."""
    os.mkfifo(directory / "metadata/fifo")
    with pytest.raises(NotFetched, match="is not a file"):
        open_source(Settings(f"file://{directory}")).read("metadata/fifo", 10)
    with pytest.raises(NotFetched, match="is not a file"):
        open_source(Settings(f"file://{directory}")).read("metadata", 10)


def test_a_tag_saves_the_file(web: FakeWeb) -> None:
    """As long as the server has the same state, it says so and sends nothing."""
    source = open_source(Settings(web.url))
    first = source.read_if_changed("metadata/timestamp.json", 10, "")
    assert first is not None
    assert source.read_if_changed("metadata/timestamp.json", 10, first.tag) is None
    assert web.answered[-1][0] == 304
    (web.directory / "metadata/timestamp.json").write_bytes(b"new")
    again = source.read_if_changed("metadata/timestamp.json", 10, first.tag)
    assert again is not None
    assert again.data == b"new"


@pytest.mark.parametrize(
    "misbehave", [garbage, endless, truncated, broken, without_end, encoded, dripping]
)
def test_a_server_that_misbehaves_makes_a_look_fail(web: FakeWeb, misbehave: Misbehave) -> None:
    """In bounded time and memory, and with an error of ours."""
    web.misbehave.append(misbehave)
    started = time.monotonic()
    with pytest.raises(IpsecdError), limited_to(2):
        open_source(Settings(web.url)).read("metadata/timestamp.json", 1 << 20)
    assert time.monotonic() - started < 5


def test_time_is_bounded_as_a_whole(web: FakeWeb) -> None:
    """A byte now and then does not hold a look for ever."""
    web.misbehave.append(dripping)
    with pytest.raises(TookTooLong, match=r"within 0\.5 s"), limited_to(0.5):
        open_source(Settings(web.url)).read("metadata/timestamp.json", 1 << 20)


def test_redirects_lead_to_what_is_as_safe(directory: Path, tmp_path: Path) -> None:
    """From http to http and to https, from https to https; never from https to http."""
    authority = Authority(tmp_path)
    files = authority.certify("server")
    path = "metadata/timestamp.json"
    with fake_web(directory) as plain, fake_web(directory, authority.server(files)) as safe:
        for first, second, allowed in ((plain, safe, True), (safe, plain, False)):
            first.misbehave.append(redirect_to(second.url))
            source = open_source(Settings(first.url, tls=files))
            if allowed:
                assert source.read(path, 10) == b"0123456789"
            else:
                with pytest.raises(NotFetched, match="not as safe"):
                    source.read(path, 10)
            first.misbehave.clear()
        plain.misbehave.append(redirect_to("file:///etc/passwd?"))
        with pytest.raises(NotFetched, match="not as safe"):
            open_source(Settings(plain.url)).read(path, 10)


def test_both_sides_show_certificates(directory: Path, tmp_path: Path) -> None:
    """The server wants one of the authority that it knows, and so does the client."""
    authority = Authority(tmp_path)
    files = authority.certify("server")
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other").certify("server")
    path = "metadata/timestamp.json"
    with fake_web(directory, authority.server(files)) as web:
        assert open_source(Settings(web.url, tls=files)).read(path, 10) == b"0123456789"
        for wrong in (TlsFiles(ca=files.ca), TlsFiles(other.ca, files.certificate, files.key)):
            with pytest.raises(NotFetched, match="could not be read"):
                open_source(Settings(web.url, tls=wrong)).read(path, 10)
        # It is certified for addresses, and not for a name.
        by_name = web.url.replace("127.0.0.1", "localhost")
        with pytest.raises(NotFetched, match="could not be read"):
            open_source(Settings(by_name, tls=files)).read(path, 10)
        with pytest.raises(InvalidInput, match="certificates of the settings"):
            open_source(Settings(web.url, tls=TlsFiles(ca=str(tmp_path / "absent"))))


def test_a_proxy_is_asked(web: FakeWeb) -> None:
    """It gets the whole URL, and the environment has no say."""
    source = open_source(Settings("http://policy.invalid/fleet", proxy=web.url))
    with pytest.raises(Missing):
        source.read("metadata/timestamp.json", 10)
    assert web.answered == [(404, "http://policy.invalid/fleet/metadata/timestamp.json")]


def test_the_environment_names_no_proxy(web: FakeWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a session of somebody has set is no setting of the fleet."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert open_source(Settings(web.url)).read("metadata/timestamp.json", 10) == b"0123456789"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "fleet",
        "http:///x",
        "https://user:secret@host/x",
        "https://host/?x",
        "file://x",
    ],
)
def test_what_is_no_source_is_refused(url: str) -> None:
    """In words that do not repeat a password."""
    with pytest.raises(InvalidInput) as caught:
        open_source(Settings(url))
    assert "secret" not in str(caught.value)


def test_a_directory_is_named_by_its_whole_path() -> None:
    """Escapes are read as URLs have them."""
    assert directory_of("file:///srv/my%20fleet") == Path("/srv/my fleet")
    for wrong in ("file://host/srv", "file:srv", "file:///a%00b"):
        with pytest.raises(InvalidInput):
            directory_of(wrong)


def test_a_tag_of_a_file_that_has_just_changed_is_not_believed(web: FakeWeb) -> None:
    """Web servers make tags of seconds and sizes: the next state may have the same one."""

    def answer(changed: str) -> str:
        def tagged(handler: Handler) -> bool:
            handler.answer(200, b"data", ETag='"tag"', Last_Modified=changed)
            return True

        web.misbehave[:] = [tagged]
        content = open_source(Settings(web.url)).read_if_changed("metadata/x.json", 10, "")
        assert content is not None
        return content.tag

    assert answer(formatdate(usegmt=True)) == ""
    assert answer("in a while") == ""
    assert answer(formatdate(time.time() - 60, usegmt=True)) == '"tag"'


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "(<HTTPSConnection(host='h', port=80) at 0x7f04815ff590>, 'Connection to h timed out')",
            "('Connection to h timed out')",
        ),
        (
            "<urllib3.connection.HTTPConnection object at 0x7fab>: Failed",
            "Failed",
        ),
        ("nothing <of> that", "nothing <of> that"),
    ],
)
def test_what_fails_again_is_told_in_the_same_words(said: str, told: str) -> None:
    """Libraries name objects by their addresses, which differ each time."""
    assert words_of(OSError(said)) == told
