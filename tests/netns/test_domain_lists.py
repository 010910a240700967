"""The lists of a domain policy, on the wire: a repository, a real fetcher, a real daemon."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd.language.address_lists import read_list
from ipsecd_domain.repository.lists import GivenLists
from ipsecd_domain.repository.publishing import Selection, publish, withdraw
from tests.domain.fetching import Fetching
from tests.domain.fleets import Fleet, now
from tests.netns import site
from tests.netns.site import HERE4, PEER4, Daemon, Flood, delivered, eventually

pytestmark = [pytest.mark.netns, pytest.mark.timeout(int(120 * site.PATIENCE))]
PORT, OTHER = 1434, 1435
NOBODY = "203.0.113.7"


def document(port: int) -> bytes:
    filters = f"['@drop=0:{port}:UDP', '@more=0:{port}:UDP']"
    rule = f"  - rule: R\n    action: block\n    filters: {filters}\n"
    return f"policy: Fleet\nrules:\n{rule}".encode()


class Member:
    """A host with a daemon and a fetcher, and the fleet that it is in."""

    def __init__(self, directory: Path, backend: str) -> None:
        self.fleet = Fleet.made_in(directory)
        self.daemon = Daemon(directory, backend)
        settings = directory / "ipsecd.yaml"
        source = f"file://{self.fleet.repository}"
        settings.write_text(f"domain:\n  source: {source}\n  host: web1\n  interval: 1h\n")
        self.daemon.options = ("--config", str(settings))
        self.daemon.start()
        self.daemon.ctl("domain", "trust", str(self.fleet.repository))
        self.log = directory / "fetcher.log"
        self.fetcher = self.fetching()

    def fetching(self) -> Fetching:
        socket = Path(self.daemon.environment["IPSECD_SOCKET"])
        return Fetching(socket, self.log, {})

    def publish(self, port: int, *entries: str) -> None:
        """Publish a policy with a list; without entries the list stays as it was published."""
        self.give_out(document(port), *entries)

    def give_out(self, policy: bytes, *entries: str) -> None:
        text = "\n".join(entries).encode()
        read = {"drop": read_list(text, "drop")} if entries else {}
        if entries and b"@more" in policy:
            # What lists of a rule hold is looked up as one.
            read["more"] = read_list(b"198.51.100.1\n", "more")
        lists = GivenLists(read, accept=True)
        fleet = self.fleet
        publish(fleet.repository, fleet.keys, policy, Selection(), now(), lists=lists)

    def refresh(self, code: int = 0) -> str:
        """What is said of a look, once the fetcher is there to look."""
        assert eventually(lambda: "source=" in self.log.read_text(), 30)
        return self.daemon.ctl("domain", "refresh", "--wait", "60s", code=code)

    def sets(self) -> set[str]:
        """The sets in the kernel that hold the list."""
        words = site.run("nft", "list", "sets", "inet").split()
        return {word for word in words if word.startswith("list_domain_drop_")}

    def passes(self) -> set[int]:
        return {port for port in (PORT, OTHER) if delivered(HERE4, port)}

    def version(self, code: int = 0) -> int:
        said = self.daemon.ctl("domain", "status", "--json", code=code)
        return int(json.loads(said)["version"])

    def close(self) -> None:
        if self.fetcher.process.poll() is None:
            self.fetcher.kill()
        self.daemon.end()


@pytest.fixture(params=site.BACKENDS)
def member(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Member]:
    site.needs_isolation()
    with site.wire():
        made = Member(tmp_path, request.param)
        try:
            yield made
        finally:
            made.close()
            site.run("nft", "delete", "table", "inet", "ipsecd", check=False)


def test_a_list_is_in_force_with_the_policy_that_carries_it(member: Member) -> None:
    """Published, changed alone, changed with the policy, kept over a crash, and withdrawn."""
    member.publish(PORT, PEER4, NOBODY)
    assert "is in force with @drop, @more" in member.refresh()
    assert member.passes() == {OTHER}
    assert "@drop (2 entries), @more (1 entry)" in member.daemon.ctl("domain", "status")
    assert "the domain" in member.daemon.ctl("list", "show")
    # The list alone, by its difference: the set in the kernel stays. It leaves, and comes back.
    before = member.sets()
    member.publish(PORT, PEER4, NOBODY, "203.0.113.9")
    member.refresh()
    assert member.sets() == before != set()
    assert member.passes() == {OTHER}
    member.publish(PORT, NOBODY)
    member.refresh()
    assert member.passes() == {PORT, OTHER}
    member.publish(PORT, PEER4)
    member.refresh()
    assert member.passes() == {OTHER}
    # The policy alone, and its list stays.
    member.publish(OTHER)
    member.refresh()
    assert member.passes() == {PORT}
    # A list of this host stays apart.
    member.daemon.ctl("list", "create", "drop")
    member.daemon.ctl("block", f"@drop=0:{PORT}:UDP", "--name", "own")
    assert member.passes() == {PORT}
    member.daemon.ctl("list", "add", "drop", PEER4)
    assert member.passes() == set()
    member.daemon.ctl("list", "delete", "drop")
    assert member.passes() == {PORT}
    # A crash and a restart without the source, and without a fetcher.
    member.fetcher.kill()
    member.daemon.end(signal.SIGKILL)
    assert member.passes() == {PORT}
    member.daemon.start()
    assert member.passes() == {PORT}
    member.daemon.end()
    member.daemon.start()
    assert member.passes() == {PORT}
    member.log.write_text("")
    member.fetcher = member.fetching()
    withdraw(member.fleet.repository, member.fleet.keys, now())
    member.refresh()
    assert member.passes() == {PORT, OTHER}


TURNED = f"""policy: Fleet
rules:
  - {{rule: R, action: block, filters: ["*=0:{PORT}:UDP"]}}
  - {{rule: S, action: permit, filters: ["@drop=0"]}}
