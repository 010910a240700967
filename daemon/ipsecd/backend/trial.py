"""Owns trying a backend: it does once what the backend needs, in a network namespace made for it.

This runs in a process of its own, because a namespace belongs to a thread and its children. The
process does nothing to a network before it has left the namespace that it was started in. It loads
programs even if it may not leave, because they judge nothing until they are attached.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import inf

from ipsecd.model.addresses import Family, Keyword, Network
from ipsecd.model.values import (
    ALWAYS,
    TCP,
    UDP,
    Action,
    Conditions,
    Endpoint,
    Filter,
    IcmpOfFamily,
    InForce,
    InterfaceType,
    Origin,
    PortRange,
)

TIMEOUT_S = 60.0
_CLONE_NEWNET = 0x40000000
_LINKS = ("ipsecd-try0", "ipsecd-try1")


@dataclass(frozen=True, slots=True)
class Trial:
    """The outcome of trying one backend.

    ``refusal`` is what the kernel said if it refused, ``done`` says what was done, and ``untried``
    why something was left out; each is "" if there is nothing to say. ``features`` are those of the
    backend.
    """

    refusal: str = ""
    done: str = ""
    untried: str = ""
    features: tuple[str, ...] = ()


def try_backend(name: str) -> Trial:
    """Try the backend called `name` in a process of its own; takes some tenths of a second."""
    # The process has to import from the same directories as this one, however this one was started.
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        finished = subprocess.run(  # noqa: S603 - this very program
            [sys.executable, "-P", "-m", "ipsecd.backend.trial_process", name],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        answer = json.loads(finished.stdout)
        return Trial(**{**answer, "features": tuple(answer["features"])})
    except subprocess.TimeoutExpired:
        return Trial(untried=f"the trial did not end within {TIMEOUT_S:g} s")
    except OSError as error:
        return Trial(untried=f"no process could be started for it: {error.strerror}")
    except (ValueError, TypeError, KeyError):
        last_line = finished.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return Trial(
            untried=f"the trial ended without an answer: {last_line or finished.returncode}"
        )


def leave_network() -> str:
    """Go on in a new network namespace; returns why that is not possible, "" if it is."""
    library = ctypes.CDLL(None, use_errno=True)
    library.unshare.argtypes, library.unshare.restype = (ctypes.c_int,), ctypes.c_int
    if library.unshare(_CLONE_NEWNET) == 0:
        return ""
    return (
        "this process may not make a network namespace to try it in "
        f"({os.strerror(ctypes.get_errno())})"
    )


def try_nftables(untried: str) -> Trial:
    """Make a table with every kind of set, unless `untried` says why that is not possible."""
    from ipsecd.backend.nftables.backend import NftablesBackend  # noqa: PLC0415 - not for xdp
    from ipsecd.compiler.policy import compile_filters  # noqa: PLC0415
    from ipsecd.compiler.rows import rows_of  # noqa: PLC0415
    from ipsecd.compiler.volatile import Volatile  # noqa: PLC0415

    if untried:
        return Trial(untried=untried)
    backend = NftablesBackend()
    try:
        volatile = Volatile()
        volatile.change(add=rows_of(_filters("dynamic")), deadline=inf)
        classifier = compile_filters(_filters("static"))
        backend.apply(classifier, volatile)
        observation = backend.observe()
        backend.remove()
        if observation.digest != classifier.digest or observation.drift:
            drift = "; ".join(observation.drift) or "it cannot be read back"
            return Trial(refusal=f"a table that it took is not as it was written: {drift}")
        return Trial(
            done="a table of every kind of set was made, read back and removed",
            features=backend.probe(),
        )
    finally:
        backend.close()


def try_xdp(untried: str) -> Trial:
    """Load all programs; attach them to a link, unless `untried` says why that is not possible."""
    from ipsecd.backend.xdp import libbpf  # noqa: PLC0415 - not for nftables
    from ipsecd.backend.xdp.programs import OBJECT, Programs  # noqa: PLC0415

    obj = libbpf.BpfObject(OBJECT)
    names = sorted(obj.program_names())
    obj.close()
    programs = Programs()
    try:
        for name in names:
            programs.program(name)
        loaded = f"all {len(names)} programs were loaded"
        if untried:
            return Trial(done=loaded, untried=untried)
        attached = _attach(programs.program)
        return Trial(done=f"{loaded}, and attached to a link as {attached}")
    finally:
        programs.close()


def _attach(program: Callable[[str], int]) -> str:
    """Attach to a link made for it, for what arrives and what leaves; returns how that was done."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - not before the namespace is left

    from ipsecd.backend.xdp import libbpf  # noqa: PLC0415

    with IPRoute() as route:
        route.link("add", ifname=_LINKS[0], kind="veth", peer=_LINKS[1])
        (index,) = route.link_lookup(ifname=_LINKS[0])
    modes = (("native", libbpf.XDP_FLAGS_DRV_MODE), ("generic", libbpf.XDP_FLAGS_SKB_MODE))
    mode = _first_accepted_mode(
        modes,
        lambda flags: libbpf.create_link(program("receive_lan"), index, libbpf.BPF_XDP, flags),
    )
    try:
        os.close(libbpf.create_link(program("leave_lan"), index, libbpf.BPF_TCX_EGRESS))
    except OSError:
        libbpf.set_filter(index, libbpf.BPF_TC_EGRESS, program("leave_lan"))
        return f"{mode} XDP and clsact"
    return f"{mode} XDP and tcx"


def _first_accepted_mode(modes: tuple[tuple[str, int], ...], attach: Callable[[int], int]) -> str:
    """The first of `modes` in which the kernel attaches; raises ``OSError`` if it takes none."""
    for name, flags in modes[:-1]:
        try:
            os.close(attach(flags))
        except OSError:
            continue
        return name
    name, flags = modes[-1]
    os.close(attach(flags))
    return name


def _filters(store: str) -> tuple[InForce, ...]:
    """Filters whose tables together have every kind of field."""
    web = Endpoint(Keyword.ME, (PortRange(80, 80),))
    some = Endpoint(Keyword.ME, (PortRange(1000, 1999),))
    network = Network(Family.IPV4, 0xCB007100, 24)
    host = Network(Family.IPV6, 0x20010DB8 << 96 | 1, 128)
    filters = (
        Filter(Endpoint(), web, TCP),
        Filter(Endpoint(network), some, UDP),
        Filter(Endpoint(network), Endpoint(), mirrored=True),
        Filter(Endpoint(host), Endpoint(Keyword.ME), IcmpOfFamily.ICMP),
    )
    return tuple(
        InForce(Origin(store, "", f"trial {number}"), flt, action, conditions)
        for number, (flt, action, conditions) in enumerate(
            product(filters, Action, (ALWAYS, Conditions(InterfaceType.LAN)))
        )
    )
