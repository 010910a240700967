"""What is kept of a list is damaged on disk: that list is affected, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.sources.checked import seal, unseal
from ipsecd.sources.list_files import FEED_FORM
from ipsecd.sources.list_journal import list_of
from ipsecd.sources.lists import ListStore
from tests.sources.test_lists import Held, filled, held, loaded, texts

FEED_ALONE, ADDED_ALONE = ["203.0.113.0/24"], ["203.0.113.99"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two lists are kept: ``mine``, and ``drop``, a feed to which an entry was added."""
    path = tmp_path_factory.mktemp("kept")
    filled(path)
    return path


def others(store: ListStore) -> Held:
    """All lists but the one that is damaged."""
    return {name: each for name, each in held(store).items() if name != "drop"}


def is_told(store: ListStore, path: Path) -> bool:
    """Whether what is wrong with the list that is damaged names the file."""
    return any(path.name in problem for problem in store.lists["drop"].problems)


@pytest.mark.parametrize("end", [".feed", ".entries"])
def test_a_file_that_is_cut_anywhere_affects_its_list_alone(kept: Path, end: str) -> None:
    """The other part of the list is in force; what is told names the file."""
    path, whole = kept / f"lib/lists/drop{end}", others(loaded(kept))
    content = path.read_bytes()
    try:
        for length in range(len(content)):
            path.write_bytes(content[:length])
            again = loaded(kept)
            left = [*(FEED_ALONE if end == ".entries" else ADDED_ALONE)]
            assert texts(again.lists["drop"].addresses) == left
            assert others(again) == whole
            # A journal with nothing in it, cut behind its header, is as good as any.
            assert is_told(again, path) != content[:length].endswith(b"1\n"), length
    finally:
        path.write_bytes(content)


@settings(max_examples=200, deadline=None)
@given(st.booleans(), st.data())
def test_any_bytes_in_a_feed_affect_its_list_alone(
    kept: Path, is_sealed: bool, data: st.DataObject
) -> None:
    """Bytes of the file that change, and other content with a checksum that is right."""
    path, whole = kept / "lib/lists/drop.feed", others(loaded(kept))
    good = path.read_bytes()
    content = unseal(FEED_FORM.kind, FEED_FORM.version, good) if is_sealed else good
    at = data.draw(st.integers(0, len(content)))
    removed = data.draw(st.integers(0, 20))
    inserted = data.draw(st.binary(max_size=20))
    changed = content[:at] + inserted + content[at + removed :]
    path.write_bytes(seal(FEED_FORM.kind, FEED_FORM.version, changed) if is_sealed else changed)
    try:
        again = loaded(kept)
        assert others(again) == whole
        assert set(ADDED_ALONE) == set(texts(list_of(again.lists["drop"].added)))
        if again.lists["drop"].feed is None:
            assert texts(again.lists["drop"].addresses) == ADDED_ALONE
            assert is_told(again, path)
        else:
            assert is_sealed or changed == good
    finally:
        path.write_bytes(good)


def test_a_list_of_nothing_but_a_damaged_feed_is_told(tmp_path: Path) -> None:
    """It cannot be filled, and the next feed that is made of it is whole again."""
    filled(tmp_path)
    (tmp_path / "lib/lists/drop.entries").unlink()
    path = tmp_path / "lib/lists/drop.feed"
    path.write_bytes(path.read_bytes()[:-1])
    again = loaded(tmp_path)
    assert any("drop.feed" in problem for problem in again.problems)
    assert list(again.lists) == ["mine"]
