"""Owns the record of what ``ipsecctl export`` writes; must not know how."""

from __future__ import annotations

from ipsecctl.grammar import Argument, Option, Verb

_OUTPUT = Option("--output", "write it to FILE, and not to standard output", "FILE", offers="files")
_ONE = Argument("POLICY", "a stored policy; without one, what is in force", least=0,
                offers="policies")  # fmt: skip
_SOME = Argument("POLICY", "a stored policy; without one, all, and the dynamic rules", least=0,
                 most=None, offers="policies")  # fmt: skip

_FORMS = (
    Verb("nft", "a table for nft(8) that decides the same without a daemon", "exporting.verb:nft",
         (_ONE,), (_OUTPUT,), example="ipsecctl export nft --output web.nft"),
    Verb("ipseccmd", "a script of ipseccmd that makes the same policies",
         "exporting.verb:ipseccmd", (_SOME,), (_OUTPUT,),
         example="ipsecctl export ipseccmd Web"),
    Verb("netsh", "a script of netsh ipsec that makes the same policies", "exporting.verb:netsh",
         (_SOME,), (_OUTPUT,), example="ipsecctl export netsh Web"),
    Verb("json", "one document, with every filter taken apart", "exporting.verb:json",
         (_SOME,), (_OUTPUT,), example="ipsecctl export json | jq .policies"),
)  # fmt: skip
EXPORT = Verb(
    "export",
    "what is in force or stored, in the words of other programs",
    actions=_FORMS,
    example="ipsecctl export nft",
)
