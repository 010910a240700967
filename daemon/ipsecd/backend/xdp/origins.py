"""Owns the text that says for the number of a rule which rule a person wrote.

The programs do not read it. It is one array of lines in a slot of the map ``origins``, and is only
replaced as a whole. For each rule it has number, store, policy and name, each ended by a zero byte.
The number of an audit has a word behind it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

from ipsecd.backend.xdp import abi, libbpf
from ipsecd.model.values import Origin

_SLOT = struct.pack("=I", 0)
_WORDS = 4
_AUDIT = " audit"


def origin_lines(numbers: Mapping[Origin, int]) -> bytes:
    """The lines that hold the origin and the number of each rule."""
    words = (
        (f"{number}{_AUDIT if origin.audits else ''}", origin.store, origin.policy, origin.rule)
        for origin, number in numbers.items()
    )
    text = "".join(f"{word}\0" for of_rule in words for word in of_rule).encode()
    return text + bytes(-len(text) % abi.LINE)


def put_origins(outer: int, lines: bytes) -> None:
    """Write what ``origin_lines`` made to `outer`. Raises ``OSError``; then nothing has changed."""
    descriptor = libbpf.create_lines("ipsecd_origins", lines, freeze=True)
    try:
        libbpf.update(outer, _SLOT, struct.pack("=I", descriptor))
    finally:
        os.close(descriptor)


def read_origins(outer: int) -> dict[Origin, int]:
    """The number of every rule; empty where `outer` is of another layout. Raises ``OSError``."""
    info = libbpf.map_info(outer)
    if (info.type, info.key_size) != (libbpf.BPF_MAP_TYPE_ARRAY_OF_MAPS, len(_SLOT)):
        return {}
    inner_id = libbpf.look_up(outer, _SLOT, len(_SLOT))
    if inner_id is None:
        return {}
    descriptor = libbpf.map_by_id(struct.unpack("=I", inner_id)[0])
    try:
        lines = libbpf.map_info(descriptor).max_entries
        with libbpf.map_lines(descriptor, lines, writable=False) as memory:
            words = memory[:].decode(errors="replace").split("\0")
    finally:
        os.close(descriptor)
    return dict(
        _numbered(*words[index : index + _WORDS])
        for index in range(0, len(words) - _WORDS, _WORDS)
        if words[index].removesuffix(_AUDIT).isdecimal()
    )


def _numbered(number: str, store: str, policy: str, rule: str) -> tuple[Origin, int]:
    origin = Origin(store, policy, rule, audits=number.endswith(_AUDIT))
    return origin, int(number.removesuffix(_AUDIT))
