"""Owns the section ``domain`` of the settings: where policies come from that others sign."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from ipsecd.config.reading import SettingsReader, absolute_path
from ipsecd.errors import InvalidInput
from ipsecd.language.yamltree import Node
from ipsecd.quoting import quote

INTERVAL_S = 90 * 60.0
"""Between two looks at the source: that of Group Policy."""
LEAST_INTERVAL_S, MOST_INTERVAL_S = 1.0, 31 * 86_400.0
MAX_WORD = 255

_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")
_SPAN = re.compile(r"([0-9]{1,7})([smhd])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DOORBELL = re.compile(
    r"etcds?://(?P<login>[^@/\s]*:[^@/\s]*@)?[^@/,\s]+:[0-9]{1,5}(,[^@/,\s]+:[0-9]{1,5})*/[^\s]+"
)


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """Where this host has its domain policy from, and what it says of itself.

    ``host`` is None for the host name; ``interval_s`` is in seconds. ``doorbell`` and ``proxy``
    may hold a password.
    """

    source: str
    doorbell: str | None = None
    host: str | None = None
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    interval_s: float = INTERVAL_S
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    proxy: str | None = None
    reports: str | None = None


_WRITE = "write https://HOST/PATH or file:///PATH"
KEYS = (
    "source",
    "doorbell",
    "host",
    "groups",
    "labels",
    "interval",
    "ca",
    "certificate",
    "key",
    "proxy",
    "reports",
)


def read_domain(reader: SettingsReader, node: Node) -> DomainSettings:
    """The settings in the section at `node`; raises ``InvalidInput`` with file and line."""
    reader = reader.within("domain")
    keys = reader.members(node, "domain", KEYS)
    source = reader.scalar(keys, "source", _source, "")
    if not source:
        raise reader.wrong(
            node, "domain has no source", "write source: https://… or source: file:///…"
        )
    missing = {"certificate", "key"} - keys.keys()
    if len(missing) == 1:
        raise reader.wrong(
            node, "domain has one of certificate and key", f"write {missing.pop()} too, or neither"
        )
    return DomainSettings(
        source,
        _optional(reader, keys, "doorbell", _doorbell),
        _optional(reader, keys, "host", _host),
        reader.texts(keys, "groups", _group, ()),
        reader.pairs(keys, "labels", _check_label),
        reader.scalar(keys, "interval", interval_s, INTERVAL_S),
        _path(reader, keys, "ca"),
        _path(reader, keys, "certificate"),
        _path(reader, keys, "key"),
        _optional(reader, keys, "proxy", _proxy),
        _optional(reader, keys, "reports", _source),
    )


def _optional(
    reader: SettingsReader, keys: dict[str, Node], name: str, parse: Callable[[str], str]
) -> str | None:
    return reader.scalar(keys, name, parse, "") or None


def _path(reader: SettingsReader, keys: dict[str, Node], name: str) -> Path | None:
    return reader.scalar(keys, name, absolute_path, Path()) if name in keys else None


def _source(text: str) -> str:
    """A directory on this host, or one that a web server serves with TLS."""
    parts = _split(text)
    path = parts.path.strip("/")
    is_file = parts.scheme == "file" and not parts.netloc and text.startswith("file:///") and path
    is_web = parts.scheme == "https" and bool(parts.hostname)
    if not (is_file or is_web) or "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidInput(
            f"{quote(text)} is no place for policies",
            f"{_WRITE}; who asks is shown by certificate and key",
        )
    return text.rstrip("/")


def _doorbell(text: str) -> str:
    if not text.isprintable() or not _DOORBELL.fullmatch(text):
        # It may hold a password, which no error should show.
        raise InvalidInput(
            "the doorbell is no place in etcd",
            "write etcd://USER:PASSWORD@HOST:2379,HOST:2379/KEY, or etcds:// for TLS",
        )
    return text


def _proxy(text: str) -> str:
    # It may hold a password, which no error should show.
    wrong = InvalidInput("the proxy is no web proxy", "write http://HOST:PORT")
    try:
        parts = _split(text)
    except InvalidInput:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise wrong
    return text


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise InvalidInput(f"{quote(text)} is no URL: {error}", _WRITE) from error
    if not text.isprintable() or " " in text:
        raise InvalidInput(
            f"{quote(text)} is no URL: it holds a space or a sign that none has", _WRITE
        )
    return parts


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise InvalidInput(
            f"{quote(text)} cannot name a host",
            "use letters, digits, dots, dashes and underscores",
        )
    return text


def _group(text: str) -> str:
    if not _GROUP.fullmatch(text):
        raise InvalidInput(
            f"{quote(text)} cannot name a group",
            "use up to 63 letters, digits, dots, dashes and underscores",
        )
    return text


def _check_label(name: str, value: str) -> None:
    if not _LABEL.fullmatch(name) or len(value) > MAX_WORD or not value.isprintable():
        raise InvalidInput(
            f"{quote(name)}: {quote(value)} cannot be a label", "write labels: {site: paris}"
        )


def interval_s(text: str) -> float:
    """A time between two looks: a number with a unit; raises ``InvalidInput``."""
    match = _SPAN.fullmatch(text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match and text.isascii() else 0.0
    if not LEAST_INTERVAL_S <= seconds <= MOST_INTERVAL_S:
        raise InvalidInput(
            f"{quote(text)} is not a time between two looks",
            "write a number of seconds, minutes, hours or days, such as 90m; 31 days at most",
        )
    return float(seconds)
