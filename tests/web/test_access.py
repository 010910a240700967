"""Strangers see nothing: whoever has no token, comes from elsewhere, or is not in the groups."""

from __future__ import annotations

import ast
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipsecctl.failures import UsageError
from ipsecctl.web import access
from ipsecctl.web.asking import VIEWED
from ipsecctl.web.listening import listen
from ipsecctl.web.menu import PAGES
from ipsecd.control import METHODS
from ipsecd.control.method import Role
from ipsecd.errors import Refused
from tests.web.serving import Serving, daemon_in, serving
from tests.web.stand_in import OF_OTHERS, StandIn


@pytest.fixture(scope="module")
def asked() -> Iterator[StandIn]:
    """The daemon that the page of this module asks."""
    with tempfile.TemporaryDirectory(prefix="web-") as made:
        fake = daemon_in(Path(made))
        try:
            yield fake
        finally:
            fake.close()


@pytest.fixture(scope="module")
def site(asked: StandIn) -> Iterator[Serving]:
    """One page for all of this module: nothing here changes it."""
    with serving(asked.path) as served:
        served.enter()
        yield served


EVERYTHING = (*PAGES, "style.css", "page.js", "icon.svg", "drops.events", "absent")


def test_only_methods_for_looking_are_called() -> None:
    """The page calls nothing that changes anything, not even if a page of it wanted to."""
    known = {name for name in VIEWED if name in METHODS}
    assert VIEWED - known <= OF_OTHERS
    assert {METHODS[name].role for name in known} == {Role.VIEW}


def test_what_the_pages_ask_is_on_the_list() -> None:
    """Every method that is named in a call is one of those, and each of those is called."""
    package = Path(access.__file__).parent
    called = {
        node.args[0].value
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("ask", "follow")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert called == VIEWED


def test_the_token_gives_a_cookie_for_a_path_that_nobody_knows(site: Serving) -> None:
    """It is kept from scripts, from other sites, and from other ports of this host."""
    answer = site.ask("/?" + site.place.partition("?")[2])
    assert (answer.status, answer.body) == (303, "\n")
    cookie = answer.headers["set-cookie"]
    base = answer.headers["location"]
    assert len(base) > 30
    assert cookie.endswith(f"; Path={base}; HttpOnly; SameSite=Strict")
    assert site.place.partition("token=")[2] not in cookie
    assert site.get("").headers["location"] == "overview"
    assert site.get("overview").status == 200


@pytest.mark.parametrize("page", EVERYTHING)
def test_without_the_cookie_there_is_nothing(site: Serving, asked: StandIn, page: str) -> None:
    """No page, no file, and no word on whether there is one; nothing is asked of the daemon."""
    calls = len(asked.calls)
    for cookie in ("", "ipsecctl-web=", "ipsecctl-web=x", site.cookie[:-1], site.cookie + "x"):
        answer = site.ask(site.base + page, Cookie=cookie)
        assert (answer.status, "token" in answer.body) == (403, True), cookie
        assert "set-cookie" not in answer.headers
    assert {name for name, _ in asked.calls[calls:]} <= {"Stats"}


@pytest.mark.parametrize("token", ["", "x", "%00", "ä", "A" * 3000])
def test_a_wrong_token_gives_nothing(site: Serving, token: str) -> None:
    """Nor does the right one with something after it, or in another place."""
    answer = site.ask(
        f"/?token={token}".encode().decode("latin-1") if token != "ä" else "/?token=%C3%A4"
    )
    assert answer.status == 403
    right = site.place.partition("?")[2]
    assert site.ask(f"/?{right}x").status == 403
    assert site.ask(f"/overview?{right}").status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "evil.example:{port}", "127.0.0.2:{port}", "0:{port}", ""]
)
def test_another_name_of_this_server_is_refused(site: Serving, host: str) -> None:
    """As where somebody's name was made to point to 127.0.0.1 (DNS rebinding)."""
    named = host.format(port=site.authority.rpartition(":")[2])
    right = site.place.partition("?")[2]
    assert site.get("overview", Host=named).status == 421
    assert site.ask(f"/?{right}", Host=named).status == 421


