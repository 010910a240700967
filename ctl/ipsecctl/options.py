"""Owns how the words after a verb are read, by the verb's record; must not know any verb.

It does without argparse, whose import alone would take as long as all of ``status``.
"""

from __future__ import annotations

from ipsecctl.failures import UsageError
from ipsecd.quoting import quote

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from ipsecctl.grammar import Option, Verb
    from ipsecd.model.addresses import Family

STATE = "state"
"""The action that is meant where ``@N`` stands in the place of one."""


class Options:
    """What a command line says after its verb.

    Flags by name; values by the name of their option, in their order; arguments in their order.
    ``verb`` is the verb, or the action of a verb, that they follow.
    """

    def __init__(self, verb: Verb) -> None:
        self.verb = verb
        self.flags: set[str] = set()
        self.values: dict[str, list[str]] = {}
        self.arguments: list[str] = []

    def has(self, name: str) -> bool:
        """Whether option `name` was given, with a value or without."""
        return name in self.flags or name in self.values

    def value(self, name: str) -> str | None:
        """The value of option `name`: None if it was not given, the last one if it was repeated."""
        values = self.values.get(name)
        return values[-1] if values else None

    def argument(self) -> str:
        """The only argument; if its text was typed as several words, they are joined."""
        return " ".join(self.arguments)


def find_action(verb: Verb, args: list[str]) -> tuple[Verb, list[str]]:
    """The action of `verb` that `args` name, and the arguments without its name.

    Options may stand before it. Raises ``UsageError`` where there is none.
    """
    if not verb.actions:
        return verb, args
    every = {o.name: o for action in verb.actions.values() for o in action.options}
    at = 0
    while at < len(args) and args[at].startswith("-"):
        name, equals, _ = args[at].partition("=")
        at += 2 if name in every and every[name].value and not equals else 1
    if at >= len(args):
        if verb.default:
            return verb.actions[verb.default], args
        raise UsageError(
            f"{verb.name!r} needs to know what to do", f"one of: {', '.join(verb.actions)}"
        )
    if args[at].startswith("@") and STATE in verb.actions:
        return verb.actions[STATE], args
    if args[at] not in verb.actions:
        from ipsecctl.usage import meant

        actions = ", ".join(verb.actions)
        raise UsageError(
            f"{verb.name!r} has no {quote(args[at])}",
            meant(args[at], verb.actions.values(), f"{verb.path} ") + f"one of: {actions}",
        )
    return verb.actions[args[at]], [*args[:at], *args[at + 1 :]]


def parse_options(verb: Verb, args: list[str]) -> Options:
    """The options and arguments in `args`; raises ``UsageError`` if `verb` does not take them.

    ``--name VALUE`` and ``--name=VALUE`` are the same, ``--`` ends the options.
    """
    options = Options(verb)
    by_name = {option.name: option for option in verb.options}
    by_name |= {option.short: option for option in verb.options if option.short}
    waiting = list(reversed(args))
    while waiting:
        arg = waiting.pop()
        if arg == "--":
            options.arguments += reversed(waiting)
            break
        if not arg.startswith("-") or arg == "-":
            options.arguments.append(arg)
            continue
        name, equals, value = arg.partition("=")
        option = by_name.get(name)
        if option is None:
            raise _unknown(verb, arg)
        if not option.value:
            if equals:
                raise UsageError(f"option {name} takes no value", f"write {name}")
            options.flags.add(option.name)
            continue
        if not equals:
            if not waiting:
                raise UsageError(f"option {name} needs a value", f"write {option.written}")
            value = waiting.pop()
        options.values.setdefault(option.name, []).append(_checked(option, value))
    _check_number(options)
    _check_together(options)
    return options


def _unknown(verb: Verb, arg: str) -> UsageError:
    from ipsecctl.usage import meant

    names = ", ".join(option.name for option in verb.options)
    hint = meant(arg.partition("=")[0], verb.options) + f"the options are: {names}"
    return UsageError(f"there is no option {quote(arg)} here", hint)


def _checked(option: Option, value: str) -> str:
    """`value` if `option` takes it; if that has choices, in lower case."""
    if not option.choices:
        return value
    if value.lower() not in option.choices:
        from ipsecd.language.actions import word_for

        meant = word_for(value)
        hint = f"{option.name} {meant}" if meant in option.choices else option.written
        raise UsageError(f"{quote(value)} is nothing that {option.name} takes", f"write {hint}")
    return value.lower()


def _check_number(options: Options) -> None:
    """Raise ``UsageError`` if there are too few arguments, or too many."""
    number = len(options.arguments)
    for argument in options.verb.arguments:
        if number < argument.least:
            raise UsageError(f"{argument.name} is missing")
        number = 0 if argument.most is None or argument.joined else max(0, number - argument.most)
    if number:
        raise UsageError(f"{quote(options.arguments[-number])} is one argument too many")


def _check_together(options: Options) -> None:
    """Raise ``UsageError`` if options exclude each other, or one that is needed is missing."""
    verb = options.verb
    optional = {argument.name for argument in verb.arguments if not argument.least}
    for option in verb.options:
        present = options.has(option.name)
        if option.instead in optional and present == bool(options.arguments):
            raise UsageError(f"give {option.instead} or {option.name}, and not both")
        if present and options.has(option.instead):
            raise UsageError(
                f"{option.instead} and {option.name} exclude each other", "leave one of them out"
            )
        if present and option.within and not options.has(option.within):
            raise UsageError(f"{option.name} goes with {option.within}")
        needed = option.required and (not option.within or options.has(option.within))
        if needed and not present:
            first = option.within or f"'{verb.path.removeprefix('ipsecctl ')}'"
            raise UsageError(f"{first} needs {option.written}")


def conditions_of(options: Options) -> dict[str, str | None]:
    """What ``--lan``, ``--dialup``, ``--interface`` and ``--opening`` ask, as parameters of a rule.

    A daemon that is older knows no member ``when``, so that is there only if it says something.
    """
    interface = options.value("--interface")
    if options.has("--dialup"):
        if interface is not None:
            raise UsageError("--dialup and --interface exclude each other", "leave one of them out")
        interface = "dialup"
    elif options.has("--lan"):
        interface = "lan"
    return {"interface": interface, **({"when": "opening"} if options.has("--opening") else {})}


def dry_run_of(options: Options) -> dict[str, bool]:
    """What ``--dry-run`` asks, as a parameter; a daemon that is older does not know it."""
    return {"dry_run": True} if options.has("--dry-run") else {}


def own_addresses_of(options: Options) -> frozenset[tuple[Family, int]]:
    """The addresses of a host that ``--me`` gives, with their IP versions."""
    from ipsecd.language.addresses import parse_address
    from ipsecd.model.addresses import Network

    own = set()
    for text in options.values.get("--me", []):
        address = parse_address(f"[{text}]" if ":" in text and "[" not in text else text)
        if not isinstance(address, Network):
            raise UsageError(
                f"--me {quote(text)} is not an IP address", "write one, as --me 192.0.2.1"
            )
        own.add((address.family, address.address))
    return frozenset(own)


def labels_of(options: Options) -> tuple[tuple[str, str], ...] | None:
    """The labels that ``--label NAME=VALUE`` gives; None where there is none."""
    if not options.has("--label"):
        return None
    given = [text.partition("=") for text in options.values["--label"]]
    for name, sign, _ in given:
        if not sign:
            raise UsageError(f"{quote(name)} is no label", "write --label NAME=VALUE")
    return tuple(sorted({name: value for name, _, value in given}.items()))
