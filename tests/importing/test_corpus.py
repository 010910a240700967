"""Rule sets as they are found on hosts: translated, proven, or named."""

from __future__ import annotations

import json

import pytest

from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.language.packets import parse_packet
from tests.ctl.importing.expected import DIRECTORIES, cases
from tests.importing.corpus import CASES, EXPECTED, imported, summary


@pytest.mark.parametrize("name", CASES)
def test_a_rule_set_is_as_expected(name: str) -> None:
    """How much is translated, what is named, and every difference is as it was written down."""
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    translation, proof = imported(name)
    assert summary(translation, proof) == expected[name]
    # What matters does not hang on a file that somebody wrote anew without looking.
    assert proof.complete
    assert not proof.unknown
    for one in proof.differences:
        assert not one.weaker or (one.note and one.note.weaker), one
        assert parse_packet(one.packet).text == one.packet
    policy = translation.written.policy
    assert parse_policy(format_policy(policy).encode(), name) == policy


def test_what_is_left_out_stands_in_the_description() -> None:
    """Nobody who has the policy alone can forget what is not in it."""
    translation, _ = imported("server")
    description = translation.written.policy.description
    assert "server.v4:13: -A INPUT -p icmp" in description
    assert "THIS POLICY LETS MORE PASS" in description


def test_twelve_of_them_are_rule_sets_of_their_own() -> None:
    """The corpus does not shrink unnoticed."""
    assert len({files[1] for files in CASES.values()}) >= 12


def test_there_are_as_many_rule_sets_as_the_documentation_says() -> None:
    """Those of netfilter and ufw, and the directories of the other sources."""
    others = [one for name in DIRECTORIES for one in cases(name)]
    own = {files[1] for files in CASES.values()} - {"server.v6"}
    text = (EXPECTED.parents[3] / "docs" / "import.md").read_text(encoding="utf-8")
    assert f"{len(own) + len(others)} rule sets" in text
