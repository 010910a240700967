"""Owns the reports of hosts, as files in a directory: their form, and what is believed of them.

A report is what a host says of itself, and whoever could write the file may have said it instead:

1. The name of the file says whose it is; a report that claims another host is not used.
2. Whatever exists as a ``Report`` was checked: names are plain words, lengths have limits.
3. One that cannot be used takes nothing from the others, and is named.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipsecd.errors import InvalidInput, IpsecdError, StoreFailed
from ipsecd.quoting import cut, quote, quote_path
from ipsecd_domain.layout import INTERVAL_S, MAX_NAME
from ipsecd_domain.selection import Host

MAX_REPORT_BYTES = 1 << 16
MAX_REPORTS = 100_000
"""Files that a directory may hold."""
MAX_PROBLEM = 2000
"""Characters."""
ENDING = ".json"
_MAX_VERSION = 1 << 53
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_DIGEST = re.compile(r"(?:[0-9a-f]{64})?")


@dataclass(frozen=True)
class Report:
    """What a host says that it has.

    `digest` is the SHA-256 of the policy in hexadecimal, `taken` when it took that and `time` when
    it said so, in UTC by its own clock, `interval_s` the time between two looks. `heard` is when
    the report came, in seconds since the epoch.
    """

    host: Host
    version: int
    digest: str
    policy: str
    withdrawn: bool
    problem: str
    taken: str
    time: str
    interval_s: float
    heard: float = 0.0


@dataclass(frozen=True)
class Unusable:
    """A file that is no report that could be believed, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Reports:
    """All that is in a directory; `open_to_all`: everybody on that host can replace a report."""

    usable: tuple[Report, ...]
    unusable: tuple[Unusable, ...]
    open_to_all: bool


def file_name(host: Host) -> str:
    """The file of a host: in lower case, so that no two files are of one host."""
    return f"{host.name.lower()}{ENDING}"


def write_report(report: Report) -> bytes:
    """The text of a report."""
    return json.dumps(
        {
            "host": report.host.name,
            "groups": list(report.host.groups),
            "labels": dict(report.host.labels),
            "version": report.version,
            "digest": report.digest,
            "policy": report.policy,
            "withdrawn": report.withdrawn,
            "problem": cut(report.problem, MAX_PROBLEM),
            "taken": report.taken,
            "time": report.time,
            "interval_s": report.interval_s,
        }
    ).encode()


def read_report(text: bytes, heard: float) -> Report:
    """The report that `text` is; raises ``InvalidInput``."""
    if len(text) > MAX_REPORT_BYTES:
        raise InvalidInput(f"it is longer than {MAX_REPORT_BYTES:,} bytes")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("it is no JSON") from error
    if not isinstance(given, dict):
        raise InvalidInput("it is no JSON object")
    groups, labels = _member(given, "groups", list), _member(given, "labels", dict)
    _must("groups", all(isinstance(group, str) for group in groups))
    _must("labels", all(isinstance(value, str) for value in labels.values()))
    interval_s = _member(given, "interval_s", int, float)
    version = _member(given, "version", int)
    _must("interval_s", 0 < interval_s <= INTERVAL_S[1])
    _must("version", 0 <= version <= _MAX_VERSION)
    return Report(
        host=Host(_text(given, "host", MAX_NAME), tuple(groups), tuple(sorted(labels.items()))),
        version=version,
        digest=_formed(given, "digest", _DIGEST),
        policy=_text(given, "policy", MAX_NAME),
        withdrawn=_member(given, "withdrawn", bool),
        problem=_text(given, "problem", MAX_PROBLEM + 1),
        taken=_formed(given, "taken", _TIME) if given.get("taken") else "",
        time=_formed(given, "time", _TIME),
        interval_s=float(interval_s),
        heard=heard,
    )


def read_reports(directory: Path) -> Reports:
    """The reports in a directory; raises ``StoreFailed`` if it cannot be read."""
    try:
        mode = directory.stat().st_mode
        names = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(ENDING):
                    names.append(entry.name)
                if len(names) > MAX_REPORTS:
                    raise StoreFailed(
                        f"{quote_path(str(directory))} holds more than {MAX_REPORTS:,} reports",
                        "somebody fills it: see who may write there",
                    )
    except OSError as error:
        raise StoreFailed(
            f"the reports in {quote_path(str(directory))} cannot be read: "
            f"{error.strerror or error}",
            "name the directory that hosts report to",
        ) from error
    usable, unusable = [], []
    for name in sorted(names):
        try:
            usable.append(_read_file(directory, name))
        except FileNotFoundError:
            continue
        except OSError as error:
            unusable.append(Unusable(name, f"it cannot be read: {error.strerror or error}"))
        except IpsecdError as error:
            unusable.append(Unusable(name, error.message))
    return Reports(
        tuple(usable),
        tuple(unusable),
        bool(mode & stat.S_IWOTH and not mode & stat.S_ISVTX),
    )


def _read_file(directory: Path, name: str) -> Report:
    # What is no file, a FIFO for one, must not make us wait, and a link must not lead elsewhere.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(directory / name, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput("it is not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            report = read_report(file.read(MAX_REPORT_BYTES + 1), status.st_mtime)
    finally:
        os.close(descriptor)
    if name != file_name(report.host):
        raise InvalidInput(f"it says that it is of host {quote(report.host.name)}")
    return report


def _member(given: Mapping[str, Any], name: str, *kinds: type) -> Any:
    value = given.get(name)
    # A bool is an int in Python, and none here.
    _must(name, isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)))
    return value


def _text(given: Mapping[str, Any], name: str, most: int) -> str:
    value: str = _member(given, name, str)
    _must(name, len(value) <= most)
    return value


def _formed(given: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value: str = _member(given, name, str)
    _must(name, bool(form.fullmatch(value)))
    return value


def _must(name: str, holds: bool) -> None:
    if not holds:
        raise InvalidInput(f"its {quote(name)} is not as it is written by a host")
