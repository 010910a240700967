"""Owns the table of verbs: all that ``ipsecctl`` understands, in one record each.

Parsing, help, completions and the synopses of the manual come from it. Must not know what a verb
does: its handler is a name here.
"""

from __future__ import annotations

from ipsecctl.domain_verbs import DOMAIN
from ipsecctl.export_verbs import EXPORT
from ipsecctl.grammar import DOCUMENT, DRY_RUN, TIME, Argument, Option, Verb
from ipsecctl.import_verb import IMPORT
from ipsecctl.list_verbs import LIST_ACTIONS
from ipsecctl.show_verbs import POLICY, SHOW

FILTER = Argument(
    "FILTER",
    '"*=0:1434:UDP", or short: udp/1434 to this host, or an address that sends to it',
    most=None,
    offers=("tcp/", "udp/"),
)
BANNED = Argument(
    "FILTER",
    '"*=0:1434:UDP", or short: udp/1434 to this host, or an address that sends to it; '
    "@FILE has one on each line, - is standard input",
    most=None,
    offers=("tcp/", "udp/"),
)
LAN = Option("--lan", "only on LAN interfaces")
DIALUP = Option("--dialup", "only on dial-up interfaces", instead="--lan")
INTERFACE = Option(
    "--interface", "only on the interface NAME; wg* is all that begin so", "NAME", instead="--lan"
)
OPENING = Option("--opening", "only packets that open a connection, and no part of an open one")
CONDITIONS = (LAN, DIALUP, INTERFACE, OPENING)
NAME = Option("--name", "one rule called NAME with all filters, and not one for each", "NAME")
REPLACE = Option("--replace", "in the place of the rule of that name", within="--name")
ADD = Option(
    "--add", "add the filters to the rule of that name", within="--name", instead="--replace"
)
WHO = Argument("container:NAME", "the container to cut off", least=0, offers=("container:",))
HOST = Option("--host", "this host in the place of a container", instead=WHO.name)
ASSIGN = Option("--assign", "and have it in force")
AUDITED = (
    Option("--audit", "its rules that block only count what they would: audit: true in its file"),
    Option(
        "--enforce", "its rules that block do so: no audit: true in its file", instead="--audit"
    ),
)
LIVE = Option("--live", "and which connections that are open now it would cut", within="--dry-run")

_POLICY = (
    Verb("list", "the policies that are stored", "show:policies",
         example="ipsecctl policy list"),
    Verb("show", "one of them, and where it is stored", "show:policy", (POLICY,),
         example="ipsecctl policy show Web"),
    Verb("export", "its document alone", "policies:export", (POLICY,),
         example="ipsecctl policy export Web > web.yaml"),
    Verb("edit", "edit its file in $VISUAL or $EDITOR, and have the edit checked and in force",
         "editing:edit",
         (Argument("POLICY", "the name of a stored policy, or of a file that cannot be used",
                   offers="policies"),),
         example="ipsecctl policy edit Web --confirm 60s", changes=True),
    Verb("restore", "take back what somebody wrote into its file, which is kept beside it",
         "policies:restore",
         (POLICY, Argument("@N", "what it was N changes of policies ago; if it is left out, what "
                           "was loaded from it last", least=0)),
         example="ipsecctl policy restore Web", changes=True),
    Verb("assign", "have it in force, in the place of the one that is", "policies:assign",
         (POLICY,), (*AUDITED, DRY_RUN, LIVE), example="ipsecctl policy assign Web --audit",
         changes=True),
    Verb("unassign", "have no policy in force; with a name only if it is that one",
         "policies:unassign",
         (Argument("POLICY", POLICY.explanation, least=0, offers="policies"),),
         example="ipsecctl policy unassign", changes=True),
    Verb("create", "store a policy without rules, or one that is ready to use",
         "policies:create",
         (Argument("POLICY", "the name of the new policy"),),
         (
             Option("--description", "what it is for", "TEXT"),
             Option("--preset", "with the rules of this preset, and expectations that test them",
                    choices=("deny-incoming", "deny-all", "workstation", "container-host")),
             Option("--permit", "what gets in: ssh, tcp/80,443 or SOURCE=0:22:TCP; can be repeated",
                    "SERVICE", repeats=True, within="--preset", offers=("ssh", "tcp/", "udp/")),
             Option("--permit-out", "what goes out, for deny-all; can be repeated", "SERVICE",
                    repeats=True, within="--preset", offers=("dns", "ntp", "tcp/", "udp/")),
             Option("--assign", "and have it in force", within="--preset"),
             Option("--print", "only print it; asks no daemon", within="--preset"),
         ),
         example="ipsecctl policy create Server --preset deny-incoming --permit ssh --assign",
         changes=True),
    Verb("delete", "delete a stored policy", "policies:delete", (POLICY,),
         (Option("--unassign", "even if it is assigned"),),
         example="ipsecctl policy delete Web --unassign", also=("remove",), changes=True),
)  # fmt: skip

