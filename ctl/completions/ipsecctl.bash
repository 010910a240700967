# bash completion for ipsecctl(1); written by make generated

_ipsecctl_names() {
	# A daemon that is not there offers nothing.
	ipsecctl show "$1" --json 2>/dev/null | python3 -c '
import json, sys
for one in json.load(sys.stdin):
    print(one["name"])' 2>/dev/null
}

_ipsecctl_offer() {
	COMPREPLY=($(compgen -W "$1" -- "$cur"))
	COMPREPLY=("${COMPREPLY[@]// /\\ }")
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
	if [[ $prev == --socket ]]; then
		_filedir
		return
	fi
	if ((cword == 1)); then
		_ipsecctl_offer $'status\nshow\nstats\nmonitor\ntop\ndrops\nexplain\nweb\nbackend\ndoctor\nblock\npermit\nunblock\nflush\nquarantine\nrelease\napply\nimport\npolicy\nrule\nlearn\nlist\nreload\nconfirm\nrevert\nhistory\nrollback\nexport\nbackup\nrestore\nrun\ncheck\nlint\nformat\ndiff\ndomain\nipseccmd\nipsecpol\nnetdiag\nsecedit\ngpupdate\nnet\nsc\nipsecmon\nnetsh\nnew-netfirewallrule\nhelp'
		return
	fi
	# What may stand here: options, those of them that take a value, and arguments in their order.
	local options valued first=2
	local -a arguments=('')
	case ${words[1]} in
	status)
		options=$'--json'
		;;
	show)
		if ((cword == 2)); then
			_ipsecctl_offer $'filters\npolicies\npolicy\ndynamic\nlists\nnames\ncontainers\ninterfaces\nexemptions\nstate\n--by-rank\n--json'
			return
		fi
		first=3
		case ${words[2]} in
		filters)
			options=$'--by-rank\n--json'
			;;
		policies)
			options=$'--json'
			;;
		policy)
			options=$'--json'
			arguments=(:names:policies)
			;;
		dynamic)
			options=$'--json'
			;;
		lists)
			options=$'--json'
			;;
		names)
			options=$'--json'
			;;
		containers)
			options=$'--json'
			;;
		interfaces)
			options=$'--json'
			;;
		exemptions)
			options=$'--json'
			;;
		state)
			options=$'--json'
			arguments=('')
			;;
		esac
		;;
	stats)
		options=$'--json'
		;;
	monitor)
		options=$'--rule\n--rate\n--count\n--pcap\n--json'
		valued='--rule --rate --count --pcap'
		arguments=($'tcp/\nudp/')
		;;
	top)
		options=$'--once\n--json'
		;;
	drops)
		options=$'--since\n--until\n--rule\n--address\n--samples\n--json'
		valued='--since --until --rule --address'
		;;
	explain)
		options=$'--at\n--offline\n--policy\n--me\n--list\n--lists\n--json'
		valued='--at --policy --me --list --lists'
		arguments=('')
		;;
	web)
		options=$'--listen\n--fleet\n--reports\n--json'
		valued='--listen --fleet --reports'
		;;
	backend)
		options=$'--confirm\n--force\n--message\n--json'
		valued='--confirm --message'
		arguments=($'nftables\nxdp')
		;;
	doctor)
		options=$'--json'
		;;
	block)
		options=$'--for\n--name\n--replace\n--add\n--lan\n--dialup\n--interface\n--opening\n--audit\n--dry-run\n--confirm\n--force\n--message\n--json'
		valued='--for --name --interface --confirm --message'
		arguments=($'tcp/\nudp/')
		;;
	permit)
		options=$'--for\n--name\n--replace\n--add\n--lan\n--dialup\n--interface\n--opening\n--dry-run\n--confirm\n--force\n--message\n--json'
		valued='--for --name --interface --confirm --message'
		arguments=($'tcp/\nudp/')
		;;
	unblock)
		options=$'--dry-run\n--confirm\n--force\n--message\n--json'
		valued='--confirm --message'
		arguments=(:names:dynamic)
		;;
	flush)
		options=$'--confirm\n--force\n--message\n--json'
		valued='--confirm --message'
		;;
	quarantine)
		options=$'--host\n--permit\n--for\n--confirm\n--force\n--message\n--json'
		valued='--permit --for --confirm --message'
		arguments=($'container:')
		;;
	release)
		options=$'--host\n--confirm\n--force\n--message\n--json'
		valued='--confirm --message'
		arguments=($'container:')
		;;
	apply)
		options=$'--assign\n--audit\n--enforce\n--dry-run\n--live\n--confirm\n--force\n--message\n--json'
		valued='--confirm --message'
		arguments=(:documents)
		;;
	import)
		options=$'--output\n-o\n--policy\n--prove\n--me\n--set\n--network\n--block\n--profile\n--json'
		valued='--output --policy --me --set --network --profile'
		arguments=($'iptables-save\nip6tables-save\nnft\nufw\nfirewalld\nipset\nhosts.deny\nwindows-firewall' :files)
		;;
	policy)
		if ((cword == 2)); then
			_ipsecctl_offer $'list\nshow\nexport\nedit\nrestore\nassign\nunassign\ncreate\ndelete'
			return
		fi
		first=3
		case ${words[2]} in
		list)
			options=$'--json'
			;;
		show)
			options=$'--json'
			arguments=(:names:policies)
			;;
		export)
			options=$'--json'
			arguments=(:names:policies)
			;;
		edit)
			options=$'--confirm\n--force\n--message\n--json'
			valued='--confirm --message'
			arguments=(:names:policies)
			;;
		restore)
			options=$'--confirm\n--force\n--message\n--json'
			valued='--confirm --message'
			arguments=(:names:policies '')
			;;
		assign)
			options=$'--audit\n--enforce\n--dry-run\n--live\n--confirm\n--force\n--message\n--json'
			valued='--confirm --message'
			arguments=(:names:policies)
			;;
		unassign)
			options=$'--confirm\n--force\n--message\n--json'
			valued='--confirm --message'
			arguments=(:names:policies)
			;;
		create)
			options=$'--description\n--preset\n--permit\n--permit-out\n--assign\n--print\n--confirm\n--force\n--message\n--json'
			valued='--description --preset --permit --permit-out --confirm --message'
			arguments=('')
			;;
		delete)
			options=$'--unassign\n--confirm\n--force\n--message\n--json'
			valued='--confirm --message'
			arguments=(:names:policies)
			;;
		esac
		;;
	rule)
		if ((cword == 2)); then
			_ipsecctl_offer $'add\nremove'
			return
		fi
		first=3
		case ${words[2]} in
		add)
			options=$'--action\n--lan\n--dialup\n--interface\n--opening\n--create\n--assign\n--dry-run\n--confirm\n--force\n--message\n--json'
			valued='--action --interface --confirm --message'
			arguments=(:names:policies '' $'tcp/\nudp/')
			;;
		remove)
			options=$'--delete-empty\n--dry-run\n--confirm\n--force\n--message\n--json'
			valued='--confirm --message'
			arguments=(:names:policies '')
			;;
		esac
		;;
	learn)
		options=$'--from\n--blocked\n--since\n--widen\n--write\n--confirm\n--force\n--message\n--json'
		valued='--from --since --widen --confirm --message'
		arguments=(:names:policies)
		;;
	list)
		if ((cword == 2)); then
			_ipsecctl_offer $'create\nupdate\nreplace\nadd\nremove\nshow\ncount\ndelete\ncheck'
			return
		fi
		first=3
		case ${words[2]} in
		create)
			options=$'--from\n--every\n--plain-http\n--count\n--format\n--accept\n--dry-run\n--confirm\n--force\n--message\n--json'
			valued='--from --every --format --confirm --message'
			arguments=('')
			;;
		update)
			options=$'--accept\n--confirm\n--force\n--message\n--json'
			valued='--confirm --message'
			arguments=(:names:lists)
			;;
		replace)
			options=$'--format\n--accept\n--dry-run\n--confirm\n--force\n--message\n--json'
			valued='--format --confirm --message'
			arguments=(:names:lists :files)
			;;
		add)
			options=$'--for\n--accept\n--dry-run\n--confirm\n--force\n--message\n--json'
			valued='--for --confirm --message'
			arguments=(:names:lists '')
			;;
		remove)
			options=$'--dry-run\n--confirm\n--force\n--message\n--json'
			valued='--confirm --message'
			arguments=(:names:lists '')
			;;
		show)
			options=$'--counters\n--json'
			arguments=(:names:lists '')
			;;
		count)
			options=$'--json'
			arguments=(:names:lists $'on\noff')
			;;
		delete)
			options=$'--dry-run\n--confirm\n--force\n--message\n--json'
			valued='--confirm --message'
			arguments=(:names:lists)
			;;
		check)
			options=$'--format\n--me\n--json'
			valued='--format --me'
			arguments=(:files)
			;;
		esac
		;;
	reload)
		options=$'--resolve\n--confirm\n--force\n--message\n--json'
		valued='--confirm --message'
		;;
	confirm)
		options=$'--force\n--json'
		;;
	revert)
		options=$'--json'
		;;
	history)
		options=$'--json'
		;;
	rollback)
		options=$'--dry-run\n--live\n--confirm\n--force\n--message\n--json'
		valued='--confirm --message'
		arguments=('')
		;;
	export)
		if ((cword == 2)); then
			_ipsecctl_offer $'nft\nipseccmd\nnetsh\njson'
			return
		fi
		first=3
		case ${words[2]} in
		nft)
			options=$'--output\n--json'
			valued='--output'
			arguments=(:names:policies)
			;;
		ipseccmd)
			options=$'--output\n--json'
			valued='--output'
			arguments=(:names:policies)
			;;
		netsh)
			options=$'--output\n--json'
			valued='--output'
			arguments=(:names:policies)
			;;
		json)
			options=$'--output\n--json'
			valued='--output'
			arguments=(:names:policies)
			;;
		esac
		;;
	backup)
		options=$'--json'
		arguments=(:files)
		;;
	restore)
		options=$'--dynamic\n--dry-run\n--confirm\n--force\n--message\n--json'
		valued='--confirm --message'
		arguments=(:files)
		;;
	run)
		options=$'--dry-run\n--skip-refused\n--code-page\n--confirm\n--force\n--message\n--json'
		valued='--code-page --confirm --message'
		arguments=(:files)
		;;
	check)
		options=$'--list\n--lists\n--json'
		valued='--list --lists'
		arguments=(:documents)
		;;
	lint)
		options=$'--me\n--list\n--lists\n--json'
		valued='--me --list --lists'
		arguments=(:documents)
		;;
	format)
		options=$'--write\n-w\n--json'
		arguments=(:documents)
		;;
	diff)
		options=$'--verdicts\n--live\n--me\n--list\n--lists\n--json'
		valued='--me --list --lists'
		arguments=(:documents)
		;;
	domain)
		if ((cword == 2)); then
			_ipsecctl_offer $'init\npublish\nhalt\nfleet\nwithdraw\nkeygen\nsign\ntrust\nstatus\nrefresh\nexplain\n--json'
			return
		fi
		first=3
		case ${words[2]} in
		init)
			options=$'--keys\n--json'
			valued='--keys'
			arguments=(:files)
			;;
		publish)
			options=$'--keys\n--to\n--host\n--label\n--everywhere\n--list\n--lists\n--own-list\n--accept\n--precedence\n--interval\n--canary\n--reports\n--halt-after\n--force\n--doorbell\n--doorbell-ca\n--json'
			valued='--keys --to --host --label --list --lists --own-list --precedence --interval --canary --reports --halt-after --doorbell --doorbell-ca'
			arguments=(:files :documents)
			;;
		halt)
			options=$'--keys\n--doorbell\n--doorbell-ca\n--json'
			valued='--keys --doorbell --doorbell-ca'
			arguments=(:files)
			;;
		fleet)
			options=$'--reports\n--watch\n--all\n--halt-on-failure\n--halt-after\n--keys\n--doorbell\n--doorbell-ca\n--json'
			valued='--reports --halt-after --keys --doorbell --doorbell-ca'
			arguments=(:files)
			;;
		withdraw)
			options=$'--keys\n--to\n--policy\n--doorbell\n--doorbell-ca\n--json'
			valued='--keys --to --policy --doorbell --doorbell-ca'
			arguments=(:files)
			;;
		keygen)
			options=$'--keys\n--role\n--json'
			valued='--keys --role'
			arguments=(:files)
			;;
		sign)
			options=$'--keys\n--json'
			valued='--keys'
			arguments=(:files)
			;;
		trust)
			options=$'--json'
			arguments=(:files)
			;;
		status)
			options=$'--json'
			arguments=(:files)
			;;
		refresh)
			options=$'--wait\n--json'
			valued='--wait'
			;;
		explain)
			options=$'--repo\n--host\n--group\n--label\n--json'
			valued='--repo --host --group --label'
			;;
		esac
		;;
	*)
		return
		;;
	esac
	case $prev in
	--rule)
		:
		return
		;;
	--rate)
		:
		return
		;;
	--count)
		:
		return
		;;
	--pcap)
		_filedir
		return
		;;
	--since)
		_ipsecctl_offer $'1h\n1d\n1w'
		return
		;;
	--until)
		_ipsecctl_offer $'10m\n1h'
		return
		;;
	--address)
		:
		return
		;;
	--at)
		_ipsecctl_offer $'10m\n1h\n1d'
		return
		;;
	--policy)
		:
		return
		;;
	--me)
		:
		return
		;;
	--list)
		:
		return
		;;
	--lists)
		:
		return
		;;
	--listen)
		:
		return
		;;
	--fleet)
		_filedir
		return
		;;
	--reports)
		_filedir
		return
		;;
	--confirm)
		_ipsecctl_offer $'60s\n5m'
		return
		;;
	--message)
		:
		return
		;;
	--for)
		_ipsecctl_offer $'10m\n1h\n1d'
		return
		;;
	--name)
		:
		return
		;;
	--interface)
		:
		return
		;;
	--permit)
		_ipsecctl_offer $'ssh\ntcp/\nudp/'
		return
		;;
	--output)
		_filedir
		return
		;;
	--set)
		_filedir
		return
		;;
	--network)
		:
		return
		;;
	--profile)
		:
		return
		;;
	--description)
		:
		return
		;;
	--preset)
		_ipsecctl_offer $'deny-incoming\ndeny-all\nworkstation\ncontainer-host'
		return
		;;
	--permit-out)
		_ipsecctl_offer $'dns\nntp\ntcp/\nudp/'
		return
		;;
	--action)
		_ipsecctl_offer $'block\npermit\naudit'
		return
		;;
	--from)
		_filedir
		return
		;;
	--widen)
		_ipsecctl_offer $'24'
		return
		;;
	--every)
		_ipsecctl_offer $'1h\n1d'
		return
		;;
	--format)
		_ipsecctl_offer $'plain\njson\nipset\ncsv:'
		return
		;;
	--code-page)
		_ipsecctl_offer $'cp936\ncp949\ncp850\ncp1251'
		return
		;;
	--keys)
		_filedir
		return
		;;
	--to)
		:
		return
		;;
	--host)
		:
		return
		;;
	--label)
		:
		return
		;;
	--own-list)
		:
		return
		;;
	--precedence)
		:
		return
		;;
	--interval)
		_ipsecctl_offer $'10m\n1h\n1d'
		return
		;;
	--canary)
		_ipsecctl_offer $'5%\n20%\n50%'
		return
		;;
	--halt-after)
		_ipsecctl_offer $'1\n3\n2%'
		return
		;;
	--doorbell)
		:
		return
		;;
	--doorbell-ca)
		_filedir
		return
		;;
	--role)
		_ipsecctl_offer $'timestamp\nsnapshot\ntargets\nroot1\nroot2\nroot3'
		return
		;;
	--wait)
		_ipsecctl_offer $'30s\n5m'
		return
		;;
	--repo)
		_filedir
		return
		;;
	--group)
		:
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
