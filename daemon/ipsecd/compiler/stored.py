"""Owns the form in which a classifier is kept on disk: one JSON line, then the packed entries.

Lists are not kept with it: they are files of their own, and change by themselves.
Not pickle: the file is read by a root process, and reading data must not run code.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterator
from itertools import islice, pairwise
from operator import lt
from typing import Any

from ipsecd.compiler.classifier import Classifier, Table
from ipsecd.compiler.shapes import SHAPES, whole
from ipsecd.compiler.tables import TableId
from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import exemption
from ipsecd.model.fields import FIELDS
from ipsecd.model.values import Action, Origin

FORMAT = 3
_HEADER_KEYS = frozenset({"format", "exemptions", "drop_unparsable", "tables"})


def to_stored(classifier: Classifier) -> bytes:
    """The classifier as bytes; ``from_stored`` gives an equal one back, without its lists."""
    header = {
        "format": FORMAT,
        "exemptions": classifier.exemptions,
        "drop_unparsable": classifier.drop_unparsable,
        "tables": [
            {
                "id": _stored_id(table.id),
                "looks": table.id.looks,
                "origins": [[o.store, o.policy, o.rule] for o in table.origins],
                "keys": len(table.keys),
                "writers": len(table.writers),
            }
            for table in classifier.tables
        ],
    }
    parts = [json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode(), b"\n"]
    for table in classifier.tables:
        parts += [table.keys, _little_endian(table.writers)]
    return b"".join(parts)


def from_stored(content: bytes) -> Classifier:
    """The classifier that ``to_stored`` wrote; raises ``InvalidInput`` for anything else."""
    try:
        line, _, body = content.partition(b"\n")
        header = json.loads(line)
        if type(header) is not dict or header.keys() != _HEADER_KEYS:
            raise InvalidInput("the compiled policy has another header")
        if header["format"] != FORMAT:
            raise InvalidInput(
                f"the compiled policy has format {header['format']!r}, this version reads {FORMAT}"
            )
        tables = []
        offset = 0
        for entry in _list(header["tables"]):
            size, writers = (whole(entry[name], 0, len(body)) for name in ("keys", "writers"))
            keys = body[offset : offset + size]
            offset += size
            tables.append(_table(entry, keys, _numbers(body[offset : offset + 4 * writers])))
            offset += 4 * writers
        if offset != len(body):
            raise InvalidInput(f"the compiled policy has {len(body) - offset} bytes too many")
        if any(table.id.order >= following.id.order for table, following in pairwise(tables)):
            raise InvalidInput("the compiled policy has its tables in another order")
        exemptions = tuple(exemption(_text(name)).name for name in _list(header["exemptions"]))
        return Classifier(tuple(tables), exemptions, _flag(header["drop_unparsable"]))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise InvalidInput(f"the compiled policy cannot be read: {error}") from error


def _table(entry: dict[str, Any], keys: bytes, writers: array[int]) -> Table:
    table_id = _table_id(_list(entry["id"]), entry["looks"])
    audits = table_id.action is Action.AUDIT
    origins = tuple(_origin(words, audits=audits) for words in _list(entry["origins"]))
    table = Table(table_id, keys, origins, writers)
    if len(keys) != table_id.key_width * len(table):
        raise InvalidInput("the compiled policy has a table of the wrong length")
    if not origins or not len(table):
        raise InvalidInput("the compiled policy has a table that holds nothing")
    if len(writers) != (len(table) if len(origins) > 1 else 0):
        raise InvalidInput("the compiled policy does not say who wrote its entries")
    if max(writers, default=0) >= len(origins):
        raise InvalidInput("the compiled policy names a rule that it does not hold")
    width = table_id.key_width
    entries = [keys[at : at + width] for at in range(0, len(keys), width or 1)]
    if not all(map(lt, entries, islice(entries, 1, None))):
        raise InvalidInput("the compiled policy has entries in another order")
    for offset, allowed in _forms_of_bytes(table_id):
        if keys[offset::width].translate(None, allowed):
            raise InvalidInput("the compiled policy has entries that no filter makes")
    return table


def _forms_of_bytes(table_id: TableId) -> Iterator[tuple[int, bytes]]:
    """The bytes of a key that cannot have every value: the offset of each, and its values."""
    for part in table_id.parts:
        mask = SHAPES[part.field.kind].mask(part.shape, part.field, table_id.family)
        for index, bits in enumerate(mask.ljust(part.size + -part.size % 4, b"\0")):
            if bits != 0xFF:
                yield part.offset + index, bytes(value for value in range(256) if not value & ~bits)


def _stored_id(table: TableId) -> list[Any]:
    # Without protected filters, what is kept is what earlier versions kept, and read.
    protected = [True] if table.protected else []
    return [table.family.value, table.volatile, table.action.value, *protected]


def _table_id(parts: list[Any], looks: dict[str, Any]) -> TableId:
    family, volatile, action, *protected = parts
    if protected and (len(protected) > 1 or protected[0] is not True):
        raise InvalidInput(f"the compiled policy has {protected!r:.40} for protected tables")
    if type(looks) is not dict:
        raise InvalidInput("the compiled policy does not say what it looks at")
    version = Family(whole(family, 4, 6))
    shapes = {
        field.name: SHAPES[field.kind].read(looks[field.name], field, version)
        for field in FIELDS
        if field.name in looks
    }
    table_id = TableId.of(version, _flag(volatile), Action(_text(action)), **shapes)
    table_id = table_id._replace(protected=bool(protected))
    if table_id.looks != shapes or len(shapes) != len(looks):
        raise InvalidInput("the compiled policy looks at fields that do not exist")
    if (
        not table_id.points
        or (table_id.needs_transport and not table_id.protocol)
        or (table_id.protected and table_id.action is not Action.PERMIT)
    ):
        raise InvalidInput("the compiled policy has a table that no policy makes")
    return table_id


def _origin(words: Any, *, audits: bool) -> Origin:
    store, policy, rule = map(_text, _list(words))
    return Origin(store, policy, rule, audits)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"the compiled policy has {value!r:.40} for true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"the compiled policy has {value!r:.40} for a text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidInput(f"the compiled policy has {value!r:.40} for a list")
    return value


def _little_endian(numbers: array[int]) -> bytes:
    """32-bit numbers in the byte order of the file, whatever the machine's is."""
    swapped = array("I", numbers)
    if sys.byteorder == "big":
        swapped.byteswap()
    return swapped.tobytes()


def _numbers(data: bytes) -> array[int]:
    numbers = array("I", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
