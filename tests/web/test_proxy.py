"""The configuration of nginx in the guide, which stands in front of the page."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.domain.certificates import Authority
from tests.domain.servers import guided_nginx
from tests.netns.site import PATIENCE
from tests.web.serving import serving
from tests.web.stand_in import PACKET, StandIn

pytestmark = [pytest.mark.netns, pytest.mark.timeout(int(120 * PATIENCE))]

GUIDE = Path(__file__).parents[2] / "docs/web.md"
PORT = 8444
AUTHORITY = f"fw1.example.net:{PORT}"
PASSWORD = base64.b64encode(b"ann:secret").decode()


@pytest.fixture
def proxy(directory: Path, daemon: StandIn) -> Iterator[Authority]:
    """Nginx in front of a page, as the guide has it but for its paths."""
    authority = Authority(directory)
    files = authority.certify("fw1")
    users = directory / "users"
    users.write_text("ann:{PLAIN}secret\n")
    places = {
        "/etc/ssl/fw1.pem": files.certificate,
        "/etc/ssl/private/fw1.key": files.key,
        "/etc/nginx/fw1.users": str(users),
        "/run/ipsecd-web/web.sock": f"{directory}/web.sock",
    }
    server = guided_nginx(GUIDE, "", directory, PORT, places)
    with serving(daemon.path, "--listen", str(directory / "web.sock")):
        try:
            server.start()
            yield authority
        finally:
            server.kill()


def connect() -> ssl.SSLSocket:
    context = ssl.create_default_context()
    # Whose certificate it is matters to a browser, and not to what is tried here.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", PORT), timeout=60)
    return context.wrap_socket(plain, server_hostname="fw1.example.net")


def request(page: str, **headers: str) -> bytes:
    named = {"Host": AUTHORITY, "Connection": "close", **headers}
    lines = [f"{name.replace('_', '-')}: {text}" for name, text in named.items()]
    return "\r\n".join([f"GET /{page} HTTP/1.1", *lines, "", ""]).encode()


def get(page: str, **headers: str) -> bytes:
    received = b""
    with connect() as connection:
        connection.sendall(request(page, **headers))
        while piece := connection.recv(1 << 16):
            received += piece
    return received


@pytest.mark.usefixtures("proxy")
def test_who_passes_the_proxy_sees_the_page() -> None:
    """And nobody else; requests of other sites are refused here as they are without it."""
    known = f"Basic {PASSWORD}"
    assert get("overview").startswith(b"HTTP/1.1 401 ")
    page = get("overview", Authorization=known)
    assert page.startswith(b"HTTP/1.1 200 ")
    assert b"Enforcing" in page
    assert b"frame-ancestors 'none'" in page
    own = {"Authorization": known, "Origin": f"https://{AUTHORITY}"}
    assert get("overview", **own).startswith(b"HTTP/1.1 200 ")
    other = {"Authorization": known, "Origin": "https://evil.example"}
    assert get("overview", **other).startswith(b"HTTP/1.1 403 ")


@pytest.mark.usefixtures("proxy")
def test_packets_come_through_the_proxy_as_they_are_told(daemon: StandIn) -> None:
    """It keeps none back until there are more."""
    with connect() as connection:
        connection.sendall(request("drops.events", Authorization=f"Basic {PASSWORD}"))
        received = b""
        while b'"whole": true' not in received:
            received += connection.recv(1 << 16)
        daemon.followed()
        daemon.tell(PACKET)
        while b"203.0.113.7:4000" not in received:
            received += connection.recv(1 << 16)
