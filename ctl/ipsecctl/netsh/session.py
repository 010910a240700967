"""Owns one run of netsh commands: where they stand, what they said, and how each is found.

Commands change a workspace in memory, by way of drafts; ``settle`` hands these over. Must not know
what a command does: its handler is a name in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ipsecctl.client import Client
from ipsecctl.netsh.drafts import Drafts
from ipsecctl.netsh.failing import (
    AsWanted,
    NotDoneHere,
    NotUnderstood,
    error_line,
    hint_lines,
    is_tolerated,
)
from ipsecctl.netsh.filters import FindServers
from ipsecctl.netsh.places import Places
from ipsecctl.netsh.servers import servers_of_this_host
from ipsecctl.netsh.table import BY_CONTEXT
from ipsecctl.netsh.words import Command, Given, given_to, one_of
from ipsecctl.workspace.workspace import Workspace
from ipsecd.errors import IpsecdError
from ipsecd.quoting import count, quote, visible

OTHER_FIREWALLS = ("advfirewall", "firewall")
_INNER = {(): ("ipsec", *OTHER_FIREWALLS), ("ipsec",): tuple(BY_CONTEXT)}
_HELP = frozenset({"?", "help", "/?", "-?"})
_ENDS = frozenset({"exit", "bye", "quit"})
DONE, FAILED = 0, 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What a line comes to: exit code, lines for standard output, and those for standard error.

    Unless it is ``understood``, a file with the line is not carried out at all. After one that
    ``ends``, no line of the file is read. It ``lacks`` a rule that was not added, or is
    ``unassigned`` if it was to assign a policy that is not, because of what is there or is not.
    """

    code: int = DONE
    lines: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    understood: bool = True
    ends: bool = False
    lacks: bool = False
    unassigned: bool = False

    def with_hints(self, *hints: str) -> Answer:
        """The same with more lines for standard error."""
        return replace(self, hints=(*self.hints, *hints))


