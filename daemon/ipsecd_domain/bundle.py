"""Owns what a fetcher hands over, files of a repository; must not judge them.

They are JSON on one line, and behind it the lists, end to end: in the JSON there are their lengths,
by their SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ipsecd.errors import InvalidInput
from ipsecd.quoting import count
from ipsecd_domain.errors import Missing, NotFetched
from ipsecd_domain.layout import unhashed

MAX_BYTES = 32 << 20
"""Of a bundle: the longest policy document, escaped, with its metadata beside it."""
MAX_FILES = 400
METADATA, TARGETS = "metadata/", "targets/"


@dataclass(frozen=True)
class Bundle:
    """Files as they were fetched: of metadata by their names, of targets by their paths."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)

    def fetch(self, path: str, most: int) -> bytes:
        """The file that a repository has at `path`; raises ``Missing`` if it is not here."""
        if path.startswith(METADATA):
            text = self.metadata.get(path.removeprefix(METADATA))
        else:
            text = self.targets.get(unhashed(path.removeprefix(TARGETS)))
        if text is None:
            raise Missing(f"{path} was not handed over", "let the fetcher look again")
        content = text.encode("utf-8", "surrogatepass")
        if len(content) > most:
            raise NotFetched(
                f"{path} has {count(len(content), 'byte')}, and at most {most:,} are taken",
                "let the fetcher look again",
            )
        return content


def read_bundle(given: object) -> Bundle:
    """The bundle that a JSON value is; raises ``InvalidInput``."""
    if not isinstance(given, dict) or set(given) - {"metadata", "targets"}:
        raise _no_bundle("it is not an object with metadata and targets")
    return Bundle(
        read_texts(given.get("metadata", {})),
        read_texts(given.get("targets", {})),
    )


def read_texts(given: object) -> Mapping[str, str]:
    """A JSON object of texts; raises ``InvalidInput``."""
    if not isinstance(given, dict) or len(given) > MAX_FILES:
        raise _no_bundle(f"files are an object of at most {MAX_FILES} texts")
    for text in given.values():
        if not isinstance(text, str):
            raise _no_bundle("a file in it is no text")
    return given


def write_bundle(bundle: Bundle, lists: Mapping[str, bytes] | None = None) -> tuple[bytes, ...]:
    """A bundle with lists by their SHA-256: the pieces of it, which may be long."""
    document: dict[str, dict[str, Any]] = {
        "metadata": dict(bundle.metadata),
        "targets": dict(bundle.targets),
    }
    if lists:
        document["lists"] = {digest: len(content) for digest, content in lists.items()}
    line = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return (line, b"\n", *lists.values()) if lists else (line,)


def _no_bundle(why: str) -> InvalidInput:
    return InvalidInput(f"what was handed over is no bundle of a repository: {why}")
