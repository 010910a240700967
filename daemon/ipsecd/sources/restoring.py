"""Owns how policy files get back what they held at an earlier time; must not know when that was.

It prepares a change like any other: it is made as a whole, can be undone, and overwrites no edit.
"""

from __future__ import annotations

import os

from ipsecd.errors import Refused
from ipsecd.sources.reading import ASSIGNED, Loaded, read_link
from ipsecd.sources.remembered import PolicyReader
from ipsecd.sources.static import Change, Kept, StaticStore
from ipsecd.sources.steps import Step, file_behind_links, free_name
from ipsecd.sources.unconfirmed import PoliciesBefore


def restored(
    store: StaticStore, reader: PolicyReader, expected: Loaded, earlier: PoliciesBefore
) -> Change:
    """Prepare a change to `earlier` files; nothing is written yet.

    The files should hold what is `expected`. One that cannot be used is replaced, and kept beside.
    Raises ``Refused`` if another that the change concerns was edited since it was loaded.
    """
    now = expected.texts
    broken = {file.path for file in expected.broken}
    forward, back, kept_copies = [], [], []
    for path, text in sorted(earlier.texts.items()):
        stored = now.get(path)
        if stored == text:
            continue
        file = store.directory / path
        if path in broken and text is not None:
            name = free_name(file_behind_links(file))
            kept_copies.append(str(file_behind_links(file).with_name(name)))
            forward.append(Step(path, text=text, kept=name))
            back.append(Step(path, moved=name))
            continue
        is_as_loaded = not os.path.lexists(file) if stored is None else store.holds(path, stored)
        if not is_as_loaded:
            raise _edited(str(file))
        forward.append(Step(path, text=text))
        link, _ = read_link(file)
        if link and text is None:
            back.append(Step(path, target=link))
        else:
            back.append(Step(path, text=stored))
    if earlier.link != expected.link:
        if read_link(store.directory / ASSIGNED) != (expected.link, None):
            raise _edited(str(store.directory / ASSIGNED))
        forward.append(Step(ASSIGNED, target=earlier.link))
        back.append(Step(ASSIGNED, target=expected.link))
    after = earlier.over(expected, store.directory, reader)
    return Change(store, tuple(forward), tuple(back), after, Kept(tuple(kept_copies)))


def _edited(path: str) -> Refused:
    return Refused(
        f"{path!r} was edited since it was loaded",
        "load it first, with: ipsecctl reload; or move the edit away",
    )
