"""Rule sets that nobody would write: what differs was always said, and never less than it is."""

from __future__ import annotations

import pytest

from ipsecctl.importing import iptables, nft
from ipsecctl.importing.proving import prove
from ipsecctl.importing.source import Given, InputFile
from ipsecctl.importing.translating import translate
from tests.importing.random_rules import nft_rule_set, rule_set

NOTHING = Given()


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("kind", ["iptables", "nft"])
def test_what_differs_was_said(kind: str, seed: int) -> None:
    """The evaluator finds nothing that the translator did not know of.

    Where the policy lets more pass, it is said that it does.
    """
    read, rules = (iptables.read, rule_set) if kind == "iptables" else (nft.read, nft_rule_set)
    parsed = read([InputFile("rules", rules(seed))], NOTHING)
    translation = translate(parsed, "Random", NOTHING, kind)
    proof = prove(parsed, translation, NOTHING, most=3_000, sample=1_200)
    assert not proof.unknown
    for one in proof.differences:
        assert not one.weaker or (one.note and one.note.weaker), one
