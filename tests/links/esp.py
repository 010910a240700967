"""Owns links whose packets are encrypted by xfrm: ESP, AH, with and without a device of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.links.ground import (
    HOST4,
    HOST6,
    PEER4,
    PEER6,
    PORT,
    Build,
    Ground,
    Kind,
    at_host,
    at_peer,
    scripts,
)
from tests.links.probes import within
from tests.netns import site
from tests.netns.site import PEER

CIPHER = f"aead 'rfc4106(gcm(aes))' 0x{'5a' * 20} 128"
DIGEST = f"auth 'hmac(sha256)' 0x{'5a' * 32}"
UDP_ENCAP, UDP_ENCAP_ESPINUDP = 100, 2
INNER = {4: (HOST4, PEER4), 6: (HOST6, PEER6)}
OUTER = {4: (site.HERE4, site.PEER4), 6: (site.HERE6, site.PEER6)}


@dataclass(frozen=True)
class Security:
    """The states and policies of one end of a connection, as lines of ``ip``.

    Policies are for UDP and TCP alone, so that neighbours are found in the clear. Each is asked for
    on the way in too: what comes unprotected is refused.
    """

    mode: str
    words: str = CIPHER
    protocol: str = "esp"
    encapsulation: str = ""

    def lines(self, *, here: bool, if_id: str = "", if_id_in: str = "") -> str:
        lines = []
        for version, inner in INNER.items():
            outer = inner if self.mode == "transport" else OUTER[version]
            host, peer = outer
            for number, (source, destination) in enumerate(((host, peer), (peer, host))):
                outwards = here == (number == 0)
                mark = if_id if outwards else if_id or if_id_in
                ways = f"src {source} dst {destination}"
                lines.append(
                    f"xfrm state add {ways} proto {self.protocol} spi {0x100 + number} "
                    f"mode {self.mode} {self.words} {self.encapsulation} {mark}"
                )
                selector = f"src {inner[number]} dst {inner[1 - number]}"
                lines += [
                    f"xfrm policy add {selector} proto {protocol} "
                    f"dir {'out' if outwards else 'in'} {mark} "
                    f"tmpl {ways} proto {self.protocol} mode {self.mode}"
                    for protocol in ("udp", "tcp")
                ]
        return "\n".join(lines)


def secured(host: str, peer: str) -> Build:
    """Builds a link by lines of ``ip``; states and policies of both ends go afterwards."""

    @contextmanager
    def build(ground: Ground) -> Iterator[None]:
        try:
            with scripts(host, peer)(ground):
                yield
        finally:
            for flush in (ground.host, ground.peer):
                flush("xfrm state flush\nxfrm policy flush")

    return build


def without_device(security: Security) -> Build:
    """Addresses on a wire of their own; states and policies, and no device for them."""
    return secured(
        PORT + at_host("port0") + security.lines(here=True),
        at_peer("port1") + security.lines(here=False),
    )


DEVICE = "link add link0 type xfrm dev {wire} if_id 7\n"
TUNNEL, TRANSPORT = Security("tunnel"), Security("transport")


@contextmanager
def in_udp(ground: Ground) -> Iterator[None]:
    """ESP in UDP, as behind address translation; a socket at each end takes it off."""
    security = Security("tunnel", encapsulation="encap espinudp 4500 4500 0.0.0.0")
    with ExitStack() as stack:
        for namespace in (None, PEER):
            for family in (socket.AF_INET, socket.AF_INET6):
                with within(namespace):
                    sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(("", 4500))
                sock.setsockopt(socket.IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP)
        with without_device(security)(ground):
            yield


KINDS = (
    Kind("ESP transport mode", without_device(TRANSPORT)),
    Kind("ESP tunnel mode", without_device(TUNNEL)),
    Kind(
        "ESP transport mode, in through an xfrm interface",
        secured(
            PORT
            + at_host("port0")
            + DEVICE.format(wire="port0")
            + "link set link0 up\n"
            + TRANSPORT.lines(here=True, if_id_in="if_id 7"),
            at_peer("port1") + TRANSPORT.lines(here=False),
        ),
    ),
    Kind(
        "xfrm interface (ESP tunnel mode)",
        secured(
            DEVICE.format(wire="wire0")
            + at_host("link0")
            + TUNNEL.lines(here=True, if_id="if_id 7"),
            DEVICE.format(wire="wire1")
            + at_peer("link0")
            + TUNNEL.lines(here=False, if_id="if_id 7"),
        ),
    ),
    Kind("ESP in UDP, tunnel mode", in_udp),
    Kind(
        "ESP transport mode, without encryption",
        without_device(Security("transport", f"{DIGEST} enc 'ecb(cipher_null)' ''")),
    ),
    Kind("AH transport mode", without_device(Security("transport", DIGEST, "ah"))),
)
