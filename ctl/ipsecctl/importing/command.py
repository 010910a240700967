"""Owns ``import``: what another firewall has, as a policy and lists; asks no daemon."""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence

from ipsecctl.client import Client
from ipsecctl.failures import DONE, REFUSED, UsageError
from ipsecctl.files import file_error, read_bytes
from ipsecctl.importing.address_sets import addresses_in, read_sets
from ipsecctl.importing.proving import ALL_PACKETS, SAMPLE, Proof, prove
from ipsecctl.importing.reports import lines_of, report_to_json
from ipsecctl.importing.source import MAX_BYTES, Given, InputFile
from ipsecctl.importing.sources import SOURCES, source
from ipsecctl.importing.translating import Translation, translate
from ipsecctl.options import Options, own_addresses_of
from ipsecd.errors import InvalidInput, LimitExceeded, Refused
from ipsecd.language.documents import format_policy
from ipsecd.language.list_entries import format_list
from ipsecd.model.addresses import Family
from ipsecd.output import complain, say, say_json, say_text
from ipsecd.quoting import quote, quote_path

_MARKS = {BOM_UTF8: "utf-8-sig", BOM_UTF16_LE: "utf-16", BOM_UTF16_BE: "utf-16"}
"""What a text begins with that Windows has written, and the encoding that it says."""
QUICK = 2_000
"""As many packets are judged at the most where no proof was asked for."""
QUICK_STEPS = 2_000_000
"""Packets times rules and filters: each may have to be asked for each packet, and as many take
about a second. Beyond 40,000 of them ``_FEWEST`` packets are judged all the same."""
_FEWEST = 50


def run(_: Client, options: Options) -> int:
    """Translate, compare, and write or print; return 1 if there are differences to speak of."""
    name, paths = options.arguments[0], options.arguments[1:]
    if name not in SOURCES:
        raise UsageError(f"{quote(name)} is no source", f"one of: {', '.join(SOURCES)}")
    wanted = options.value("--policy") or f"Imported from {name}"
    given = Given(
        own_addresses_of(options),
        _sets(options),
        _networks(options),
        options.has("--block"),
        options.value("--profile") or "",
    )
    reader = source(name)
    files = [_file(path) for argument in paths for path in reader.paths(argument)]
    parsed = reader.read(files, given)
    translation = translate(parsed, wanted, given, _words(name, files))
    thorough = options.has("--prove")
    quick = quick_packets(translation)
    most, sample = (ALL_PACKETS, SAMPLE) if thorough else (quick, quick)
    proof = prove(parsed, translation, given, most=most, sample=sample)
    _hand_over(options, translation, proof)
    return REFUSED if proof.unknown or (thorough and proof.differences) else DONE


def quick_packets(translation: Translation) -> int:
    """How many packets are judged where no proof was asked for."""
    rules = translation.written.policy.rules
    asked = translation.rules + sum(len(rule.filters) for rule in rules)
    return min(QUICK, max(_FEWEST, QUICK_STEPS // max(1, asked)))


def _hand_over(options: Options, translation: Translation, proof: Proof) -> None:
    """Write or print the policy, and say what has to be known of it."""
    written, directory = translation.written, options.value("--output")
    if directory is not None:
        _write(directory, translation)
    thorough = options.has("--prove")
    if options.has("--json"):
        say_json(report_to_json(translation, proof))
        return
    report = list(lines_of(translation, proof, thorough=thorough))
    if directory is not None:
        say(*report)
        return
    if written.lists:
        complain(*report)
        raise Refused(
            "the policy needs lists, which have no place on standard output",
            "write both into a directory: -o DIR",
        )
    say_text(format_policy(written.policy))
    complain(*report)


def _file(path: str) -> InputFile:
    content = read_bytes(path)
    shown = "<stdin>" if path == "-" else path
    if len(content) > MAX_BYTES:
        raise LimitExceeded(
            f"{quote_path(shown)} has more than {MAX_BYTES >> 20} MiB", "give the rules alone"
        )
    encoding = next((_MARKS[mark] for mark in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return InputFile(shown, content.decode(encoding))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidInput(
            "this is no text in UTF-8",
            "give the file that the tool has written; on Windows, run chcp 65001 before it writes",
            source=shown,
            line=line,
        ) from error


def _words(name: str, files: Sequence[InputFile]) -> str:
    shown = ", ".join(file.path for file in files[:3])
    return f"{name}: {shown}{' and more' if len(files) > 3 else ''}"


def _networks(options: Options) -> dict[str, list[tuple[Family, int, int]]]:
    """What is behind links, as ``--network LINK=PREFIX`` says."""
    found: dict[str, list[tuple[Family, int, int]]] = {}
    for text in options.values.get("--network", []):
        link, equals, prefix = text.partition("=")
        try:
            entries = addresses_in(prefix) if equals and link else []
        except ValueError:
            entries = []
        if not entries:
            raise UsageError(
                f"{quote(text)} is no link with a network", "write docker0=172.17.0.0/16"
            )
        found.setdefault(link, []).extend(entries)
    return found


def _sets(options: Options) -> dict[str, list[tuple[Family, int, int]]]:
    """The sets of addresses that files of ``ipset save`` have."""
    return read_sets([_file(path) for path in options.values.get("--set", [])])


def _write(directory: str, translation: Translation) -> None:
    """Write ``NAME.yaml`` and ``lists/``; refuse to if there is any of them already."""
    written = translation.written
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", written.policy.name).strip("-.") or "imported"
    contents = {f"{base}.yaml": format_policy(written.policy)}
    for name, entries in written.lists.items():
        contents[f"lists/{name}"] = "".join(f"{line}\n" for line in format_list(entries))
    paths = {os.path.join(directory, name): text for name, text in contents.items()}  # noqa: PTH118
    for path in paths:
        if os.path.lexists(path):
            raise Refused(
                f"{quote_path(path)} is there already", "move it away, or give -o another"
            )
    for path, text in paths.items():
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
            with open(path, "x", encoding="utf-8") as file:  # noqa: PTH123
                file.write(text)
        except OSError as error:
            raise file_error("write", path, error) from error
