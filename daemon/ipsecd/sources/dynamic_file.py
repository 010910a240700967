"""Owns what is dynamic on disk, rules and quarantines, for the next daemon of this boot.

It lies where a reboot forgets it, and the boot is written into the file besides, since the
monotonic clock, by which rules end, is each boot's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

from ipsecd.errors import IpsecdError
from ipsecd.language.addresses import format_address, parse_address
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.addresses import HostName, Keyword, Selector
from ipsecd.model.quarantine import Quarantine
from ipsecd.model.values import Action, Filter, InterfaceType
from ipsecd.quoting import cut, quote
from ipsecd.sources.cache import Names, names_from_json, names_to_json
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.files import Disk
from ipsecd.sources.names import with_addresses
from ipsecd.sources.record_file import Form, Record, RecordFile
from ipsecd.sources.shapes import items, members, number, text

NAME, VERSION = "dynamic", 1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BOOT_VARIABLE = "IPSECD_BOOT_ID"
"""Has the same where a sandbox hides the file."""
MAX_TOLD, MAX_REASON = 3, 300
_RULE, _QUARANTINE = "rule ", "quarantine "
_BOOT = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Left:
    """What an earlier daemon of this boot had."""

    rules: tuple[DynamicRule, ...] = ()
    quarantines: tuple[Quarantine, ...] = ()


class DynamicFile:
    """The file, and what is wrong with it in words, each with what to do."""

    def __init__(
        self,
        runtime_dir: Path,
        disk: Disk | None = None,
        boot: str | None = None,
        tell: Callable[[str, str], None] = lambda _message, _hint: None,
    ) -> None:
        """`boot` names the boot; `tell` hears what is wrong, and what to do, when it comes up."""
        self._path = runtime_dir / NAME
        form = Form(NAME, VERSION, boot_of(os.environ) if boot is None else boot)
        self._file = RecordFile(self._path, form, disk)
        self._tell = tell
        self._unread: tuple[str, ...] = ()
        self._unwritten: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong now."""
        return (*self._unread, *self._unwritten)

    def load(self, now: float) -> Left:
        """What an earlier daemon of this boot had, but for what ended by `now`.

        Nothing is written.
        """
        contents = self._file.load()
        wrong = list(contents.wrong)
        rules, quarantines, gone = [], [], []
        for key, content in contents.records.items():
            try:
                had = _read(key, content)
            except (ValueError, IpsecdError) as error:
                reason = error.message if isinstance(error, IpsecdError) else str(error)
                wrong.append(f"{quote(key)}: {reason}")
                gone.append(key)
                continue
            if had.deadline <= now:
                gone.append(key)
            elif isinstance(had, Quarantine):
                quarantines.append(had)
            else:
                rules.append(had)
        self._unread = ()
        if wrong:
            told = "; ".join(cut(reason, MAX_REASON) for reason in wrong[:MAX_TOLD])
            more = f", and {len(wrong) - MAX_TOLD:,} more" if len(wrong) > MAX_TOLD else ""
            self._unread = self._warn(
                f"of the dynamic rules in {str(self._path)!r} some cannot be used: {told}{more}",
                "see what is in force with: ipsecctl show dynamic; then run: ipsecctl reload",
            )
        self._file.leave_out(gone)
        return Left(tuple(rules), tuple(quarantines))

    def added(self, rule: DynamicRule) -> None:
        """Keep a rule, in the place of the one that has its name, if any."""
        self._file.put(_RULE + rule.name, _record(rule))
        self._look()

    def removed(self, names: Iterable[str]) -> None:
        """Forget rules."""
        self._file.drop(_RULE + name for name in names)
        self._look()

    def imposed(self, quarantine: Quarantine) -> None:
        """Keep a quarantine, in the place of the one that has its name, if any."""
        self._file.put(_QUARANTINE + quarantine.name, _quarantine_record(quarantine))
        self._look()

    def released(self, names: Iterable[str]) -> None:
        """Forget quarantines."""
        self._file.drop(_QUARANTINE + name for name in names)
        self._look()

    def clear(self) -> None:
        """Forget everything."""
        self._unread = ()
        self._file.clear()
        self._look()

    def mend(self) -> None:
        """Try again to write what could not be written; what could not be read has been told."""
        self._unread = ()
        self._file.mend()
        self._look()

    def _look(self) -> None:
        if not self._file.failure:
            self._unwritten = ()
        elif not self._unwritten:
            self._unwritten = self._warn(
                "dynamic rules would not survive a crash of the daemon: "
                f"{str(self._path)!r} cannot be written: {self._file.failure}",
                "look at the free space and the mount options; then run: ipsecctl reload",
            )

    def _warn(self, message: str, hint: str) -> tuple[str]:
        self._tell(message, hint)
        return (f"{message}\n  hint: {hint}",)


