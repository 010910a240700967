"""Owns a map that is changed by making another, at a cost that does not depend on its length.

The former map stays as it is and shares with the new one what is equal in both: entries lie in
small dictionaries, the leaves of a tree that is branched by the bits of their keys' hashes. What
pyrsistent offers for it is walked through as a whole by every garbage collection: with 60,000
dynamic rules, adding one cost fifty times as much, most of it there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_BITS = 5
_BRANCHES = 1 << _BITS
_MASK = _BRANCHES - 1
_LEAF = 32
"""How many entries lie in one dictionary before it is divided."""
_HASH_BITS = 60
"""Keys that do not differ in so many bits of their hashes stay together."""

Node = dict[K, V] | list["Node[K, V]"]


class PersistentMap(Mapping[K, V]):
    """An immutable map; ``with_item`` and ``without`` make others. It has no order to rely on."""

    __slots__ = ("_length", "_root")

    def __init__(self, root: Node[K, V] | None = None, length: int = 0) -> None:
        """For its own methods; without arguments it is empty."""
        self._root: Node[K, V] = {} if root is None else root
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[K]:
        for leaf in _leaves(self._root):
            yield from leaf

    def __getitem__(self, key: K) -> V:
        return self._leaf(key)[key]

    def __contains__(self, key: object) -> bool:
        return key in self._leaf(key)

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V | T, /) -> V | T: ...
    def get(self, key: K, default: T | None = None, /) -> V | T | None:
        """What is under `key`, else `default`."""
        return self._leaf(key).get(key, default)

    def with_item(self, key: K, value: V) -> PersistentMap[K, V]:
        """This map with `value` under `key`, in the place of what is there."""
        length = self._length + (key not in self)
        return PersistentMap(_put(self._root, 0, hash(key), key, value), length)

    def without(self, key: K) -> PersistentMap[K, V]:
        """This map without `key`, which may be absent."""
        if key not in self:
            return self
        if self._length == 1:
            return PersistentMap()
        return PersistentMap(_drop(self._root, 0, hash(key), key), self._length - 1)

    def _leaf(self, key: object) -> dict[K, V]:
        node, bits = self._root, hash(key)
        while isinstance(node, list):
            node = node[bits & _MASK]
            bits >>= _BITS
        return node


def _put(node: Node[K, V], shift: int, bits: int, key: K, value: V) -> Node[K, V]:
    if isinstance(node, list):
        branch = list(node)
        index = bits >> shift & _MASK
        branch[index] = _put(branch[index], shift + _BITS, bits, key, value)
        return branch
    leaf = {**node, key: value}
    if len(leaf) <= _LEAF or shift >= _HASH_BITS:
        return leaf
    parts: list[dict[K, V]] = [{} for _ in range(_BRANCHES)]
    for one, its_value in leaf.items():
        parts[hash(one) >> shift & _MASK][one] = its_value
    return list(parts)


def _drop(node: Node[K, V], shift: int, bits: int, key: K) -> Node[K, V]:
    if isinstance(node, list):
        branch = list(node)
        index = bits >> shift & _MASK
        branch[index] = _drop(branch[index], shift + _BITS, bits, key)
        return branch
    leaf = dict(node)
    del leaf[key]
    return leaf


def _leaves(node: Node[K, V]) -> Iterator[dict[K, V]]:
    if isinstance(node, list):
        for part in node:
            yield from _leaves(part)
    else:
        yield node
