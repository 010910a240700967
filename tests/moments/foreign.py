"""Owns programs of somebody else on a link: at XDP, tcx and clsact, with any verdict."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import if_nametoindex

from ipsecd.backend.xdp import libbpf
from ipsecd.errors import IpsecdError
from tests.netns.site import run

BPF_F_BEFORE, BPF_F_AFTER = 1 << 3, 1 << 4
TC_VERDICTS = {"unspec": -1, "ok": 0, "shot": 2, "pipe": 3, "stolen": 4, "redirect": 7}
"""What a tc program can return (linux/pkt_cls.h); all but the first can end the run."""
XDP_VERDICTS = {"aborted": 0, "drop": 1, "pass": 2}
PINNED = Path("/sys/fs/bpf/foreign")
SIDES = {"ingress": libbpf.BPF_TCX_INGRESS, "egress": libbpf.BPF_TCX_EGRESS}


def load(directory: Path) -> None:
    """Compile and pin a program for each verdict."""
    source, compiled = directory / "foreign.c", directory / "foreign.o"
    functions = [f'SEC("tc") int tc_{n}(void *_) {{ return {v}; }}' for n, v in TC_VERDICTS.items()]
    functions += [
        f'SEC("xdp") int xdp_{n}(void *_) {{ return {v}; }}' for n, v in XDP_VERDICTS.items()
    ]
    head = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
    licence = 'char LICENSE[] SEC("license") = "GPL";\n'
    source.write_text(head + "\n".join(functions) + "\n" + licence)
    include = f"-I/usr/include/{run('uname', '-m').strip()}-linux-gnu"
    run("clang", "-O2", "-g", "-target", "bpf", include, "-c", str(source), "-o", str(compiled))
    run("bpftool", "prog", "loadall", str(compiled), str(PINNED))


def unload() -> None:
    """Take the pinned programs away."""
    for path in PINNED.iterdir():
        path.unlink()
    PINNED.rmdir()


def has_tcx() -> bool:
    """Whether this kernel has tcx (6.6)."""
    try:
        with tcx("lo", "ok", "ingress", BPF_F_BEFORE):
            return True
    except IpsecdError:
        return False


@contextmanager
def tcx(link: str, verdict: str, side: str, flags: int) -> Iterator[None]:
    """A program in front of all others on one side of a link, or behind them."""
    program = libbpf.get_pinned(PINNED / f"tc_{verdict}")
    try:
        attached = libbpf.create_link(program, if_nametoindex(link), SIDES[side], flags)
    finally:
        os.close(program)
    try:
        yield
    finally:
        os.close(attached)


@contextmanager
def clsact(link: str, verdict: str, side: str, preference: int) -> Iterator[None]:
    """A filter on one side of a link; what has a lower preference comes first."""
    words = ("dev", link, side, "pref", str(preference))
    run("tc", "qdisc", "add", "dev", link, "clsact", check=False)
    program = ("bpf", "direct-action", "object-pinned", str(PINNED / f"tc_{verdict}"))
    run("tc", "filter", "add", *words, *program)
    try:
        yield
    finally:
        # Who put the queueing discipline there may have taken it away with all filters.
        run("tc", "filter", "del", *words, check=False)


def take_xdp(link: str) -> None:
    """Take a program away from a link."""
    run("ip", "link", "set", link, "xdp", "off", check=False)


def put_xdp(link: str, verdict: str, mode: str = "xdp") -> bool:
    """Whether the kernel let a program be put on a link."""
    words = ("ip", "link", "set", link, mode, "pinned", str(PINNED / f"xdp_{verdict}"))
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
