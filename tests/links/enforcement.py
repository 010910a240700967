"""Owns the daemon of these tests: one that has the filters from its start."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.links.ground import HOST4, HOST6, PEER4, PEER6
from tests.links.probes import IN_BY_ADDRESS, IN_BY_ME, OUT_BY_ADDRESS, OUT_BY_ME, PROTOCOLS
from tests.netns.site import Daemon, eventually, run

FILTERS = [
    text
    for protocol in PROTOCOLS
    for text in (
        f"*=0:{IN_BY_ME}:{protocol}",
        f"0=*:{OUT_BY_ME}:{protocol}",
        f"{PEER4}={HOST4}:{IN_BY_ADDRESS}:{protocol}",
        f"{HOST4}={PEER4}:{OUT_BY_ADDRESS}:{protocol}",
        f"[{PEER6}]=[{HOST6}]:{IN_BY_ADDRESS}:{protocol}",
        f"[{HOST6}]=[{PEER6}]:{OUT_BY_ADDRESS}:{protocol}",
    )
]
"""The filters of the policy: some name this host as `0`, some by its addresses."""


@contextmanager
def enforcing(directory: Path, backend: str) -> Iterator[Daemon]:
    """A running daemon; its policy is assigned before, which saves a command."""
    policies = directory / "etc/policies"
    policies.mkdir(parents=True)
    listed = ", ".join(f'"{text}"' for text in FILTERS)
    (policies / "links.yaml").write_text(
        f"policy: Links\nrules:\n  - rule: R\n    action: block\n    filters: [{listed}]\n"
    )
    (directory / "etc/assigned").symlink_to("policies/links.yaml")
    daemon = Daemon(directory, backend)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.end()


def settled() -> None:
    """Give the daemon time to put programs on the links that it puts any on."""
    eventually(covered, 0.7)


def covered() -> bool:
    """Whether each link of this host but VLANs has an XDP program."""
    links = json.loads(run("ip", "-d", "-j", "link"))
    return all(
        "xdp" in link
        or link["ifname"] == "lo"
        or link.get("linkinfo", {}).get("info_kind") == "vlan"
        for link in links
    )
