"""Owns what a verb, an argument and an option are; must not know any of them.

Plain classes, because the module of dataclasses takes longer to import than ``status`` runs.
"""

from __future__ import annotations


class Argument:
    """One thing that is named after a verb.

    It is given `least` to `most` times (None: any number); with `joined` its words are one text.
    `offers` is what a shell completes it with: words, or one of ``policies``, ``dynamic``,
    ``lists`` (names that the daemon knows), ``documents`` and ``files``.
    """

    __slots__ = ("explanation", "joined", "least", "most", "name", "offers")

    def __init__(
        self,
        name: str,
        explanation: str,
        *,
        least: int = 1,
        most: int | None = 1,
        joined: bool = False,
        offers: str | tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.explanation = explanation
        self.least = least
        self.most = most
        self.joined = joined
        self.offers = offers


class Option:
    """One option of a verb: a flag, or with `value` something that takes a value.

    With `choices` the value is one of them. `instead` names the option or argument in whose place
    this one stands, `within` the option that it belongs to. `offers` is as for arguments. `also`
    are the options that people try who come from elsewhere.
    """

    __slots__ = (
        *("also", "choices", "explanation", "instead", "name", "offers"),
        *("repeats", "required", "short", "value", "within"),
    )

    def __init__(
        self,
        name: str,
        explanation: str,
        value: str = "",
        *,
        short: str = "",
        choices: tuple[str, ...] = (),
        required: bool = False,
        repeats: bool = False,
        instead: str = "",
        within: str = "",
        offers: str | tuple[str, ...] = (),
        also: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.explanation = explanation
        self.also = also
        self.value = value or "|".join(choices)
        self.short = short
        self.choices = choices
        self.required = required
        self.repeats = repeats
        self.instead = instead
        self.within = within
        self.offers = offers or choices

    @property
    def written(self) -> str:
        """The option as one writes it, with the name of its value."""
        return f"{self.name} {self.value}" if self.value else self.name


class Verb:
    """One verb, or one action of a verb, with all that can stand after it.

    `handler` is ``module:function``, imported when it runs. A verb has a handler or `actions`; the
    action `default` is the one that is meant when none is named. `also` are the words that people
    try who come from elsewhere. What ``changes`` something takes the options of all changes.
    """

    __slots__ = (
        *("actions", "also", "arguments", "changes", "default", "does", "example", "handler"),
        *("name", "options", "path"),
    )

    def __init__(
        self,
        name: str,
        does: str,
        handler: str = "",
        arguments: tuple[Argument, ...] = (),
        options: tuple[Option, ...] = (),
        *,
        example: str,
        actions: tuple[Verb, ...] = (),
        default: str = "",
        also: tuple[str, ...] = (),
        changes: bool = False,
    ) -> None:
        self.name = name
        self.changes = changes
        self.path = f"ipsecctl {name}"
        self.does = does
        self.handler = handler
        self.arguments = arguments
        of_all = (*(OF_CHANGES if changes else ()), JSON)
        self.options = options if actions else (*options, *of_all)
        self.example = example
        self.actions = {action.name: action for action in actions}
        self.default = default
        self.also = also
        for action in actions:
            action.path = f"{self.path} {action.name}"


CONFIRM = Option(
    "--confirm",
    "put all back as it was after TIME, unless 'ipsecctl confirm' is run from another login",
    "TIME",
    offers=("60s", "5m"),
)
FORCE = Option("--force", "even if it would cut the connection that it is made through")
MESSAGE = Option("--message", "what it is for, for the history", "TEXT")
OF_CHANGES = (CONFIRM, FORCE, MESSAGE)
"""The options of every verb that changes something."""
DOCUMENT = Argument("FILE", "a policy document; - is standard input", offers="documents")
DRY_RUN = Option("--dry-run", "only say what would change")
TIME = Option(
    "--for",
    "end it after TIME: 90s, 10m, 1h30m, 2d, 1w, or seconds; or at a moment: 2026-12-01T12:00Z",
    "TIME",
    offers=("10m", "1h", "1d"),
    also=("--time", "--timeout", "--ttl", "--duration", "--expire", "--expires", "--until"),
)
JSON = Option("--json", "answer as JSON")
"""The option that every verb takes."""
