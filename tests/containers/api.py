"""Asks the API service of an engine about its containers."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

SILENCE_S = 60
"""How long an answer may take."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SILENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SILENCE_S)
        self.sock.connect(str(self._path))


def ask(path: Path, target: str) -> dict[str, Any]:
    """What the service behind a socket answers to a request for `target`."""
    with closing(_Connection(path)) as connection:
        connection.request("GET", target)
        response = connection.getresponse()
        said = response.read()
    assert response.status == http.HTTPStatus.OK, (target, said)
    return dict(json.loads(said))
