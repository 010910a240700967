"""What an import of each directory of the corpus says; run as a program, it writes that anew.

What is written is to be read before it is committed: it is the expectation of the tests.
"""

from __future__ import annotations

from pathlib import Path

from ipsecctl.importing.proving import Proof, prove
from ipsecctl.importing.reports import lines_of
from ipsecctl.importing.source import Given, InputFile
from ipsecctl.importing.sources import source
from ipsecctl.importing.translating import Translation, translate
from ipsecd.language.documents import format_policy
from ipsecd.language.list_entries import format_list

CORPUS = Path(__file__).parents[2] / "data" / "import"
EXPECTED = "expected.txt"
MOST = 2_500
"""Packets that are judged where the classes are more than that; else all of them are."""
DIRECTORIES = {
    "firewalld": "firewalld",
    "ipset": "ipset",
    "hosts.deny": "hosts_deny",
    "windows-firewall": "windows",
}
GIVEN = Given(block=True)


def cases(name: str) -> list[Path]:
    """The directories of the corpus for one source."""
    return sorted(one for one in (CORPUS / DIRECTORIES[name]).iterdir() if one.is_dir())


def files_in(directory: Path) -> list[InputFile]:
    """What is in a directory, by paths that begin in it."""
    return [
        InputFile(str(path.relative_to(directory)), path.read_text(encoding="utf-8"))
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != EXPECTED
    ]


def imported(
    name: str, files: list[InputFile], given: Given = GIVEN, most: int = MOST
) -> tuple[Translation, Proof]:
    """The translation of files, and its comparison with them."""
    parsed = source(name).read(files, given)
    translation = translate(parsed, "Imported", given, name)
    return translation, prove(parsed, translation, given, most=most, sample=most)


def told(translation: Translation, proof: Proof) -> str:
    """The policy, the lists and the report, as text."""
    written = translation.written
    parts = [format_policy(written.policy)]
    for name, entries in sorted(written.lists.items()):
        parts.append(f"\nlist {name}:\n" + "".join(f"{line}\n" for line in format_list(entries)))
    parts.append(
        "\n" + "".join(f"{line}\n" for line in lines_of(translation, proof, thorough=True))
    )
    return "".join(parts)


def main() -> None:
    """Write every expectation."""
    for name in DIRECTORIES:
        for directory in cases(name):
            text = told(*imported(name, files_in(directory)))
            (directory / EXPECTED).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
