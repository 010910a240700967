"""A policy of the domain is not taken that would cut who administers a host, or the way to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.domain.fleets import Fleet
from tests.netns import site
from tests.netns.neighbours import sshd
from tests.netns.scans import program
from tests.netns.shells import shell
from tests.netns.site import HERE4, HOST, PEER4, Daemon, block
from tests.netns.test_domain import Member, document

pytestmark = pytest.mark.netns
EVERYTHING = b'policy: Fleet\nrules:\n  - rule: R\n    action: block\n    filters: ["*=0"]\n'


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Member]:
    """A host that trusts a fleet."""
    site.needs_isolation()
    with ExitStack() as stack:
        stack.enter_context(site.wire())
        fleet = Fleet.made_in(tmp_path)
        daemon = Daemon(tmp_path)
        settings = tmp_path / "ipsecd.yaml"
        settings.write_text(f"domain:\n  source: file://{fleet.repository}\n  host: web1\n")
        daemon.options = ("--config", str(settings))
        stack.callback(site.run, "nft", "delete", "table", "inet", "ipsecd", check=False)
        stack.callback(daemon.end)
        daemon.start()
        daemon.ctl("domain", "trust", str(fleet.repository))
        yield Member(daemon, fleet)


def test_a_policy_that_cuts_administrators_is_not_taken(make: Member) -> None:
    """What was in force stays, and status says why; once nobody is logged in it is taken."""
    daemon, fleet = make.daemon, make.fleet
    with sshd(HOST, program("sshd"), daemon.directory / "ssh", HERE4), make.fetcher():
        fleet.publish(document(1500))
        make.refresh()
        with shell(daemon, daemon.directory / "ssh", HERE4) as login:
            fleet.publish(EVERYTHING)
            assert "would cut an administrative connection" in make.refresh(code=1)
            assert login.answers()
            status = daemon.ctl("status")
            assert "would cut an administrative connection (192.168.1.66:" in status
            assert "guard: off" in status
            assert "1500" in daemon.ctl("show", "policy", "Fleet")
        assert site.eventually(lambda: "in force" in daemon.ctl("domain", "refresh"), 30)


@pytest.mark.parametrize("where", [f"https://{PEER4}/fleet", "https://fleet.example/fleet"])
def test_the_way_to_the_source_is_spared(tmp_path: Path, where: str) -> None:
    """No policy cuts it: neither the way to its address, nor that to a name server."""
    settings = tmp_path / "ipsecd.yaml"
    settings.write_text(f"domain:\n  source: {where}\n")
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(f"nameserver {PEER4}\n")
    with site.daemon(tmp_path) as running:
        running.end()
        running.options = ("--config", str(settings))
        site.run("mount", "--bind", str(resolv_conf), "/etc/resolv.conf")
        try:
            running.start()
            block(running, "0=*:80:TCP")
            path = tmp_path / "policy.yaml"
            path.write_text(path.read_text().replace("0=*:80:TCP", "0=*"))
            said = running.ctl("apply", str(path), "--assign", code=1)
            named = "a name server" if "example" in where else f"policies ({PEER4}, port 443)"
            assert f"would cut the way to {named}" in said.replace("the source of ", "")
            assert "because '0=*' in rule 'R' of policy 'Blocks' blocks" in said
            running.ctl("apply", str(path), "--assign", "--force")
        finally:
            site.run("umount", "/etc/resolv.conf")
