"""Owns what programs refuse of a policy, and the words for it."""

from __future__ import annotations

from collections.abc import Iterable

from ipsecd.backend.xdp import abi
from ipsecd.backend.xdp.program import audits, count_steps, unknown_to_programs
from ipsecd.compiler.classifier import Classifier, HasTableId
from ipsecd.errors import LimitExceeded, Refused


def must_fit(classifier: Classifier, limit: int) -> None:
    """Raise ``LimitExceeded`` for a policy of more steps than the `limit` for one packet."""
    steps = count_steps(classifier)
    if steps > limit:
        raise LimitExceeded(
            f"the policy needs {steps} look-ups for one packet, and the XDP backend can do "
            f"{limit} on this kernel",
            "use fewer different port ranges and address lengths, or backend: nftables",
        )


def must_be_known(tables: Iterable[HasTableId], most_steps: int) -> None:
    """Raise ``Refused`` for what programs do not know, where nobody else judges.

    `most_steps` tells how they walk: what takes no more than can be unrolled leaves audited packets
    to whoever judges after it.
    """
    tables = [*tables]
    unknown = unknown_to_programs(tables)
    if not unknown and most_steps == abi.MAX_STEPS_UNROLLED and any(map(audits, tables)):
        unknown = "audits without bpf_loop"
    if unknown:
        raise Refused(
            f"this kernel has no nf_tables, and programs do not know {unknown}",
            "name addresses or ports, or use a kernel with nf_tables",
        )
