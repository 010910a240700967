"""The registry of the suite: every way to enforce, and how to test it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ipsecd.backend.base import Backend
from ipsecd.backend.combined import NftablesWithPrograms
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.transactions import FIXED_SETS
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.backend import XdpBackend
from tests.conformance.stages import Disturbance, KernelStage, MemoryStage, Stage
from tests.conformance.wire import Wire
from tests.netns.site import run

BPFFS = Path("/sys/fs/bpf/ipsecd-conformance")

NFT = (
    "flush ruleset",
    "delete table inet ipsecd",
    "flush chain inet ipsecd arriving",
    "add rule inet ipsecd arriving accept",
    "insert rule inet ipsecd arriving accept",
    "insert rule inet ipsecd arriving_ip4_me accept",
    "flush chain inet ipsecd delivered",
    "insert rule inet ipsecd delivered_ip6 accept",
    *(f"flush set inet ipsecd {name}" for name in FIXED_SETS),
    "flush set inet ipsecd {policy}",
    "flush set inet ipsecd {list}",
    "flush set inet ipsecd {dynamic}",
    "add chain inet ipsecd more",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One way to enforce.

    ``stage`` makes the stage that tests it, and asks for a wire if it needs one. ``record`` is the
    name of the record in the product's registry that makes this backend, on some kernel.
    """

    name: str
    stage: Callable[[Callable[[], Wire]], Stage]
    record: str

    def __str__(self) -> str:
        return self.name


def _nftables() -> Backend:
    return NftablesBackend()


def _combined(*, protect: bool, xdp: bool) -> Backend:
    nftables = NftablesBackend(protect=protect)
    programs = partial(XdpBackend, BPFFS, alone=False, xdp=xdp)
    return NftablesWithPrograms("xdp" if xdp else "nftables", nftables, programs, required=True)


def programs_alone() -> Backend:
    """The backend for a kernel that has no nf_tables."""
    return XdpBackend(BPFFS)


def _nft(words: str, *, takes: bool) -> None:
    """Change the table with nft, as somebody else might; `takes` is whether the kernel lets him."""
    listed = json.loads(run("nft", "-j", "list", "sets", "inet"))["nftables"]
    sets = [item["set"]["name"] for item in listed if "set" in item]
    policy, dynamic, of_list = (
        min((name for name in sets if name.startswith(kind)), default="none")
        for kind in ("policy_block_ip4", "dynamic_block_ip4", "list_")
    )
    text = words.format(policy=policy, dynamic=dynamic, list=of_list)
    run("nft", text, check=takes)


def _by_nft(*, takes: bool) -> list[Disturbance]:
    return [Disturbance(f"nft {words}", partial(_nft, words, takes=takes), takes) for words in NFT]


def _by_bpf() -> list[Disturbance]:
    def detach(hook: str) -> None:
        (pin,) = (BPFFS / "links").glob(f"*-{hook}")
        run("bpftool", "link", "detach", "pinned", str(pin))

    def write(name: str, change: Callable[[int], None]) -> None:
        (pins,) = BPFFS.glob("maps-*")
        descriptor = libbpf.get_pinned(pins / name)
        try:
            change(descriptor)
        finally:
            os.close(descriptor)

    def empty(descriptor: int) -> None:
        size = libbpf.map_info(descriptor).key_size
        for key in list(libbpf.keys(descriptor, size)):
            libbpf.delete(descriptor, key)

    hooks = sorted(path.name.partition("-")[2] for path in (BPFFS / "links").iterdir())
    return [
        *(Disturbance(f"detach {hook}", partial(detach, hook)) for hook in hooks),
        *(
            Disturbance(f"empty {name}", partial(write, name, empty))
            for name in ("state", "dynamic_ipv4", "dynamic_ipv6")
        ),
    ]


def _disturb(*, nft: bool | None, bpf: bool) -> Sequence[Disturbance]:
    """The disturbances to try; `nft` is whether others may change the table, None without one."""
    by_nft = [] if nft is None else _by_nft(takes=nft)
    return [*by_nft, *(_by_bpf() if bpf else [])]


def _kernel(
    make: Callable[[], Backend], *, nft: Callable[[], bool | None], bpf: bool = False
) -> Callable[[Callable[[], Wire]], Stage]:
    """What makes the stage of a backend; `nft` and `bpf` say how others can try to change it."""
    return lambda wire: KernelStage(wire(), make, lambda: _disturb(nft=nft(), bpf=bpf))


def _is_open() -> bool:
    """Whether this kernel lets others change our table (before Linux 6.9)."""
    asked = NftablesBackend()
    try:
        return not asked.is_protected
    finally:
        asked.close()


def _always() -> bool:
    return True


def _no_table() -> None:
    return None


ROWS = (
    Row("memory", lambda _: MemoryStage(), "memory"),
    Row("nftables", _kernel(_nftables, nft=_is_open), "nftables"),
    Row(
        "nftables with a guard",
        _kernel(partial(_combined, protect=False, xdp=False), nft=_always, bpf=True),
        "nftables",
    ),
    Row(
        "nftables with programs",
        _kernel(partial(_combined, protect=True, xdp=True), nft=_is_open, bpf=True),
        "xdp",
    ),
    Row("programs alone", _kernel(programs_alone, nft=_no_table, bpf=True), "programs"),
)
