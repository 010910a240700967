"""Owns how the words of a command are taken for tags and values; must not know any command.

1. Blanks may stand on either side of ``=``.
2. A tag may be cut to a beginning; of several that fit, it is the first that has no value yet.
3. A word without a tag is the value of the first tag that has none yet.
4. Nothing is guessed: a tag that does not exist fails, and the hint names the one that was meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from ipsecctl.netsh.failing import NotDoneHere, NotUnderstood
from ipsecd.quoting import quote

Choices = tuple[str, ...]
YES_OR_NO: Choices = ("yes", "no")
_PASSED_OVER = frozenset({"id", "guid"})
"""Tags that no word without a tag is the value of."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its tags in the order in which words without a tag fill them.

    ``choices`` are the words that a tag can have as its value, ``refused`` says of tags why they
    are not done here, and ``idle`` are those that are taken and have no effect here.
    """

    words: str
    handler: str
    tags: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    choices: Mapping[str, Choices] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()

    @property
    def synopsis(self) -> str:
        """How the command is written."""
        tags = (f"{tag}=…" if tag in self.required else f"[{tag}=…]" for tag in self.tags)
        return " ".join((self.words, *tags))


class Given(dict[str, str]):
    """The values by tag; ``bare`` are the tags whose value stood without the tag."""

    def __init__(self) -> None:
        super().__init__()
        self.bare: set[str] = set()

    def says(self, tag: str, default: str) -> bool:
        """Whether a tag that is yes or no is yes; `default` is what it is if it is not given."""
        return self.get(tag, default) == "yes"

    def is_all(self, tag: str) -> bool:
        """Whether the value is the word ``all``, without the tag."""
        return tag in self.bare and self.get(tag, "").lower() == "all"


def one_of(word: str, candidates: Sequence[str]) -> str | None:
    """The candidate that `word` names, whole or by a beginning that no other has; None if none."""
    low = word.lower()
    if low in candidates:
        return low
    fitting = [each for each in candidates if each.startswith(low)]
    return fitting[0] if low and len(fitting) == 1 else None


def given_to(command: Command, words: Sequence[str]) -> Given:
    """What `words` give to the tags of `command`; raises ``NotUnderstood`` or ``NotDoneHere``."""
    given = Given()
    for tag, value in _pairs(command, words):
        if tag is None:
            name = _next_tag(command, given, value)
            given.bare.add(name)
        else:
            name = _tag(command, tag, given)
            if not value and name != "description":
                raise NotUnderstood(f"{name}= has no value", f"leave it out: {command.synopsis}")
        if name in command.refused:
            raise NotDoneHere(f"{name}= {command.refused[name]}", "leave it out")
        given[name] = _chosen(command, name, value)
    for name in command.required:
        if name not in given:
            raise NotUnderstood(f"{name}= is missing", f"write: {command.synopsis}")
    return given


def _pairs(command: Command, words: Sequence[str]) -> list[tuple[str | None, str]]:
    """Tag (None if there is none) and value of each, with the blanks around ``=`` taken out."""
    joined: list[str] = []
    waits = False
    for word in words:
        if waits and not _begins_with_tag(command, word):
            joined[-1] += word
            waits = joined[-1].endswith("=") and word == "="
        elif word.startswith("=") and joined and "=" not in joined[-1]:
            joined[-1] += word
            waits = word == "="
        else:
            joined.append(word)
            waits = word.endswith("=") and word.index("=") == len(word) - 1
    pairs: list[tuple[str | None, str]] = []
    for word in joined:
        tag, sign, value = word.partition("=")
        pairs.append((tag.strip(), value.strip()) if sign else (None, word))
    return pairs


def _begins_with_tag(command: Command, word: str) -> bool:
    """Whether `word` is rather the next tag than the value of the one before."""
    tag, sign, _ = word.partition("=")
    return bool(sign and tag) and any(each.startswith(tag.lower()) for each in command.tags)


def _tag(command: Command, word: str, given: Given) -> str:
    low = word.lower()
    if low in command.tags:
        if low in given:
            raise NotUnderstood(f"{low}= is given twice", f"write: {command.synopsis}")
        return low
    fitting = [tag for tag in command.tags if low and tag.startswith(low)]
    free = next((tag for tag in fitting if tag not in given), None)
    if free:
        return free
    if fitting:
        raise NotUnderstood(f"{fitting[0]}= is given twice", f"write: {command.synopsis}")
    close = get_close_matches(low, command.tags, 1, 0.5)
    hint = f"did you mean {close[0]}=? " if close else ""
    raise NotUnderstood(
        f"{quote(command.words)} has no {quote(word)}=", f"{hint}write: {command.synopsis}"
    )


def _next_tag(command: Command, given: Given, word: str) -> str:
    for tag in command.tags:
        if tag not in given and tag not in _PASSED_OVER:
            return tag
    raise NotUnderstood(
        f"{quote(word)} is one word too many",
        f"put quotation marks around what has blanks, and write: {command.synopsis}",
    )


def _chosen(command: Command, tag: str, value: str) -> str:
    """`value`, or the choice of the tag that it names."""
    choices = command.choices.get(tag)
    if choices is None:
        return value
    choice = one_of(value, choices)
    if choice is None:
        raise NotUnderstood(
            f"{tag}={quote(value)} is not {' or '.join(choices)}", f"write {tag}={choices[0]}"
        )
    return choice
