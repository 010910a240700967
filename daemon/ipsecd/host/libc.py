"""Owns how a failure of a function of the C library is told in Python."""

from __future__ import annotations

import ctypes
import os


def last_error() -> OSError:
    """The error to raise after a function of a library that was loaded with ``use_errno``."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
