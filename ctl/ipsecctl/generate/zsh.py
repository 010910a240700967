"""Owns the completion for zsh."""

from __future__ import annotations

from collections.abc import Iterable

from ipsecctl.generate.leaves import FILES, NAMES, READER, offered
from ipsecctl.grammar import Argument, Option, Verb
from ipsecctl.verbs import DIALECTS, VERBS

_HEAD = f"""\
#compdef ipsecctl
# zsh completion for ipsecctl(1); written by make generated

_ipsecctl_names() {{
	local -a names
	names=(${{(f)"$(ipsecctl show $1 --json 2>/dev/null | {READER})"}})
	compadd -a names
}}

"""
_BODY = """\
_ipsecctl() {
	local state
	local -a verbs
	verbs=(
{verbs}
	)
	_arguments -C '--socket[where the daemon listens]:path:_files' \\
		'1:command:->verb' '*::argument:->rest'
	case $state in
	verb) _describe command verbs ;;
	rest)
		case $words[1] in
{cases}
		esac
		;;
	esac
}

_ipsecctl "$@"
"""


def completion() -> str:
    """The whole file."""
    described = [(verb.name, verb.does) for verb in VERBS.values()]
    described += [(name, "as it was") for name in DIALECTS]
    described.append(("help", "what there is, or how one command is written"))
    cases = []
    functions = []
    for verb in VERBS.values():
        if verb.actions:
            functions.append(_function(verb))
            cases.append(f"\t\t{verb.name}) _ipsecctl_{verb.name} ;;")
        else:
            cases.append(f"\t\t{verb.name}) {_arguments(verb)} ;;")
    body = _BODY.replace("{verbs}", _described(described)).replace("{cases}", "\n".join(cases))
    return "".join([_HEAD, *functions, body])


def _function(verb: Verb) -> str:
    """What completes a verb that has actions."""
    default = verb.actions.get(verb.default)
    options = " ".join(_option(option) for option in default.options) if default else ""
    lines = [
        f"_ipsecctl_{verb.name}() {{",
        "\tlocal state",
        "\tlocal -a actions",
        "\tactions=(",
        _described((action.name, action.does) for action in verb.actions.values()),
        "\t)",
        f"\t_arguments -C {options} '1:what:->action' '*::argument:->rest'".replace("  ", " "),
        "\tcase $state in",
        "\taction) _describe what actions ;;",
        "\trest)",
        "\t\tcase $words[1] in",
        *(f"\t\t{action.name}) {_arguments(action)} ;;" for action in verb.actions.values()),
        "\t\tesac",
        "\t\t;;",
        "\tesac",
        "}",
    ]
    return "\n".join([*lines, "", ""])


def _described(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"\t\t{_quoted(f'{name}:{text}')}" for name, text in pairs)


def _arguments(verb: Verb) -> str:
    words = [_option(option) for option in verb.options]
    for number, argument in enumerate(verb.arguments, 1):
        repeats = argument.most != 1 or argument.joined
        place = "*" if repeats else str(number)
        words.append(_quoted(f"{place}:{_plain(argument.name)}:{_offers(argument)}"))
    return f"_arguments {' '.join(words)}"


def _option(option: Option) -> str:
    repeats = "*" if option.repeats else ""
    text = f"{repeats}{option.name}[{_bracketed(option.explanation)}]"
    if option.value:
        text += f":{_plain(option.value)}:{_offers(option)}"
    return _quoted(text)


def _offers(thing: Argument | Option) -> str:
    if thing.offers in NAMES:
        return f"{{_ipsecctl_names {thing.offers}}}"
    if thing.offers in FILES:
        return '_files -g "*.(yaml|yml)"' if thing.offers == "documents" else "_files"
    words = offered(thing)
    # Unlike (words), these may go on: container:NAME, udp/1434.
    return f'{{compadd -S "" {" ".join(words)}}}' if words else ""


def _plain(text: str) -> str:
    return text.replace(":", "\\:")


def _bracketed(text: str) -> str:
    return text.replace("[", "\\[").replace("]", "\\]")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
