"""Owns which kinds of sources there are, by the scheme of a URL."""

from __future__ import annotations

from urllib.parse import urlsplit

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote
from ipsecd_domain.errors import required_packages
from ipsecd_domain.fetcher.directory import DirectorySource, directory_of
from ipsecd_domain.fetcher.settings import Settings
from ipsecd_domain.fetcher.source import Source


def open_source(settings: Settings) -> Source:
    """The source that `settings` name; raises ``InvalidInput`` if it is none."""
    scheme = urlsplit(settings.source).scheme
    if scheme == "file":
        return DirectorySource(directory_of(settings.source))
    if scheme in ("http", "https"):
        with required_packages():
            # It takes longer to import than all the rest, and a directory does not need it.
            from ipsecd_domain.fetcher.web import WebSource  # noqa: PLC0415
        return WebSource(settings.source, settings.tls, settings.proxy)
    raise InvalidInput(
        f"{quote(settings.source)} is not a source of a domain policy",
        "write https://HOST/PATH or file:///DIRECTORY",
    )
