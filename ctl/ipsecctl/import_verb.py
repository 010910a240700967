"""Owns the record of the verb ``import``, for the table of verbs."""

from __future__ import annotations

from ipsecctl.grammar import Argument, Option, Verb

IMPORT = Verb(
    "import",
    "the rules of another firewall, as a policy and lists",
    "importing.command:run",
    (
        Argument(
            "SOURCE",
            "what the rules are of, such as iptables-save or firewalld",
            offers=(
                *("iptables-save", "ip6tables-save", "nft", "ufw"),
                *("firewalld", "ipset", "hosts.deny", "windows-firewall"),
            ),
        ),
        Argument("FILE", "the rules; - is standard input", most=None, offers="files"),
    ),
    (
        Option("--output", "write NAME.yaml and lists/ into DIR", "DIR", short="-o",
               offers="files"),
        Option("--policy", "how the policy is called", "NAME"),
        Option("--prove", "judge packets of all kinds by both, and tell each difference"),
        Option("--me", "an address of the host; can be repeated", "ADDRESS", repeats=True),
        Option("--set", "sets of addresses, as 'ipset save' prints them; can be repeated", "FILE",
               repeats=True, offers="files"),
        Option("--network", "which addresses are behind a link; can be repeated", "LINK=PREFIX",
               repeats=True),
        Option("--block", "of ipset: block what comes from the sets, not only count it"),
        Option("--profile", "of windows-firewall: the profile that the rules are for",
               "public|private|domain"),
    ),
    example="ipsecctl import iptables-save rules.v4 -o imported --prove",
    also=("translate", "convert", "migrate"),
)  # fmt: skip
