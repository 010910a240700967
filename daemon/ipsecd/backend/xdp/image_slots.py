"""Owns which image lies in which slot of the map of images, and the memory of those with lists."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable
from contextlib import suppress

from ipsecd.backend.failures import not_taken
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.images import Image


class ImageSlots:
    """The slots, and the numbers by which the kernel knows the images that were put there."""

    def __init__(self, descriptor: int) -> None:
        """Take the descriptor of the map, which stays the caller's."""
        self._map = descriptor
        self._numbers: dict[int, int] = {}
        self._memory: dict[int, mmap.mmap] = {}

    def close(self) -> None:
        """Let go of memory; the images stay in force."""
        for slot in list(self._memory):
            self._close(slot)

    def put(self, image: Image, descriptor: int) -> None:
        """Put an image into its slot, which no step names yet, and close its descriptor.

        Raises ``BackendFailed``.
        """
        slot = image.slot
        try:
            self._close(slot)
            if image.own_lists:
                self._memory[slot] = libbpf.map_lines(descriptor, image.lines)
            number = libbpf.map_info(descriptor).id
            libbpf.update(self._map, struct.pack("=I", slot), struct.pack("=I", descriptor))
        except OSError as error:
            self._close(slot)
            raise not_taken(error.strerror) from error
        finally:
            os.close(descriptor)
        self._numbers[slot] = number

    def memory(self, slot: int) -> mmap.mmap:
        """The lines in a slot that can be edited; raises ``BackendFailed`` after the end of all."""
        if slot not in self._memory:
            raise not_taken("the programs were replaced meanwhile")
        return self._memory[slot]

    def _close(self, slot: int) -> None:
        if memory := self._memory.pop(slot, None):
            memory.close()

    def keep(self, slots: Iterable[int]) -> None:
        """Free all other images. What cannot be freed is replaced by the next one in its slot."""
        for slot in self._numbers.keys() - set(slots):
            self.clear(slot)

    def clear(self, slot: int) -> None:
        """Free the image in a slot that no step names."""
        self._close(slot)
        if self._numbers.pop(slot, None) is not None:
            with suppress(OSError):
                libbpf.delete(self._map, struct.pack("=I", slot))

    def are_changed(self) -> bool:
        """Whether somebody else put something into them."""
        return any(
            libbpf.inner_id(self._map, slot) != number for slot, number in self._numbers.items()
        )
