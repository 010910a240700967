"""Owns how a fleet is told that a repository has changed, where it has a doorbell."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ipsecctl.options import Options
from ipsecd_domain.doorbell import parse_doorbell, ring
from ipsecd_domain.tls import TlsFiles

VARIABLE = "IPSECD_DOORBELL"
"""Names the doorbell where ``--doorbell`` does not: everybody on this host sees a command line."""


def doorbell_of(options: Options) -> str:
    """The doorbell that was given, "" if none was; raises ``InvalidInput`` before any change."""
    url = options.value("--doorbell") or os.environ.get(VARIABLE) or ""
    if url:
        parse_doorbell(url)
    return url


def tell_fleet(options: Options, repository: Path, version: int) -> None:
    """Ring for what is in `repository` now; raises ``NotFetched`` if nobody takes it."""
    url = doorbell_of(options)
    if url:
        timestamp = (repository / "metadata/timestamp.json").read_bytes()
        files = TlsFiles(ca=options.value("--doorbell-ca") or "")
        ring(url, version, hashlib.sha256(timestamp).hexdigest(), files)
