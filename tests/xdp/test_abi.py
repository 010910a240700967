"""The daemon and the programs agree about every layout, and every program loads."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.programs import HOOKS, KINDS, MAPS, Programs
from ipsecd.backend.xdp.slots import MEMBERS, mask_of, packet_key
from ipsecd.compiler.shapes import EXACT
from ipsecd.compiler.tables import TableId
from ipsecd.model.addresses import Family
from ipsecd.model.fields import FIELDS, Field, Kind
from ipsecd.model.values import Action
from tests.netns.site import needs_isolation, run

ROOT = Path(__file__).parents[2]
SIZES = {
    "head": abi.HEAD,
    "mark": abi.MARK,
    "step": abi.STEP,
    "ranges": abi.RANGES,
    "pattern": abi.PATTERN,
    "key4": abi.KEY4,
    "key6": abi.KEY6,
    "hash4": abi.HASH4,
    "hash6": abi.HASH6,
    "host4": abi.HOST4,
    "host6": abi.HOST6,
    "dynamic4": abi.DYNAMIC4,
    "dynamic6": abi.DYNAMIC6,
    "dynamic_entry": abi.DYNAMIC_ENTRY,
    "count": abi.COUNT,
    "reporting": abi.REPORTING,
    "report": abi.REPORT,
}
VERIFIED_INSTRUCTIONS = 216
"""Offset of ``verified_insns`` in ``struct bpf_prog_info`` (linux/bpf.h)."""
INSTRUCTION_LIMIT = 1_000_000


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The structs of the header, by name, as the compiler for the programs lays them out.

    The object itself describes no type that is only pointed to, so they stand in one of their own.
    """
    directory = tmp_path_factory.mktemp("layouts")
    source, compiled = directory / "layouts.bpf.c", directory / "layouts.bpf.o"
    variables = "".join(f"struct {name} one_{name};\n" for name in SIZES)
    source.write_text(f'#include "abi.h"\n{variables}')
    include = [f"-I{ROOT / 'bpf'}", f"-I/usr/include/{run('uname', '-m').strip()}-linux-gnu"]
    run("clang", "-O2", "-g", "-target", "bpf", *include, "-c", str(source), "-o", str(compiled))
    listed = json.loads(run("bpftool", "-j", "btf", "dump", "file", str(compiled)))["types"]
    return {item["name"]: item for item in listed if item["kind"] == "STRUCT"}


def offset(types: dict[str, dict[str, Any]], name: str, member: str) -> int:
    (entry,) = [m for m in types[name]["members"] if m["name"] == member]
    return int(entry["bits_offset"]) // 8


@pytest.mark.parametrize("name", SIZES)
def test_structures_have_one_size(types: dict[str, dict[str, Any]], name: str) -> None:
    """What the daemon packs is as long as what the programs read."""
    assert types[name]["size"] == SIZES[name].size


def test_members_lie_where_the_daemon_puts_them(types: dict[str, dict[str, Any]]) -> None:
    """Offsets of the members that are packed in order, or written one by one."""
    assert offset(types, "head", "first_host") == abi.FIRST_HOST_OFFSET
    assert offset(types, "head", "generation") == abi.GENERATION_OFFSET
    assert [offset(types, "head", m) for m in ("pass_fragments", "exempt")] == [32, 40]
    words: tuple[str, ...] = ("rule", "first", "lines", "sport_first", "dport_last")
    assert [offset(types, "step", m) for m in words] == [4, 8, 12, 16, 22]
    words = ("origin", "buckets", "index", "entries", "rules", "count", "shift", "protocol")
    assert [offset(types, "ranges", m) for m in words] == [0, 8, 12, 16, 20, 24, 28, 29]
    assert [offset(types, "key6", m) for m in ("saddr", "daddr", "sport", "protocol")] == [
        *(0, 16, 32, 36)
    ]
    assert [offset(types, "hash4", m) for m in ("keys", "rules", "used")] == [0, 48, 60]
    assert [offset(types, "hash6", m) for m in ("key", "rule", "used")] == [0, 40, 44]
    assert [offset(types, "host4", m) for m in ("addresses", "local", "used")] == [0, 48, 60]
    assert [offset(types, "host6", m) for m in ("addresses", "local", "used")] == [0, 48, 60]
    words = ("deadline", "since", "until", "packets", "bytes")
    assert [offset(types, "dynamic_entry", m) for m in words] == [0, 8, 16, 24, 32]
    assert [offset(types, "reporting", m) for m in ("limit", "told")] == [0, 8]
    words = ("at", "generation", "interface", "length", "captured", "point", "bare", "outcome")
    assert [offset(types, "report", m) for m in words] == [0, 8, 16, 20, 24, 26, 27, 28]
    assert offset(types, "report", "frame") == 32


