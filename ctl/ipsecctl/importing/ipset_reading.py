"""Owns reading what ``ipset save`` prints and ``ipset restore`` reads; must not know packets."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ipsecctl.importing.ipset import OF_ADDRESSES, OF_SETS, Ipsets, IpsetSet
from ipsecctl.importing.plain_networks import networks_in
from ipsecctl.importing.source import InputFile, Line
from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Network
from ipsecd.quoting import quote

MAX_SETS = 10_000
_IN_QUOTES = re.compile(r'"[^"]*"')
"""The comments of entries, which may hold any words."""
_FLAGS = frozenset({"-exist", "-!", "--exist"})
_ENDS = frozenset({"COMMIT", "commit", "quit"})


def read_ipsets(files: Sequence[InputFile]) -> Ipsets:
    """The sets as they are when all lines have been carried out.

    Raises ``InvalidInput`` with file and line.
    """
    reader = _Reader()
    for file in files:
        for number, text in enumerate(file.text.split("\n"), 1):
            reader.take(file.path, number, text)
    if not reader.sets and files:
        raise InvalidInput(
            "there is no set in it",
            "give what 'ipset save' prints",
            source=files[0].path,
            line=1,
        )
    return Ipsets(reader.sets)


class _Reader:
    """Carries lines out, one after the other."""

    def __init__(self) -> None:
        self.sets: dict[str, IpsetSet] = {}
        self._doing = {
            "create": self._create,
            "add": self._add,
            "del": self._delete,
            "flush": self._flush,
            "destroy": self._destroy,
            "swap": self._swap,
        }

    def take(self, path: str, number: int, text: str) -> None:
        """Carry one line out."""
        shown = text.strip()
        if not shown or shown.startswith("#"):
            return
        words = [word for word in _IN_QUOTES.sub("", shown).split() if word not in _FLAGS]
        if words and words[0] == "ipset":
            del words[0]
        if words and words[0] in _ENDS:
            return
        line = Line(path, number, shown)
        needed = 1 if words[:1] in (["flush"], ["destroy"]) else 2
        if len(words) <= needed or words[0] not in self._doing:
            raise _wrong(
                line,
                f"{quote(shown)} is no line of ipset save",
                "give what 'ipset save' prints, without other commands",
            )
        self._doing[words[0]](words[1:], line)

    def _create(self, words: list[str], line: Line) -> None:
        name, kind, *options = words
        if name in self.sets and self.sets[name].is_created:
            return
        if len(self.sets) >= MAX_SETS:
            raise _wrong(line, f"there are more than {MAX_SETS:,} sets", "give some of them")
        line = Line(line.file, line.number, f"set {name} of type {kind}")
        self.sets[name] = IpsetSet(name, line, kind, length=_netmask(options, line))

    def _add(self, words: list[str], line: Line) -> None:
        name, text, *options = words
        if name not in self.sets:
            place = Line(line.file, line.number, f"set {name}")
            self.sets[name] = IpsetSet(name, place, "hash:net", is_created=False)
        here = self.sets[name]
        if here.kind == OF_SETS:
            here.members.setdefault(text, line)
        elif here.kind in OF_ADDRESSES:
            for network in _networks(text, here, line):
                here.entries[network] = "nomatch" not in options
        else:
            here.others += 1
        here.ending += _has_end(options)

    def _delete(self, words: list[str], line: Line) -> None:
        here = self._known(words[0], line)
        here.members.pop(words[1], None)
        if here.kind in OF_ADDRESSES:
            for network in _networks(words[1], here, line):
                here.entries.pop(network, None)

    def _flush(self, words: list[str], line: Line) -> None:
        here = self._known(words[0], line)
        here.entries, here.members, here.ending, here.others = {}, {}, 0, 0

    def _destroy(self, words: list[str], _: Line) -> None:
        self.sets.pop(words[0], None)

    def _swap(self, words: list[str], line: Line) -> None:
        one, other = (self._known(name, line) for name in words[:2])
        self.sets[one.name], self.sets[other.name] = other, one
        one.name, other.name = other.name, one.name

    def _known(self, name: str, line: Line) -> IpsetSet:
        if name not in self.sets:
            raise _wrong(line, f"there is no set {quote(name)} yet", "create it before")
        return self.sets[name]


def _networks(text: str, of: IpsetSet, line: Line) -> list[Network]:
    try:
        found = networks_in(text)
    except ValueError as error:
        raise _wrong(line, f"{quote(text)} {error}", "give what 'ipset save' prints") from error
    if of.length is None:
        return found
    return [
        Network(one.family, one.address >> size << size, one.family.bits - size)
        for one in found
        for size in (max(one.family.bits - of.length, one.family.bits - one.length),)
    ]


def _netmask(options: list[str], line: Line) -> int | None:
    """The prefix length that a set gives to all of its entries; None if it gives none."""
    if "netmask" not in options[:-1]:
        return None
    text = options[options.index("netmask") + 1]
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and 1 <= int(text) <= 128):
        raise _wrong(line, f"{quote(text)} is no prefix length", "give what 'ipset save' prints")
    return int(text)


def _has_end(options: list[str]) -> bool:
    return "timeout" in options[:-1] and options[options.index("timeout") + 1] != "0"


def _wrong(line: Line, message: str, hint: str) -> InvalidInput:
    return InvalidInput(message, hint, source=line.file, line=line.number)
