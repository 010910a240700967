"""Which tables lie in which image, over changes of a policy; and what the kernel has of that."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import itemgetter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.images import Image, group_key, next_image, place_tables
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.merge import merged
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from tests.netns.site import needs_isolation

RULE = Origin("static", "P", "R")
LONG = [f"10.0.{n >> 8}.{n & 255}=0:80:TCP" for n in range(2000)]


def policy(filters: Sequence[str]) -> Classifier:
    return compile_filters(InForce(RULE, parse_filter(text), Action.BLOCK) for text in filters)


def after(image: Image, classifier: Classifier) -> Image:
    """The image that a state of `classifier` is made with, each table being a group of its own."""
    successor = next_image(image, classifier)
    for table in classifier.tables:
        place_tables(successor, (table,), {RULE: 0})
    return successor


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=5, unique_by=itemgetter(0)
        ),
        max_size=8,
    )
)
@example([[(form, 9) for form in range(count)] for count in range(1, 6)])
def test_no_image_in_use_is_written_and_there_is_always_a_slot(
    states: list[list[tuple[int, int]]],
) -> None:
    """Tables of six forms and many lengths, of which any change at once."""
    image = Image(0)
    lines: dict[int, list[bytes]] = {}
    for state in states:
        filters = [
            f"10.{number}.{size}.{n}=0:{20000 + number}-{20001 + number}:UDP"
            for number, size in state
            for n in range(size)
        ]
        classifier = policy(filters)
        in_use = image.slots
        image = after(image, classifier)
        assert image.slot not in in_use or not image.is_needed
        assert len(image.slots) < abi.IMAGES
        if image.is_needed:
            lines[image.slot] = image.chunks
        assert {group_key((table,)) for table in classifier.tables} == image.locations.keys()
        for placed in image.locations.values():
            assert (
                sum(len(part) for part in lines[placed.slot]) == image.sizes[placed.slot] * abi.LINE
            )


def test_a_table_that_stays_lies_where_it_was() -> None:
    """However often another one changes."""
    image = after(Image(0), policy(LONG))
    (first,) = image.locations.values()
    for number in range(9):
        classifier = merged(policy(LONG), policy([f"172.17.0.{number}=0:80:TCP"]))
        image = after(image, classifier)
        assert first in image.locations.values()
        assert 1 < image.lines < 4
        assert len(image.locations) == 2


def test_what_is_mostly_unused_is_given_up() -> None:
    """The little that is left of it moves, so that its memory can be freed."""
    image = after(Image(0), policy([*LONG, "10.0.0.0/8=0"]))
    (slot,) = image.slots
    image = after(image, policy(["10.0.0.0/8=0", "11.0.0.0/8=0:80:TCP"]))
    assert slot not in image.slots


@pytest.mark.netns
def test_news_of_a_container_make_one_small_map() -> None:
    """The long list stays in the map that it is in, and of the others one is left."""
    needs_isolation()
    programs = Programs()

    def maps() -> dict[int, int]:
        """The numbers of the images in the kernel, and how many lines they have."""
        sizes = {}
        for slot in range(abi.IMAGES):
            value = libbpf.look_up(programs.maps["images"], struct.pack("=I", slot), 4)
            if value:
                (number,) = struct.unpack("=I", value)
                sizes[number] = libbpf.map_info(libbpf.map_by_id(number)).max_entries
        return sizes

    programs.apply(policy(LONG), Volatile())
    (long,) = maps()
    earlier = set()
    for number in range(6):
        classifier = merged(policy(LONG), policy([f"172.17.0.{number}=0:80:TCP"]))
        programs.apply(classifier, Volatile())
        assert programs.digest() == classifier.digest
        assert not programs.drift()
        (small,) = maps().keys() - {long}
        assert maps()[small] < 4
        assert small not in earlier
        earlier.add(small)
    programs.apply(policy([]), Volatile())
    assert not maps()
    programs.close()


def test_more_images_than_may_stay_are_put_together_once() -> None:
    """A table that changes does not have others moved again and again."""
    forms = [
        [f"10.{n}.{size}.1=0:{20000 + n}-{20001 + n}:UDP" for size in range(40 + n)]
        for n in range(18)
    ]
    image = Image(0)
    for count in range(1, len(forms) + 1):
        image = after(image, policy([text for form in forms[:count] for text in form]))
    everything = [text for form in forms for text in form]
    moved = []
    for number in range(6):
        image = after(image, policy([*everything, f"172.17.0.{number}=0:80:TCP"]))
        moved.append(len(image.own_locations))
        assert len(image.slots) < abi.IMAGES
    assert moved[-5:] == [1] * 5