def test_its_own_names_are_taken(site: Serving) -> None:
    """The address, and localhost with the port."""
    port = site.authority.rpartition(":")[2]
    assert site.get("overview", Host=f"localhost:{port}").status == 200
    assert site.get("overview", Host=f"LOCALHOST:{port}").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "whatever"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://{authority}"},
    ],
)
def test_requests_of_other_sites_are_refused(site: Serving, headers: dict[str, str]) -> None:
    """Another port of this host is another site, though its cookies are the same to a browser."""
    given = {name: text.format(authority=site.authority) for name, text in headers.items()}
    assert site.get("overview", **given).status == 403
    right = site.place.partition("?")[2]
    assert site.ask(f"/?{right}", **given).status == 403


@pytest.mark.parametrize("site_of", ["same-origin", "none"])
def test_its_own_requests_are_taken(site: Serving, site_of: str) -> None:
    """Those of its pages, and those of who types the address."""
    assert site.get("overview", Sec_Fetch_Site=site_of).status == 200
    assert site.get("overview", Origin=site.origin).status == 200


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"]
)
def test_it_is_for_looking_only(site: Serving, method: str) -> None:
    """Any other method is refused, and says which there are."""
    answer = site.ask(site.base + "overview", method, Cookie=site.cookie)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_head_is_get_without_the_body(site: Serving) -> None:
    """With the same length, and it ends also where the body would never end."""
    whole = site.get("lists")
    head = site.ask(site.base + "lists", "HEAD", Cookie=site.cookie)
    assert (head.status, head.body) == (200, "")
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert site.ask(site.base + "drops.events", "HEAD", Cookie=site.cookie).body == ""


@pytest.mark.parametrize("page", ["overview", "style.css", "page.js", "absent"])
def test_every_answer_forbids_what_a_page_does_not_need(site: Serving, page: str) -> None:
    """Scripts and files of others, being framed, being kept, being read by others."""
    headers = site.get(page).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


@pytest.mark.parametrize("path", ["../overview", "%2e%2e/x", "style.css/", "a/b", "/", "STYLE.CSS"])
def test_there_is_nothing_but_pages_and_files(site: Serving, path: str) -> None:
    """No path leads out of them."""
    assert site.get(path).status == 404
    assert site.ask("/overview", Cookie=site.cookie).status == 404


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("0.0.0.0:8080", "loopback"),
        ("[::]:8080", "loopback"),
        ("192.0.2.1:8080", "loopback"),
        ("[2001:db8::1]:8080", "loopback"),
        ("example.org:8080", "loopback"),
        ("::1:8080", "loopback"),
        ("127.0.0.1", "no port"),
        ("127.0.0.1:", "no port"),
        ("127.0.0.1:99999", "no port"),
        ("8080", "no port"),
        ("relative/web.sock", "no port"),
    ],
)
def test_only_loopback_is_listened_on(place: str, words: str) -> None:
    """With a hint how to look from elsewhere."""
    with pytest.raises(UsageError, match=words) as refused:
        listen(place)
    assert "ssh -L" in refused.value.hint or "127.0.0.1:PORT" in refused.value.hint


def test_ipv6_loopback(daemon: StandIn) -> None:
    """It is as good as the other one."""
    with serving(daemon.path, "--listen", "[::1]:0") as served:
        assert served.place.startswith("http://[::1]:")
        served.enter()
        assert served.get("overview").status == 200
        assert served.get("overview", Host="[::1]").status == 421


def test_a_port_that_is_taken_is_said(site: Serving) -> None:
    """Who wants a port that somebody else has is told so."""
    with pytest.raises(Refused, match="in use"):
        listen(site.authority)


@pytest.fixture
def by_socket(daemon: StandIn, directory: Path) -> Iterator[Serving]:
    with serving(daemon.path, "--listen", str(directory / "web.sock")) as served:
        yield served


