"""What a line of a file costs, in functions that are called, does not grow with the file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from ipsecctl.running.interpreter import Interpreter
from ipsecctl.running.programs import Programs
from ipsecctl.running.report import DONE, NO_EFFECT
from ipsecctl.running.syntax import parse
from ipsecctl.workspace.client import WorkspaceClient
from ipsecctl.workspace.workspace import Workspace
from ipsecd.errors import NotFound

BEGIN = (
    "netsh ipsec static add policy name=P",
    "netsh ipsec static add filteraction name=B action=block",
    "netsh ipsec static add filter filterlist=L srcaddr=192.0.2.1 dstaddr=me",
    "netsh ipsec static add rule name=R policy=P filterlist=L filteraction=B",
)
ADD_FILTER = "netsh ipsec static add filter filterlist=L srcaddr=10.0.{0}.{1} dstaddr=me"
PUT_RULE = 'ipseccmd -w REG -p P -r "b{0}.{1}" -f 10.0.{0}.{1}=0 -n BLOCK'
KINDS = {
    "a list in use grows": (ADD_FILTER, PUT_RULE),
    "another policy grows": (ADD_FILTER, PUT_RULE.replace("-p P", "-p Q")),
    "both add rules": (
        "netsh ipsec static add rule name=r{0}.{1} policy=P filterlist=L filteraction=B",
        PUT_RULE,
    ),
    "lists are added": ("netsh ipsec static add filterlist name=L{0}.{1}", PUT_RULE),
    "one is assigned": (ADD_FILTER, "ipseccmd -w REG -p P -x"),
    "dynamic rules are added": (ADD_FILTER, "ipseccmd -f 10.0.{0}.{1}=0 -n BLOCK"),
    "rules are made anew": ('ipseccmd -w REG -p P -r "b{0}.{1}" -y -o', PUT_RULE + " -x"),
    "rules are put again": (PUT_RULE, PUT_RULE),
}


class Idle:
    """A daemon that has nothing."""

    def call(self, method: str, *_: object, **__: object) -> dict[str, Any]:
        if method == "Status":
            return {"status": {"state": "idle", "loaded_from": "nothing", "assigned": None}}
        raise NotFound(f"{method} finds nothing")


def lines(pair: tuple[str, str], pairs: int) -> Iterator[str]:
    yield from BEGIN
    for number in range(pairs):
        for line in pair:
            yield line.format(*divmod(number, 256))


def counted(act: Callable[[], object]) -> int:
    """How many functions of Python are called, and generators gone on with, while it acts."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(before)
    return calls


def cost(pair: tuple[str, str], pairs: int) -> int:
    """What it costs to carry out a file that has so many pairs of lines."""
    statements = parse([*lines(pair, pairs)], "file.cmd")
    programs = Programs(WorkspaceClient(Workspace(), Idle()))
    interpreter = Interpreter(programs)

    def act() -> None:
        interpreter.run(statements)
        programs.finish()

    calls = counted(act)
    assert {line.result for line in interpreter.report} <= {DONE, NO_EFFECT}
    return calls


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_costs_the_same_in_a_long_file(kind: str) -> None:
    """Whatever alternates with what; each line has the same to do as those before it."""
    pair = KINDS[kind]
    few, some, many = (cost(pair, pairs) for pairs in (10, 60, 260))
    # From 10 to 60 pairs there are 50 more, from there to 260 there are 200 more.
    assert many - some < 4.2 * (some - few)
