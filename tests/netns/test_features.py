"""What is known of kernels without asking them."""

from __future__ import annotations

import pytest

from ipsecd.backend.nftables.features import finds_addresses_in_vrf


@pytest.mark.parametrize(
    ("release", "finds"),
    [
        ("5.10.0-32-amd64", False),
        ("6.1.0-50-amd64", False),
        ("6.12.0-124.el10.x86_64", False),
        ("6.12.95+deb12-amd64", True),
        ("6.13.1", False),
        ("6.15.99", False),
        ("6.16", True),
        ("6.18.44", True),
        ("7.0-rc1", True),
        ("none", False),
    ],
)
def test_a_kernel_that_is_not_known_to_find_addresses_in_a_vrf_does_not(
    release: str, finds: bool
) -> None:
    """To believe that it does would let through what it does not find."""
    assert finds_addresses_in_vrf(release) is finds
