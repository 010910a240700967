"""Owns the file of dynamic rules and quarantines, for the next daemon of this boot.

It is where a reboot deletes it. The file also names the boot, since rules end by the monotonic
clock, which starts anew with each boot.
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
from ipsecd.language.conditions import parse_conditions
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.addresses import Keyword, Selector
from ipsecd.model.host_names import host_names_in
from ipsecd.model.quarantine import Quarantine
from ipsecd.model.values import Action, Filter
from ipsecd.quoting import cut, quote
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.files import Disk
from ipsecd.sources.made import Written
from ipsecd.sources.names import with_addresses
from ipsecd.sources.names_file import Names, names_from_json, names_to_json
from ipsecd.sources.record_file import Form, Record, RecordFile
from ipsecd.sources.strict_json import items, members, number, text

NAME, VERSION = "dynamic", 1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BOOT_VARIABLE = "IPSECD_BOOT_ID"
"""The environment variable that has the boot's id where a sandbox hides the file."""
MAX_TOLD, MAX_REASON = 3, 300
_RULE, _QUARANTINE = "rule ", "quarantine "
_BESIDE = "beside"
"""The key of what is to change in the same moment as files of policies."""
_LOOKUPS = ("looked_up", "names")
_BOOT = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class SavedDynamic:
    """The dynamic rules and quarantines that an earlier daemon of this boot saved."""

    rules: tuple[DynamicRule, ...] = ()
    quarantines: tuple[Quarantine, ...] = ()


