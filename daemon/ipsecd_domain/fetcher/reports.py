"""Owns how a host reports what it has: an HTTP POST, or a file in a directory."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote, quote_path
from ipsecd_domain.errors import NotFetched, required_packages
from ipsecd_domain.fetcher.directory import directory_of
from ipsecd_domain.fetcher.settings import Domain

_NOT_IN_NAMES = re.compile(r"^\.+|[^A-Za-z0-9._-]+")


def send_report(domain: Domain, problem: str) -> None:
    """Say what is in force on this host, and what is wrong; raises ``IpsecdError``."""
    url = domain.settings.reports
    data = json.dumps(report_of(domain, problem)).encode()
    scheme = urlsplit(url).scheme
    if scheme == "file":
        _write(directory_of(url), domain.settings.host, data)
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


def report_of(domain: Domain, problem: str) -> dict[str, object]:
    """The report: of what is in force, its version and digest; the time is in UTC."""
    return {
        "host": domain.settings.host,
        "version": domain.version,
        "digest": domain.digest,
        "policy": domain.policy,
        "withdrawn": domain.withdrawn,
        "problem": problem,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _write(directory: Path, host: str, data: bytes) -> None:
    """Replace the report of this host; who reads it has the old one or the new one."""
    path = directory / f"{_NOT_IN_NAMES.sub('_', host)}.json"
    new = path.with_suffix(f".{os.getpid()}.new")
    try:
        new.write_bytes(data)
        new.chmod(0o644)
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise NotFetched(
            f"the report cannot be written to {quote_path(str(path))}: {error.strerror}",
            "ReadWritePaths= of ipsecd-domain.service must have the directory",
        ) from error
