"""Owns the completion for bash."""

from __future__ import annotations

from collections.abc import Iterable

from ipsecctl.generate.leaves import FILES, NAMES, READER, WORDS, leaves, offered
from ipsecctl.grammar import Argument, Option, Verb
from ipsecctl.verbs import VERBS

_HEAD = f"""\
# bash completion for ipsecctl(1); written by make generated

_ipsecctl_names() {{
	# A daemon that is not there offers nothing.
	ipsecctl show "$1" --json 2>/dev/null | {READER}
}}

_ipsecctl_offer() {{
	COMPREPLY=($(compgen -W "$1" -- "$cur"))
	COMPREPLY=("${{COMPREPLY[@]// /\\\\ }}")
}}

_ipsecctl() {{
	local cur prev words cword
	_init_completion || return
	local IFS=$'\\n'
	# The verb stands after --socket PATH, if that is there.
	if [[ ${{words[1]}} == --socket && $cword -gt 2 ]]; then
		words=("${{words[0]}}" "${{words[@]:3}}")
		((cword -= 2))
	fi
	if [[ $prev == --socket ]]; then
		_filedir
		return
	fi
	if ((cword == 1)); then
		_ipsecctl_offer {{verbs}}
		return
	fi
	# What may stand here: options, those of them that take a value, and arguments in their order.
	local options valued first=2
	local -a arguments=('')
	case ${{words[1]}} in
"""
_FOOT = """\
	*)
		return
		;;
	esac
	local n place=0
	for ((n = first; n < cword; n++)); do
		[[ ${words[n]} == -* || " $valued " == *" ${words[n - 1]} "* ]] || ((++place))
	done
	if [[ $cur == -* ]]; then
		_ipsecctl_offer "$options"
		return
	fi
	((place < ${#arguments[@]})) || place=$((${#arguments[@]} - 1))
	case ${arguments[place]} in
	:names:*)
		_ipsecctl_offer "$(_ipsecctl_names "${arguments[place]#:names:}")"
		;;
	:documents)
		_filedir '@(yaml|yml)'
		;;
	:files)
		_filedir
		;;
	*)
		_ipsecctl_offer "${arguments[place]:+${arguments[place]}$IFS}$options"
		;;
	esac
}

complete -F _ipsecctl ipsecctl
"""


def completion() -> str:
    """The whole file."""
    lines = [_HEAD.replace("{verbs}", _words(WORDS))]
    for verb in VERBS.values():
        lines.append(f"\t{verb.name})\n")
        if verb.actions:
            lines += _actions(verb)
        else:
            lines += _leaf(verb, "\t\t")
        lines.append("\t\t;;\n")
    return "".join([*lines, _FOOT]).replace(_values_mark(), _value_cases())


def _values_mark() -> str:
    return "\tlocal n place=0\n"


def _value_cases() -> str:
    """The cases that complete the value of an option, by the option before the cursor."""
    cases: dict[str, str] = {}
    for _, _, verb in leaves():
        for option in verb.options:
            if option.value:
                cases[option.name] = _value(option)
    lines = [f"\t{name})\n\t\t{text}\n\t\treturn\n\t\t;;\n" for name, text in cases.items()]
    return "".join(["\tcase $prev in\n", *lines, "\tesac\n", _values_mark()])


def _value(option: Option) -> str:
    if option.offers in FILES:
        return "_filedir"
    words = offered(option)
    return f"_ipsecctl_offer {_words(words)}" if words else ":"


def _actions(verb: Verb) -> list[str]:
    default = verb.actions.get(verb.default)
    also = [option.name for option in default.options] if default else []
    lines = [
        "\t\tif ((cword == 2)); then\n",
        f"\t\t\t_ipsecctl_offer {_words([*verb.actions, *also])}\n",
        "\t\t\treturn\n",
        "\t\tfi\n",
        "\t\tfirst=3\n",
        "\t\tcase ${words[2]} in\n",
    ]
    for action in verb.actions.values():
        lines += [f"\t\t{action.name})\n", *_leaf(action, "\t\t\t"), "\t\t\t;;\n"]
    return [*lines, "\t\tesac\n"]


def _leaf(verb: Verb, indent: str) -> list[str]:
    names = [name for option in verb.options for name in (option.name, option.short) if name]
    valued = " ".join(option.name for option in verb.options if option.value)
    arguments = " ".join(_place(argument) for argument in verb.arguments)
    return [
        f"{indent}options={_words(names)}\n",
        *([f"{indent}valued='{valued}'\n"] if valued else []),
        *([f"{indent}arguments=({arguments})\n"] if arguments else []),
    ]


def _place(argument: Argument) -> str:
    if argument.offers in NAMES:
        return f":names:{argument.offers}"
    if argument.offers in FILES:
        return f":{argument.offers}"
    return _words(offered(argument)) if argument.offers else "''"


def _words(words: Iterable[str]) -> str:
    return "$'" + "\\n".join(words) + "'"
