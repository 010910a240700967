"""Content of a list that looks like a mistake is held back, with the reason."""

from __future__ import annotations

import pytest

from ipsecd.language.address_lists import read_addresses
from ipsecd.language.list_guard import Needed, reasons_to_hold
from ipsecd.model.addresses import Family
from ipsecd.model.lists import AddressList

GATEWAY = Needed(Family.IPV4, 0xC0000201, "the default gateway")
OWN = Needed(Family.IPV6, 0x20010DB8 << 96 | 7, "an address of this host")
FOUR = read_addresses(["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.5"])


@pytest.mark.parametrize(
    ("entries", "reasons"),
    [
        (["198.51.100.1", "198.51.100.2"], ()),
        (["198.51.100.1"], ("it would shrink from 4 entries to 1",)),
        ([], ("it has no entry",)),
        (["0.0.0.0/0", "203.0.113.1"], ("0.0.0.0/0 is every IPv4 address",)),
        (["::/0", "203.0.113.1"], ("::/0 is every IPv6 address",)),
        (
            ["192.0.2.0/24", "203.0.113.1"],
            ("192.0.2.0/24 covers 192.0.2.1 (the default gateway)",),
        ),
        (
            ["192.0.2.1", "2001:db8::/32"],
            (
                "192.0.2.1 covers 192.0.2.1 (the default gateway)",
                "2001:db8::/32 covers 2001:db8::7 (an address of this host)",
            ),
        ),
        (
            ["127.0.0.0/8", "::1"],
            ("127.0.0.0/8 covers 127.0.0.1 (loopback)", "::1 covers ::1 (loopback)"),
        ),
        (["128.0.0.0/1", "0.0.0.0/2"], ("128.0.0.0/1 covers 192.0.2.1 (the default gateway)",)),
    ],
)
def test_what_is_held_back(entries: list[str], reasons: tuple[str, ...]) -> None:
    """Each reason is said, and half of the entries may go."""
    assert reasons_to_hold(FOUR, read_addresses(entries), (GATEWAY, OWN)) == reasons


def test_what_was_in_the_list_is_not_held_against_it() -> None:
    """What somebody has accepted once passes with every update."""
    old = read_addresses(["0.0.0.0/0", "192.0.2.0/24"])
    new = read_addresses(["0.0.0.0/0", "192.0.2.0/24", "203.0.113.1"])
    assert reasons_to_hold(old, new, (GATEWAY,)) == ()
    new = read_addresses(["0.0.0.0/0", "192.0.2.0/25", "203.0.113.1"])
    assert len(reasons_to_hold(old, new, (GATEWAY,))) == 1


def test_a_first_content_shrinks_nothing() -> None:
    """Where there was no list there is nothing to lose."""
    assert reasons_to_hold(AddressList(), read_addresses(["198.51.100.1"])) == ()


def test_mostly_malformed_text_is_held_back() -> None:
    """A text of which more is malformed than not is hardly what it should be."""
    new = read_addresses(["198.51.100.1", "198.51.100.3"])
    assert reasons_to_hold(AddressList(), new, malformed=2) == ()
    assert "malformed" in reasons_to_hold(AddressList(), new, malformed=3)[0]


def test_the_share_can_be_chosen() -> None:
    """One that may not shrink at all is held back for one entry less."""
    new = read_addresses(["198.51.100.1", "198.51.100.2", "198.51.100.3"])
    assert reasons_to_hold(FOUR, new, shrinks=0.0)
    assert not reasons_to_hold(FOUR, read_addresses(["203.0.113.1"]), shrinks=1.0)
