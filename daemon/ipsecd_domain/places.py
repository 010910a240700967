"""Owns how a repository that an operator names is read, once: a directory, or a web server.

Hosts that follow a repository have a fetcher of their own for that.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ipsecd.quoting import quote, quote_path
from ipsecd_domain.errors import DomainError, Missing, NotFetched

_TIMEOUT_S = 30.0
_CHECK = "check the path or the URL, and whether it can be reached from here"


def reader(place: str) -> Callable[[str, int], bytes]:
    """What gives the files of the repository at `place`: a path, ``file://`` or ``https://``."""
    parts = urlsplit(place)
    if parts.scheme == "https":
        return lambda path, most: _from_server(f"{place.rstrip('/')}/{path}", most)
    if parts.scheme == "file" and not parts.netloc:
        return lambda path, most: _from_directory(Path(unquote(parts.path)), path, most)
    if "://" in place:
        raise DomainError(
            f"{quote(place)} is no repository that can be read from here",
            "name a directory, file:///PATH or https://HOST/PATH",
        )
    return lambda path, most: _from_directory(Path(place), path, most)


def _from_directory(directory: Path, path: str, most: int) -> bytes:
    try:
        with (directory / path).open("rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError as error:
        raise Missing(f"there is no {path} in {quote_path(str(directory))}", _CHECK) from error
    except OSError as error:
        raise NotFetched(
            f"cannot read {path} in {quote_path(str(directory))}: {error.strerror or error}", _CHECK
        ) from error
    return _short(content, path, most)


def _from_server(url: str, most: int) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - https only
            content: bytes = answer.read(most + 1)
    except urllib.error.HTTPError as error:
        kind = Missing if error.code in (403, 404) else NotFetched
        raise kind(f"{quote(url)}: {error.code} {error.reason}", _CHECK) from error
    except (OSError, ValueError) as error:
        raise NotFetched(f"{quote(url)} cannot be had: {error}", _CHECK) from error
    return _short(content, url, most)


def _short(content: bytes, path: str, most: int) -> bytes:
    if len(content) > most:
        raise NotFetched(f"{quote(path)} is longer than {most:,} bytes", _CHECK)
    return content
