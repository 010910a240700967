# fish completion for ipsecctl(1)

function __ipsecctl_names
    ipsecctl show $argv[1] --json 2>/dev/null | python3 -c '
import json, sys
for one in json.load(sys.stdin):
    print(one["name"])' 2>/dev/null
end

complete -c ipsecctl -f
complete -c ipsecctl -l socket -r -d 'where the daemon listens'
complete -c ipsecctl -l json -d 'answer as one JSON document'

complete -c ipsecctl -n __fish_use_subcommand -a status -d 'what should be enforced, and what is'
complete -c ipsecctl -n __fish_use_subcommand -a show -d 'filters, policies, dynamic rules, interfaces'
complete -c ipsecctl -n __fish_use_subcommand -a stats -d 'what every rule has matched'
complete -c ipsecctl -n __fish_use_subcommand -a block -d 'block now, until the daemon ends'
complete -c ipsecctl -n __fish_use_subcommand -a permit -d 'permit now, until the daemon ends'
complete -c ipsecctl -n __fish_use_subcommand -a unblock -d 'remove a dynamic rule'
complete -c ipsecctl -n __fish_use_subcommand -a flush -d 'remove all dynamic rules'
complete -c ipsecctl -n __fish_use_subcommand -a quarantine -d 'cut a container or this host off'
complete -c ipsecctl -n __fish_use_subcommand -a release -d 'end a quarantine'
complete -c ipsecctl -n __fish_use_subcommand -a apply -d 'store a policy'
complete -c ipsecctl -n __fish_use_subcommand -a policy -d 'look after stored policies'
complete -c ipsecctl -n __fish_use_subcommand -a rule -d 'change the rules of a policy'
complete -c ipsecctl -n __fish_use_subcommand -a reload -d 'read edited files anew'
complete -c ipsecctl -n __fish_use_subcommand -a check -d 'whether a file is right'
complete -c ipsecctl -n __fish_use_subcommand -a format -d 'the normal form of a file'
complete -c ipsecctl -n __fish_use_subcommand -a diff -d 'how a file differs from what is stored'
complete -c ipsecctl -n __fish_use_subcommand -a doctor -d 'what speaks for and against each backend'
complete -c ipsecctl -n __fish_use_subcommand -a explain -d 'which filter decides about a packet'

complete -c ipsecctl -n '__fish_seen_subcommand_from show; and not __fish_seen_subcommand_from policy' -a 'filters policies policy dynamic containers interfaces exemptions'
complete -c ipsecctl -n '__fish_seen_subcommand_from policy' -a 'list show export assign unassign create delete'
complete -c ipsecctl -n '__fish_seen_subcommand_from policy' -a '(__ipsecctl_names policies)'
complete -c ipsecctl -n '__fish_seen_subcommand_from rule' -a 'add remove'
complete -c ipsecctl -n '__fish_seen_subcommand_from rule' -a '(__ipsecctl_names policies)'
complete -c ipsecctl -n '__fish_seen_subcommand_from rule' -l action -x -a 'block permit'
complete -c ipsecctl -n '__fish_seen_subcommand_from unblock' -a '(__ipsecctl_names dynamic)'
complete -c ipsecctl -n '__fish_seen_subcommand_from block permit' -l for -x -a '10m 1h 1d'
complete -c ipsecctl -n '__fish_seen_subcommand_from block permit' -l name -x
complete -c ipsecctl -n '__fish_seen_subcommand_from block permit rule' -l lan
complete -c ipsecctl -n '__fish_seen_subcommand_from quarantine release' -l host
complete -c ipsecctl -n '__fish_seen_subcommand_from quarantine' -l permit -x
complete -c ipsecctl -n '__fish_seen_subcommand_from quarantine' -l for -x -a '10m 1h 1d'
complete -c ipsecctl -n '__fish_seen_subcommand_from block permit rule' -l dialup
complete -c ipsecctl -n '__fish_seen_subcommand_from apply rule' -l assign
complete -c ipsecctl -n '__fish_seen_subcommand_from rule' -l create
complete -c ipsecctl -n '__fish_seen_subcommand_from rule' -l delete-empty
complete -c ipsecctl -n '__fish_seen_subcommand_from policy' -l description -x
complete -c ipsecctl -n '__fish_seen_subcommand_from policy' -l unassign
complete -c ipsecctl -n '__fish_seen_subcommand_from apply' -l dry-run
complete -c ipsecctl -n '__fish_seen_subcommand_from reload' -l resolve
complete -c ipsecctl -n '__fish_seen_subcommand_from format' -l write
complete -c ipsecctl -n '__fish_seen_subcommand_from apply check format diff' -F
complete -c ipsecctl -n '__fish_seen_subcommand_from explain' -l offline
complete -c ipsecctl -n '__fish_seen_subcommand_from explain' -l policy -r -F
complete -c ipsecctl -n '__fish_seen_subcommand_from explain' -l me -x