def test_a_socket_needs_no_token(by_socket: Serving) -> None:
    """Root may look, under whatever name a proxy has; from its own site only."""
    assert by_socket.get("overview").status == 200
    assert by_socket.get("overview", Host="fw.example", Origin="https://fw.example").status == 200
    assert by_socket.get("overview", Host="fw.example", Origin="https://evil.example").status == 403
    assert by_socket.get("overview", Sec_Fetch_Site="cross-site").status == 403
    assert by_socket.get("").headers["location"] == "overview"
    assert stat.S_IMODE(Path(by_socket.place).stat().st_mode) == 0o666


CLIENT = """
import os, socket, sys
gid, groups, path = int(sys.argv[1]), [int(g) for g in sys.argv[2].split()], sys.argv[3]
os.setgroups(groups); os.setgid(gid); os.setuid(65534)
c = socket.socket(socket.AF_UNIX); c.connect(path)
try:
    c.sendall(b"GET /overview HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    print(c.recv(12).decode())
except ConnectionError:
    print("")
"""


def as_nobody(path: Path, groups: list[int]) -> str:
    """What a user without any rights gets who is in these groups besides."""
    words = [sys.executable, "-c", CLIENT, "65534", " ".join(map(str, groups)), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_the_groups_of_a_peer_decide(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the daemon: a member of one of the groups may look, and nobody else."""
    directory.chmod(0o755)
    monkeypatch.setattr(access, "_group_id", {"ipsec": 4241, "ipsec-view": 4242}.get)
    path = directory / "web.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        for groups, may in (([], False), ([4240], False), ([4241], True), ([7, 4242], True)):
            script = CLIENT.replace("c.recv(12)", "c.recv(1)")
            words = [sys.executable, "-c", script, "65534", " ".join(map(str, groups)), str(path)]
            with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
                peer, _ = listener.accept()
                with peer:
                    assert access.peer_may_look(peer) is may, groups
                process.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_a_stranger_at_the_socket_gets_no_answer(by_socket: Serving, directory: Path) -> None:
    """Not even a refusal; and who may look still may."""
    directory.chmod(0o755)
    assert as_nobody(Path(by_socket.place), []) == ""
    assert by_socket.get("overview").status == 200


def test_what_is_in_the_way_of_a_socket(directory: Path) -> None:
    """A file stays, and so does a socket that somebody listens on; a stale one is replaced."""
    path = directory / "web.sock"
    path.write_text("mine")
    with pytest.raises(Refused, match="no socket"):
        listen(str(path))
    assert path.read_text() == "mine"
    path.unlink()
    first = listen(str(path))
    with pytest.raises(Refused, match="listens on"):
        listen(str(path))
    first.sock.close()
    second = listen(str(path))
    second.close()
    assert not path.exists()


def test_a_link_in_the_place_of_the_socket_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns the directory has no file of root's opened for everybody."""
    secret, path = tmp_path / "secret", tmp_path / "web.sock"
    secret.touch(0o600)

    class Swapped(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(address)
            path.rename(tmp_path / "was")
            path.symlink_to(secret)

    monkeypatch.setattr(socket, "socket", Swapped)
    listener = listen(str(path))
    try:
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "was").stat().st_mode) == 0o666
    finally:
        listener.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for the port")
def test_the_port_of_http_is_left_out_by_browsers() -> None:
    """There the name alone is this server's too, and elsewhere it is not."""
    for port, wanted in ((80, True), (0, False)):
        listener = listen(f"127.0.0.1:{port}")
        listener.close()
        assert isinstance(listener.gate, access.TokenGate)
        assert ("127.0.0.1" in listener.gate.authorities) is wanted
        assert ("localhost" in listener.gate.authorities) is wanted


def test_a_refusal_tells_of_a_tunnel_that_works() -> None:
    """What is open on the other side must have the name that the server has."""
    with pytest.raises(UsageError) as refused:
        listen("0.0.0.0:8080")
    assert "8080:127.0.0.1:8080" in refused.value.hint