class DynamicFile:
    """The file, and warnings about it that say what to do."""

    def __init__(
        self,
        runtime_dir: Path,
        disk: Disk | None = None,
        boot: str | None = None,
        tell: Callable[[str, str], None] = lambda _message, _hint: None,
    ) -> None:
        """`boot` names the boot. `tell` is called with each new warning and what to do about it."""
        self._path = runtime_dir / NAME
        form = Form(NAME, VERSION, name_of_boot(os.environ) if boot is None else boot)
        self._file = RecordFile(self._path, form, disk)
        self._tell = tell
        self.is_made: Callable[[Written], bool] = lambda _: False
        """Whether a change of policy files was made, by what it was to write."""
        self._read_warnings: tuple[str, ...] = ()
        self._write_warnings: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings that still hold."""
        return (*self._read_warnings, *self._write_warnings)

    def load(self, now: float) -> SavedDynamic:
        """What an earlier daemon of this boot saved, without what has ended by `now`.

        Writes nothing, unless that daemon was changing rules and policies in one moment: where the
        files of policies were changed, the rules are too.
        """
        contents = self._file.load()
        problems = list(contents.problems)
        rules, quarantines, left_out = [], [], []
        records = dict(contents.records)
        if (beside := records.pop(_BESIDE, None)) is not None:
            records = self._with_beside(beside, records, problems)
        for key, content in records.items():
            try:
                rule_or_quarantine = read_record(key, content)
            except (ValueError, IpsecdError) as error:
                reason = error.message if isinstance(error, IpsecdError) else str(error)
                problems.append(f"{quote(key)}: {reason}")
                left_out.append(key)
                continue
            if rule_or_quarantine.deadline <= now:
                left_out.append(key)
            elif isinstance(rule_or_quarantine, Quarantine):
                quarantines.append(rule_or_quarantine)
            else:
                rules.append(rule_or_quarantine)
        self._read_warnings = ()
        if problems:
            reasons = "; ".join(cut(problem, MAX_REASON) for problem in problems[:MAX_TOLD])
            unnamed = len(problems) - MAX_TOLD
            more = f", and {unnamed:,} more" if unnamed > 0 else ""
            self._read_warnings = self._warn(
                f"of the dynamic rules in {str(self._path)!r} some cannot be used: {reasons}{more}",
                "see what is in force with: ipsecctl show dynamic; then run: ipsecctl reload",
            )
        self._file.leave_out(left_out)
        return SavedDynamic(tuple(rules), tuple(quarantines))

    def begin(self, written: Written, rules: Iterable[DynamicRule], removed: Iterable[str]) -> None:
        """Note how rules are to change once files of policies were `written`."""
        put = {_RULE + rule.name: _record(rule) for rule in rules}
        drop = [_RULE + name for name in removed]
        self._file.put(_BESIDE, {"written": dict(written), "put": put, "drop": drop})
        self._note_failure()

    def give_up(self) -> None:
        """Forget what was begun: files and rules stay as they were."""
        self._file.drop([_BESIDE])
        self._note_failure()

    def _with_beside(
        self, beside: Record, records: dict[str, Record], problems: list[str]
    ) -> dict[str, Record]:
        """The records after what an earlier daemon had begun, if it had changed the files."""
        put: dict[str, Record] = {}
        drop: list[str] = []
        try:
            facts = members(beside, "what was begun", ("written", "put", "drop"))
            written = members(facts["written"], "the files")
            if self.is_made({path: text(each, path) for path, each in written.items()}):
                rules = members(facts["put"], "the rules")
                put = {key: members(each, key) for key, each in rules.items()}
                drop = [text(each, "a key") for each in items(facts["drop"], "what goes")]
        except ValueError as error:
            problems.append(f"{quote(_BESIDE)}: {error}")
        self._file.change(put, [*drop, _BESIDE])
        kept = {key: record for key, record in records.items() if key not in drop}
        return {**kept, **put}

    def added(self, rule: DynamicRule) -> None:
        """Save a rule. It replaces the rule of its name, if there is one."""
        self.changed([rule])

    def removed(self, names: Iterable[str]) -> None:
        """Delete rules from the file."""
        self.changed([], names)

    def changed(
        self, rules: Iterable[DynamicRule], removed: Iterable[str] = (), *, is_begun: bool = False
    ) -> None:
        """Delete rules, and save others in the place of those of their names, as one change.

        If it `is_begun`, it is done then.
        """
        records = {_RULE + rule.name: _record(rule) for rule in rules}
        dropped = [_RULE + name for name in removed]
        self._file.change(records, [*dropped, _BESIDE] if is_begun else dropped)
        self._note_failure()

    def imposed(self, quarantine: Quarantine) -> None:
        """Save a quarantine. It replaces the one of its name, if there is one."""
        self._file.put(_QUARANTINE + quarantine.name, _quarantine_record(quarantine))
        self._note_failure()

    def released(self, names: Iterable[str]) -> None:
        """Delete quarantines from the file."""
        self._file.drop(_QUARANTINE + name for name in names)
        self._note_failure()

    def clear(self) -> None:
        """Delete everything."""
        self._read_warnings = ()
        self._file.clear()
        self._note_failure()

    def mend(self) -> None:
        """Try again to write what could not be written, and forget warnings about reading."""
        self._read_warnings = ()
        self._file.mend()
        self._note_failure()

    def _note_failure(self) -> None:
        if not self._file.failure:
            self._write_warnings = ()
        elif not self._write_warnings:
            self._write_warnings = self._warn(
                "dynamic rules would not survive a crash of the daemon: "
                f"{str(self._path)!r} cannot be written: {self._file.failure}",
                "look at the free space and the mount options; then run: ipsecctl reload",
            )

    def _warn(self, message: str, hint: str) -> tuple[str]:
        self._tell(message, hint)
        return (f"{message}\n  hint: {hint}",)


def records_of(
    rules: Iterable[DynamicRule], quarantines: Iterable[Quarantine]
) -> dict[str, Record]:
    """The records of rules and quarantines, by their keys, as in the file."""
    records = {_RULE + rule.name: _record(rule) for rule in rules}
    return records | {
        _QUARANTINE + quarantine.name: _quarantine_record(quarantine) for quarantine in quarantines
    }


def names_of_keys(keys: Iterable[str]) -> tuple[list[str], list[str]]:
    """The names of the rules, and of the quarantines, among the `keys` of records."""
    rules, quarantines = [], []
    for key in keys:
        if key.startswith(_RULE):
            rules.append(key.removeprefix(_RULE))
        else:
            quarantines.append(key.removeprefix(_QUARANTINE))
    return rules, quarantines


def are_the_same(a: Record | None, b: Record | None) -> bool:
    """Whether two records are of the same rule or quarantine, whenever its names were looked up."""
    if a is None or b is None or a == b:
        return a == b
    return _without_lookups(a) == _without_lookups(b)


def with_lookups_of(later: Record | None, record: Record) -> Record:
    """The record with the addresses that the DNS names in the same filters have in a later one."""
    if later is None or later.get("filters") != record.get("filters") or not later.get("names"):
        return record
    return {**record, **{key: later[key] for key in _LOOKUPS if key in later}}


def _without_lookups(record: Record) -> Record:
    return {key: value for key, value in record.items() if key not in _LOOKUPS}


def name_of_boot(environment: Mapping[str, str]) -> str:
    """The name of this boot, 32 hexadecimal digits.

    Where it cannot be found out, all boots have the same name: then only the directory, which a
    reboot clears, tells boots apart.
    """
    try:
        boot_id = BOOT_ID.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        boot_id = environment.get(BOOT_VARIABLE, "")
    name = boot_id.strip().replace("-", "").lower()
    return name if _BOOT.fullmatch(name) else "0" * 32


def _record(rule: DynamicRule) -> Record:
    return {
        "action": rule.action.value,
        **_filters_record(rule.filters),
        "interface": rule.conditions.interface_text,
        # An older daemon knows no such member, and can read all rules that do without it.
        **({"when": rule.conditions.when} if rule.conditions.when else {}),
        "looked_up": rule.looked_up,
        **_common_record(rule),
    }


def _quarantine_record(quarantine: Quarantine) -> Record:
    return {
        "who": format_address(quarantine.who),
        **_filters_record(quarantine.permits),
        **_common_record(quarantine),
    }


def _filters_record(filters: tuple[Filter, ...]) -> Record:
    names: Names = {name.name: name.addresses for name in host_names_in(filters) if name.addresses}
    return {
        "filters": [format_filter(rule_filter) for rule_filter in filters],
        "names": names_to_json(names).decode() if names else None,
    }


def _common_record(rule_or_quarantine: DynamicRule | Quarantine) -> Record:
    return {
        "ends": None if rule_or_quarantine.deadline == inf else rule_or_quarantine.deadline,
        "created": rule_or_quarantine.created,
        "by": rule_or_quarantine.by,
    }


_CONDITIONS = ("interface", "when")
_COMMON = ("filters", "names", "ends", "created", "by")


def read_record(key: str, content: object) -> DynamicRule | Quarantine:
    """What a record holds; raises ``ValueError`` or ``IpsecdError``."""
    if key.startswith(_RULE):
        return _rule(key.removeprefix(_RULE), content)
    if key.startswith(_QUARANTINE):
        return _quarantine(key.removeprefix(_QUARANTINE), content)
    raise ValueError("it is neither a rule nor a quarantine")


def _rule(name: str, content: object) -> DynamicRule:
    if isinstance(content, dict):
        content = {"when": None, **content}
    record = members(content, "the record", ("action", "looked_up", *_CONDITIONS, *_COMMON))
    filters = _filters(record)
    if not filters:
        raise ValueError("it has no filters")
    return DynamicRule(
        name,
        filters,
        Action(text(record["action"], "the action")),
        parse_conditions(
            *(None if record[key] is None else text(record[key], key) for key in _CONDITIONS)
        ),
        _deadline(record),
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
        _deadline(record),
        number(record["created"], "the time"),
        text(record["by"], "who made it"),
    )


def _filters(record: Record) -> tuple[Filter, ...]:
    texts = [text(item, "a filter") for item in items(record["filters"], "filters")]
    names: Names = {}
    if record["names"] is not None:
        names = names_from_json(text(record["names"], "names").encode())
    return tuple(with_addresses(parse_filter(filter_text), names) for filter_text in texts)


def _deadline(record: Record) -> float:
    return inf if record["ends"] is None else number(record["ends"], "the end")