@pytest.mark.parametrize("field", [row for row in FIELDS if row.place is not None])
@pytest.mark.parametrize("family", Family)
def test_fields_lie_where_the_programs_look(
    types: dict[str, dict[str, Any]], field: Field, family: Family
) -> None:
    """A table that looks at one field puts its key and its mask where the header has the member."""
    assert field.place is not None
    shape: Any = {Kind.PREFIX: family.bits, Kind.NUMBER: True, Kind.RANGE: EXACT}[field.kind]
    table = TableId.of(family, False, Action.BLOCK, **{field.name: shape})
    key = b"\xff" * field.bytes_in(family) + bytes(-field.bytes_in(family) % 4)
    name = f"key{family.value}"
    at = offset(types, name, MEMBERS[field.place])
    wanted = bytes(at) + b"\xff" * field.bytes_in(family)
    assert packet_key(table, key) == wanted.ljust(types[name]["size"], b"\0")
    assert mask_of(table) == packet_key(table, key)


def defined(name: str) -> int:
    for line in (ROOT / "bpf/abi.h").read_text().splitlines():
        words = line.split()
        if words[:2] == ["#define", name]:
            return int(words[2].removesuffix("u"), 0)
    raise AssertionError(name)


def test_limits_and_numbers_are_the_same() -> None:
    """Each number that is written in both languages is one number."""
    assert defined("IPSECD_ABI") == abi.ABI
    for name in ("HOST_LINE_BITS", "HOST_PROBES", "HASH_PROBES", "MAX_STEPS", "MAX_STEPS_UNROLLED"):
        assert defined(name) == getattr(abi, name)
    for name in ("MAX_PATTERNS", "IMAGES", "NO_RANGES", "HASH_CONTINUES", "EXEMPT_BITS"):
        assert defined(name) == getattr(abi, name)
    for name in ("SHORTCUT_BITS", "SHORTCUT_PORTS", "SHORTCUT_PROTOCOLS"):
        assert defined(name) == getattr(abi, name)
    assert defined("LINE_BYTES") == abi.LINE
    assert defined("REPORTED_BYTES") == abi.REPORTED_BYTES


def test_names_of_numbers_are_the_same() -> None:
    """The members of the enumerations, in their order."""
    text = (ROOT / "bpf/abi.h").read_text()

    def members(name: str) -> list[str]:
        body = text.partition(f"enum {name} {{")[2].partition("};")[0]
        lines = [line.split("/*")[0] for line in body.splitlines()]
        words = " ".join(lines).replace(",", " ").split()
        return [word for word in words if word.isidentifier() and word.isupper()]

    results = [name.lower().replace("_", "-") for name in members("parse_result")]
    assert tuple(results[:-1]) == abi.PARSE_RESULTS
    kinds = [abi.STEP_HASH, abi.STEP_RANGES, abi.STEP_DYNAMIC]
    assert [getattr(abi, name) for name in members("step_kind")] == kinds == [0, 1, 2]
    assert [getattr(abi, name) for name in members("condition")] == [1 << n for n in range(8)]
    assert [getattr(abi, name) for name in members("pattern_field")] == [1, 2, 4, 8, 16]
    assert [getattr(abi, name) for name in members("cast")] == [0, 1, 2]
    assert [getattr(abi, name) for name in members("exempt_word")] == [0, 1, 2, 3]
    assert [getattr(abi, name) for name in members("local")] == [1, 2]
    assert [getattr(abi, name) for name in members("shortcut")] == [0, 1, 2, 3]
    assert members("outcome") == ["PASSED", "DROPPED", "AUDITED"]
    assert [getattr(abi, name) for name in members("outcome")[1:]] == [1, 2]


@pytest.mark.netns
def test_every_program_loads_with_room_to_spare(capsys: pytest.CaptureFixture[str]) -> None:
    """The verifier looks at far fewer instructions than it allows; the margin is printed."""
    needs_isolation()
    programs = Programs()
    worst = 0
    for hook in HOOKS:
        for kind in KINDS:
            descriptor = programs.program(f"{hook}_{kind}")
            info = bytes(libbpf.program_info(descriptor))
            (verified,) = struct.unpack_from("=I", info, VERIFIED_INSTRUCTIONS)
            assert 0 < verified < INSTRUCTION_LIMIT // 3
            worst = max(worst, verified)
    assert set(programs.maps) == set(MAPS)
    programs.close()
    with capsys.disabled():
        print(f"\nverifier: at most {worst:,} of {INSTRUCTION_LIMIT:,} instructions looked at")
