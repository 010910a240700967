"""Owns how a repository that somebody names on a command line is read: by the fetcher's sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ipsecd.quoting import quote
from ipsecd_domain.errors import DomainError, required_packages
from ipsecd_domain.fetcher.directory import DirectorySource, directory_of
from ipsecd_domain.tls import TlsFiles


def reader(place: str, tls: TlsFiles | None = None, proxy: str = "") -> Callable[[str, int], bytes]:
    """What gives the files of the repository at `place`: a path, ``file://`` or ``https://``.

    Without TLS a root that is to be trusted could come from anybody, so ``http://`` is refused.
    """
    scheme, sign, _ = place.partition("://")
    if not sign:
        return DirectorySource(Path(place)).read
    if scheme == "file":
        return DirectorySource(directory_of(place)).read
    if scheme != "https":
        raise DomainError(
            f"{quote(place)} is no repository that can be read from here",
            "name a directory, file:///PATH or https://HOST/PATH",
        )
    with required_packages():
        from ipsecd_domain.fetcher.web import WebSource  # noqa: PLC0415 - a directory needs none
    return WebSource(place, tls or TlsFiles(), proxy).read
