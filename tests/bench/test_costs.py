"""What costs do not depend on the machine: expressions, instructions, messages and system calls.

Times are for `make bench`. These are the same on every run, so that a change that makes packets or
commands dearer is seen where tests run. A bound is a little over what is now, and says what for.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.values import Action, InForce, Origin
from tests.netns.site import Daemon, needs_isolation, run

pytestmark = pytest.mark.netns
ARTICLE = ("*=0:1434:UDP", "0=*:1434:UDP")
VERIFIED = 216 - 80
"""Where ``verified_insns`` is in what is unread of ``struct bpf_prog_info`` (linux/bpf.h)."""


def strace() -> str:
    """The program; the test is skipped without it, and fails in CI."""
    needs_isolation()
    found = shutil.which("strace")
    if found is None:
        assert not os.environ.get("CI"), "needs strace: make setup"
        pytest.skip("needs strace: make setup")
    return found


def rules_of(*filters: str) -> dict[str, int]:
    """How many expressions the rules of each chain have, with these filters blocked."""
    needs_isolation()
    blocks = [InForce(Origin("static", "P", "R"), parse_filter(f), Action.BLOCK) for f in filters]
    backend = NftablesBackend()
    try:
        backend.apply(compile_filters(blocks, [each.name for each in ESSENTIALS]), Volatile())
        listed = run("nft", "--debug=netlink", "list", "table", "inet", "ipsecd")
    finally:
        backend.remove()
        backend.close()
    counted: dict[str, int] = {}
    chain = ""
    for line in listed.splitlines():
        if heading := re.match(r"inet ipsecd (\S+) \d+", line):
            chain = heading[1]
        elif line.startswith("  [ "):
            counted[chain] = counted.get(chain, 0) + 1
    return counted


@pytest.mark.parametrize(
    ("filters", "most"),
    [
        # 835 now: five hooks with what is exempt in each, a look-up for each IP version, and the
        # first rules, which most packets go no further than.
        (ARTICLE, 880),
        # 860 now, with a table more on arrival.
        ((*ARTICLE, "10.1.0.0/16=0"), 900),
    ],
)
def test_the_rules_have_few_expressions(filters: tuple[str, ...], most: int) -> None:
    counted = rules_of(*filters)
    assert counted
    assert sum(counted.values()) <= most, counted


def test_more_entries_are_no_more_expressions() -> None:
    """Else what a packet costs would grow with the policy."""
    few = rules_of(*(f"*=0:{port}:UDP" for port in range(1000, 3000, 200)))
    assert few == rules_of(*(f"*=0:{port}:UDP" for port in range(1000, 3000, 2)))


@pytest.mark.parametrize(
    ("name", "most"), [("receive_lan", 180_000), ("arrive_lan", 195_000), ("leave_lan", 180_000)]
)
def test_the_verifier_looks_at_few_instructions(name: str, most: int) -> None:
    """The kernel refuses a program at a million; they are at 162,000, 177,000 and 162,000 now."""
    needs_isolation()
    info = libbpf.program_info(Programs().program(name))
    (verified,) = struct.unpack_from("=I", bytes(info.unread), VERIFIED)
    assert 0 < verified <= most


@pytest.mark.parametrize(("name", "most"), [("receive_lan", 3_850), ("leave_lan", 3_950)])
def test_the_programs_are_short(name: str, most: int) -> None:
    """They are 3,685 and 3,776 instructions now, of which few are on the way of a packet."""
    needs_isolation()
    assert libbpf.program_info(Programs().program(name)).xlated_prog_len // 8 <= most


STEPS = """
import os
from bench.lists import engine, packed
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action
from ipsecd.sources.dynamic import DynamicRule
many = set(range(0x0A000000, 0x0A000000 + 2 * {size}, 2))
with engine("nftables") as (made, _):
    os.access("/step/load", 0)
    made.list_changes.change({{"drop": packed({{32: many}})}})
    os.access("/step/add", 0)
    made.list_changes.change({{"drop": packed({{32: many | {{0x0B000001}}}})}})
    os.access("/step/first", 0)
    made.add_dynamic(DynamicRule("r", (parse_filter("192.0.2.1=0"),), Action.BLOCK))
    os.access("/step/ban", 0)
    made.add_dynamic(DynamicRule("s", (parse_filter("192.0.2.2=0"),), Action.BLOCK))
    os.access("/step/end", 0)
"""
SIZE = 20_000


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """The bytes of each message that the engine sends to the kernel, by what it does."""
    log = tmp_path_factory.mktemp("sent") / "log"
    words = [strace(), "-f", "-qq", "-o", str(log), "-e", "trace=sendto,sendmsg,access,faccessat"]
    words += ["-e", "raw=sendto,sendmsg", sys.executable, "-c", STEPS.format(size=SIZE)]
    subprocess.run(words, check=True)
    steps: dict[str, list[int]] = {}
    now: list[int] = []
    for line in log.read_text().splitlines():
        if step := re.search(r'"/step/(\w+)"', line):
            now = steps.setdefault(step[1], [])
        elif message := re.search(r"send\w+\(.* = (0x[0-9a-f]+)$", line):
            now.append(int(message[1], 16))
    return steps


def test_a_load_is_few_messages_of_few_bytes(sent: dict[str, list[int]]) -> None:
    """An element is 16 bytes, three heads and the address; the rest is of messages and sets."""
    assert sum(sent["load"]) / SIZE <= 18
    assert len(sent["load"]) <= 32


@pytest.mark.parametrize(
    ("step", "messages", "size"),
    [
        # The element, and the mark of what the table holds.
        ("add", 3, 700),
        # The first one brings the sets of dynamic rules, and the rules that look into them.
        ("first", 8, 16_000),
        ("ban", 3, 700),
    ],
)
def test_one_entry_is_no_more_than_itself(
    sent: dict[str, list[int]], step: str, messages: int, size: int
) -> None:
    """However many there are: what is sent for one does not hold the others."""
    assert len(sent[step]) <= messages
    assert sum(sent[step]) <= size


def test_a_block_is_few_system_calls(tmp_path: Path) -> None:
    """Python's own start is not counted, and most of these 750 are its search for modules."""
    program = strace()
    daemon = Daemon(tmp_path)
    daemon.start()
    try:

        def calls(*words: str) -> int:
            log = tmp_path / "calls"
            subprocess.run(
                [program, "-f", "-c", "-o", str(log), sys.executable, "-I", *words],
                env=daemon.environment,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            (line,) = re.findall(r"^100\.00 .* total$", log.read_text(), re.MULTILINE)
            # Per cent, seconds, microseconds for a call, calls.
            return int(line.split()[3])

        block = calls("-m", "ipsecctl", "block", "192.0.2.1")
        nothing = calls("-c", "import runpy")
    finally:
        daemon.end()
    assert block - nothing <= 850
