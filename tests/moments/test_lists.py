"""Nothing leaks while the entries that block a flood are replaced by others that block it too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path

import pytest

from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from tests.engine.test_lists import entries
from tests.moments.flood import BLOCKED, MAC, OPEN, Counter, Flood, Target, build
from tests.moments.stage import LEAST_SENT, repetitions
from tests.netns import site
from tests.netns.site import HERE4, HERE6, eventually, run

pytestmark = pytest.mark.netns

TARGETS = (Target("wire1", HERE4), Target("wire1", HERE6))
COVERING = (
    ("192.168.1.66", "[fd09::66]"),
    ("192.168.0.0/16", "[fd09::]/32"),
    ("192.168.1.66", "[fd09::66]"),
    ("192.168.1.0/24", "[fd09::]/64"),
    ("192.168.1.66", "192.168.0.0/16", "[fd09::66]", "[fd09::]/32"),
    ("192.168.0.0/16", "[fd09::]/32"),
    ("192.168.1.64/26", "192.168.1.66", "[fd09::]/32", "[fd09::60]/124"),
)
"""What a list has, one after the other: each covers the source of the flood, by other entries."""
UNRELATED = (
    *(f"10.{length}.0.0/{length}" for length in range(16, 33)),
    *(f"[2001:db8::]/{length}" for length in range(32, 129, 4)),
)
"""So that each of the sets is there all the time, and there is much to look into between an entry
that goes and one that comes."""
# A filter that names no ``me`` is asked once: what is to ``me`` meets a second look on delivery.
POLICIES = {
    "one action": ((Action.BLOCK, f"@drop=*:{BLOCKED}:UDP"),),
    "both actions": ((Action.BLOCK, "@drop=*"), (Action.PERMIT, f"@drop=*:{OPEN}:UDP")),
}


@pytest.fixture
def backend() -> Iterator[NftablesBackend]:
    site.needs_isolation()
    with site.wire():
        run("ip", "link", "set", "wire0", "address", MAC)
        nftables = NftablesBackend()
        yield nftables
        nftables.remove()
        nftables.close()


@pytest.mark.parametrize("name", POLICIES)
def test_nothing_leaks_while_a_list_changes(
    backend: NftablesBackend, name: str, tmp_path: Path
) -> None:
    """A packet finds the old entries or the new ones, and passes between none of them."""
    rules = [
        InForce(Origin("static", "P", text), parse_filter(text), action)
        for action, text in POLICIES[name]
    ]

    def apply(texts: tuple[str, ...]) -> None:
        lists = {"drop": entries(*texts, *UNRELATED)}
        backend.apply(compile_filters(rules, lists=lists), Volatile())

    apply(COVERING[0])
    program = build(tmp_path)
    with closing(Counter(BLOCKED)) as leaked, closing(Counter(OPEN)) as passed:
        with Flood(program, TARGETS) as flood:
            for texts in islice(cycle(COVERING), repetitions(30) * len(COVERING)):
                apply(texts)
            assert eventually(lambda: flood.sent_so_far() >= LEAST_SENT, 60)
        assert leaked.value() == 0, f"{leaked.value()} of {flood.sent}"
        assert passed.value() > 0
