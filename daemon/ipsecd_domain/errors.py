"""Owns the errors of domain policy, as one branch of the project's tree; must not raise any."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ipsecd.errors import Refused
from ipsecd.quoting import quote, shorten

_OBJECT = re.compile(r"<[^<>]* at 0x[0-9a-f]+>(, |: )?")


class DomainError(Refused):
    """Something of a domain policy is not as it has to be; what is in force stays in force."""


class NotFetched(DomainError):
    """A file could not be had: its source cannot be reached, or does not answer as it should."""


class Missing(NotFetched):
    """The source was reached, and says that it has no such file."""


class NotTrusted(DomainError):
    """What a source gave is not signed as it must be, is older than what is here, or no policy."""


class Expired(NotTrusted):
    """What a source gave has expired: nobody has renewed it, or somebody withholds that."""


class NotInstalled(DomainError):
    """A Python package is missing that domain policy needs."""


def words_of(error: Exception) -> str:
    """What an error of a library says, without addresses in memory.

    They are another each time, so that the same error would be told again and again.
    """
    return shorten(_OBJECT.sub("", str(error)))


@contextmanager
def required_packages() -> Iterator[None]:
    """Turn the absence of a package that the block imports into ``NotInstalled``."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"domain policy needs the Python package {quote(error.name or '')}, which is not here",
            "install it with 'pip install ipsecd[domain]', or from the distribution",
        ) from error
