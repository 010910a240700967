"""Fuzz target: any bytes are a policy that prints and reads back, or ``InvalidInput``.

Of all errors that are collected the first is that, and there is none in a policy.
"""

from __future__ import annotations

from ipsecd.errors import InvalidInput
from ipsecd.language.differences import diff_policies
from ipsecd.language.documents import errors_of_policy, format_policy, parse_policy
from ipsecd.model.values import Policy
from tests.fuzz.running import fuzz

SEEDS = (
    b'policy: P\nrules:\n  - rule: R\n    action: block\n    filters: ["*=0:1434:UDP"]\n',
    b"policy: no\ndescription: |\n  two\n  lines\nrules: []\n",
    b'{"policy": P, "rules": [{rule: R, action: PERMIT, interface: lan, filters: ["0+*"]}]}',
    b'policy: P\nexpect: ["block tcp 203.0.113.7:4 > me:22 in ppp0", "permit icmp/3/4 me > ::1"]\n',
    b"policy: P\nexpect: [{packet: tcp me:1 > 192.0.2.1:2, verdict: block, reason: why}]\n",
    b"policy: &a P\nrules: *a\n",
    b"policy: !!python/object/apply:os.system [id]\n",
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
    b"policy: P\n---\npolicy: Q\n",
    b"? [a]\n: b\n",
    b"<<: {policy: P}\n",
    b"%YAML 1.2\n---\npolicy: P\n...\n",
    b"[" * 40 + b"]" * 40,
    b"\xef\xbb\xbfpolicy: P\n",
    b"\xff\xfep\x00o\x00",
    b'policy: "\\ud800"\n',
    b"policy: \x00\n",
    b"",
)


def fuzz_one(data: bytes) -> None:
    """Read `data` as a policy document."""
    policy = read_both_ways(data)
    if policy is not None:
        again = parse_policy(format_policy(policy))
        assert again == policy
        assert diff_policies(policy, again) == ()


def read_both_ways(document: str | bytes) -> Policy | None:
    """The policy; None for an error, which must also be the first of those that are collected."""
    collected = errors_of_policy(document, "fuzz.yaml")
    for each in collected.first:
        check(each)
    raised = None
    try:
        policy = parse_policy(document, "fuzz.yaml")
    except InvalidInput as error:
        raised = error
    if raised is None:
        assert collected.count == 0
        return policy
    first = collected.first[0]
    assert (str(first), first.line) == (str(raised), raised.line)
    return None


def check(error: InvalidInput) -> None:
    """An error names the document and a line in it."""
    assert error.source == "fuzz.yaml"
    assert error.line >= 1
    assert error.message


if __name__ == "__main__":
    fuzz(fuzz_one)
