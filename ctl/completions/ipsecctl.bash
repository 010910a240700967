# bash completion for ipsecctl(1)

_ipsecctl_names() {
	# The second column of a list is not wanted; a daemon that is not there offers nothing.
	ipsecctl show "$1" --json 2>/dev/null | python3 -c '
import json, sys
for one in json.load(sys.stdin):
    print(one["name"])' 2>/dev/null
}

_ipsecctl() {
	local cur prev words cword
	_init_completion || return
	local IFS=$'\n'
	# The verb stands after --socket PATH, if that is there.
	if [[ ${words[1]} == --socket && $cword -gt 2 ]]; then
		words=("${words[0]}" "${words[@]:3}")
		((cword -= 2))
	fi
	local verbs=$'status\nshow\nstats\nblock\npermit\nunblock\nflush\nquarantine\nrelease\napply\npolicy\nrule\nreload\ncheck\nformat\ndiff\ndoctor\nexplain\nipseccmd\nipsecpol\nnetdiag\nnet\nsecedit\ngpupdate\nhelp'
	if ((cword == 1)); then
		COMPREPLY=($(compgen -W "$verbs" -- "$cur"))
		return
	fi
	case $prev in
	--for)
		COMPREPLY=($(compgen -W $'10m\n1h\n1d' -- "$cur"))
		return
		;;
	--action)
		COMPREPLY=($(compgen -W $'block\npermit' -- "$cur"))
		return
		;;
	--policy | --socket)
		_filedir
		return
		;;
	esac
	case ${words[1]} in
	show)
		COMPREPLY=($(compgen -W $'filters\npolicies\npolicy\ndynamic\ncontainers\ninterfaces\nexemptions\n--json' -- "$cur"))
		;;
	policy)
		if ((cword == 2)); then
			COMPREPLY=($(compgen -W $'list\nshow\nexport\nassign\nunassign\ncreate\ndelete' -- "$cur"))
		elif [[ $cur == -* ]]; then
			COMPREPLY=($(compgen -W $'--description\n--unassign\n--json' -- "$cur"))
		elif ((cword == 3)); then
			COMPREPLY=($(compgen -W "$(_ipsecctl_names policies)" -- "$cur"))
			COMPREPLY=("${COMPREPLY[@]// /\\ }")
		fi
		;;
	rule)
		if ((cword == 2)); then
			COMPREPLY=($(compgen -W $'add\nremove' -- "$cur"))
		elif ((cword == 3)); then
			COMPREPLY=($(compgen -W "$(_ipsecctl_names policies)" -- "$cur"))
			COMPREPLY=("${COMPREPLY[@]// /\\ }")
		else
			COMPREPLY=($(compgen -W $'--action\n--lan\n--dialup\n--create\n--assign\n--delete-empty\n--json' -- "$cur"))
		fi
		;;
	block | permit)
		COMPREPLY=($(compgen -W $'--for\n--name\n--lan\n--dialup\n--json\ntcp/\nudp/' -- "$cur"))
		;;
	quarantine)
		COMPREPLY=($(compgen -W $'--host\n--permit\n--for\n--json\ncontainer:' -- "$cur"))
		;;
	release)
		COMPREPLY=($(compgen -W $'--host\n--json\ncontainer:' -- "$cur"))
		;;
	unblock)
		COMPREPLY=($(compgen -W "$(_ipsecctl_names dynamic)" -- "$cur"))
		;;
	apply)
		[[ $cur == -* ]] && COMPREPLY=($(compgen -W $'--assign\n--dry-run\n--json' -- "$cur")) || _filedir '@(yaml|yml)'
		;;
	format)
		[[ $cur == -* ]] && COMPREPLY=($(compgen -W $'--write\n--json' -- "$cur")) || _filedir '@(yaml|yml)'
		;;
	check | diff)
		[[ $cur == -* ]] && COMPREPLY=($(compgen -W '--json' -- "$cur")) || _filedir '@(yaml|yml)'
		;;
	reload)
		COMPREPLY=($(compgen -W $'--resolve\n--json' -- "$cur"))
		;;
	explain)
		COMPREPLY=($(compgen -W $'--offline\n--policy\n--me\n--json' -- "$cur"))
		;;
	*)
		COMPREPLY=($(compgen -W '--json' -- "$cur"))
		;;
	esac
}

complete -F _ipsecctl ipsecctl
