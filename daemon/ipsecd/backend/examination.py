"""Owns what speaks for and against each backend on this host; changes nothing on it.

``auto`` stands for nftables wherever that can be used: no interface waits for a program, the
kernel itself knows which addresses are ``me``, and administrators of other firewalls find it with
the tools they know. XDP drops sooner and holds longer lists, for those who ask for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ipsecd.backend.trial import Trial
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.links import pinned_programs
from ipsecd.backend.xdp.mounts import is_bpf_file_system
from ipsecd.backend.xdp.programs import OBJECT
from ipsecd.errors import IpsecdError
from ipsecd.host.interfaces import Interface

_MODES = {1: "native", 2: "generic", 3: "offloaded"}


@dataclass(frozen=True, slots=True)
class Assessment:
    """Whether a backend can be used here, with the reasons; each is a sentence without a stop.

    ``untried`` says why a part of it was not tried, "" if all of it was.
    """

    name: str
    usable: bool
    reasons_for: tuple[str, ...]
    reasons_against: tuple[str, ...]
    untried: str = ""


def foreign_programs(bpffs: Path, interfaces: Iterable[Interface]) -> dict[str, str]:
    """The XDP programs of others, by the name of the interface that they are on."""
    ours = pinned_programs(bpffs / "links")
    programs = {}
    for interface in interfaces:
        for mode, number in interface.xdp:
            if number not in ours:
                name, mode_name = libbpf.program_name(number), _MODES.get(mode, "unknown mode")
                programs[interface.name] = f"{name} (program {number}, {mode_name})"
    return programs


def assess_nftables(trial: Trial, _: Path, __: tuple[Interface, ...]) -> Assessment:
    """What speaks for and against nftables, after a trial."""
    if trial.refusal:
        return Assessment("nftables", False, (), (f"the kernel refused it: {trial.refusal}",))
    good = [
        *_outcome(trial.done),
        "sees what the IP stack sees: new interfaces and addresses are covered at once",
        "its rules can be read with nft",
    ]
    bad = [
        "a dropped packet has been through the driver and the socket buffer first",
    ]
    if "owned" in trial.features:
        good.append("this kernel keeps everybody else from our table (owner, persist)")
    elif trial.features:
        bad.append(
            "this kernel lets others change our table (before Linux 6.9): it is put right within "
            "a second, and programs at tc hold meanwhile where they can be used"
        )
    return Assessment("nftables", True, tuple(good), tuple(bad), trial.untried)


def assess_xdp(trial: Trial, bpffs: Path, interfaces: tuple[Interface, ...]) -> Assessment:
    """What speaks for and against programs with pins in `bpffs`, after a trial."""
    missing = []
    try:
        loop = libbpf.has_helper(libbpf.BPF_PROG_TYPE_XDP, libbpf.BPF_FUNC_LOOP)
    except IpsecdError as error:
        return Assessment("xdp", False, (), (error.message,))
    if not OBJECT.exists():
        missing.append(f"the programs are not installed ({OBJECT})")
    elif trial.refusal:
        missing.append(f"the kernel refused it: {trial.refusal}")
    if not is_bpf_file_system(bpffs):
        missing.append(f"{bpffs} is not in a BPF file system: mount -t bpf bpf /sys/fs/bpf")
    good = [
        *_outcome(trial.done),
        "drops a packet before the stack sees it, at less than half the cost",
        "a list of a million prefixes costs one look-up",
    ]
    bad = [
        "what passes is judged twice, by a program and by nftables",
        "a policy lies in the kernel twice",
    ]
    if not loop:
        bad.append(
            "on this kernel (before Linux 5.17) nftables alone enforces a policy of more than 24 "
            "look-ups"
        )
    bad += [
        f"{interface} has an XDP program of somebody else, {program}; ours would be at tc ingress, "
        "behind it; to have XDP there, take it off: "
        f"ip link set dev {interface} xdp off"
        for interface, program in foreign_programs(bpffs, interfaces).items()
    ]
    return Assessment("xdp", not missing, tuple(good), (*missing, *bad), trial.untried)


def _outcome(done: str) -> list[str]:
    return [f"tried: {done}"] if done else []
