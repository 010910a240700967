"""The normal form has bounds."""

from __future__ import annotations

import pytest

from ipsecd.compiler.tables import rows_of
from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import Keyword
from ipsecd.model.values import Action, Endpoint, Filter, InForce, Origin, PortRange


def test_lists_of_ports_on_both_sides_are_bounded() -> None:
    """A short filter cannot stand for more entries than memory holds."""
    ports = tuple(PortRange(n, n) for n in range(1, 2001, 2))
    flt = Filter(Endpoint(Keyword.ANY, ports), Endpoint(Keyword.ME, ports), 17)
    rule = InForce(Origin("static", "P", "R"), flt, Action.BLOCK)
    with pytest.raises(LimitExceeded, match="1000000 combinations"):
        list(rows_of([rule]))
