"""Owns the set that says what the other sets hold; sends nothing and reads nothing.

The next process compares it with what it wants, and need not fill those sets anew. Invariants:

1. It names a set only while that holds exactly this content: the name comes with the last elements
   of the set, and goes with the first change of them, in the same transactions.
2. The first transaction of a process leaves only names of sets that this process relies on. So a
   set that is made later may have the serial number of one that is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from ipsecd import __version__
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.elements import add_elements, delete_elements, element
from ipsecd.backend.nftables.naming import CONTENTS, TABLE
from ipsecd.backend.nftables.wire import Message

_NAME_BYTES = 16
_KEY_BYTES = _NAME_BYTES + hashlib.sha256().digest_size
_KEY_TYPES = (8,) * (_KEY_BYTES // 16)
"""Three IPv6 addresses in a row: the only type of nft that is long enough."""


def key_of(set_name: str, digest: str) -> bytes:
    """The element that says that a set holds the content of a digest, as this version writes it.

    Another version may lay out the same content in another way.
    """
    content = f"{__version__} {digest}"
    return name_part(set_name) + hashlib.sha256(content.encode()).digest()


@lru_cache(maxsize=1024)
def name_part(set_name: str) -> bytes:
    """What all elements about a set begin with."""
    return hashlib.sha256(set_name.encode()).digest()[:_NAME_BYTES]


def complete(set_name: str, digest: str) -> Message:
    """Say that a set holds the content of a digest."""
    return add_elements(TABLE, CONTENTS, element(key_of(set_name, digest)))


def no_longer(set_name: str, digest: str) -> Message:
    """Say no longer that a set holds the content of a digest."""
    return delete_elements(TABLE, CONTENTS, element(key_of(set_name, digest)))


def creation(keys: Iterable[bytes] = ()) -> list[Message]:
    """Have the set there, with these elements and no others."""
    # Without a size it takes as many elements as it is given.
    create = nft.new_set(TABLE, CONTENTS, _KEY_TYPES, _KEY_BYTES, 0, 0, exclusive=False)
    elements = b"".join(map(element, keys))
    added = [add_elements(TABLE, CONTENTS, elements)] if elements else []
    return [create, delete_elements(TABLE, CONTENTS), *added]


def about_others(present: Iterable[bytes], set_names: Iterable[str]) -> list[Message]:
    """Delete those of the elements `present` that are about other sets than `set_names`."""
    kept = set(map(name_part, set_names))
    stale = [key for key in present if key[:_NAME_BYTES] not in kept]
    return [delete_elements(TABLE, CONTENTS, element(key)) for key in stale]
