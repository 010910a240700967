"""Milliseconds until an announced container is enforced beside a policy of N filters.

With nftables and with programs (which stand beside nftables). The policy's filters lie in a table
of another form than the container's, or of the same. Beside it, in the same run, what a user
would use instead: ``nft add element`` for the address on a set of N addresses. The policy's table
is made without the compiler, as reading so many filters takes far longer than the measurement. It
needs namespaces of its own. Arguments: numbers of filters.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.isolation import must_be_isolated
from bench.timing import nft_add_seconds, seconds_each
from ipsecd.backend.base import Observation
from ipsecd.backend.registry import BY_NAME, BackendArguments
from ipsecd.compiler.classifier import Classifier, Table
from ipsecd.compiler.policy import compile_filters
from ipsecd.config import Directories
from ipsecd.engine.containers import Containers
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.sources import SourceName
from ipsecd.engine.state import State
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.values import Action, InForce, Origin, Policy, Rule
from ipsecd.sources.kept import KeptFiles
from ipsecd.sources.last_good import CompiledPolicy

SIZES, ROUNDS = (100_000, 600_000), 60
IDENTITY = "0123456789abcdef"
BPFFS = Path("/sys/fs/bpf/bench-announce")
FORMS = {"another": "10.0.0.0=0:1:UDP", "the same": "10.0.0.0=0:80:TCP"}


def hosts(filters: int, first: str) -> Classifier:
    """What so many filters like `first` are compiled to, for as many successive addresses."""
    first_host = InForce(Origin("static", "P", "hosts"), parse_filter(first), Action.BLOCK)
    (table,) = compile_filters([first_host]).tables
    (part,) = (part for part in table.id.parts if part.field.name == "source")
    before, after = table.keys[: part.offset], table.keys[part.offset + 4 :]
    numbers = ((10 << 24 | n).to_bytes(4, "big") for n in range(filters))
    keys = sorted(before + number + after for number in numbers)
    return Classifier((Table(table.id, b"".join(keys), table.origins),))


def announcing_ms(backend: str, classifier: Classifier, directory: Path) -> list[float]:
    """Milliseconds of each announcement, of an address that changes every time."""
    places = Directories(*(directory / part for part in ("etc", "lib", "run")))
    places.runtime.mkdir()
    make = partial(BY_NAME[backend].make, BackendArguments(BPFFS))
    enforcement = Enforcement(make, lambda _: make(), BPFFS, time.monotonic)
    containers = Containers(enforcement, KeptFiles(places), time.monotonic)
    rule = Rule("container", (parse_filter("container:web=0:80:TCP"),), Action.BLOCK)
    policy = CompiledPolicy("bench", Policy("P", (rule,)), classifier)

    def announce(address: Network) -> None:
        assert containers.announce(IDENTITY, (address,), shared=False)

    def announcements() -> Iterator[Callable[[], None]]:
        for last in range(ROUNDS):
            yield partial(announce, Network(Family.IPV4, 0xAC110001 + last, 32))

    enforcement.begin(
        State(source=SourceName.STATIC, compiled=policy, classifier=classifier), State()
    )
    try:
        containers.set_inventory("bench", Inventory((Container(IDENTITY, "web"),)))
        durations = seconds_each(announcements())
        assert enforcement.observe() == Observation(enforcement.state.classifier.digest)
        assert not enforcement.backend.failures
        return [seconds * 1e3 for seconds in durations]
    finally:
        enforcement.withdraw()
        enforcement.close()


def nft_ms(filters: int) -> list[float]:
    """Milliseconds of ``nft add element`` processes on a set of so many addresses."""
    added = [f"172.17.0.{n}" for n in range(20)]
    return [seconds * 1e3 for seconds in nft_add_seconds(filters, added)]


def show(what: str, durations_ms: list[float]) -> None:
    """Print a line with the two durations that half of all, and 99 of 100, are shorter than."""
    in_order = sorted(durations_ms)
    half, most = in_order[len(in_order) // 2], in_order[len(in_order) * 99 // 100]
    print(f"  {what:32} median {half:8.1f}   p99 {most:8.1f}", flush=True)


def main() -> None:
    must_be_isolated()
    for size in [int(word) for word in sys.argv[1:]] or SIZES:
        print(f"an announced container beside {size:,} filters, milliseconds")
        for backend in ("nftables", "xdp"):
            for form, first in FORMS.items():
                with tempfile.TemporaryDirectory() as directory:
                    classifier = hosts(size, first)
                    durations_ms = announcing_ms(backend, classifier, Path(directory))
                show(f"{backend}, of {form} form", durations_ms)
        show("nft add element", nft_ms(size))


if __name__ == "__main__":
    main()
