"""``ipsecctl import`` of firewalld, ipset, hosts.deny and Windows, as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsecd.language.documents import parse_policy
from tests.ctl.conftest import Run
from tests.ctl.importing.expected import CORPUS

pytestmark = pytest.mark.usefixtures("no_daemon")


def test_a_directory_of_firewalld_is_one_argument(run: Run) -> None:
    """What is printed is the document alone; the report is beside it."""
    ran = run("ipsecctl", "import", "firewalld", str(CORPUS / "firewalld" / "work"))
    assert ran.code == 0
    assert parse_policy(ran.out.encode(), "out").name == "Imported from firewalld"
    assert "zones/work.xml:6: zone work: service name=dhcpv6-client" in ran.err


def test_sets_become_lists_in_a_directory(run: Run, tmp_path: Path) -> None:
    """With a policy that only counts, or one that blocks; check takes what was written."""
    sets = str(CORPUS / "ipset" / "bans" / "sets.save")
    for number, (options, word) in enumerate(
        (((), "audit: true"), (("--block",), "action: block"))
    ):
        into = tmp_path / str(number)
        written = (*options, "-o", str(into), "--policy", "Bans")
        assert run("ipsecctl", "import", "ipset", sets, *written).code == 0
        assert word in (into / "Bans.yaml").read_text(encoding="utf-8")
        check = ("check", str(into / "Bans.yaml"), "--lists", str(into / "lists"))
        assert run("ipsecctl", *check).code == 0
        assert (into / "lists" / "neighbours").read_text(encoding="utf-8") == "10.20.30.0/24\n"


def test_both_files_of_tcp_wrappers_are_read_in_any_order(run: Run) -> None:
    """They are known by their names."""
    directory = CORPUS / "hosts_deny" / "office"
    files = [str(directory / name) for name in ("hosts.allow", "hosts.deny")]
    one = run("ipsecctl", "import", "hosts.deny", *files)
    other = run("ipsecctl", "import", "hosts.deny", *reversed(files))
    rules = one.out.partition("rules:")[2]
    assert "192.0.2.0/24=0:22:TCP" in rules
    assert rules == other.out.partition("rules:")[2]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_listing_is_read_as_windows_writes_it(run: Run, tmp_path: Path, encoding: str) -> None:
    """PowerShell writes UTF-16 into files, with a mark before it."""
    listing = tmp_path / "rules.txt"
    text = (CORPUS / "windows" / "listing" / "rules.txt").read_text(encoding="utf-8")
    listing.write_text(text.replace("Web server", "Wëb server"), encoding=encoding)
    ran = run("ipsecctl", "import", "windows-firewall", str(listing), "--profile", "private")
    assert ran.code == 0
    assert "Wëb server" in ran.out


def test_another_profile_than_the_three_is_refused(run: Run) -> None:
    """With their names."""
    listing = str(CORPUS / "windows" / "listing" / "rules.txt")
    ran = run("ipsecctl", "import", "windows-firewall", listing, "--profile", "home")
    assert (ran.code, ran.out) == (1, "")
    assert "domain, private, public" in ran.err
