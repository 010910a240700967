"""Every backend of the product is in the suite."""

from __future__ import annotations

from ipsecd.backend import registry
from tests.conformance.rows import ROWS


def test_every_backend_has_a_row() -> None:
    """Of a backend without a row nothing would be tested."""
    assert {row.record for row in ROWS} == {record.name for record in registry.RECORDS}


def test_what_a_backend_falls_back_to_is_one() -> None:
    """A backend falls back to another one of the registry, and ``auto`` stands for one in it."""
    for record in registry.RECORDS:
        assert not record.falls_back_to or record.falls_back_to in registry.BY_NAME
        assert record.needs
    assert registry.asked_for(registry.AUTO).name in registry.OFFERED
    assert registry.NAMES == ("auto", "nftables", "xdp")
