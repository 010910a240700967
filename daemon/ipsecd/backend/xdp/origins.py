"""Owns the text that leads from the number of a rule back to what a person wrote.

The programs do not read it. It is one array of lines, replaced whole, in a slot of the map
``origins``: for each rule its number, store, policy and name, each ended by a zero byte.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

from ipsecd.backend.xdp import abi, libbpf
from ipsecd.model.values import Origin

_SLOT = struct.pack("=I", 0)
_WORDS = 4


def put_origins(outer: int, numbers: Mapping[Origin, int]) -> None:
    """Have `outer` say what wrote each rule. Raises ``OSError``; then it says what it said."""
    words = (f"{n}\0{o.store}\0{o.policy}\0{o.rule}\0" for o, n in numbers.items())
    descriptor = libbpf.create_lines("ipsecd_origins", _lines("".join(words).encode()), freeze=True)
    try:
        libbpf.update(outer, _SLOT, struct.pack("=I", descriptor))
    finally:
        os.close(descriptor)


def read_origins(outer: int) -> dict[Origin, int]:
    """The number of every rule; empty where `outer` is of another layout. Raises ``OSError``."""
    info = libbpf.map_info(outer)
    if (info.type, info.key_size) != (libbpf.BPF_MAP_TYPE_ARRAY_OF_MAPS, len(_SLOT)):
        return {}
    held = libbpf.look_up(outer, _SLOT, len(_SLOT))
    if held is None:
        return {}
    descriptor = libbpf.map_by_id(struct.unpack("=I", held)[0])
    try:
        lines = libbpf.map_info(descriptor).max_entries
        with libbpf.map_lines(descriptor, lines, writable=False) as memory:
            words = memory[:].decode(errors="replace").split("\0")
    finally:
        os.close(descriptor)
    return {
        Origin(*words[at + 1 : at + _WORDS]): int(words[at])
        for at in range(0, len(words) - _WORDS, _WORDS)
        if words[at].isdecimal()
    }


def _lines(text: bytes) -> bytes:
    return text + bytes(-len(text) % abi.LINE)
