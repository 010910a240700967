"""Owns the file descriptors that clients pass: all are closed, and reading has a limit."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from ipsecd.errors import LimitExceeded, Refused
from ipsecd.language import address_lists
from ipsecd.language.reading import MAX_BYTES
from ipsecd.model.packed_form import MAX_CARRIED_BYTES

MAX_DOCUMENT_BYTES = MAX_BYTES
MAX_LIST_BYTES = address_lists.MAX_BYTES
MAX_BUNDLE_BYTES = 2 * MAX_BYTES + MAX_CARRIED_BYTES
"""A policy document, escaped, with what vouches for it, and the lists that the policy carries."""

MAX_REST_BYTES = 4 * MAX_BYTES
"""Policies and shared filters, with their line breaks and quotes escaped."""


class Descriptors:
    """The descriptor that a connection has received and no call has taken yet, at most one."""

    def __init__(self) -> None:
        self._held: int | None = None

    def add(self, received: Iterable[int]) -> None:
        """Keep the first of `received` if there is none yet, and close all others."""
        for descriptor in received:
            if self._held is None:
                self._held = descriptor
            else:
                os.close(descriptor)

    def take(self) -> int | None:
        """The descriptor, which the caller must close from now on; None if there is none."""
        descriptor, self._held = self._held, None
        return descriptor

    def close(self) -> None:
        """Close the descriptor if no call has taken it."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


def read_document(descriptor: int, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """All that the file behind `descriptor` holds, from its beginning; leaves it open.

    Only regular files and memfds are read: others may block or never end. Raises ``Refused``
    for those and for what cannot be read, ``LimitExceeded`` beyond `max_bytes`.
    """
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused(
                "the file descriptor that was passed is not a regular file",
                "pass an open file or a memfd, not a pipe, socket, terminal or directory",
            )
        pieces = []
        offset = 0
        while piece := os.pread(descriptor, max_bytes + 1 - offset, offset):
            pieces.append(piece)
            offset += len(piece)
            if offset > max_bytes:
                raise LimitExceeded(
                    f"the document is larger than {max_bytes} bytes",
                    "split it, or merge what it holds",
                )
    except OSError as error:
        raise Refused(
            f"the file descriptor that was passed cannot be read: {error.strerror}",
            "open the file for reading",
        ) from error
    return b"".join(pieces)
