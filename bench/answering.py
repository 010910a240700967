"""How long a ban takes while something else takes long: a policy, a list, another backend.

A long policy is applied, a long list is loaded, the backend is exchanged, and a policy changes
together with a dynamic rule where there are many bans.

With nftables and with programs (which stand beside nftables). The ban takes the same way as in the
service: through its lines of work to the kernel. It needs namespaces of its own. Arguments: sizes
of policies, as RULESxFILTERS, filters for each rule.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from bench.isolation import must_be_isolated
from ipsecd.config import Config, Directories
from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.engine.additions import Order
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action
from ipsecd.service.engine_lines import EngineLines
from ipsecd.sources.dynamic import DynamicRule

SIZES = ("50x1000",)
BACKENDS = ("nftables", "xdp")
LIST = "drop"
ENTRIES = 1_000_000
BANS = 100_000
BLOCKING = f'policy: listed\nrules: [{{rule: drop, action: block, filters: ["@{LIST}=0"]}}]\n'
PARAMETERS = {"source": None, "assign": True, "dry_run": False}
NOT_TOGETHER: dict[str, object] = {
    "fingerprint": None, "delete": [], "assign": None, "unassign": False, "shared_filters": None,
    "remove_rules": [], "dry_run": False,
}  # fmt: skip
PAUSE_S = 0.005


def address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def document(rules: int, each: int) -> bytes:
    lines = ["policy: long", "rules:"]
    for rule in range(rules):
        lines += [f"- rule: rule {rule}", "  action: block", "  filters:"]
        lines += [f'  - "{address(rule * each + number)}=0"' for number in range(each)]
    return "\n".join(lines).encode()


class Bench:
    """An engine with its lines of work, and nothing around it."""

    def __init__(self, path: Path, backend: str) -> None:
        directories = Directories(path / "etc", path / "lib", path / "run")
        self.engine = Engine(Config(backend=backend), directories)
        self.control = Control(self.engine)
        self.lines = EngineLines(self.control)
        self.lines.at_once(self.engine.start)
        self._bans = 0

    def ban_ms(self) -> float:
        """Milliseconds for one ban, of another address each time."""
        self._bans += 1
        filters = (parse_filter(f"{address(1 << 22 | self._bans)}=0"),)
        rule = DynamicRule(f"ban {self._bans}", filters, Action.BLOCK)
        begun = time.perf_counter()
        self.lines.at_once(lambda: self.engine.add_dynamic(rule))
        return (time.perf_counter() - begun) * 1e3

    def bans_until(self, done: threading.Event) -> list[float]:
        taken = []
        while not done.is_set():
            taken.append(self.ban_ms())
            time.sleep(PAUSE_S)
        return taken

    def block_list(self) -> None:
        """Have a policy block a list that is empty so far."""
        self.call("CreateList", {"name": LIST, "source": None, "format": None, "accept": True}, b"")
        self.call("ApplyPolicy", PARAMETERS, BLOCKING.encode())

    def replace_list(self, content: bytes, done: threading.Event) -> None:
        parameters = {"name": LIST, "source": None, "format": None, "accept": True}
        try:
            self.call("ReplaceList", parameters, content)
        finally:
            done.set()

    def call(self, method: str, parameters: Mapping[str, object], content: bytes | None) -> None:
        self.control.call(method, dict(parameters), "bench", {}, content)

    def ban_many(self) -> None:
        """Have many bans of the form that all bans have, and a policy."""
        filters = [f"{address(1 << 21 | number)}=0" for number in range(BANS)]
        order = Order(tuple(map(parse_filter, filters)), Action.BLOCK)
        self.lines.at_once(lambda: self.engine.order_dynamic(order))
        self.call("ApplyPolicy", PARAMETERS, document(1, 1))

    def change_together(self, done: threading.Event) -> None:
        """Change the policy and a rule of that form as one, which makes its set anew."""
        rule = {
            "name": "one more",
            "filters": ["192.0.2.1=0"],
            "action": "block",
            "ttl_s": None,
            "interface": None,
            "when": None,
        }
        put = [{"name": "long", "document": document(1, 2).decode()}]
        try:
            self.call("ChangeTogether", {**NOT_TOGETHER, "put": put, "put_rules": [rule]}, None)
        finally:
            done.set()

    def exchange(self, backend: str, done: threading.Event) -> None:
        try:
            self.control.call("SetBackend", {"name": backend}, "bench", {}, None)
        finally:
            done.set()

    def apply(self, content: bytes, done: threading.Event) -> None:
        try:
            self.control.names_needed("ApplyPolicy", PARAMETERS, content)
            self.control.call("ApplyPolicy", PARAMETERS, "bench", {}, content)
        finally:
            done.set()

    def close(self) -> None:
        self.lines.at_once(self.engine.stop)
        self.lines.at_once(self.engine.close)
        self.lines.shut_down()


def said(taken: list[float]) -> str:
    ordered = sorted(taken)
    return (
        f"median {statistics.median(ordered):6.1f}   "
        f"99 % {ordered[int(len(ordered) * 0.99)]:6.1f}   most {ordered[-1]:6.1f}"
    )


def while_running(bench: Bench, do: Callable[[threading.Event], None]) -> tuple[float, list[float]]:
    """The seconds until `do` sets the event, as its last act, and the bans of meanwhile."""
    done = threading.Event()
    doing = threading.Thread(target=do, args=(done,))
    begun = time.perf_counter()
    doing.start()
    busy = bench.bans_until(done)
    taken_s = time.perf_counter() - begun
    doing.join()
    return taken_s, busy


def measure(backend: str, rules: int, each: int) -> None:
    content = document(rules, each)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), backend)
        idle = [bench.ban_ms() for _ in range(300)]
        taken_s, busy = while_running(bench, partial(bench.apply, content))
        exchanged = [
            (to, while_running(bench, partial(bench.exchange, to)))
            for to in (*(name for name in BACKENDS if name != backend), backend)
        ]
        bench.close()
    print(f"{backend}, {rules:,} rules of {each:,} filters, one ban, milliseconds")
    print(f"  nothing else is done:           {said(idle)}")
    print(f"  they are applied, in {taken_s:5.1f} s:    {said(busy)}")
    for to, (taken_s, busy) in exchanged:
        print(f"  {to:8} takes over, in {taken_s:5.1f} s: {said(busy)}", flush=True)


def measure_list(backend: str) -> None:
    """A list of a million is loaded, and loaded again with every other entry another."""
    loads = [
        "\n".join(address(number) for number in range(0, ENTRIES * step, step)).encode()
        for step in (1, 2)
    ]
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), backend)
        bench.block_list()
        taken = [while_running(bench, partial(bench.replace_list, content)) for content in loads]
        bench.close()
    print(f"{backend}, a list of {ENTRIES:,} addresses, one ban, milliseconds")
    for what, (taken_s, busy) in zip(("it is loaded", "half is replaced"), taken, strict=True):
        print(f"  {what}, in {taken_s:5.1f} s:{'':8} {said(busy)}", flush=True)


def measure_together(backend: str) -> None:
    """A policy and a dynamic rule change as one while there are many others."""
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), backend)
        bench.ban_many()
        taken_s, busy = while_running(bench, bench.change_together)
        bench.close()
    print(f"{backend}, {BANS:,} bans, one more, milliseconds")
    print(f"  a policy changes with a rule, in {taken_s:5.1f} s: {said(busy)}", flush=True)


def main() -> None:
    must_be_isolated()
    subprocess.run(["ip", "link", "add", "bench0", "type", "veth", "peer", "bench1"], check=True)
    for size in sys.argv[1:] or SIZES:
        rules, each = map(int, size.split("x"))
        for backend in BACKENDS:
            measure(backend, rules, each)
    for backend in BACKENDS:
        measure_list(backend)
    for backend in BACKENDS:
        measure_together(backend)
    print("  (promised: 100 at most, on a machine that has a processor for each)")


if __name__ == "__main__":
    main()
