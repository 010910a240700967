"""Owns how the options of a verb are told from its arguments; must not know any verb.

By hand, because argparse alone would take as long to import as ``status`` takes in all.
"""

from __future__ import annotations

from ipsecctl.failures import UsageError
from ipsecd.quoting import quote

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Options:
    """What was given: flags by name, values by name in their order, and the rest in its order."""

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.values: dict[str, list[str]] = {}
        self.rest: list[str] = []

    def has(self, flag: str) -> bool:
        """Whether `flag` was given."""
        return flag in self.flags

    def value(self, name: str) -> str | None:
        """The value of option `name`, None when it was not given, the last one if repeated."""
        given = self.values.get(name)
        return given[-1] if given else None


def parse_options(
    args: list[str],
    flags: tuple[str, ...] = (),
    values: tuple[str, ...] = (),
    *,
    least: int = 0,
    most: int | None = 0,
) -> Options:
    """The options among `args`; raises ``UsageError`` for what is not one of them.

    ``--name VALUE`` and ``--name=VALUE`` are the same, ``--`` ends the options. The number of
    other arguments is between `least` and `most` (None: any number).
    """
    options = Options()
    waiting = list(reversed(args))
    while waiting:
        arg = waiting.pop()
        if arg == "--":
            options.rest += reversed(waiting)
            break
        if not arg.startswith("-") or arg == "-":
            options.rest.append(arg)
            continue
        name, given, value = arg.partition("=")
        if name in flags and not given:
            options.flags.add(name)
        elif name in values:
            if not given:
                if not waiting:
                    raise UsageError(f"option {name} needs a value")
                value = waiting.pop()
            options.values.setdefault(name, []).append(value)
        else:
            known = ", ".join((*flags, *values)) or "none"
            raise UsageError(f"there is no option {quote(arg)} here", f"the options are: {known}")
    if len(options.rest) < least:
        raise UsageError("an argument is missing")
    if most is not None and len(options.rest) > most:
        raise UsageError(f"{quote(options.rest[most])} is one argument too many")
    return options


def duration_s(text: str) -> float:
    """The seconds that `text` stands for: ``30s``, ``10m``, ``2h``, ``1d`` or plain seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNIT_S else (text, "s")
    if not (number.isascii() and number.isdecimal()) or int(number) == 0:
        raise UsageError(
            f"{quote(text)} is not a length of time", "write it as 30s, 10m, 2h, 1d, or in seconds"
        )
    return float(int(number) * _UNIT_S[unit])


def interface_of(options: Options) -> str | None:
    """The interface type that ``--lan`` or ``--dialup`` asks for."""
    if options.has("--lan") and options.has("--dialup"):
        raise UsageError("--lan and --dialup exclude each other", "leave both out for all")
    if options.has("--lan"):
        return "lan"
    return "dialup" if options.has("--dialup") else None
