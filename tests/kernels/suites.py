"""Which files of tests run in the guests: what of them fits the budget, or the whole of them.

``IPSECD_KERNELS=whole`` asks for the whole, as ``make test-kernels`` does.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.kernels.packages import KERNELS

ROOT = Path(__file__).parents[2]
CHECKS = "tests/kernels/machine_checks.py"
CONNECTIONS = "tests/kernels/connection_checks.py"
FULL = f"{CONNECTIONS}::test_a_full_table_lets_nothing_through_unjudged"
LOADING = "tests/xdp/test_loading.py"
ARTICLE = "tests/netns/test_article.py::test_the_article_from_its_first_command_to_its_last"
FORWARDED = "tests/netns/test_forwarding.py::test_a_published_port_is_a_port_of_this_host"
SENDERS = "tests/netns/test_senders.py::test_a_block_by_sender_joins_what_nftables_judges_already"
GUARD = "tests/netns/test_combined.py::test_programs_hold_while_the_table_is_away"
OPENING = "tests/netns/test_opening.py"
UNASKED = f"{OPENING}::test_nothing_gets_in_unasked_and_everything_gets_out"
CUT = f"{OPENING}::test_a_rule_for_every_packet_cuts_open_connections"
QUICK = {
    "5.10": (CHECKS, f"{FORWARDED}[nftables]"),
    "6.1": (
        *(CHECKS, LOADING, f"{GUARD}[tc]"),
        *(f"{ARTICLE}[nftables-IPSeccmd.exe]", f"{FORWARDED}[xdp]"),
    ),
    "6.12": (
        *(CHECKS, f"{FORWARDED}[xdp]", f"{SENDERS}[xdp]"),
        *(f"{UNASKED}[nftables-fd09::1-fd09::66]", f"{CUT}[xdp]", f"{FULL}[nftables]"),
    ),
}
"""Under emulation most of a test's time goes to starting programs. So the tests here start few of
them, or are those for which the guests exist, and what one kernel has shown is not shown again."""
DIRECTORIES = ("tests/netns", "tests/links", "tests/equality", "tests/xdp", "tests/boot")
QUICK_LIMIT_S, WHOLE_LIMIT_S = 40 * 60.0, 6 * 3600.0
"""Alone, guests take eight minutes for the selection; beside other tests they get what is left."""


def whole() -> bool:
    """Whether the environment asks for all tests."""
    return os.environ.get("IPSECD_KERNELS") == "whole"


def limit_s() -> float:
    """How long a guest has for all of its tests."""
    return WHOLE_LIMIT_S if whole() else QUICK_LIMIT_S


def processors() -> int:
    """How many a guest has: to emulate a second one takes as long again, and the whole has time."""
    return 2 if whole() else 1


def selection() -> list[tuple[str, str]]:
    """Pairs of a kernel and an argument of pytest, for all tests that run in guests."""
    if not whole():
        return [(kernel, file) for kernel in KERNELS for file in QUICK[kernel]]
    files = [CHECKS, CONNECTIONS]
    for directory in DIRECTORIES:
        files += sorted(str(p.relative_to(ROOT)) for p in (ROOT / directory).glob("test_*.py"))
    return [(kernel, file) for kernel in KERNELS for file in files]
