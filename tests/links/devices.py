"""Owns what takes more than ``ip``: tun and tap with a relay, WireGuard, the mode of a team."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import select
import socket
import struct
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pyroute2 import WireGuard
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, genlmsg, nla
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

from tests.links.ground import Build, CannotBuild, Ground, at_host, at_peer
from tests.links.probes import within
from tests.netns.site import HERE4, PEER, PEER4

TUN = Path("/dev/net/tun")
TUNSETIFF, IFF_TUN, IFF_TAP, IFF_NO_PI = 0x400454CA, 1, 2, 0x1000


@contextmanager
def opened(namespace: str | None, flags: int) -> Iterator[int]:
    """The device ``link0`` of a namespace as a file."""
    if not TUN.exists():  # udev would make it, and opening it would load the module
        subprocess.run(["modprobe", "tun"], check=False)
    with ExitStack() as stack:
        with within(namespace):
            try:
                descriptor = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
                stack.callback(os.close, descriptor)
                fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", b"link0", flags))
            except OSError as error:
                raise CannotBuild(os.strerror(error.errno or 0), str(TUN)) from error
        yield descriptor


def relayed(*, tap: bool = False, information: bool = False) -> Build:
    """A device on each side, and a relay between them in the place of a program like a VPN."""
    flags = (IFF_TAP if tap else IFF_TUN) | (0 if information else IFF_NO_PI)

    @contextmanager
    def build(ground: Ground) -> Iterator[None]:
        with opened(None, flags) as here, opened(PEER, flags) as there, _relay(here, there):
            ground.host(at_host("link0"))
            ground.peer(at_peer("link0"))
            yield

    return build


@contextmanager
def _relay(here: int, there: int) -> Iterator[None]:
    """Carry what comes out of either device into the other, until the end."""
    ended, end = os.pipe()

    def carry() -> None:
        opposite = {here: there, there: here}
        while ended not in (ready := select.select([here, there, ended], [], [])[0]):
            for device in ready:
                with suppress(OSError):
                    os.write(opposite[device], os.read(device, 65535))

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield
    finally:
        os.close(end)
        thread.join()
        os.close(ended)


@contextmanager
def wireguard(ground: Ground) -> Iterator[None]:
    ground.host("link add link0 type wireguard")
    ground.peer("link add link0 type wireguard")
    keys = [_keys(None), _keys(PEER)]
    for namespace, public_key, endpoint in ((None, keys[1], PEER4), (PEER, keys[0], HERE4)):
        remote = {
            "public_key": public_key,
            "endpoint_addr": endpoint,
            "endpoint_port": 51820,
            "allowed_ips": ["0.0.0.0/0", "::/0"],
        }
        with within(namespace), WireGuard() as device:
            device.set("link0", peer=remote)
    ground.host(at_host("link0"))
    ground.peer(at_peer("link0"))
    yield


def _keys(namespace: str | None) -> str:
    """Give a device a private key and a port; its public key, as the kernel works it out."""
    with within(namespace), WireGuard() as device:
        private = b64encode(secrets.token_bytes(32)).decode()
        device.set("link0", private_key=private, listen_port=51820)
        public: bytes = device.info("link0")[0].get("WGDEVICE_A_PUBLIC_KEY")
        return public.decode()


class _TeamMessage(genlmsg):  # type: ignore[misc]
    """``TEAM_CMD_OPTIONS_SET`` of linux/if_team.h."""

    nla_map = (
        ("TEAM_ATTR_UNSPEC", "none"),
        ("TEAM_ATTR_TEAM_IFINDEX", "uint32"),
        ("TEAM_ATTR_LIST_OPTION", "options"),
    )

    class options(nla):  # type: ignore[misc] # noqa: N801
        nla_map = (("TEAM_ATTR_ITEM_UNSPEC", "none"), ("TEAM_ATTR_ITEM_OPTION", "option"))

        class option(nla):  # type: ignore[misc] # noqa: N801
            nla_map = (
                ("TEAM_ATTR_OPTION_UNSPEC", "none"),
                ("TEAM_ATTR_OPTION_NAME", "asciiz"),
                ("TEAM_ATTR_OPTION_CHANGED", "flag"),
                ("TEAM_ATTR_OPTION_TYPE", "uint8"),
                ("TEAM_ATTR_OPTION_DATA", "asciiz"),
            )


def set_team_mode(name: str, mode: str) -> None:
    """What ``teamd`` would do first: without a mode a team carries nothing."""
    option = [
        ("TEAM_ATTR_OPTION_NAME", "mode"),
        ("TEAM_ATTR_OPTION_TYPE", 5),  # NLA_STRING
        ("TEAM_ATTR_OPTION_DATA", mode),
    ]
    message = _TeamMessage()
    message["cmd"], message["version"] = 1, 1
    message["attrs"] = [
        ("TEAM_ATTR_TEAM_IFINDEX", socket.if_nametoindex(name)),
        ("TEAM_ATTR_LIST_OPTION", {"attrs": [("TEAM_ATTR_ITEM_OPTION", {"attrs": option})]}),
    ]
    with GenericNetlinkSocket() as sock:
        sock.bind("team", _TeamMessage)
        try:
            sock.nlm_request(message, msg_type=sock.prid, msg_flags=NLM_F_REQUEST | NLM_F_ACK)
        except NetlinkError as error:
            if error.code == errno.ESRCH:  # it is set, and nobody listens for the news of it
                return
            raise CannotBuild(str(error), "the mode of a team") from error
