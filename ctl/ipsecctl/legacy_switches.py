"""Owns the command line of ``ipseccmd`` and ``ipsecpol`` as typed; must not know what it does.

Switches come in any order and letter case. What asks for encryption, for a tunnel or for another
computer is refused by name, and never taken for something weaker. What switches a policy or a rule
off may have the filters and the action of the rule beside it, which count for nothing then.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipsecctl.failures import UsageError
from ipsecd.errors import InvalidInput, Refused
from ipsecd.language.filters import format_filter, join_arguments, parse_spec
from ipsecd.language.typography import looks_like_switch, refuse_typography
from ipsecd.quoting import quote, shorten

_ONE_VALUE = ("-w", "-p", "-r")
_VALUES = ("-f", "-n")
_ALONE = ("-x", "-y", "-o", "-u", "-lan", "-dialup", "-confirm")
_IKE = ("-t", "-a", "-soft", "-1s", "-1k", "-1p", "-1f", "-1e")
_COMPUTER = "\\"
_OFF = ("-y", "-o")
_NO_ENCRYPTION = "this system blocks and permits and does not encrypt"


@dataclass(frozen=True, slots=True)
class Switches:
    """What one command line said.

    ``filters`` are pairs of canonical text and action; there are none beside a switch that switches
    off. ``interval_min`` is the polling interval that stood behind the policy's name, in minutes.
    ``computer`` is what stood behind backslashes. ``had_filters`` says that there were filters.
    """

    filters: tuple[tuple[str, str], ...] = ()
    had_filters: bool = False
    static: bool = False
    computer: str = ""
    policy: str = ""
    interval_min: int | None = None
    rules: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()
    interface: str | None = None


def parse_switches(args: list[str]) -> Switches:
    """The command line `args`; raises ``UsageError``, ``Refused`` or ``InvalidInput``.

    A carriage return at its end is that of a line of a file that Windows wrote.
    """
    switches = _collect(without_carriage_return(args))
    if "-u" in switches and set(switches) - {"-u", _COMPUTER}:
        raise UsageError("-u stands alone", "it deletes every dynamic rule and does nothing else")
    if "-lan" in switches and "-dialup" in switches:
        raise UsageError("-lan and -dialup exclude each other", "leave both out for all links")
    idle = next(
        (s for s in ("-n", "-lan", "-dialup") if s in switches and "-f" not in switches), ""
    )
    if idle:
        raise UsageError(f"{idle} is about filters, and there are none", "filters follow -f")
    if "-w" in switches and switches["-w"][0].lower() != "reg":
        raise Refused(
            f"-w {quote(switches['-w'][0])} edits a directory, and policies are kept on this host",
            "use -w REG; a domain policy comes from its central place, not from this tool",
        )
    policy, interval_min = _policy(switches.get("-p", [""])[0])
    is_off = any(switch in switches for switch in _OFF)
    action = _action(switches["-n"]) if "-n" in switches and not is_off else ""
    texts = [] if is_off else join_arguments(switches.get("-f", []))
    return Switches(
        filters=tuple(_filter(text, action) for text in texts),
        had_filters="-f" in switches,
        static="-w" in switches,
        computer=switches.get(_COMPUTER, [""])[0],
        policy=policy,
        interval_min=interval_min,
        rules=tuple(switches.get("-r", [])),
        flags=frozenset(switch for switch in switches if switch in _ALONE),
        interface=next((s[1:] for s in ("-lan", "-dialup") if s in switches), None),
    )


def without_carriage_return(args: list[str]) -> list[str]:
    """The words of a line without the carriage return that its last one ends with."""
    if not args or not args[-1].endswith("\r"):
        return args
    last = args[-1].rstrip("\r")
    return [*args[:-1], *([last] if last else [])]


def _collect(args: list[str]) -> dict[str, list[str]]:
    """The values of every switch by its name; a repeated switch has all its values in order."""
    switches: dict[str, list[str]] = {}
    waiting = list(reversed(args))
    while waiting:
        arg = waiting.pop()
        switch = arg.lower()
        if arg.startswith("\\"):
            switches[_COMPUTER] = [arg.lstrip("\\")]
        elif switch in _IKE:
            raise Refused(
                f"{shorten(arg)} asks for IPsec tunnels, keys or key exchange: {_NO_ENCRYPTION}",
                "leave it out, and block or permit with -n BLOCK or -n PASS",
            )
        elif switch in _ALONE:
            switches[switch] = []
        elif switch in (*_ONE_VALUE, *_VALUES):
            if switch in switches and switch not in ("-f", "-r"):
                raise UsageError(f"{switch} is given twice")
            switches.setdefault(switch, []).extend(_values(arg, waiting, many=switch in _VALUES))
        elif arg == "-":
            raise UsageError("a blank follows '-'", "write switches without a blank, as in -f")
        elif arg.startswith("-"):
            raise UsageError(f"there is no switch {quote(arg)}", "-? shows those there are")
        else:
            refuse_typography(arg)
            raise UsageError(
                f"{quote(arg)} belongs to no switch",
                "filters follow -f; quote names that hold spaces",
            )
    return switches


def _values(switch: str, waiting: list[str], *, many: bool) -> list[str]:
    values: list[str] = []
    while waiting and not waiting[-1].startswith("-") and (many or not values):
        # Names may have such characters, and filters and actions may not.
        if many or looks_like_switch(waiting[-1]):
            refuse_typography(waiting[-1])
        values.append(waiting.pop())
    if not values:
        raise UsageError(f"{switch.lower()} needs a value", "-? shows how it is written")
    return values


def _policy(text: str) -> tuple[str, int | None]:
    """The name and the minutes of ``NAME[:MINUTES]``, which is split only before digits."""
    name, colon, minutes = text.rpartition(":")
    if name and colon and minutes.isascii() and minutes.isdecimal():
        return name, int(minutes)
    return text, None


def _action(texts: list[str]) -> str:
    for text in texts:
        word = text.upper()
        if word.startswith(("INPASS", "ESP", "AH")):
            raise Refused(
                f"-n {quote(text)} asks for IPsec protection: {_NO_ENCRYPTION}", "use BLOCK or PASS"
            )
    if len(texts) > 1:
        raise UsageError(f"{quote(texts[1])} belongs to no switch", "filters follow -f")
    actions = {"BLOCK": "block", "PASS": "permit", "PERMIT": "permit"}
    if texts[0].upper() not in actions:
        raise UsageError(f"-n {quote(texts[0])} is not an action", "use BLOCK or PASS")
    return actions[texts[0].upper()]


def _filter(text: str, action: str) -> tuple[str, str]:
    """The canonical text of one filter, and its action."""
    spec = parse_spec(text)
    bracketed = spec.action.value if spec.action else ""
    if bracketed and action and bracketed != action:
        raise Refused(
            f"the brackets of {quote(text)} say {bracketed} and -n says {action}",
            "leave one of them out",
        )
    if not bracketed and not action:
        raise InvalidInput(
            f"nothing says what to do with {quote(text)}",
            "add -n BLOCK or -n PASS, or write '[FILTER]' to block and '(FILTER)' to permit",
        )
    return format_filter(spec.filter), bracketed or action
