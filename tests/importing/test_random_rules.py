"""Rule sets that nobody would write: what differs was always said, and never less than it is."""

from __future__ import annotations

import pytest

from ipsecctl.importing import iptables
from ipsecctl.importing.proving import prove
from ipsecctl.importing.source import Given, InputFile
from ipsecctl.importing.translating import translate
from tests.importing.random_rules import rule_set

NOTHING = Given()


@pytest.mark.parametrize("seed", range(24))
def test_what_differs_was_said(seed: int) -> None:
    """The evaluator finds nothing that the translator did not know of.

    Where the policy lets more pass, it is said that it does.
    """
    parsed = iptables.read([InputFile("rules", rule_set(seed))], NOTHING)
    translation = translate(parsed, "Random", NOTHING, "iptables-save")
    proof = prove(parsed, translation, NOTHING, most=4_000, sample=1_500)
    assert not proof.unknown
    for one in proof.differences:
        assert not one.weaker or (one.note and one.note.weaker), one
