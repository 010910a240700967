"""Owns the errors of the fetcher that the rest of domain policy does not have."""

from __future__ import annotations

from ipsecd.errors import IpsecdError
from ipsecd_domain.errors import NotFetched


class TookTooLong(NotFetched):
    """The time that a look may take is over."""


class DaemonUnreachable(IpsecdError):
    """The daemon does not listen, or ended the connection without an answer."""
