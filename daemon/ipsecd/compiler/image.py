"""Owns the form in which a classifier is kept on disk: one JSON line, then the packed entries.

Not pickle: the file is read by a root process, and reading data must not run code.
"""

from __future__ import annotations

import json
import sys
from array import array
from enum import Enum
from typing import Any

from ipsecd.compiler.classifier import Classifier, Table
from ipsecd.compiler.tables import Ports, TableId
from ipsecd.errors import InvalidInput
from ipsecd.model.values import Action, Family, Origin

FORMAT = 2


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
        if header["format"] != FORMAT:
            raise InvalidInput(
                f"the compiled policy has format {header['format']!r}, this version reads {FORMAT}"
            )
        tables = []
        offset = 0
        for entry in header["tables"]:
            keys = body[offset : offset + entry["keys"]]
            offset += entry["keys"]
            writers = _numbers(body[offset : offset + 4 * entry["writers"]])
            offset += 4 * entry["writers"]
            tables.append(_table(entry, keys, writers))
        if offset != len(body):
            raise InvalidInput(f"the compiled policy has {len(body) - offset} bytes too many")
        return Classifier(
            tuple(tables), tuple(header["exemptions"]), bool(header["drop_unparsable"])
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidInput(f"the compiled policy cannot be read: {error}") from error


def _table(entry: dict[str, Any], keys: bytes, writers: array[int]) -> Table:
    family, volatile, action, source, destination, protocol, sports, dports, *words = entry["id"]
    table_id = TableId(
        Family(family),
        bool(volatile),
        Action(action),
        int(source),
        int(destination),
        bool(protocol),
        Ports(*sports),
        Ports(*dports),
        *map(str, words),
    )
    table = Table(table_id, keys, tuple(Origin(*origin) for origin in entry["origins"]), writers)
    if len(keys) != table_id.key_width * len(table):
        raise InvalidInput("the compiled policy has a table of the wrong length")
    if len(writers) not in (0, len(table)) or any(w >= len(table.origins) for w in writers):
        raise InvalidInput("the compiled policy names a rule that it does not hold")
    return table


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
