"""Owns the loaded libbpf.so.1: its functions and structures, typed as its headers declare them.

The headers are bpf.h and libbpf.h of libbpf 1.0 and later. This module must not know what the
functions are used for.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

from ipsecd.errors import BackendFailed

_LOG_LINES = 12


class MapCreateOpts(ctypes.Structure):
    """``struct bpf_map_create_opts``."""

    _fields_ = (
        ("sz", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
        ("map_extra", c_uint64),
        ("numa_node", c_uint32),
        ("map_ifindex", c_uint32),
    )


class LinkCreateOpts(ctypes.Structure):
    """``struct bpf_link_create_opts`` with room for the union that follows."""

    _fields_ = (
        ("sz", c_size_t),
        ("flags", c_uint32),
        ("iter_info_len", c_uint32),
        ("iter_info", c_void_p),
        ("target_btf_id", c_uint32),
        ("padding", c_uint32),
        ("attachment", c_uint64 * 4),
    )


class TestRunOpts(ctypes.Structure):
    """``struct bpf_test_run_opts``; sizes in bytes, ``duration`` in nanoseconds of one run."""

    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


class ProgInfo(ctypes.Structure):
    """The beginning of ``struct bpf_prog_info``."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", ctypes.c_char * 16),
        ("unread", ctypes.c_uint8 * 152),
    )


class LinkInfo(ctypes.Structure):
    """``struct bpf_link_info`` for links whose first member is an interface index."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("prog_id", c_uint32),
        ("padding", c_uint32),
        ("ifindex", c_uint32),
        ("attach_type", c_uint32),
        ("unread", ctypes.c_uint8 * 56),
    )


class MapInfo(ctypes.Structure):
    """The beginning of ``struct bpf_map_info``."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * 16),
        ("unread", ctypes.c_uint8 * 64),
    )


class TcHook(ctypes.Structure):
    """``struct bpf_tc_hook``."""

    _fields_ = (
        ("sz", c_size_t),
        ("ifindex", c_int),
        ("attach_point", c_int),
        ("parent", c_uint32),
        ("padding", c_uint32),
    )


class TcOpts(ctypes.Structure):
    """``struct bpf_tc_opts``."""

    _fields_ = (
        ("sz", c_size_t),
        ("prog_fd", c_int),
        ("flags", c_uint32),
        ("prog_id", c_uint32),
        ("handle", c_uint32),
        ("priority", c_uint32),
        ("padding", c_uint32),
    )


_PrintFunction = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_set_print": (c_void_p, (_PrintFunction,)),
    "libbpf_probe_bpf_helper": (c_int, (c_int, c_int, c_void_p)),
    "bpf_object__open_file": (c_void_p, (c_char_p, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__find_map_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_object__find_program_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_program__flags": (c_uint32, (c_void_p,)),
    "bpf_program__set_flags": (c_int, (c_void_p, c_uint32)),
    "bpf_program__set_autoload": (c_int, (c_void_p, ctypes.c_bool)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__reuse_fd": (c_int, (c_void_p, c_int)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__set_initial_value": (c_int, (c_void_p, c_void_p, c_size_t)),
    "bpf_map_create": (c_int, (c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p)),
    "bpf_map_update_elem": (c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_map_lookup_elem": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_delete_elem": (c_int, (c_int, c_void_p)),
    "bpf_map_get_next_key": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_update_batch": (c_int, (c_int, c_void_p, c_void_p, POINTER(c_uint32), c_void_p)),
    "bpf_map_freeze": (c_int, (c_int,)),
    "bpf_map_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_obj_pin": (c_int, (c_int, c_char_p)),
    "bpf_obj_get": (c_int, (c_char_p,)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, POINTER(c_uint32))),
    "bpf_link_create": (c_int, (c_int, c_int, c_int, c_void_p)),
    "bpf_link_update": (c_int, (c_int, c_int, c_void_p)),
    "bpf_link_detach": (c_int, (c_int,)),
    "bpf_prog_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_prog_query": (
        c_int,
        (c_int, c_int, c_uint32, POINTER(c_uint32), POINTER(c_uint32), POINTER(c_uint32)),
    ),
    "bpf_tc_hook_create": (c_int, (c_void_p,)),
    "bpf_tc_attach": (c_int, (c_void_p, c_void_p)),
    "bpf_tc_detach": (c_int, (c_void_p, c_void_p)),
    "bpf_tc_query": (c_int, (c_void_p, c_void_p)),
    "bpf_prog_test_run_opts": (c_int, (c_int, c_void_p)),
    "libbpf_num_possible_cpus": (c_int, ()),
}


class _Library:
    """The loaded library, and its last error messages."""

    def __init__(self) -> None:
        try:
            self.calls = ctypes.CDLL("libbpf.so.1", use_errno=True)
        except OSError as error:
            raise BackendFailed(
                f"libbpf.so.1 cannot be loaded: {error}",
                "install libbpf1, or use backend: nftables",
            ) from error
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(self.calls, name)
            function.restype, function.argtypes = result, arguments
        self.messages: list[str] = []
        self._libc = ctypes.CDLL(None)
        self._libc.vsnprintf.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)
        self._print = _PrintFunction(self._take_message)
        self.calls.libbpf_set_print(self._print)

    def _take_message(self, level: int, text: bytes, arguments: int) -> int:
        if level == 0:
            buffer = ctypes.create_string_buffer(4096)
            self._libc.vsnprintf(buffer, len(buffer), text, arguments)
            self.messages = [*self.messages, buffer.value.decode(errors="replace").strip()][
                -_LOG_LINES:
            ]
        return 0


@cache
def library() -> _Library:
    """The library, loaded once; raises ``BackendFailed`` where there is none."""
    return _Library()