_RULE = (
    Verb("add", "store a rule in a policy, in the place of one of that name",
         "policies:add_rule",
         (
             POLICY,
             Argument("RULE", "the name of the rule"),
             Argument("FILTER", f"{FILTER.explanation}; or a service by its name: ssh", most=None,
                      offers=FILTER.offers),
         ),
         (
             Option("--action", "what the rule does", choices=("block", "permit", "audit"),
                    required=True),
             *CONDITIONS,
             Option("--create", "store the policy too, if there is none of that name"),
             ASSIGN,
             DRY_RUN,
         ),
         example='ipsecctl rule add Web "No telnet" tcp/23 --action block', changes=True),
    Verb("remove", "remove rules from a policy", "policies:remove_rules",
         (POLICY, Argument("RULE", "the name of a rule", most=None)),
         (Option("--delete-empty", "delete a policy that has no rule left"), DRY_RUN),
         example='ipsecctl rule remove Web "No telnet"', also=("delete",), changes=True),
)  # fmt: skip

_GROUPS: dict[str, tuple[Verb, ...]] = {
    "What is in force": (
        Verb("status", "what should be enforced, and what is", "status:run",
             example="ipsecctl status", also=("state",)),
        Verb("show", "the parts of what is in force, and what is stored", actions=SHOW,
             default="filters", example="ipsecctl show dynamic", also=("ls",)),
        Verb("stats", "what every rule has matched", "show:stats",
             example="ipsecctl stats", also=("counters",)),
        Verb("monitor", "what is blocked, packet by packet, and by which rule", "monitor:run",
             (Argument("FILTER", "only packets that it matches: an address, udp/1434, or a whole "
                       "filter", least=0, most=None, offers=("tcp/", "udp/")),),
             (
                 Option("--rule", "only what the rule called NAME blocks; can be repeated", "NAME",
                        repeats=True, offers="dynamic"),
                 Option("--rate", "at most N packets a second; 1,000 if it is left out", "N"),
                 Option("--count", "end after N packets", "N"),
                 Option("--pcap", "write packets to FILE as pcapng; - is standard output", "FILE",
                        offers="files"),
             ),
             example="ipsecctl monitor udp/1434", also=("watch", "log", "tcpdump")),
        Verb("top", "which rules match most now, and who sends that", "top.verb:run",
             (), (Option("--once", "print one table of a second; --json is only with this"),),
             example="ipsecctl top", also=("rates",)),
        Verb("drops", "what was dropped within some time, by rule and source", "drops:run", (),
             (
                 Option("--since", "TIME ago, 90s, 1h30m, 2d, or a moment, '2026-11-24 14:03'; if "
                        "it is left out, 1h", "TIME", offers=("10m", "1h", "1d")),
                 Option("--until", "not what came after TIME", "TIME", offers=("10m", "1h")),
                 Option("--rule", "only by the rule of this name", "NAME"),
                 Option("--address", "only from this address or network", "ADDRESS"),
                 Option("--samples", "and some of the packets"),
             ),
             example="ipsecctl drops --since 1d --rule worm", also=("dropped",)),
        Verb("explain", "which filter decides about a packet, and which it beats", "explain:run",
             (Argument("PACKET", 'such as "udp 203.0.113.7:4000 > me:1434" or "tcp 203.0.113.7 > '
                       'me:22"; with --offline, - reads one a line from standard input',
                       joined=True),),
             (
                 Option("--at", "what was decided then: TIME ago, 90s, 1h30m, 2d; or at a moment, "
                        "'2026-11-24 14:03'", "TIME", instead="--offline",
                        offers=("10m", "1h", "1d")),
                 Option("--offline", "ask no daemon; --json answers with one object a line"),
                 Option("--policy", "what is in force, for --offline", "FILE", required=True,
                        within="--offline", offers="documents"),
                 Option("--me", "an address of this host, for --offline; can be repeated",
                        "ADDRESS",
                        repeats=True, within="--offline"),
                 Option("--list", "the entries of @NAME, for --offline; can be repeated",
                        "NAME=FILE", repeats=True, within="--offline"),
                 Option("--lists", "a directory with a file for each list, for --offline",
                        "DIRECTORY", within="--offline"),
             ),
             example='ipsecctl explain "udp 203.0.113.7:4000 > me:1434"', also=("why",)),
        Verb("web", "serve a page to look at all of this in a browser", "web.command:run", (),
             (
                 Option("--listen", "where: 127.0.0.1:PORT, [::1]:PORT or the path of a socket; "
                        "if not given, 127.0.0.1 and a port that is free", "PLACE"),
                 Option("--fleet", "the repository of a fleet, to show how its hosts stand", "REPO",
                        offers="files"),
                 Option("--reports", "the directory that its hosts report to", "DIR", required=True,
                        within="--fleet", offers="files"),
             ),
             example="ipsecctl web --listen 127.0.0.1:8080", also=("gui", "browser", "dashboard")),
        Verb("backend", "which backend enforces; with a name, have that one do it", "backend:run",
             (Argument("BACKEND", "nftables, or xdp: the same with programs before it", least=0,
                       offers=("nftables", "xdp")),),
             example="ipsecctl backend xdp", changes=True),
        Verb("doctor", "whether anything is wrong, and which backends can be used",
             "doctor:run", example="ipsecctl doctor", also=("diagnose",)),
    ),
    "Dynamic rules: now, until the daemon is stopped": (
        Verb("block", "block what filters match", "dynamic:block", (BANNED,),
             (TIME, NAME, REPLACE, ADD, *CONDITIONS,
              Option("--audit", "only count what would be blocked"), DRY_RUN),
             example="ipsecctl block 203.0.113.7 --for 10m",
             also=("ban", "deny", "drop", "reject", "add"), changes=True),
        Verb("permit", "let through what filters match", "dynamic:permit", (BANNED,),
             (TIME, NAME, REPLACE, ADD, *CONDITIONS, DRY_RUN),
             example="ipsecctl permit tcp/22 --name ssh",
             also=("accept", "allow", "pass"), changes=True),
        Verb("unblock", "remove dynamic rules of either kind, or filters of them",
             "dynamic:unblock",
             (Argument("RULE", "its name; or a filter or an address, which is taken out of rules",
                       most=None, offers="dynamic"),),
             (DRY_RUN,),
             example="ipsecctl unblock ssh", also=("unban", "remove", "delete", "del"),
             changes=True),
        Verb("flush", "remove all dynamic rules", "dynamic:flush",
             example="ipsecctl flush", also=("clear", "reset"), changes=True),
        Verb("quarantine", "cut a container or this host off from all but its permits",
             "quarantine:quarantine", (WHO,),
             (
                 HOST,
                 Option("--permit", "what may pass all the same; can be repeated", "FILTER",
                        repeats=True),
                 TIME,
             ),
             example="ipsecctl quarantine container:web --for 1h", also=("isolate",), changes=True),
        Verb("release", "end a quarantine", "quarantine:release", (WHO,), (HOST,),
             example="ipsecctl release container:web", changes=True),
    ),
    "Policies: for good": (
        Verb("apply", "store a policy, in the place of the policy of its name", "policies:apply",
             (DOCUMENT,), (ASSIGN, *AUDITED, DRY_RUN, LIVE),
             example="ipsecctl apply policy.yaml --assign", also=("load",), changes=True),
        IMPORT,
        Verb("policy", "look after stored policies", actions=_POLICY,
             example="ipsecctl policy assign Web"),
        Verb("rule", "change the rules of a stored policy", actions=_RULE,
             example='ipsecctl rule add Web "No telnet" tcp/23 --action block'),
        Verb("learn", "the permits a policy needs, by what audit rules noted", "learn:run",
             (POLICY,),
             (
                 Option("--from", "audit: what the daemon has recorded; or a file with lines of "
                        "'ipsecctl monitor --json', - for standard input", "audit|FILE",
                        offers="files"),
                 Option("--blocked", "also for what block rules dropped, by a file",
                        within="--from"),
                 Option("--since", "only for what came in the last TIME, or since a moment", "TIME",
                        offers=("1h", "1d", "1w")),
                 Option("--widen", "peers whose IPv4 addresses have so many bits in common, or 64 "
                        "of IPv6, may share a prefix", "BITS", offers=("24",)),
                 Option("--write", "store the permits in the policy"),
             ),
             example="ipsecctl learn Server --since 1w", also=("propose",), changes=True),
        Verb("list", "look after lists of addresses, which filters name as @NAME",
             actions=LIST_ACTIONS, example="ipsecctl list show", also=("set",)),
        Verb("reload", "read edited files anew", "policies:reload", (),
             (Option("--resolve", "and look all DNS names up anew"),),
             example="ipsecctl reload", also=("refresh",), changes=True),
        Verb("confirm", "keep a change that was made with --confirm", "changing:confirm", (),
             (Option("--force", "in the login that made it, too"),),
             example="ipsecctl confirm", also=("commit", "keep")),
        Verb("revert", "put such a change back now", "changing:revert",
             example="ipsecctl revert", also=("abort", "cancel")),
        Verb("history", "what was changed, when and by whom, the newest first", "history:run",
             example="ipsecctl history", also=("log", "changes", "audit")),
        Verb("rollback", "have the policies be what they were N changes ago",
             "history:rollback",
             (Argument("N", "how many changes of policies to undo; 1 if it is left out", least=0),),
             (DRY_RUN, LIVE),
             example="ipsecctl rollback --confirm 60s", also=("undo",), changes=True),
        EXPORT,
        Verb("backup", "write policies, lists and dynamic rules into one file",
             "backups:backup",
             (Argument("FILE", "where to write it; - is standard output", offers="files"),),
             example="ipsecctl backup host.tar", also=("save", "dump")),
        Verb("restore", "have the policies and lists of a backup, and no others",
             "backups:restore",
             (Argument("FILE", "what 'ipsecctl backup' has written; - is standard input",
                       offers="files"),),
             (Option("--dynamic", "and put its dynamic rules in force, until they end"), DRY_RUN),
             example="ipsecctl restore host.tar --dry-run", changes=True),
        Verb("run", "carry out a batch file of Windows, as one change",
             "running.verb:run",
             (Argument("FILE", "a .bat or .cmd file; - is standard input", offers="files"),),
             (DRY_RUN,
              Option("--skip-refused", "carry out the other lines even if some are refused"),
              Option("--code-page", "what it is in, if that is not UTF-8 or UTF-16", "NAME",
                     offers=("cp936", "cp949", "cp850", "cp1251"))),
             example="ipsecctl run firewall.cmd --dry-run", also=("batch", "exec"), changes=True),
        Verb("check", "whether files are usable policies; needs no daemon",
             "documents:check",
             (Argument("FILE", DOCUMENT.explanation, most=None, offers="documents"),),
             (
                 Option("--list", "judge what is expected also by these entries of @NAME; can be "
                        "repeated", "NAME=FILE", repeats=True),
                 Option("--lists", "a directory with a file for each list", "DIRECTORY"),
             ),
             example="ipsecctl check policy.yaml", also=("validate", "verify")),
        Verb("lint", "what has no effect: rules that never decide, unused lists",
             "linting:run",
             (Argument("FILE", "a policy document; without one, what is in force", least=0,
                       most=None, offers="documents"),),
             (
                 Option("--me", "an address of the host; can be repeated", "ADDRESS",
                        repeats=True),
                 Option("--list", "the entries of @NAME; can be repeated", "NAME=FILE",
                        repeats=True),
                 Option("--lists", "a directory with a file for each list", "DIRECTORY"),
             ),
             example="ipsecctl lint policy.yaml"),
        Verb("format", "the canonical form of a policy; needs no daemon",
             "documents:format_document", (DOCUMENT,),
             (Option("--write", "put it in the place of what is in the file", short="-w"),),
             example="ipsecctl format policy.yaml --write", also=("fmt",)),
        Verb("diff", "how policies differ, and which packets that matters to",
             "comparing:diff",
             (Argument("FILE|POLICY", "a document, - for standard input, or the name of a stored "
                       "policy; of one, how it differs from what is stored", most=2,
                       offers="documents"),),
             (
                 Option("--verdicts", "only which packets are decided differently"),
                 Option("--live", "and which connections of this host the second would cut"),
                 Option("--me", "an address of the host; can be repeated", "ADDRESS",
                        repeats=True),
                 Option("--list", "the entries of @NAME; can be repeated", "NAME=FILE",
                        repeats=True),
                 Option("--lists", "a directory with a file for each list", "DIRECTORY"),
             ),
             example="ipsecctl diff policy.yaml", also=("compare",)),
    ),
    "Domain policy: one for a fleet": (
        Verb("domain", "the policy that comes from one place, and that place", actions=DOMAIN,
             default="status", example="ipsecctl domain status"),
    ),
}  # fmt: skip
GROUPS = {title: tuple(verb.name for verb in verbs) for title, verbs in _GROUPS.items()}
"""The names of all verbs in the order in which people read them."""
VERBS: dict[str, Verb] = {verb.name: verb for verbs in _GROUPS.values() for verb in verbs}

DIALECTS = {
    "ipseccmd": "ipseccmd:run",
    "ipsecpol": "ipseccmd:run_ipsecpol",
    "netdiag": "netdiag:run",
    "secedit": "agent:secedit",
    "gpupdate": "agent:gpupdate",
    "net": "legacy_services:net",
    "sc": "legacy_services:sc",
    "ipsecmon": "agent:ipsecmon",
    "netsh": "netsh.command:run",
    "new-netfirewallrule": "netsh.advfirewall:new_rule",
}
"""The legacy commands. Each works under its own name and after ``ipsecctl``, in any letter case."""
