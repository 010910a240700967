"""Owns loading the object file: its maps, and each program when it is first needed.

A loaded program judges nothing until it is attached.
"""

from __future__ import annotations

import os
from pathlib import Path

from ipsecd.backend.xdp import abi, libbpf


class LoadedFile:
    """The maps of an object file, and its programs that were asked for, by name."""

    def __init__(self, path: Path, names: tuple[str, ...], rules: int) -> None:
        """Create the maps with `names`, with counters for `rules`; raises ``BackendFailed``."""
        self._path, self._names, self._rules = path, names, rules
        self._has_loop = libbpf.has_helper(libbpf.BPF_PROG_TYPE_XDP, libbpf.BPF_FUNC_LOOP)
        self._takes_frags = libbpf.has_helper(
            libbpf.BPF_PROG_TYPE_XDP, libbpf.BPF_FUNC_XDP_GET_BUFF_LEN
        )
        self.max_steps = abi.MAX_STEPS if self._has_loop else abi.MAX_STEPS_UNROLLED
        self.maps: dict[str, int] = {}
        self._loaded: dict[str, int] = {}
        self._load()

    def pin(self, directory: Path) -> None:
        """Pin the maps, so that what they hold can be found by the next process."""
        directory.mkdir()
        for name, descriptor in self.maps.items():
            libbpf.pin(descriptor, directory / name)

    def program(self, name: str) -> int:
        """A program by name (one of HOOKS, "_", and one of KINDS); loaded when first asked for.

        The verifier takes a tenth of a second for each, and most hosts need two.
        """
        if name not in self._loaded:
            self._load(name)
        return self._loaded[name]

    @property
    def is_closed(self) -> bool:
        """Whether the maps have been let go of."""
        return not self.maps

    def close(self) -> None:
        """Close every descriptor; what is pinned or attached lives on."""
        for descriptor in (*self.maps.values(), *self._loaded.values()):
            os.close(descriptor)
        self.maps, self._loaded = {}, {}

    def _load(self, wanted: str = "") -> None:
        """Create the maps, or load one program that reads them."""
        obj = libbpf.BpfObject(self._path)
        try:
            for name in obj.program_names():
                if name != wanted:
                    obj.leave_out(name)
                elif not self._takes_frags:
                    obj.without_flags(name)
            obj.set_size("counters", self._rules)
            obj.set_constants(bytes((self._has_loop,)))
            for name, descriptor in self.maps.items():
                obj.reuse(name, descriptor)
            obj.load()
            if wanted:
                self._loaded[wanted] = obj.program(wanted)
            else:
                self.maps = {name: obj.map(name) for name in self._names}
        finally:
            obj.close()
