"""Owns the part of the table of verbs that is about lists; as the table, it only names."""

from __future__ import annotations

from ipsecctl.grammar import DRY_RUN, Argument, Option, Verb

LIST = Argument("NAME", "the name of a list; filters name it as @NAME", offers="lists")
ADDRESS = Argument("ADDRESS", "an address, a prefix or a range, 192.0.2.1-192.0.2.9", most=None)
FORMAT = Option("--format", "the form it is in, if not seen: plain, json, ipset or csv:COLUMN",
                "FORMAT", offers=("plain", "json", "ipset", "csv:"))  # fmt: skip
ACCEPT = Option("--accept", "even if it looks like a mistake")

LIST_ACTIONS = (
    Verb("create", "make a list, empty, or of what is in a file or at a URL", "lists:create",
         (Argument("NAME", "the name of the new list"),),
         (
             Option("--from", "a file, - for standard input, or https://HOST/PATH or file:///PATH, "
                    "which is fetched again and again", "FILE|URL", offers="files"),
             Option("--every", "fetch it every TIME: 1h, 1d; if not given, 1d", "TIME",
                    within="--from", offers=("1h", "1d")),
             Option("--plain-http", "even if the URL is http:, which anybody between can change",
                    within="--from"),
             Option("--count", "count what each entry matches"),
             FORMAT,
             ACCEPT,
             DRY_RUN,
         ),
         example="ipsecctl list create drop --from https://www.spamhaus.org/drop/drop.txt "
                 "--every 1d", also=("new", "make"), changes=True),
    Verb("update", "fetch a list from its URL now", "lists:update", (LIST,), (ACCEPT,),
         example="ipsecctl list update drop", also=("fetch", "refresh"), changes=True),
    Verb("replace", "have a list hold what a file holds, and nothing else", "lists:replace",
         (LIST, Argument("FILE", "an address list; - is standard input", offers="files")),
         (FORMAT, ACCEPT, DRY_RUN),
         example="ipsecctl list replace drop drop.txt", also=("load", "restore"), changes=True),
    Verb("add", "add entries, for a time or for good", "lists:add", (LIST, ADDRESS),
         (
             Option("--for", "take them out after TIME, or at a moment, as for block", "TIME",
                    offers=("10m", "1h", "1d")),
             ACCEPT,
             DRY_RUN,
         ),
         example="ipsecctl list add bans 203.0.113.7 --for 1w", also=("ban", "block"),
         changes=True),
    Verb("remove", "take entries out", "lists:remove", (LIST, ADDRESS), (DRY_RUN,),
         example="ipsecctl list remove bans 203.0.113.7", also=("del", "unban"), changes=True),
    Verb("show", "all lists, the entries of one, or those that an address is in", "lists:show",
         (
             Argument("NAME", LIST.explanation, least=0, offers="lists"),
             Argument("ADDRESS", "one address", least=0),
         ),
         (Option("--counters", "what each entry has matched, of a list that counts"),),
         example="ipsecctl list show bans 203.0.113.7", also=("ls", "list", "test")),
    Verb("count", "count what each entry of a list matches, or no more", "lists:count_entries",
         (LIST, Argument("on|off", "whether to; what was counted is forgotten with off",
                         offers=("on", "off"))),
         example="ipsecctl list count bans on", also=("counters", "counting")),
    Verb("delete", "delete a list, and its file", "lists:delete", (LIST,), (DRY_RUN,),
         example="ipsecctl list delete drop", also=("destroy", "drop"), changes=True),
    Verb("check", "what a file would be as a list; needs no daemon", "lists:check",
         (Argument("FILE", "an address list; - is standard input", offers="files"),),
         (
             FORMAT,
             Option("--me", "an address that must stay free; can be repeated", "ADDRESS",
                    repeats=True),
         ),
         example="ipsecctl list check drop.txt", also=("lint", "verify")),
)  # fmt: skip
