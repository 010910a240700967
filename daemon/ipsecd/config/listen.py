"""Owns the setting that says where metrics are to be had; must not know what they are."""

from __future__ import annotations

from ipsecd.config.reading import absolute_path, integer
from ipsecd.errors import InvalidInput, IpsecdError
from ipsecd.language.addresses import parse_address
from ipsecd.model.addresses import Network
from ipsecd.quoting import quote

_HINT = "write 127.0.0.1:9633, [::1]:9633, or the path of a socket"


def read_listen(text: str) -> str:
    """An address and a port, or an absolute path, as it was written; raises ``InvalidInput``."""
    if text.startswith("/"):
        absolute_path(text)
        # sockaddr_un(7) has 108 bytes, with a NUL at the end.
        if len(text.encode()) > 107:
            raise InvalidInput(f"{quote(text)} is too long for a socket", "at most 107 bytes")
        return text
    address, _, port = text.rpartition(":")
    try:
        network = parse_address(address)
        integer(1, 65535)(port)
    except IpsecdError as error:
        raise InvalidInput(f"{quote(text)} is not where metrics can be had", _HINT) from error
    if not isinstance(network, Network) or network.length != network.family.bits:
        raise InvalidInput(f"{quote(text)} is not where metrics can be had", _HINT)
    return text