class Session:
    """One run; see the module. ``client`` is for what the workspace does not have."""

    def __init__(
        self,
        workspace: Workspace,
        client: Client,
        find: FindServers = servers_of_this_host,
        drafts: Drafts | None = None,
    ) -> None:
        """`drafts` are given if others work on them too."""
        self.workspace = workspace
        self.client = client
        self.find = find
        self.drafts = drafts or Drafts(workspace, find)
        self.context: tuple[str, ...] = ()
        self.contexts: list[tuple[str, ...]] = []
        """Where ``popd`` goes back to."""
        self.dynamic_places: Places | None = None
        """The dynamic rules by what they are about, once somebody looks for some."""
        self.afterwards: list[Callable[[], None]] = []
        """What is to be done once everything is in force."""
        self._said: list[str] = []
        self._notes: dict[str, None] = {}
        self._noted: set[str] = set()
        self._called: tuple[Command, Given] | None = None
        """The command that is carried out, and what it was given, once that is understood."""

    def say(self, *lines: str) -> None:
        """Have lines on standard output."""
        self._said.extend(lines)

    def note(self, text: str) -> None:
        """Have a sentence on standard error, once in all of the run."""
        if text not in self._noted:
            self._noted.add(text)
            self._notes[text] = None

    def settle(self) -> None:
        """Have everything in the workspace, for who looks there."""
        self.drafts.settle()

    def closing_notes(self) -> list[str]:
        """What is to be said of what is assigned in the end, if one of the commands assigned it."""
        name = self.workspace.assigned
        if name is None or not self.drafts.assigned_here:
            return []
        policy = self.workspace.policy(name)
        if any(rule.filters for rule in policy.rules):
            return []
        what = "filter" if policy.rules else "rule"
        return [f"policy {quote(name)} is assigned and has no {what}: it blocks nothing"]

    def carry_out(self, words: Sequence[str], place: str = "") -> Answer:
        """Carry out one line; `place` says where it stands, for errors."""
        self._said, self._notes, self._called = [], {}, None
        try:
            ends = self._run([*words])
        except IpsecdError as error:
            hints = [*self._notes, *hint_lines(error)]
            return Answer(
                FAILED,
                (error_line(error, place),),
                tuple(visible(place + hint) for hint in hints),
                understood=is_tolerated(error),
                lacks=self._is_called("add rule") and not isinstance(error, AsWanted),
                unassigned=self._assigns_in_vain(),
            )
        return Answer(DONE, tuple(self._said), tuple(self._notes), ends=ends)

    def _is_called(self, words: str) -> bool:
        return self._called is not None and self._called[0].words == words

    def _assigns_in_vain(self) -> bool:
        """Whether a policy was to be assigned that is not."""
        if self._called is None:
            return False
        given = self._called[1]
        return given.says("assign", "no") and self.drafts.assigned != given["name"]

    def _run(self, words: list[str]) -> bool:
        """Carry out `words`; whether they end the file."""
        if not words:
            return False
        first = words[0].lower()
        if first in _ENDS:
            return True
        if first == "pushd":
            self.contexts.append(self.context)
            words = words[1:]
        elif first == "popd":
            self.context = self.contexts.pop() if self.contexts else ()
            return False
        elif first == "..":
            self.context = self.context[:-1]
            return False
        if words:
            self._find(words)
        return False

    def _find(self, words: list[str]) -> None:
        """Find the context and the command that `words` name, from where this stands upwards."""
        base = self.context
        while base and not self._fits(base, words[0]):
            base = base[:-1]
        at = 0
        while at < len(words) and base in _INNER:
            if words[at].lower() in _HELP:
                self.say(f"contexts: {', '.join(_INNER[base])}")
                return
            inner = one_of(words[at], _INNER[base])
            if inner is None:
                raise NotDoneHere(
                    f"netsh {quote(words[at])} is not done here",
                    f"there are: {', '.join(_INNER[base])}",
                )
            if inner in OTHER_FIREWALLS:
                from ipsecctl.netsh.advfirewall import refusal

                raise refusal(inner, words[at + 1 :])
            base, at = (*base, inner), at + 1
        if at == len(words):
            self.context = base
        else:
            self._call(base[-1], words[at:])

    def leave_context(self) -> Answer:
        """Go back to the outermost context, and say what there is in the one that this was in."""
        context, self.context, self.contexts = self.context, (), []
        if context in _INNER:
            return Answer(DONE, (f"contexts: {', '.join(_INNER[context])}",))
        return Answer(DONE, tuple(each.synopsis for each in BY_CONTEXT[context[-1]].values()))

    @staticmethod
    def _fits(base: tuple[str, ...], word: str) -> bool:
        names: Iterable[str] = _INNER.get(base) or _verbs(base[-1])
        return one_of(word, tuple(names)) is not None or word.lower() in _HELP

    def _call(self, context: str, words: list[str]) -> None:
        commands = BY_CONTEXT[context]
        command, values = _command(context, words)
        if command is None:
            self.say(*(each.synopsis for each in commands.values() if _begins(each, values)))
            return
        if any(word in _HELP for word in values[:1]) and values[0] != "help":
            self.say(command.synopsis)
            return
        given = given_to(command, values)
        self._called = command, given
        for tag in sorted(command.idle & given.keys()):
            self.note(f"{tag}= has no effect here: nothing is encrypted")
        module, _, function = command.handler.partition(":")
        handlers = __import__(f"ipsecctl.netsh.{module}", fromlist=[function])
        if context == "static":
            self.drafts.begin()
        getattr(handlers, function)(self, given)


def _verbs(context: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words.partition(" ")[0] for words in BY_CONTEXT[context]))


def _command(context: str, words: list[str]) -> tuple[Command | None, list[str]]:
    """The command that `words` begin with, and the words after its name.

    None if help is asked for, with the verb if there is one.
    """
    commands = BY_CONTEXT[context]
    if words[0].lower() in _HELP:
        return None, []
    verb = one_of(words[0], _verbs(context))
    if verb is None:
        raise NotUnderstood(
            f"{quote(words[0])} is no command of netsh ipsec {context}",
            f"there are: {', '.join(_verbs(context))}",
        )
    if verb in commands:
        return commands[verb], words[1:]
    objects = [name.partition(" ")[2] for name in commands if name.partition(" ")[0] == verb]
    if len(words) > 1 and words[1].lower() in _HELP:
        return None, [verb]
    noun = one_of(words[1], objects) if len(words) > 1 else None
    if noun is None:
        what = f"{quote(words[1])} is nothing to" if len(words) > 1 else "nothing is said to"
        raise NotUnderstood(f"{what} {verb}", f"{verb} goes with: {', '.join(objects)}")
    return commands[f"{verb} {noun}"], words[2:]


def _begins(command: Command, verb: list[str]) -> bool:
    return not verb or command.words.partition(" ")[0] == verb[0]


def told_together(hints: Sequence[str], most: int = 20) -> list[str]:
    """The first of `hints`, each once, and how many more there are."""
    each = list(dict.fromkeys(hints))
    more = len(each) - most
    return [*each[:most], f"and {count(more, 'more note')}"] if more > 0 else each
