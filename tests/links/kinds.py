"""Every kind of link that is tried."""

from tests.links import esp, ethernet, tunnels

KINDS = (*ethernet.KINDS, *tunnels.KINDS, *esp.KINDS)
