"""Owns the completion for fish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ipsecctl.generate.leaves import FILES, NAMES, READER, leaves, offered
from ipsecctl.grammar import Argument, Option
from ipsecctl.verbs import DIALECTS, VERBS

_HEAD = f"""\
# fish completion for ipsecctl(1); written by make generated

function __ipsecctl_names
    ipsecctl show $argv[1] --json 2>/dev/null | {READER}
end

complete -c ipsecctl -f
complete -c ipsecctl -l socket -r -F -d 'where the daemon listens'
"""


def completion() -> str:
    """The whole file."""
    return "\n".join([_HEAD, *_verbs(), "", *_actions(), "", *_leaves(), ""])


def _verbs() -> Iterator[str]:
    texts = {verb.name: verb.does for verb in VERBS.values()} | dict.fromkeys(DIALECTS, "as it was")
    texts["help"] = "what there is, or how one command is written"
    for name, text in texts.items():
        yield _line("__fish_use_subcommand", f"-a {name}", text)


def _actions() -> Iterator[str]:
    for verb in VERBS.values():
        if not verb.actions:
            continue
        condition = f"__fish_seen_subcommand_from {verb.name}"
        first = f"{condition}; and not __fish_seen_subcommand_from {' '.join(verb.actions)}"
        for action in verb.actions.values():
            yield _line(first, f"-a {action.name}", action.does)
        default = verb.actions.get(verb.default)
        for option in default.options if default else ():
            yield _line(first, _option(option), option.explanation)


def _leaves() -> Iterator[str]:
    for word, action, verb in leaves():
        condition = f"__fish_seen_subcommand_from {word}"
        if action:
            condition += f"; and __fish_seen_subcommand_from {action}"
        else:
            # A word of that name may be an action of another verb: policy show, and show policy.
            others = [v.name for v in VERBS.values() if word in v.actions]
            condition += "".join(f"; and not __fish_seen_subcommand_from {name}" for name in others)
        for argument in verb.arguments:
            if argument.offers:
                yield _line(condition, _offers(argument))
        for option in verb.options:
            yield _line(condition, _option(option), option.explanation)


def _option(option: Option) -> str:
    text = f"-l {option.name.removeprefix('--')}"
    if option.short:
        text += f" -s {option.short.removeprefix('-')}"
    if not option.value:
        return text
    if option.offers in FILES:
        return f"{text} -r -F"
    return f"{text} -x {_offers(option)}" if option.offers else f"{text} -x"


def _offers(thing: Argument | Option) -> str:
    if thing.offers in NAMES:
        return f"-a '(__ipsecctl_names {thing.offers})'"
    if thing.offers in FILES:
        return "-F"
    return f"-a {_quoted(offered(thing))}"


def _line(condition: str, what: str, explanation: str = "") -> str:
    text = f"complete -c ipsecctl -n '{condition}' {what}"
    return f"{text} -d {_quoted([explanation])}" if explanation else text


def _quoted(words: Iterable[str]) -> str:
    return "'" + " ".join(words).replace("'", "\\'") + "'"
