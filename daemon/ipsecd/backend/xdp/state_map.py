"""Owns the map that holds the state by which packets are judged; must not know what lines mean.

A packet takes the state once. Numbers in its heads can be written in place: each is read once, and
by itself.
"""

from __future__ import annotations

import mmap
import os
import struct

from ipsecd.backend.failures import not_taken
from ipsecd.backend.xdp import abi, libbpf


class StateMap:
    """The lines in force, and memory to write into them."""

    def __init__(self, outer: int) -> None:
        """`outer` is the descriptor of the map whose one slot has the state."""
        self._outer = outer
        self._memory: mmap.mmap | None = None
        self._id = 0
        self.lines = b""
        """What was written last; empty if nothing was."""

    def close(self) -> None:
        """Let go of the memory; the state stays in force."""
        if self._memory is not None:
            self._memory.close()

    def replace(self, lines: bytes) -> None:
        """Have packets judged by new lines; whatever can fail comes before the change."""
        if self._memory is not None and _compared(lines) == _compared(self.lines):
            # Packets meet the same. The mark is for the daemon.
            self._memory[_MARK] = lines[_MARK]
            self.restore_heads(lines)
            return
        memory = None
        try:
            descriptor = libbpf.create_lines("ipsecd_state", lines, freeze=False)
            try:
                memory = libbpf.map_lines(descriptor, len(lines) // abi.LINE)
                number = libbpf.map_info(descriptor).id
                slot = struct.pack("=I", 0)
                libbpf.update(self._outer, slot, struct.pack("=I", descriptor))
            finally:
                os.close(descriptor)
        except BaseException as error:
            if memory is not None:
                memory.close()
            if isinstance(error, OSError):
                raise not_taken(error.strerror) from error
            raise
        self.close()
        self._memory, self.lines, self._id = memory, lines, number

    def write_into_heads(self, offset: int, value: bytes) -> None:
        """Write a number into the heads of all points, if there are any."""
        if self._memory is None:
            return
        content = bytearray(self.lines)
        for head in range(abi.HEADS):
            at = head * abi.LINE + offset
            self._memory[at : at + len(value)] = value
            content[at : at + len(value)] = value
        self.lines = bytes(content)

    def restore_heads(self, lines: bytes) -> None:
        """Have the heads of these lines, from which no others differ, in the place of those now."""
        if self._memory is not None:
            end = abi.HEADS * abi.LINE
            self._memory[:end] = lines[:end]
            self.lines = lines

    def in_force(self) -> bytes:
        """The lines that packets are judged by; empty if they are not ours."""
        if self._memory is None or libbpf.inner_id(self._outer, 0) != self._id:
            return b""
        return self._memory[: len(self.lines)]


_MARK = slice(abi.MARK_LINE * abi.LINE, (abi.MARK_LINE + 1) * abi.LINE)


def without_steps(lines: bytes) -> bytes:
    """The lines with heads by which packets look at no step, and so pass."""
    changed = bytearray(lines)
    for head in range(abi.HEADS):
        at = head * abi.LINE + abi.STEPS_OFFSET
        changed[at : at + 4] = bytes(4)
    return bytes(changed)


def _compared(lines: bytes) -> bytes:
    """What packets look at in the lines, but for the numbers of steps in the heads."""
    content = bytearray(without_steps(lines))
    content[_MARK] = bytes(abi.LINE)
    return bytes(content)
