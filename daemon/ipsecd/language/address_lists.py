"""Owns reading address lists as people and feeds write them; must not know files or networks.

The forms in which an entry is written line by line are in ``list_formats``. A list may have
millions of lines, so a block of nothing but plain ones is read at once (``plain_lines``), and
nothing makes an object of an entry that outlives its block. Invariants:

1. What is not exactly an address, a prefix or a range is malformed, is counted, and adds nothing.
2. A range becomes the prefixes that cover exactly its addresses.
3. Bits behind the length of a prefix are cleared and counted: tools that write lists take such a
   prefix for its network, and so does ``ipset``.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.language.list_entries import MAPPED, entries_in
from ipsecd.language.list_formats import PLAIN, Extract, extractor, format_of
from ipsecd.language.plain_lines import entries_of_plain
from ipsecd.model.addresses import Family
from ipsecd.model.lists import AddressList, Form
from ipsecd.model.packing import Packing, without_host_bits
from ipsecd.quoting import count, quote, quote_path

MAX_BYTES = 1 << 27
MAX_LINE_BYTES = 1 << 16
MAX_ENTRIES = 1 << 23
"""Over eight million, before those that are repeated are taken together."""
MOST_SHOWN = 10
MAX_SHOWN = 200
"""How many characters of a malformed line are kept."""
BLOCK = 1 << 18
"""How much is read at a time, in bytes: a few milliseconds of work that no other thread interrupts,
and what a fast processor has at hand."""

_COMMENT = re.compile(rb"[ \t]*[#;][^\n]*")
_BOM = b"\xef\xbb\xbf"
_OTHERS = {
    b"\xff\xfe": ("it is UTF-16 text", "save it as UTF-8"),
    b"\xfe\xff": ("it is UTF-16 text", "save it as UTF-8"),
    b"\x1f\x8b": ("it is compressed", "unpack it with gunzip first"),
    b"PK": ("it is a ZIP archive", "unpack it first"),
    b"BZ": ("it is compressed", "unpack it with bunzip2 first"),
    b"\xfd7": ("it is compressed", "unpack it with unxz first"),
}
_HINT = (
    "write one address, prefix or range such as 192.0.2.1-192.0.2.9 a line, and comments behind #; "
    "name another form with --format"
)

Take = Callable[[Mapping[Form, bytes], int], None]
"""Takes entries while the text is still being read: those of some lines, packed in any order and
perhaps more than once, and how many bytes of text these lines are."""


@dataclass(frozen=True, slots=True)
class MalformedLine:
    """A line that holds no entry and should: its number from 1, its beginning, and why.

    ``text`` is empty where it is not to be shown.
    """

    number: int
    text: str
    reason: str

    def __str__(self) -> str:
        text = quote(self.text) if self.text else "what stands there"
        return f"line {self.number:,}: {text} {self.reason}"


@dataclass(frozen=True, slots=True)
class ReadList:
    """What was read: the list, and what there is to say about its text.

    ``read`` is how many entries there were before repeated ones were taken together; ``cleared``
    how many prefixes had bits set behind their length; ``malformed`` the number of such lines, of
    which the first few are ``shown``.
    """

    addresses: AddressList
    format: str
    lines: int = 0
    read: int = 0
    cleared: int = 0
    malformed: int = 0
    shown: tuple[MalformedLine, ...] = ()

    @property
    def repeated(self) -> int:
        """How many entries were there before, in the same words or others."""
        return self.read - len(self.addresses)


def read_list(
    blocks: bytes | Iterable[bytes], source: str, form: str = "", take: Take | None = None
) -> ReadList:
    """The list in a text, which may come in blocks of any size.

    `form` names its form: ``plain``, ``json``, ``ipset`` or ``csv:COLUMN``; empty: it is seen by
    the first line. `take` is given all entries while they are read, whatever comes of the text in
    the end. Raises ``InvalidInput``, with `source` and line, if there is nothing but
    malformed lines, or the form is not there; ``LimitExceeded`` for more than can be held.
    """
    reader = _Reader(source, form, pass_on=take)
    for number, chunk in _whole_lines([blocks] if isinstance(blocks, bytes) else blocks, source):
        reader.take(number, chunk)
    return reader.outcome()


def read_addresses(texts: Sequence[str]) -> AddressList:
    """The list of entries that somebody typed: each has to be right, host bits are refused.

    Raises ``InvalidInput`` with the text and what is wrong with it.
    """
    packing = Packing()
    for text in texts:
        try:
            entries = entries_in(text.strip())
        except ValueError as error:
            raise InvalidInput(
                f"{quote(text)} {error}",
                "write an address, a prefix such as 192.0.2.0/24, or a range such as "
                "192.0.2.1-192.0.2.9",
                source=text,
                position=0,
            ) from error
        for form, entry in entries:
            if packing.put(form, entry):
                raise InvalidInput(
                    f"{quote(text)} has address bits set beyond its mask",
                    "write the network's first address, or leave the mask out for one host",
                    source=text,
                    position=0,
                )
    return packing.packed()


def _whole_lines(blocks: Iterable[bytes], source: str) -> Iterator[tuple[int, bytes]]:
    """The text in chunks of whole lines, each with the number of its first line."""
    number, size = 1, 0
    rest = b""
    is_first = True
    for block in blocks:
        size += len(block)
        if size > MAX_BYTES:
            raise LimitExceeded(
                f"{quote_path(source)} is longer than {MAX_BYTES:,} bytes",
                "split it into several lists",
            )
        rest += block
        if is_first:
            if len(rest) < len(_BOM):
                # It cannot be seen yet whether the text begins with a mark.
                continue
            rest, is_first = _without_mark(rest, source), False
        end = rest.rfind(b"\n") + 1
        if len(rest) - end > MAX_LINE_BYTES:
            number += rest.count(b"\n", 0, end)
            raise InvalidInput(
                f"line {number:,} of {quote_path(source)} is longer than {MAX_LINE_BYTES:,} bytes",
                "an address list has one entry a line",
                source=source,
                line=number,
            )
        # A block may be of any size, and what is taken at a time must not be.
        for chunk in _cut(rest[:end]):
            yield number, chunk
            number += chunk.count(b"\n")
        rest = rest[end:]
    if rest:
        yield number, _without_mark(rest, source) if is_first else rest


def _cut(lines: bytes) -> Iterator[bytes]:
    begin = 0
    while len(lines) - begin > BLOCK:
        end = lines.find(b"\n", begin + BLOCK) + 1
        yield lines[begin:end]
        begin = end
    if begin < len(lines):
        yield lines[begin:]


def _without_mark(beginning: bytes, source: str) -> bytes:
    """The text without a byte order mark; raises ``InvalidInput`` if it is no text."""
    for mark, (what, hint) in _OTHERS.items():
        if beginning.startswith(mark):
            raise InvalidInput(
                f"{quote_path(source)} is no address list: {what}", hint, source=source
            )
    return beginning.removeprefix(_BOM)


@dataclass
class _Reader:
    """Takes chunk after chunk, and packs what they hold."""

    source: str
    form: str
    lines: int = 0
    cleared: int = 0
    malformed: int = 0
    shown: list[MalformedLine] = field(default_factory=list)
    packing: Packing = field(default_factory=Packing)
    extract: Extract | None = None
    pass_on: Take | None = None

    def take(self, number: int, chunk: bytes) -> None:
        """Read some whole lines, the first of which is line `number`."""
        size = len(chunk)
        chunk = chunk.replace(b"\r\n", b"\n").removesuffix(b"\r")
        self.form = self.form or format_of(chunk)
        if self.form in {"", PLAIN} and (b"#" in chunk or b";" in chunk):
            chunk = _COMMENT.sub(b"", chunk)
        # Every byte is a character, so nothing fails here: what is not ASCII is malformed later.
        lines = chunk.removesuffix(b"\n").decode("latin-1").split("\n")
        self.lines += len(lines)
        is_plain = self.form in {"", PLAIN}
        entries = entries_of_plain(lines) if is_plain else None
        if entries is None:
            texts = lines if is_plain else self._extracted(number, lines)
            entries = self._one_by_one(number, texts)
        packed: dict[Form, bytes] = {}
        for form, each in entries.items():
            if not each:
                continue
            packed[form], wrong = without_host_bits(form, b"".join(each))
            self.packing.add(form, packed[form])
            self.cleared += wrong
        if self.pass_on:
            self.pass_on(packed, size)
        if self.packing.count > MAX_ENTRIES:
            raise LimitExceeded(
                f"{quote_path(self.source)} has more than {MAX_ENTRIES:,} entries",
                "split it into several lists",
            )

    def outcome(self) -> ReadList:
        """What was read; raises ``InvalidInput`` if there was nothing but malformed lines."""
        addresses = self.packing.packed()
        if self.malformed and not addresses.entries:
            first = self.shown[0]
            raise InvalidInput(
                f"{quote_path(self.source)} holds no address list: "
                f"{count(self.malformed, 'malformed line')} and nothing else; {first}",
                _HINT,
                source=self.source,
                line=first.number,
            )
        return ReadList(
            addresses,
            self.form or PLAIN,
            self.lines,
            self.packing.count,
            self.cleared,
            self.malformed,
            tuple(self.shown),
        )

    def _extracted(self, number: int, lines: Sequence[str]) -> Iterator[str]:
        """The entries in lines of another form than the plain one; "" for those without."""
        if self.extract is None:
            self.extract = extractor(self.form, self.source)
        for at, line in enumerate(lines):
            try:
                entry = self.extract(line)
            except ValueError as error:
                self._note(number + at, line, str(error))
                entry = ""
            yield entry

    def _one_by_one(self, number: int, texts: Iterable[str]) -> dict[Form, list[bytes]]:
        """The entries in `texts`, one a text or malformed; the first is that of line `number`."""
        entries: dict[Form, list[bytes]] = {}
        ipv4, ipv6 = (_appenders(family, entries) for family in Family)
        inet_pton, version4, version6 = socket.inet_pton, socket.AF_INET, socket.AF_INET6
        for at, text in enumerate(texts):
            host = text.partition("/")[0]
            try:
                if ":" in host:
                    packed = inet_pton(version6, host)
                    if packed.startswith(MAPPED):
                        self._carefully(number + at, text, entries)
                    else:
                        ipv6[text[len(host) :]](packed)
                else:
                    ipv4[text[len(host) :]](inet_pton(version4, host))
            except (OSError, ValueError, KeyError):
                if text:
                    self._carefully(number + at, text, entries)
        return entries

    def _carefully(self, number: int, text: str, entries: dict[Form, list[bytes]]) -> None:
        """Take a text that is not in the plainest form, or note that it is malformed."""
        text = text.strip(" \t")
        if not text:
            return
        try:
            for form, packed in entries_in(text):
                entries.setdefault(form, []).append(packed)
        except ValueError as error:
            self._note(number, text, str(error))

    def _note(self, number: int, text: str, reason: str) -> None:
        self.malformed += 1
        if len(self.shown) < MOST_SHOWN:
            shown = (
                text[:MAX_SHOWN].encode("latin-1", "backslashreplace").decode("utf-8", "replace")
            )
            self.shown.append(MalformedLine(number, shown, reason))


def _appenders(
    family: Family, entries: dict[Form, list[bytes]]
) -> dict[str, Callable[[bytes], None]]:
    """What takes an address with each text behind it: none, or the length of its prefix."""
    takers: dict[str, Callable[[bytes], None]] = {}
    for length in range(family.bits + 1):
        takers[f"/{length}"] = entries.setdefault(Form(family, length), []).append
    takers[""] = takers[f"/{family.bits}"]
    return takers
