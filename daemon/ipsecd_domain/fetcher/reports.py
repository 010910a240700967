"""Owns how a host reports what it has: an HTTP POST, or a file in a directory."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote, quote_path
from ipsecd_domain.errors import NotFetched, required_packages
from ipsecd_domain.fetcher.directory import directory_of
from ipsecd_domain.fetcher.settings import Domain
from ipsecd_domain.reports import Report, file_name, write_report
from ipsecd_domain.selection import Host


def send_report(domain: Domain, problem: str, interval_s: float) -> None:
    """Say what is in force on this host, and what is wrong; raises ``IpsecdError``."""
    url = domain.settings.reports
    report = report_of(domain, problem, interval_s)
    data = write_report(report)
    scheme = urlsplit(url).scheme
    if scheme == "file":
        _write(directory_of(url) / file_name(report.host), data)
    elif scheme in ("http", "https"):
        with required_packages():
            # It takes longer to import than all the rest, and a directory does not need it.
            from ipsecd_domain.fetcher.web import post  # noqa: PLC0415
        post(url, data, domain.settings.tls, domain.settings.proxy)
    else:
        raise InvalidInput(
            f"{quote(url)} is no place for reports",
            "write https://HOST/PATH or file:///DIRECTORY",
        )


def report_of(domain: Domain, problem: str, interval_s: float) -> Report:
    """The report: of what is in force, since when, and when the next one can be expected."""
    settings = domain.settings
    return Report(
        host=Host(settings.host, settings.groups, settings.labels),
        version=domain.version,
        digest=domain.digest,
        policy=domain.policy,
        withdrawn=domain.withdrawn,
        problem=problem,
        taken=_written(domain.taken_at) if domain.taken_at else "",
        time=_written(time.time()),
        interval_s=interval_s,
    )


def _written(moment: float) -> str:
    """A moment in seconds since the epoch, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _write(path: Path, data: bytes) -> None:
    """Replace the report of this host; who reads it has the old one or the new one."""
    new = path.with_suffix(f".{os.getpid()}.new")
    try:
        # Others may write into the directory: what is there under this name is none of ours.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o644), "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise NotFetched(
            f"the report cannot be written to {quote_path(str(path))}: {error.strerror}",
            "ReadWritePaths= of ipsecd-domain.service must have the directory, and the report of "
            "another user stays his",
        ) from error
