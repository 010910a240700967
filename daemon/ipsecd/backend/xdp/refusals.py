"""Owns what programs refuse, and the words of it."""

from __future__ import annotations

from collections.abc import Iterable

from ipsecd.backend.xdp.program import unknown_to_programs
from ipsecd.compiler.classifier import HasTableId
from ipsecd.errors import LimitExceeded, Refused


def require_all_known(tables: Iterable[HasTableId]) -> None:
    """Raise ``Refused`` for what programs do not know, where nobody judges after them."""
    if unknown := unknown_to_programs(tables):
        raise Refused(
            f"this kernel has no nf_tables, and programs do not know {unknown}",
            "name addresses or ports, or use a kernel with nf_tables",
        )


def require_few_steps(steps: int, limit: int) -> None:
    """Raise ``LimitExceeded`` for a policy of more steps than a packet can take."""
    if steps > limit:
        raise LimitExceeded(
            f"the policy needs {steps} look-ups for one packet, and the XDP backend can do "
            f"{limit} on this kernel",
            "use fewer different port ranges and address lengths, or backend: nftables",
        )
