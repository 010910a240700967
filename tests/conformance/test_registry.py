"""Every backend of the product is in the suite."""

from __future__ import annotations

from ipsecd.backend import registry
from tests.conformance.rows import ROWS


def test_every_backend_has_a_row() -> None:
    """A backend that is added without one is not known to hold any claim."""
    assert {row.record for row in ROWS} == {record.name for record in registry.RECORDS}


def test_what_a_backend_falls_back_to_is_one() -> None:
    """And auto stands for one that can be asked for."""
    for record in registry.RECORDS:
        assert not record.falls_back_to or record.falls_back_to in registry.BY_NAME
        assert record.needs
    assert registry.asked_for(registry.AUTO).name in registry.OFFERED
    assert registry.NAMES == ("auto", "nftables", "xdp")
