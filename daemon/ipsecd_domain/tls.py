"""Owns which files TLS needs: paths only; must not read them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files; "" for one that is not given."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