""".encode()


def test_no_packet_meets_a_policy_with_the_list_of_another(member: Member) -> None:
    """The peer is blocked by both states, and by neither policy with the list of the other."""
    member.publish(PORT, PEER4)
    member.refresh()
    with Flood() as flood:
        for text, entry in ((TURNED, NOBODY), (document(PORT), PEER4), (TURNED, NOBODY)):
            member.give_out(text, entry)
            assert "is in force with @drop" in member.refresh()
        assert flood.received() == 0
    assert member.passes() == {OTHER}


def test_a_list_that_cannot_be_had_or_believed_changes_nothing(member: Member) -> None:
    """The policy of before stays with its list; what is wrong is told, and the next look has it."""
    member.publish(PORT, PEER4)
    member.refresh()
    version = member.version()
    old = set(member.fleet.repository.rglob("*.list"))
    member.publish(OTHER, NOBODY)
    (file,) = set(member.fleet.repository.rglob("*.list")) - old
    content = file.read_bytes()
    for spoilt in (content[:-1], content + b"x", next(iter(old)).read_bytes(), None):
        file.unlink()
        if spoilt is not None:
            file.write_bytes(spoilt)
        said = member.refresh(code=1)
        assert "what was in force stays so" in said
        assert member.passes() == {OTHER}
        assert member.version(code=1) == version
    file.write_bytes(content)
    member.refresh()
    assert member.passes() == {PORT, OTHER}
    assert member.version() > version


def test_a_list_that_is_lost_is_fetched_anew(member: Member) -> None:
    """A daemon that starts without it says so, and the fetcher that goes on brings it."""
    member.publish(PORT, PEER4)
    member.refresh()
    assert member.passes() == {OTHER}
    member.daemon.end()
    files = sorted((member.daemon.directory / "lib/domain/lists").iterdir())
    for file in files:
        file.unlink()
    member.daemon.start()
    assert eventually(lambda: member.passes() == {OTHER}, 60), member.log.read_text()
    assert all(file.exists() for file in files)
