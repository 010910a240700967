"""Owns loading those parts of pyroute2 that encode nf_tables messages, and none of the others.

The package loads all that it has as soon as it is imported: a database of interfaces, tools for
wireless links, an implementation of 9P and more. At every start that would take 0.2 s of a
processor, and 8 MB for as long as the daemon lives. Its modules can be had without that: the
package has its place in the table of modules while they are loaded, and runs nothing. What others
import from ``pyroute2`` later, as ``IPRoute``, is loaded then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType

PACKAGE = "pyroute2"


@contextmanager
def _without_the_package() -> Iterator[None]:
    """Have modules of the package imported in the block, and not what the package itself runs."""
    spec = None if PACKAGE in sys.modules else find_spec(PACKAGE)
    if spec is None:
        # It is there already, or the import in the block says that it is missing.
        yield
        return
    place = ModuleType(PACKAGE)
    place.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[PACKAGE] = place
    try:
        yield
    finally:
        del sys.modules[PACKAGE]


with _without_the_package():
    from pyroute2.netlink import nla
    from pyroute2.netlink.nfnetlink import nfgen_msg
    from pyroute2.netlink.nfnetlink import nftsocket as nft

__all__ = ["nfgen_msg", "nft", "nla"]
