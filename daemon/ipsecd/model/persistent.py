"""Owns an immutable map: a change makes another map, at a cost that does not depend on its length.

The old map stays as it is, and shares with the new one what is equal in both. Entries are in small
dictionaries, which are the leaves of a tree that branches by the bits of the keys' hashes. The map
of pyrsistent is walked through as a whole by every garbage collection: with 60,000 dynamic rules,
adding one cost fifty times as much, most of it in garbage collection.
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
"""How many entries a dictionary may have before it is divided."""
_HASH_BITS = 60
"""Keys that do not differ in so many bits of their hashes stay in one dictionary."""

Node = dict[K, V] | list["Node[K, V]"]


class PersistentMap(Mapping[K, V]):
    """An immutable map; ``with_item`` and ``without`` make others. Its order means nothing."""

    __slots__ = ("_length", "_root")

    def __init__(self, root: Node[K, V] | None = None, length: int = 0) -> None:
        """An empty map. Only methods of this class give arguments."""
        self._root: Node[K, V] = {} if root is None else root
        self._length = length

    @classmethod
    def of_one(cls, key: K, value: V) -> PersistentMap[K, V]:
        """A map with one entry."""
        return cls({key: value}, 1)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[K]:
        for leaf in _leaves(self._root):
            yield from leaf

    def __getitem__(self, key: K) -> V:
        return _leaf(self._root, hash(key))[key]

    def __contains__(self, key: object) -> bool:
        return key in _leaf(self._root, hash(key))

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V | T, /) -> V | T: ...
    def get(self, key: K, default: T | None = None, /) -> V | T | None:
        """The value of `key`, or `default` if there is none."""
        return _leaf(self._root, hash(key)).get(key, default)

    def with_item(self, key: K, value: V) -> PersistentMap[K, V]:
        """This map with `value` for `key`, in the place of the value it has."""
        root, added = _put_all(self._root, 0, [(hash(key), key, value)])
        return PersistentMap(root, self._length + added)

    def with_items(self, items: Mapping[K, V]) -> PersistentMap[K, V]:
        """This map with all of `items`; of many, each costs a fraction of what one alone does."""
        if not items:
            return self
        hashed = [(hash(key), key, value) for key, value in items.items()]
        root, added = _put_all(self._root, 0, hashed)
        return PersistentMap(root, self._length + added)

    def without(self, key: K) -> PersistentMap[K, V]:
        """This map without `key`, which may be absent."""
        if key not in self:
            return self
        if self._length == 1:
            return PersistentMap()
        return PersistentMap(_drop(self._root, 0, hash(key), key), self._length - 1)

    def differences(self, later: PersistentMap[K, V]) -> Iterator[tuple[K, V | None, V | None]]:
        """Each key whose value is another object in a `later` map, with both values.

        The value is None where a map has none, so no map of these may have None as a value. What
        both maps share is not looked at: of maps that differ in one entry it costs the same
        however long they are.
        """
        yield from _differences(self._root, later._root)


def _leaf(node: Node[K, V], bits: int) -> dict[K, V]:
    """The dictionary below `node` that has the keys whose hashes, from here on, are `bits`."""
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
    for leaf_key, leaf_value in leaf.items():
        parts[hash(leaf_key) >> shift & _MASK][leaf_key] = leaf_value
    return list(parts)


def _put_all(node: Node[K, V], shift: int, items: list[tuple[int, K, V]]) -> tuple[Node[K, V], int]:
    """`node` with all of `items`, and how many more entries that has."""
    if len(items) == 1:
        bits, key, value = items[0]
        return _put(node, shift, bits, key, value), key not in _leaf(node, bits >> shift)
    if isinstance(node, list):
        parts: list[list[tuple[int, K, V]]] = [[] for _ in range(_BRANCHES)]
        for item in items:
            parts[item[0] >> shift & _MASK].append(item)
        branch, added = list(node), 0
        for index, part in enumerate(parts):
            if part:
                branch[index], more = _put_all(node[index], shift + _BITS, part)
                added += more
        return branch, added
    leaf = node | {key: value for _, key, value in items}
    if len(leaf) <= _LEAF or shift >= _HASH_BITS:
        return leaf, len(leaf) - len(node)
    empty: list[Node[K, V]] = [{} for _ in range(_BRANCHES)]
    hashed = [(hash(key), key, value) for key, value in leaf.items()]
    return _put_all(empty, shift, hashed)[0], len(leaf) - len(node)


def _drop(node: Node[K, V], shift: int, bits: int, key: K) -> Node[K, V]:
    if isinstance(node, list):
        branch = list(node)
        index = bits >> shift & _MASK
        branch[index] = _drop(branch[index], shift + _BITS, bits, key)
        return branch
    leaf = dict(node)
    del leaf[key]
    return leaf


def _differences(old: Node[K, V], new: Node[K, V]) -> Iterator[tuple[K, V | None, V | None]]:
    if old is new:
        return
    if isinstance(old, list) and isinstance(new, list):
        for before, after in zip(old, new, strict=True):
            yield from _differences(before, after)
        return
    # A dictionary that was divided has the keys of all parts.
    was: dict[K, V] = {key: leaf[key] for leaf in _leaves(old) for key in leaf}
    is_: dict[K, V] = {key: leaf[key] for leaf in _leaves(new) for key in leaf}
    for key in was.keys() - is_.keys():
        yield key, was[key], None
    for key, value in is_.items():
        if was.get(key) is not value:
            yield key, was.get(key), value


def _leaves(node: Node[K, V]) -> Iterator[dict[K, V]]:
    if isinstance(node, list):
        for part in node:
            yield from _leaves(part)
    else:
        yield node