def boot_of(environment: Mapping[str, str]) -> str:
    """The name of this boot, 32 hexadecimal digits.

    Where it is not told there is one name for all: that the directory is cleared has to do.
    """
    try:
        found = BOOT_ID.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        found = environment.get(BOOT_VARIABLE, "")
    name = found.strip().replace("-", "").lower()
    return name if _BOOT.fullmatch(name) else "0" * 32


def _record(rule: DynamicRule) -> Record:
    return {
        "action": rule.action.value,
        **_filters_record(rule.filters),
        "interface": rule.interface_type.value if rule.interface_type else None,
        "looked_up": rule.looked_up,
        **_circumstances(rule),
    }


def _quarantine_record(quarantine: Quarantine) -> Record:
    return {
        "who": format_address(quarantine.who),
        **_filters_record(quarantine.permits),
        **_circumstances(quarantine),
    }


def _filters_record(filters: tuple[Filter, ...]) -> Record:
    names: Names = {
        end.address.name: end.address.addresses
        for one in filters
        for end in (one.source, one.destination)
        if isinstance(end.address, HostName) and end.address.addresses
    }
    return {
        "filters": [format_filter(one) for one in filters],
        "names": names_to_json(names).decode() if names else None,
    }


def _circumstances(had: DynamicRule | Quarantine) -> Record:
    return {
        "ends": None if had.deadline == inf else had.deadline,
        "created": had.created,
        "by": had.by,
    }


_COMMON = ("filters", "names", "ends", "created", "by")


def _read(key: str, content: object) -> DynamicRule | Quarantine:
    """What a record holds; raises ``ValueError`` or ``IpsecdError``."""
    if key.startswith(_RULE):
        return _rule(key.removeprefix(_RULE), content)
    if key.startswith(_QUARANTINE):
        return _quarantine(key.removeprefix(_QUARANTINE), content)
    raise ValueError("it is neither a rule nor a quarantine")


def _rule(name: str, content: object) -> DynamicRule:
    record = members(content, "the record", ("action", "interface", "looked_up", *_COMMON))
    filters = _filters(record)
    if not filters:
        raise ValueError("it has no filters")
    interface = record["interface"]
    return DynamicRule(
        name,
        filters,
        Action(text(record["action"], "the action")),
        None if interface is None else InterfaceType(text(interface, "the interface type")),
        _end(record),
        number(record["created"], "the time"),
        text(record["by"], "who made it"),
        number(record["looked_up"], "the time of the look-up"),
    )


def _quarantine(name: str, content: object) -> Quarantine:
    record = members(content, "the record", ("who", *_COMMON))
    who = parse_address(text(record["who"], "who is in it"))
    if who is not Keyword.ME and not isinstance(who, Selector):
        raise ValueError("it is neither of containers nor of this host")
    return Quarantine(
        name,
        who,
        _filters(record),
        _end(record),
        number(record["created"], "the time"),
        text(record["by"], "who made it"),
    )


def _filters(record: Record) -> tuple[Filter, ...]:
    texts = [text(one, "a filter") for one in items(record["filters"], "filters")]
    names: Names = {}
    if record["names"] is not None:
        names = names_from_json(text(record["names"], "names").encode())
    return tuple(with_addresses(parse_filter(one), names) for one in texts)


def _end(record: Record) -> float:
    return inf if record["ends"] is None else number(record["ends"], "the end")
