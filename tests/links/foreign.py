"""Owns programs of somebody else on a link, at each hook: they let everything pass."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ctypes import byref, sizeof
from pathlib import Path

from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.library import LinkCreateOpts
from tests.netns.site import run

SOURCE = """
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int foreign_xdp(struct xdp_md *frame) { return XDP_PASS; }
SEC("tc") int foreign_ok(struct __sk_buff *packet) { return TC_ACT_OK; }
SEC("tc") int foreign_pipe(struct __sk_buff *packet) { return TC_ACT_PIPE; }
SEC("tc") int foreign_next(struct __sk_buff *packet) { return TC_ACT_UNSPEC; }
char LICENSE[] SEC("license") = "GPL";
"""
BPF_F_BEFORE = 1 << 3
HOOKS = {"ingress": libbpf.BPF_TCX_INGRESS, "egress": libbpf.BPF_TCX_EGRESS}


class Foreign:
    """The programs, compiled and loaded; they stay on their links until the end."""

    def __init__(self, directory: Path) -> None:
        self._stack = ExitStack()
        source, self._object = directory / "foreign.c", directory / "foreign.o"
        source.write_text(SOURCE)
        include = f"-I/usr/include/{run('uname', '-m').strip()}-linux-gnu"
        compiler = ("clang", "-O2", "-g", "-target", "bpf", include)
        run(*compiler, "-c", str(source), "-o", str(self._object))
        self._loaded = libbpf.BpfObject(self._object)
        self._stack.callback(self._loaded.close)
        self._loaded.load()

    def close(self) -> None:
        self._stack.close()

    def on_xdp(self, device: str) -> None:
        """Take the place of an XDP program, as ``ip`` does it."""
        words = ("xdp", "obj", str(self._object), "program", "foreign_xdp")
        run("ip", "link", "set", device, *words)

    def on_tcx(self, device: str, program: str, *, in_front: bool = False) -> None:
        """Attach at both hooks of tcx: behind what is there, or in front of it.

        Raises:
            OSError: if the kernel has no tcx.
        """
        descriptor = self._loaded.program(program)
        self._stack.callback(os.close, descriptor)
        for hook in HOOKS.values():
            options = LinkCreateOpts(
                sz=sizeof(LinkCreateOpts), flags=BPF_F_BEFORE if in_front else 0
            )
            link = libbpf._call(
                "bpf_link_create", descriptor, socket.if_nametoindex(device), hook, byref(options)
            )
            self._stack.callback(os.close, link)

    def on_clsact(self, device: str, program: str, priority: int) -> None:
        """Attach at both hooks of clsact with ``tc``, before filters of a higher number."""
        run("tc", "qdisc", "add", "dev", device, "clsact", check=False)
        for hook in HOOKS:
            where = ("filter", "add", "dev", device, hook, "prio", str(priority))
            run("tc", *where, "bpf", "da", "obj", str(self._object), "program", program)


@contextmanager
def foreign(directory: Path) -> Iterator[Foreign]:
    programs = Foreign(directory)
    try:
        yield programs
    finally:
        programs.close()
