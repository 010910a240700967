"""Owns the talk with one member of an etcd cluster, over its HTTP gateway and etcd3gw.

What etcd3gw does not have is here: users, limits on what is read, time-outs, and a watch that
reads messages however they are cut up, and keeps none.
"""

from __future__ import annotations

import base64
import binascii
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import requests
from etcd3gw import Etcd3Client
from etcd3gw.exceptions import Etcd3Exception
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ReadTimeoutError

from ipsecd.quoting import shorten
from ipsecd_domain.errors import NotFetched, words_of
from ipsecd_domain.tls import TlsFiles

API = "/v3/"
"""Of etcd 3.4 and later."""
CONNECT_S, ANSWER_S = 5.0, 10.0
MOST_ANSWER, MOST_MESSAGE = 1 << 16, 1 << 16
"""Bytes of an answer, and of one message of a watch: many times what a ring takes."""
PIECE = 4096
_ALIVE = [
    # A member that is gone without a word is noticed within a minute.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]


class Member:
    """One member; every method raises ``NotFetched`` for all that can be wrong with it."""

    def __init__(
        self, host: str, port: int, tls: TlsFiles | None, user: str = "", password: str = ""
    ) -> None:
        """Without `tls` nothing is encrypted; without `user` nobody logs in."""
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._login = {"name": user, "password": password}
        self._client = Etcd3Client(host, port, "https" if tls is not None else "http", api_path=API)
        session = self._client.session
        session.trust_env = False
        # A redirect would take the password elsewhere.
        session.max_redirects = 0
        session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter())
        if tls is not None:
            session.verify = tls.ca or True
            session.cert = (
                (tls.certificate, tls.key or tls.certificate) if tls.certificate else None
            )
        self._logged_in = not user

    def close(self) -> None:
        """Close all connections."""
        self._client.session.close()

    def put(self, key: str, value: str) -> None:
        """Give `key` a value."""
        self._post("/kv/put", {"key": _encoded(key.encode()), "value": _encoded(value.encode())})

    def get(self, key: str) -> tuple[bytes | None, int]:
        """The value of `key`, None without one, and the revision of the store that had it.

        A member answers only with a majority behind it.
        """
        reply = self._post("/kv/range", {"key": _encoded(key.encode())})
        try:
            revision = int(reply["header"]["revision"])
            pairs = reply.get("kvs") or []
            return (_decoded(pairs[0].get("value", "")) if pairs else None), revision
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise self._failed(f"its answer is none ({error!r})") from error

    def watch(self, key: str, revision: int, quiet_s: float) -> Iterator[bytes]:
        """Each value that `key` gets from `revision` on; ends after `quiet_s` without any.

        Of values that came in one message only the last is given.
        """
        self._log_in()
        wanted = {"key": _encoded(key.encode()), "start_revision": revision}
        request: Any = {"create_request": wanted}
        try:
            response = self._client.session.post(
                self._client.get_url("/watch"),
                json=request,
                stream=True,
                timeout=(CONNECT_S, quiet_s),
            )
            with closing(response):
                if response.status_code != 200:
                    raise self._failed(f"a watch was answered with HTTP {response.status_code}")
                for line in _lines(response):
                    value = _last_value(line)
                    if value is not None:
                        yield value
        except requests.Timeout:
            return
        except requests.ConnectionError as error:
            # How requests says that nothing came for so long on a connection that stands.
            if any(isinstance(reason, ReadTimeoutError) for reason in error.args):
                return
            raise self._failed(words_of(error)) from error
        except (requests.RequestException, OSError, ValueError) as error:
            raise self._failed(words_of(error)) from error

    def _log_in(self) -> None:
        if not self._logged_in:
            self._logged_in = True
            reply = self._post("/auth/authenticate", self._login)
            token = reply.get("token")
            if not isinstance(token, str) or not token.isprintable():
                raise self._failed("it gave no token for user and password")
            self._client.session.headers["Authorization"] = token

    def _post(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        self._log_in()
        try:
            reply = self._client.post(self._client.get_url(path), json=message)
        except Etcd3Exception as error:
            raise self._failed(str(error.detail_text or error)) from error
        except (requests.RequestException, OSError, ValueError, RecursionError) as error:
            raise self._failed(words_of(error)) from error
        if not isinstance(reply, dict):
            raise self._failed("its answer is no object")
        return reply

    def _failed(self, why: str) -> NotFetched:
        return NotFetched(
            f"etcd member {self.name} does not answer as it should: {shorten(why.strip())}",
            "see whether it runs, and knows user and password",
        )


class _Adapter(HTTPAdapter):
    """Connections that are known to be alive, with a time-out and a limit on every answer."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, socket_options=_ALIVE)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        *args: Any,
        **options: Any,
    ) -> requests.Response:
        limit = timeout or (CONNECT_S, ANSWER_S)
        response = super().send(request, stream, limit, *args, **options)
        if not stream:
            response.raw = _Bounded(response.raw)
        return response


class _Bounded:
    """The body of an answer, up to what an answer may have."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def stream(self, *args: Any, **options: Any) -> Iterator[bytes]:
        length = 0
        for piece in self._raw.stream(*args, **options):
            length += len(piece)
            if length > MOST_ANSWER:
                raise ValueError(f"its answer is longer than {MOST_ANSWER:,} bytes")
            yield piece

    def close(self) -> None:
        self._raw.close()

    def release_conn(self) -> None:
        self._raw.release_conn()


def _lines(response: requests.Response) -> Iterator[bytes]:
    """The messages of a watch, each a line; raises ``ValueError`` for one that is too long."""
    rest = b""
    for piece in response.iter_content(PIECE):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > MOST_MESSAGE:
            raise ValueError(f"a message is longer than {MOST_MESSAGE:,} bytes")
        yield from filter(None, lines)


def _last_value(line: bytes) -> bytes | None:
    """The value that a message brings, None if it brings none; raises ``ValueError``."""
    try:
        message = json.loads(line)
        if "error" in message:
            raise ValueError(f"the watch failed: {message['error']}")
        result = message["result"]
        if result.get("canceled"):
            raise ValueError(f"the watch was ended: {result.get('cancel_reason', '')}")
        values = [
            event["kv"].get("value", "")
            for event in result.get("events", [])
            if event.get("type", "PUT") == "PUT"
        ]
        return _decoded(values[-1]) if values else None
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"a message of the watch is none: {error!r}") from error


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decoded(text: str) -> bytes:
    """The bytes that base64 stands for; raises ``ValueError``."""
    try:
        return base64.b64decode(text)
    except (binascii.Error, TypeError) as error:
        raise ValueError("it is not in base64") from error
