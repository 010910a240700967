"""Owns the form in which a classifier is kept on disk: one JSON line, then the packed entries.

Not pickle: the file is read by a root process, and reading data must not run code.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterator
from enum import Enum
from itertools import islice, pairwise
from operator import lt
from typing import Any

from ipsecd.compiler.classifier import Classifier, Table
from ipsecd.compiler.tables import ANY_PORT, EXACT_PORT, ME, Ports, TableId
from ipsecd.errors import InvalidInput
from ipsecd.model.exemptions import exemption
from ipsecd.model.values import MAX_PORT, Action, Family, InterfaceType, Origin, Process

FORMAT = 2
_HEADER_KEYS = frozenset({"format", "exemptions", "drop_unparsable", "tables"})


def to_image(classifier: Classifier) -> bytes:
    """The classifier as bytes; ``from_image`` gives an equal one back."""
    header = {
        "format": FORMAT,
        "exemptions": classifier.exemptions,
        "drop_unparsable": classifier.drop_unparsable,
        "tables": [
            {
                "id": [part.value if isinstance(part, Enum) else part for part in table.id],
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


def from_image(image: bytes) -> Classifier:
    """The classifier that ``to_image`` wrote; raises ``InvalidInput`` for anything else."""
    try:
        line, _, body = image.partition(b"\n")
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
            size, writers = (_whole(entry[name], 0, len(body)) for name in ("keys", "writers"))
            keys = body[offset : offset + size]
            offset += size
            tables.append(_table(entry, keys, _numbers(body[offset : offset + 4 * writers])))
            offset += 4 * writers
        if offset != len(body):
            raise InvalidInput(f"the compiled policy has {len(body) - offset} bytes too many")
        if any(one.id.order >= two.id.order for one, two in pairwise(tables)):
            raise InvalidInput("the compiled policy has its tables in another order")
        exemptions = tuple(exemption(_text(name)).name for name in _list(header["exemptions"]))
        return Classifier(tuple(tables), exemptions, _flag(header["drop_unparsable"]))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise InvalidInput(f"the compiled policy cannot be read: {error}") from error


def _table(entry: dict[str, Any], keys: bytes, writers: array[int]) -> Table:
    table_id = _table_id(_list(entry["id"]))
    origins = tuple(Origin(*map(_text, _list(origin))) for origin in _list(entry["origins"]))
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
    """The bytes of a key that cannot have every value: where they are, and what they can be."""
    offset = 0
    fields = [1] * table_id.protocol
    fields += [2] * (table_id.source_ports == EXACT_PORT)
    fields += [2] * (table_id.destination_ports == EXACT_PORT)
    for used in fields:
        yield from ((offset + at, b"\0") for at in range(used, 4))
        offset += 4
    for length in (table_id.source, table_id.destination):
        if length > 0:
            for at in range(length // 8, table_id.family.bits // 8):
                free_bits = max(0, 8 - max(0, length - 8 * at))
                yield offset + at, bytes(range(0, 256, 1 << free_bits))
            offset += table_id.family.bits // 8


def _table_id(parts: list[Any]) -> TableId:
    family, volatile, action, source, destination, protocol, sports, dports, *words = parts
    version = Family(_whole(family, 4, 6))
    interface_type, process = map(_text, words)
    table_id = TableId(
        version,
        _flag(volatile),
        Action(_text(action)),
        _whole(source, ME, version.bits),
        _whole(destination, ME, version.bits),
        _flag(protocol),
        _ports(_list(sports)),
        _ports(_list(dports)),
        InterfaceType(interface_type).value if interface_type else "",
        str(Process(*process.split(":", 1))) if process else "",
    )
    if not table_id.points or (table_id.needs_ports and not protocol):
        raise InvalidInput("the compiled policy has a table that no policy makes")
    return table_id


def _ports(parts: list[Any]) -> Ports:
    kind, first, last = parts
    ports = Ports(_text(kind), _whole(first, 0, MAX_PORT), _whole(last, 0, MAX_PORT))
    if ports in (ANY_PORT, EXACT_PORT) or (kind == "range" and 0 < first < last):
        return ports
    raise InvalidInput("the compiled policy looks at ports that do not exist")


def _whole(node: Any, least: int, most: int) -> int:
    if type(node) is not int or not least <= node <= most:
        raise InvalidInput(f"the compiled policy has {node!r:.40} for a number")
    return node


def _flag(node: Any) -> bool:
    if not isinstance(node, bool):
        raise InvalidInput(f"the compiled policy has {node!r:.40} for true or false")
    return node


def _text(node: Any) -> str:
    if not isinstance(node, str):
        raise InvalidInput(f"the compiled policy has {node!r:.40} for a text")
    return node


def _list(node: Any) -> list[Any]:
    if not isinstance(node, list):
        raise InvalidInput(f"the compiled policy has {node!r:.40} for a list")
    return node


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
