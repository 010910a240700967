"""Owns which image lies in which slot of the map of images; must not know what is in an image."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from contextlib import suppress

from ipsecd.backend.failures import not_taken
from ipsecd.backend.xdp import libbpf


class ImageSlots:
    """The slots, and the numbers by which the kernel knows the images that were put there."""

    def __init__(self, descriptor: int) -> None:
        """Take the descriptor of the map, which stays the caller's."""
        self._map = descriptor
        self._numbers: dict[int, int] = {}

    def put(self, slot: int, image: int) -> None:
        """Put an image into a slot that no step names yet, and close its descriptor.

        Raises ``BackendFailed``.
        """
        try:
            number = libbpf.map_info(image).id
            libbpf.update(self._map, struct.pack("=I", slot), struct.pack("=I", image))
        except OSError as error:
            raise not_taken(error.strerror) from error
        finally:
            os.close(image)
        self._numbers[slot] = number

    def keep(self, slots: Iterable[int]) -> None:
        """Free all other images. What cannot be freed is replaced by the next one in its slot."""
        for slot in self._numbers.keys() - set(slots):
            self.clear(slot)

    def clear(self, slot: int) -> None:
        """Free the image in a slot that no step names."""
        if self._numbers.pop(slot, None) is not None:
            with suppress(OSError):
                libbpf.delete(self._map, struct.pack("=I", slot))

    def are_changed(self) -> bool:
        """Whether somebody else put something into them."""
        return any(
            libbpf.inner_id(self._map, slot) != number for slot, number in self._numbers.items()
        )
