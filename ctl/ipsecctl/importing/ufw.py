"""Owns reading ufw's directory: its files of rules, put together as ufw does at start.

ufw makes the chains that its files fill, and has them called in a fixed order (ufw-framework(8)).
Its default policies stand in ``default/ufw``, beside the directory or in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ipsecctl.importing.iptables import read_into
from ipsecctl.importing.iptables_tables import Tables
from ipsecctl.importing.netfilter_source import Netfilter
from ipsecctl.importing.source import Given, InputFile, Kind, Line, Note
from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Family
from ipsecd.quoting import quote, quote_path

_FILES = ("before", "after", "user")
_HOOKS = ("input", "output", "forward")
_STAGES = ("before-logging", "before", "after", "after-logging", "reject", "track")
_DEFAULTS = {"INPUT": "DROP", "OUTPUT": "ACCEPT", "FORWARD": "DROP"}
"""What Debian's default/ufw says."""
_SETTING = re.compile(r"\s*([A-Z0-9_]+)=\"?([^\"#\s]*)\"?\s*(?:#.*)?")


def paths(argument: str) -> Sequence[str]:
    """The files that a directory of ufw has; a file stands for itself."""
    directory = Path(argument)
    if not directory.is_dir():
        return [argument]
    names = [f"{name}{six}.rules" for six in ("", "6") for name in _FILES]
    beside = directory.resolve().parent
    found = [directory / name for name in (*names, "default/ufw", "ufw.conf")]
    there = [path for path in (*found, beside / "default" / "ufw") if path.is_file()]
    if not any(path.suffix == ".rules" for path in there):
        raise InvalidInput(
            f"{quote_path(argument)} has no file of rules of ufw", "name the directory, /etc/ufw"
        )
    return [str(path) for path in there]


def read(files: Sequence[InputFile], given: Given) -> Netfilter:
    """The rules of the files as ufw has them loaded; raises ``InvalidInput`` with file and line."""
    rules = {file.path.rpartition("/")[2]: file for file in files if file.path.endswith(".rules")}
    settings: dict[str, str] = {}
    for file in reversed(files):
        if not file.path.endswith(".rules"):
            settings |= _settings(file)
    unknown = set(rules) - {f"{name}{six}.rules" for six in ("", "6") for name in _FILES}
    if unknown or not rules:
        what = quote(min(unknown)) if unknown else "nothing"
        raise InvalidInput(f"{what} is a file of rules of ufw", "give its directory, /etc/ufw")
    notes = _notes(settings)
    tables = Tables(given)
    for family, six in ((Family.IPV4, ""), (Family.IPV6, "6")):
        mine = [rules[name] for part in _FILES if (name := f"{part}{six}.rules") in rules]
        off = family is Family.IPV6 and settings.get("IPV6", "yes").lower() == "no"
        if not mine and not off:
            continue
        _load(tables, family, six, [] if off else mine, settings, off=off)
    made = tables.ruleset()
    return Netfilter(replace(made, notes=(*notes, *made.notes)))


def _settings(file: InputFile) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in file.text.split("\n"):
        setting = _SETTING.fullmatch(text)
        if setting:
            found[setting[1]] = setting[2]
    return found


def _notes(settings: dict[str, str]) -> list[Note]:
    notes = []
    if not any(name.startswith("DEFAULT_") for name in settings):
        notes.append(
            Note(
                Line("default/ufw", 0, "default policies"),
                Kind.ASSUMED,
                "the file with the default policies was not given: those of Debian are taken, "
                "which drop what comes in and what is forwarded",
                "give /etc/default/ufw too",
            )
        )
    if settings.get("ENABLED", "yes").lower() == "no":
        notes.append(
            Note(
                Line("ufw.conf", 0, "ENABLED=no"),
                Kind.ASSUMED,
                "ufw is not enabled, and so its rules are not in force there",
                "make sure that they are what is wanted",
            )
        )
    return notes


def _load(
    tables: Tables,
    family: Family,
    six: str,
    files: Sequence[InputFile],
    settings: dict[str, str],
    *,
    off: bool,
) -> None:
    """Do what ufw does at start for one IP version."""
    policies = {
        hook: "DROP" if off else settings.get(f"DEFAULT_{hook}_POLICY", otherwise).upper()
        for hook, otherwise in _DEFAULTS.items()
    }
    for hook, policy in policies.items():
        if policy not in ("ACCEPT", "DROP", "REJECT"):
            raise InvalidInput(
                f"{quote(policy)} is no default policy of {hook}", "ACCEPT, DROP or REJECT"
            )

    def run(lines: Iterator[str] | Sequence[str]) -> None:
        for text in lines:
            read_into(tables, InputFile("ufw", f"*filter\n{text}"), family, numbered=False)

    run([f":{hook} {'ACCEPT' if p == 'ACCEPT' else 'DROP'} [0:0]" for hook, p in policies.items()])
    if off:
        run(["-A INPUT -i lo -j ACCEPT", "-A OUTPUT -o lo -j ACCEPT"])
        return
    run(_chains(six))
    run(_calls(six, policies))
    for file in files:
        read_into(tables, file, family)
    run(f"-A ufw{six}-before-{hook} -j ufw{six}-user-{hook}" for hook in _HOOKS)


def _chains(six: str) -> Iterator[str]:
    stages = (*_STAGES, "user", "user-logging", "skip-to-policy")
    names = [f"{stage}-{hook}" for stage in stages for hook in _HOOKS]
    for name in (*names, "logging-deny", "logging-allow", "user-limit", "user-limit-accept"):
        yield f":ufw{six}-{name} - [0:0]"


def _calls(six: str, policies: dict[str, str]) -> Iterator[str]:
    """Who calls whom, and what stands in chains that no file fills."""
    for hook in _HOOKS:
        for stage in _STAGES:
            yield f"-A {hook.upper()} -j ufw{six}-{stage}-{hook}"
        policy = policies[hook.upper()]
        yield f"-A ufw{six}-skip-to-policy-{hook} -j {policy}"
        if policy == "REJECT":
            yield f"-A ufw{six}-reject-{hook} -j REJECT"
        if policy == "ACCEPT":
            for protocol in ("tcp", "udp"):
                yield (
                    f"-A ufw{six}-track-{hook} -p {protocol} -m conntrack --ctstate NEW -j ACCEPT"
                )
