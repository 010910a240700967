"""Owns ``ipsecd-countries``: a database of countries becomes one address list for each of them.

The database has lines ``FIRST,LAST,CC``, as Debian's package ``tor-geoipdb`` has them: addresses as
texts or, of IPv4, as numbers, and the two letters of ISO 3166-1. Must not speak with the
daemon: what is written here comes into force with ``ipsecctl reload``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from ipsecd.language.list_entries import entries_in, format_entry
from ipsecd.output import complain, flush, say

DATABASES = (Path("/usr/share/tor/geoip"), Path("/usr/share/tor/geoip6"))
LISTS = Path("/etc/ipsecd/lists")
_COUNTRY = re.compile(r"[A-Za-z][A-Za-z0-9]")
_MOST_SHOWN = 5


class Database(NamedTuple):
    """What was read: the ranges by country, as texts ``FIRST-LAST``, and what is wrong with it.

    ``without_country`` counts the ranges that belong to nobody, which have ``??`` as their country.
    """

    ranges: dict[str, list[str]]
    without_country: int
    wrong: list[str]


def read(lines: Iterable[tuple[str, str]]) -> Database:
    """The ranges of each country; `lines` are pairs of where a line stands, and the line."""
    ranges: dict[str, list[str]] = {}
    without_country, wrong = 0, []
    for place, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip().strip('"') for cell in line.strip().split(",")]
        if len(cells) >= 3 and cells[2] == "??":
            without_country += 1
            continue
        try:
            country, written = _parts(cells)
        except ValueError as error:
            wrong.append(f"{place}: {error}")
            continue
        ranges.setdefault(country, []).append(written)
    return Database(ranges, without_country, wrong)


def _parts(cells: Sequence[str]) -> tuple[str, str]:
    """The country of a line, and its range as lists have it; raises ``ValueError``."""
    if len(cells) < 3:
        raise ValueError("it has fewer than three parts")
    first, last, country = cells[:3]
    if not _COUNTRY.fullmatch(country):
        raise ValueError(f"{country!r} is not the code of a country")
    return country.lower(), _range(first, last)


def _range(first: str, last: str) -> str:
    """The range, as lists have it; raises ``ValueError`` with what is wrong."""
    ends = [ip_address(int(text) if text.isdecimal() else text) for text in (first, last)]
    if ends[0].version != ends[1].version or int(ends[0]) > int(ends[1]):
        raise ValueError(f"{first!r} to {last!r} is not a range")
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}-{ends[1]}"


def write(directory: Path, name: str, ranges: Sequence[str]) -> None:
    """Replace the file of a list: at any moment it has the old ranges or all of the new.

    It gets prefixes, which the daemon reads in a fraction of the time that ranges take.
    """
    path, new = directory / name, directory / f".{name}.new"
    with new.open("w") as file:
        file.write(f"# made by ipsecd-countries, of {len(ranges)} ranges\n")
        for each in ranges:
            file.writelines(f"{format_entry(*entry)}\n" for entry in entries_in(each))
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the lists; 1 if the database cannot be read or has lines that say nothing."""
    parser = argparse.ArgumentParser(
        prog="ipsecd-countries",
        description="Write an address list for each country, country-de and so on. "
        "Then run: ipsecctl reload",
    )
    parser.add_argument(
        "database",
        nargs="*",
        type=Path,
        default=DATABASES,
        help=f"files with lines FIRST,LAST,CC; as a rule {' and '.join(map(str, DATABASES))}",
    )
    parser.add_argument("--into", type=Path, default=LISTS, help=f"as a rule {LISTS}")
    parser.add_argument(
        "--only", metavar="CC", action="append", default=[], help="this country; can be repeated"
    )
    parser.add_argument(
        "--together",
        metavar="NAME",
        help="write one list of all these countries; a packet is looked up in it once, and in "
        "lists of their own once for each",
    )
    asked = parser.parse_args(arguments)
    try:
        database = read(line for path in asked.database for line in _lines(path))
        wanted = {country.lower() for country in asked.only} or database.ranges.keys()
        if missing := sorted(wanted - database.ranges.keys()):
            return _refuse(f"the database has no range of {', '.join(missing)}")
        if database.wrong:
            number = len(database.wrong)
            return _refuse(
                *database.wrong[:_MOST_SHOWN],
                f"{number} lines are not FIRST,LAST,CC; nothing was written",
            )
        lists = {f"country-{country}": database.ranges[country] for country in sorted(wanted)}
        if asked.together:
            lists = {asked.together: [each for ranges in lists.values() for each in ranges]}
        for name, ranges in lists.items():
            write(asked.into, name, ranges)
    except (OSError, UnicodeDecodeError) as error:
        return _refuse(str(error))
    number = sum(map(len, lists.values()))
    say(
        f"{len(lists)} lists with {number:,} ranges are written to {asked.into}; "
        f"{database.without_country:,} ranges belong to no country"
    )
    flush()
    return 0


def _refuse(why: str, *more: str) -> int:
    complain(f"ipsecd-countries: {why}", *more)
    return 1


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with path.open() as file:
        for number, line in enumerate(file, 1):
            yield f"{path}, line {number}", line


if __name__ == "__main__":
    sys.exit(main())
