"""Tests of ``ipsecd-countries``: with Debian's database, and what comes of it with real packets."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipsecd.language.address_lists import read_list
from ipsecd.language.list_entries import format_list
from ipsecd_bans.countries import main, read
from tests.integrations.finders import MODULES, program
from tests.netns.site import HERE4, HERE6, PEER4, PEER6, Daemon, delivered

DATABASE = ("usr/share/tor/geoip", "usr/share/tor/geoip6")
ENVIRONMENT = {**os.environ, "PYTHONPATH": MODULES}
LEAST_COUNTRIES = 240
SMALL = """\
# comment
3221225984,3221226239,NN
3221226240,3221226240,nn
"198.51.100.0","198.51.100.9","AA"
2001:db8::,2001:db8:ffff:ffff:ffff:ffff:ffff:ffff,NN
2001:db9::,2001:db9::ff,??
"""


@pytest.fixture(scope="module")
def countries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the lists of all countries of Debian's database."""
    directory = tmp_path_factory.mktemp("countries")
    words = [sys.executable, "-m", "ipsecd_bans.countries", "--into", directory]
    command = [*map(str, words), *map(str, map(program, DATABASE))]
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
    return directory


def entries(path: Path) -> list[str]:
    """The entries of a list in a file, as the daemon reads it."""
    read_now = read_list(path.read_bytes(), str(path))
    assert not read_now.malformed
    return [*format_list(read_now.addresses)]


def test_a_list_has_the_ranges_of_its_country(tmp_path: Path) -> None:
    """Numbers and texts, with quotes and in either case; what belongs to nobody is left out."""
    (tmp_path / "database").write_text(SMALL)
    assert main(["--into", str(tmp_path), str(tmp_path / "database")]) == 0
    assert entries(tmp_path / "country-nn") == ["192.0.2.0/24", "192.0.3.0", "2001:db8::/32"]
    assert entries(tmp_path / "country-aa") == ["198.51.100.0/29", "198.51.100.8/31"]
    assert {path.name for path in tmp_path.iterdir()} == {"database", "country-aa", "country-nn"}


def test_countries_can_be_chosen_and_put_together(tmp_path: Path) -> None:
    """One list of those that are wanted."""
    (tmp_path / "database").write_text(SMALL)
    words = ["--into", str(tmp_path), "--only", "NN", "--only", "aa", "--together", "ours"]
    assert main([*words, str(tmp_path / "database")]) == 0
    assert len(entries(tmp_path / "ours")) == 5
    assert {path.name for path in tmp_path.iterdir()} == {"database", "ours"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("1,2", "fewer than three parts"),
        ("5,2,AA", "is not a range"),
        ("1,2001:db8::1,AA", "is not a range"),
        ("1,2,../../etc/passwd", "not the code of a country"),
        ("1,x,AA", "line 1"),
        ("4294967296,4294967297,A", "not the code of a country"),
        ("-1,2,AA", "line 1"),
    ],
)
def test_a_wrong_line_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, why: str
) -> None:
    """A database that is damaged would open what the whole one blocks."""
    database, lists = tmp_path / "database", tmp_path / "lists"
    lists.mkdir()
    database.write_text(f"{line}\n{SMALL}")
    assert main(["--into", str(lists), str(database)]) == 1
    assert why in capsys.readouterr().err
    assert not any(lists.iterdir())


def test_what_cannot_be_read_or_found_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not there, and a country that is not in it."""
    assert main(["--into", str(tmp_path), str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err
    (tmp_path / "database").write_text(SMALL)
    assert main(["--into", str(tmp_path), "--only", "zz", str(tmp_path / "database")]) == 1
    assert "no range of zz" in capsys.readouterr().err


def test_the_lists_are_exactly_the_database(countries: Path) -> None:
    """Debian's database, against the prefixes that Python's own library finds for its ranges."""
    assert len([*countries.iterdir()]) >= LEAST_COUNTRIES
    chosen = ("is", "lu", "nz")
    lines = [
        ("", line)
        for path in DATABASE
        for line in program(path).read_text().splitlines()
        if line[-2:].lower() in chosen
    ]
    ranges = read(lines).ranges
    for country in chosen:
        expected: set[str] = set()
        for each in ranges[country]:
            first, _, last = each.partition("-")
            ends = ipaddress.ip_address(first), ipaddress.ip_address(last or first)
            prefixes = ipaddress.summarize_address_range(*ends)
            expected |= {str(prefix) for prefix in prefixes}
        listed = {str(ipaddress.ip_network(e)) for e in entries(countries / f"country-{country}")}
        assert listed == expected


@pytest.mark.netns
def test_countries_are_blocked_and_all_of_them_can_be_loaded(
    daemon: Daemon, tmp_path: Path, countries: Path
) -> None:
    """Every country there is at once, and packets from one that a rule names."""
    here = tmp_path / "here"
    here.write_text(f"{PEER4},{PEER4},QQ\n{PEER6},{PEER6},QQ\n")
    lists = daemon.directory / "etc/lists"
    shutil.copytree(countries, lists, dirs_exist_ok=True)
    assert main(["--into", str(lists), str(here)]) == 0
    daemon.ctl("reload")
    assert daemon.ctl("list", "show").count("country-") >= LEAST_COUNTRIES
    assert delivered(HERE4, 1434) == delivered(HERE6, 1434) == 5
    daemon.ctl("block", "@country-qq=0:1434", "@country-is=0", "@country-lu=0")
    assert delivered(HERE4, 1434) == delivered(HERE6, 1434) == 0
    assert delivered(HERE4, 1435) == 5
    policy = tmp_path / "countries.yaml"
    filters = json.dumps([f"@{path.name}=0" for path in lists.iterdir()])
    policy.write_text(
        f"policy: Everybody\nrules: [{{rule: All, action: block, filters: {filters}}}]\n"
    )
    daemon.ctl("apply", str(policy), "--assign")
    assert delivered(HERE4, 1435) == delivered(HERE6, 1435) == 0
    daemon.ctl("list", "delete", "country-qq")
    assert delivered(HERE4, 1435) == delivered(HERE6, 1435) == 5
