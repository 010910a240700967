"""Owns which computer a name behind backslashes stands for in the old commands."""

from __future__ import annotations

from ipsecctl.client import Client
from ipsecd.errors import Refused
from ipsecd.quoting import quote, shorten


def check_is_this(client: Client, name: str) -> None:
    """Raise ``Refused`` if `name` is not this computer. "" is, as are its own addresses."""
    if name in ("", ".") or name.lower() == "localhost" or name.startswith("127."):
        return
    if name.lower() == _own_name() or name in _own_addresses(client):
        return
    raise Refused(
        f"{quote(name)} names another computer, and this tool changes this one only",
        f"run it there: ssh {shorten(name)} ipsecctl …",
    )


def _own_name() -> str:
    import socket

    return socket.gethostname().lower()


def _own_addresses(client: Client) -> set[str]:
    interfaces = client.call("ListInterfaces")["interfaces"]
    return {
        str(address).partition("/")[0]
        for interface in interfaces
        for address in interface["addresses"]
    }
