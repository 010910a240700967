"""Owns the calls into libbpf.so.1; must not know what the programs and maps are for.

A call that fails raises ``OSError`` with the kernel's error number.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from ctypes import byref, c_uint32
from pathlib import Path
from typing import Any, TypeVar

from ipsecd.backend.xdp.library import (
    LinkCreateOpts,
    LinkInfo,
    MapCreateOpts,
    MapInfo,
    ProgInfo,
    TcHook,
    TcOpts,
    TestRunOpts,
    library,
)
from ipsecd.errors import BackendFailed

BPF_MAP_TYPE_ARRAY = 2
BPF_MAP_TYPE_ARRAY_OF_MAPS = 12
BPF_F_MMAPABLE = 1 << 10
BPF_F_INNER_MAP = 1 << 12
BPF_ANY, BPF_NOEXIST = 0, 1
BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP = 3, 6
BPF_FUNC_LOOP, BPF_FUNC_XDP_GET_BUFF_LEN = 181, 188
BPF_XDP, BPF_TCX_INGRESS, BPF_TCX_EGRESS = 37, 46, 47
BPF_TC_INGRESS, BPF_TC_EGRESS, BPF_TC_F_REPLACE = 1, 2, 1
TC_HANDLE, TC_PRIORITY = 1, 0x1959
XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE = 2, 4
_MAX_PROGRAMS = 64
"""BPF_MPROG_MAX of the kernel: at one tcx hook there can be no more."""
_COPIED_AT_ONCE = 1 << 20


def _call(name: str, *arguments: Any) -> int:
    result = getattr(library().calls, name)(*arguments)
    if result is None or result < 0:
        number = -result if result not in (None, -1) else ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return int(result)


def has_helper(program_type: int, helper: int) -> bool:
    """Whether the kernel has a helper for programs of a type."""
    answer: int = library().calls.libbpf_probe_bpf_helper(program_type, helper, None)
    return answer == 1


def possible_cpus() -> int:
    """How many values a per-CPU map holds for each key."""
    return _call("libbpf_num_possible_cpus")


class BpfObject:
    """One object file with its maps and programs, which the caller closes."""

    def __init__(self, path: Path) -> None:
        self._pointer = library().calls.bpf_object__open_file(str(path).encode(), None)
        if not self._pointer:
            raise BackendFailed(
                f"the program file {str(path)!r} cannot be opened: {'; '.join(library().messages)}",
                "install the package again",
            )

    def program_names(self) -> Iterator[str]:
        """The names of all programs of the file."""
        calls = library().calls
        program = calls.bpf_object__next_program(self._pointer, None)
        while program:
            yield calls.bpf_program__name(program).decode()
            program = calls.bpf_object__next_program(self._pointer, program)

    def without_flags(self, name: str) -> None:
        """Have a program loaded without the flags that its section asks for."""
        _call("bpf_program__set_flags", self._program(name), 0)

    def leave_out(self, name: str) -> None:
        """Have a program not loaded."""
        _call("bpf_program__set_autoload", self._program(name), False)

    def set_size(self, name: str, entries: int) -> None:
        """Set how many entries a map will have."""
        _call("bpf_map__set_max_entries", self._map(name), entries)

    def set_constants(self, value: bytes) -> None:
        """Set the values of the constants of the programs."""
        _call("bpf_map__set_initial_value", self._map(".rodata"), value, len(value))

    def reuse(self, name: str, descriptor: int) -> None:
        """Have the programs use a map that exists already."""
        _call("bpf_map__reuse_fd", self._map(name), descriptor)

    def load(self) -> None:
        """Create the maps and load the programs; raises ``BackendFailed`` with the reason."""
        library().messages.clear()
        try:
            _call("bpf_object__load", self._pointer)
        except OSError as error:
            messages = [line for line in library().messages if line]
            raise BackendFailed(
                f"the kernel did not take the programs: {error.strerror}"
                + (f" ({messages[-1]})" if messages else ""),
                "use backend: nftables",
            ) from error

    def map(self, name: str) -> int:
        """A descriptor of a loaded map, which the caller closes."""
        return os.dup(_call("bpf_map__fd", self._map(name)))

    def program(self, name: str) -> int:
        """A descriptor of a loaded program, which the caller closes."""
        return os.dup(_call("bpf_program__fd", self._program(name)))

    def close(self) -> None:
        """Forget the file; descriptors that were handed out stay open."""
        library().calls.bpf_object__close(self._pointer)

    def _map(self, name: str) -> int:
        pointer = library().calls.bpf_object__find_map_by_name(self._pointer, name.encode())
        if not pointer:
            raise BackendFailed(f"the program file has no map {name!r}", "install it again")
        return int(pointer)

    def _program(self, name: str) -> int:
        pointer = library().calls.bpf_object__find_program_by_name(self._pointer, name.encode())
        if not pointer:
            raise BackendFailed(f"the program file has no program {name!r}", "install it again")
        return int(pointer)


def create_lines(name: str, content: bytes, *, freeze: bool, spare: int = 0) -> int:
    """A descriptor of a new array of 64-byte lines that holds `content`, and `spare` lines more.

    It is written through a memory mapping, at the speed of memory. Nobody can ever change a frozen
    array.
    """
    lines = max(1, len(content) // 64 + spare)
    options = MapCreateOpts(
        sz=ctypes.sizeof(MapCreateOpts), map_flags=BPF_F_MMAPABLE | BPF_F_INNER_MAP
    )
    descriptor = _call(
        "bpf_map_create", BPF_MAP_TYPE_ARRAY, name.encode(), 4, 64, lines, byref(options)
    )
    try:
        with map_lines(descriptor, lines) as memory:
            # In parts: a copy lets no other thread run, and the memory comes page by page.
            for start in range(0, len(content), _COPIED_AT_ONCE):
                part = content[start : start + _COPIED_AT_ONCE]
                memory[start : start + len(part)] = part
        if freeze:
            _call("bpf_map_freeze", descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def freeze_lines(descriptor: int) -> None:
    """Have nobody ever change an array of lines, of which no memory is mapped for writing."""
    _call("bpf_map_freeze", descriptor)


def map_lines(descriptor: int, lines: int, *, writable: bool = True) -> mmap.mmap:
    """The content of an array of lines, as memory."""
    return map_memory(descriptor, lines * 64, writable=writable)


def map_memory(descriptor: int, size: int, *, writable: bool = True) -> mmap.mmap:
    """The content of an array with BPF_F_MMAPABLE, as memory of at least `size` bytes."""
    length = (size + mmap.PAGESIZE - 1) & -mmap.PAGESIZE
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    return mmap.mmap(descriptor, length, mmap.MAP_SHARED, protection)


def update(descriptor: int, key: bytes, value: bytes, flags: int = BPF_ANY) -> None:
    """Set one entry of a map."""
    _call("bpf_map_update_elem", descriptor, key, value, flags)


def look_up(descriptor: int, key: bytes, size: int) -> bytes | None:
    """The value of `size` bytes under a key, None if there is none."""
    buffer = ctypes.create_string_buffer(size)
    try:
        _call("bpf_map_lookup_elem", descriptor, key, buffer)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return buffer.raw


def inner_id(outer: int, slot: int) -> int:
    """The number of the map in a slot of an array of maps, 0 if there is none."""
    value = look_up(outer, slot.to_bytes(4, sys.byteorder), 4)
    return int.from_bytes(value or b"", sys.byteorder)


def delete(descriptor: int, key: bytes) -> bool:
    """Remove one entry of a map; returns whether it was there."""
    try:
        _call("bpf_map_delete_elem", descriptor, key)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def keys(descriptor: int, size: int) -> Iterator[bytes]:
    """The keys of a map, of `size` bytes each."""
    key: Any = None
    while True:
        following = ctypes.create_string_buffer(size)
        try:
            _call("bpf_map_get_next_key", descriptor, key, following)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        key = following
        yield following.raw


def update_many(descriptor: int, all_keys: bytes, values: bytes, count: int) -> None:
    """Set `count` entries of a map in one call."""
    number = c_uint32(count)
    _call("bpf_map_update_batch", descriptor, all_keys, values, byref(number), None)


def pin(descriptor: int, path: Path) -> None:
    """Give an object a name in the BPF file system, which keeps it alive."""
    _call("bpf_obj_pin", descriptor, str(path).encode())


def get_pinned(path: Path) -> int:
    """A descriptor of a pinned object."""
    return _call("bpf_obj_get", str(path).encode())


def program_id(descriptor: int) -> int:
    """The number by which the kernel knows a program."""
    return int(_info(descriptor, ProgInfo()).id)


def program_info(descriptor: int) -> ProgInfo:
    """What the kernel says about a program."""
    return _info(descriptor, ProgInfo())


def program_by_id(number: int) -> int:
    """A descriptor of the program that the kernel knows by `number`."""
    return _call("bpf_prog_get_fd_by_id", number)


def program_name(number: int) -> str:
    """The name of the program that the kernel knows by `number`, "?" if it is gone."""
    try:
        descriptor = program_by_id(number)
    except OSError:
        return "?"
    try:
        return bytes(_info(descriptor, ProgInfo()).name).decode(errors="replace")
    finally:
        os.close(descriptor)


def map_info(descriptor: int) -> MapInfo:
    """What the kernel says about a map."""
    return _info(descriptor, MapInfo())


def map_by_id(number: int) -> int:
    """A descriptor of the map that the kernel knows by `number`."""
    return _call("bpf_map_get_fd_by_id", number)


def link_info(descriptor: int) -> LinkInfo:
    """What the kernel says about a link; ``ifindex`` is 0 when its interface is gone."""
    return _info(descriptor, LinkInfo())


_Info = TypeVar("_Info", ProgInfo, LinkInfo, MapInfo)


def _info(descriptor: int, into: _Info) -> _Info:
    length = c_uint32(ctypes.sizeof(into))
    _call("bpf_obj_get_info_by_fd", descriptor, byref(into), byref(length))
    return into


def create_link(program: int, ifindex: int, attach_type: int, flags: int = 0) -> int:
    """A descriptor of a new link between a program and an interface."""
    options = LinkCreateOpts(sz=ctypes.sizeof(LinkCreateOpts), flags=flags)
    return _call("bpf_link_create", program, ifindex, attach_type, byref(options))


def update_link(link: int, program: int) -> None:
    """Replace the program of a link, with no moment without a program."""
    _call("bpf_link_update", link, program, None)


def detach_link(link: int) -> None:
    """Detach a link from its interface, even if others hold the link too."""
    _call("bpf_link_detach", link)


def programs_at(ifindex: int, attach_type: int) -> frozenset[int]:
    """The numbers of the programs at a tcx hook of an interface of this network namespace."""
    flags, count = c_uint32(), c_uint32(_MAX_PROGRAMS)
    numbers = (c_uint32 * _MAX_PROGRAMS)()
    try:
        _call("bpf_prog_query", ifindex, attach_type, 0, byref(flags), numbers, byref(count))
    except OSError:
        return frozenset()
    return frozenset(numbers[: count.value])


def set_filter(ifindex: int, side: int, program: int) -> None:
    """Put a program on the clsact queueing discipline of an interface; replaces our last one."""
    hook = _tc_hook(ifindex, side)
    with suppress(FileExistsError):
        _call("bpf_tc_hook_create", byref(hook))
    _call("bpf_tc_attach", byref(hook), byref(_tc_options(program, BPF_TC_F_REPLACE)))


def has_filter(ifindex: int, side: int) -> bool:
    """Whether our filter is on an interface."""
    try:
        _call("bpf_tc_query", byref(_tc_hook(ifindex, side)), byref(_tc_options()))
    except OSError:
        return False
    return True


def delete_filter(ifindex: int, side: int) -> None:
    """Remove our filter from an interface; the queueing discipline stays: others may use it."""
    _call("bpf_tc_detach", byref(_tc_hook(ifindex, side)), byref(_tc_options()))


def _tc_hook(ifindex: int, side: int) -> TcHook:
    return TcHook(sz=ctypes.sizeof(TcHook), ifindex=ifindex, attach_point=side)


def _tc_options(program: int = 0, flags: int = 0) -> TcOpts:
    return TcOpts(
        sz=ctypes.sizeof(TcOpts),
        prog_fd=program,
        flags=flags,
        handle=TC_HANDLE,
        priority=TC_PRIORITY,
    )


def run_program(
    program: int, frame: bytes, *, repeat: int = 1, context: bytes | None = None
) -> tuple[int, int]:
    """Run a program on a frame; returns its result and the nanoseconds that one run took."""
    options = TestRunOpts(sz=ctypes.sizeof(TestRunOpts))
    frame_buffer = ctypes.create_string_buffer(frame, len(frame))
    options.data_in, options.data_size_in = ctypes.addressof(frame_buffer), len(frame)
    if context is not None:
        context_buffer = ctypes.create_string_buffer(context, len(context))
        options.ctx_in, options.ctx_size_in = ctypes.addressof(context_buffer), len(context)
    options.repeat = repeat
    _call("bpf_prog_test_run_opts", program, byref(options))
    return int(options.retval), int(options.duration)
