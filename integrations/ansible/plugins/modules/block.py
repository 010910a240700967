"""Owns the module ``block``: a dynamic rule, which blocks or permits until the daemon stops."""

from __future__ import annotations

DOCUMENTATION = r"""
module: block
short_description: Block or permit something now, until the daemon stops
version_added: "1.0.0"
description:
  - Has a dynamic rule in force, or takes it out of force. It acts at once, on open connections too.
  - It is gone when the daemon is stopped or the host restarts. What has to last is a rule of a
    policy (M(ipsecd.host.rule)) or an entry of a list (M(ipsecd.host.list)).
extends_documentation_fragment:
  - ipsecd.host.ipsecctl
options:
  name:
    description: The name of the dynamic rule.
    type: str
    required: true
  state:
    description: Whether the rule is in force.
    type: str
    choices: [present, absent]
    default: present
  action:
    description: What the rule does.
    type: str
    choices: [block, permit]
    default: block
  filters:
    description:
      - What the rule matches, such as C(203.0.113.7), C(udp/1434) or C(*=0:1434:UDP).
      - They are needed for a rule that is to be there, and are all that it has.
    type: list
    elements: str
  ends:
    description:
      - When it ends, as a moment such as C(2026-12-01T12:00Z), or after a time such as C(10m).
      - A time is counted from each run, which changes the rule each time; a moment is not.
    type: str
  interface:
    description: The interface that it is for, by name or pattern, or C(lan) or C(dialup).
    type: str
  opening:
    description: Whether it matches only packets that open a connection.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: An attacker is kept out
  ipsecd.host.block:
    name: attacker
    filters: [203.0.113.7, "2001:db8:7::/48"]

- name: He is let in again
  ipsecd.host.block:
    name: attacker
    state: absent
"""

RETURN = r"""
rule:
  description: The dynamic rule, as it is or would be in check mode.
  returned: if it is to be there
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    action:
      description: What it does.
      type: str
    filters:
      description: What it matches, in canonical form.
      type: list
      elements: str
    remaining_s:
      description: How many seconds it has left; null if it has no end.
      type: float
error:
  description: The name of the error.
  returned: if it failed
  type: str
  sample: InvalidInput
hint:
  description: What to do about the error.
  returned: if it failed
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ipsecd.host.plugins.module_utils.ipsecctl import (
    OPTIONS,
    Ipsecctl,
    conditions,
    with_diff,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "action": {"type": "str", "choices": ["block", "permit"], "default": "block"},
            "filters": {"type": "list", "elements": "str"},
            "ends": {"type": "str"},
            "interface": {"type": "str"},
            "opening": {"type": "bool", "default": False},
            **OPTIONS,
        },
        required_if=[("state", "present", ("filters",))],
        supports_check_mode=True,
    )
    ipsecctl, given = Ipsecctl(module), module.params
    before = in_force(ipsecctl)
    after, changed = None, before is not None
    if given["state"] == "present":
        words = [given["action"], "--name", given["name"], "--replace", *conditions(module)]
        words += ["--for", given["ends"]] if given["ends"] else []
        filters = "".join(f"{text}\n" for text in given["filters"])
        told = ipsecctl.change(words, ["-"], filters)
        assert told is not None
        after, changed = told["rules"][0], told["changed"]
    elif before:
        ipsecctl.change(["unblock"], [given["name"]])
    diff = with_diff(f"dynamic rule {given['name']}", text_of(before), text_of(after))
    module.exit_json(changed=changed, diff=diff, **({"rule": after} if after else {}))


def in_force(ipsecctl: Ipsecctl) -> dict[str, Any] | None:
    """The dynamic rule of the name; None if there is none."""
    rules = ipsecctl.ask(["show", "dynamic"])
    return next((rule for rule in rules if rule["name"] == ipsecctl.module.params["name"]), None)


def text_of(rule: dict[str, Any] | None) -> str:
    """A rule for people to compare, without what goes by itself."""
    if rule is None:
        return ""
    lines = [f"action: {rule['action']}", *(f"filter: {text}" for text in rule["filters"])]
    lines += [f"{key}: {rule[key]}" for key in ("interface", "when") if rule[key]]
    lines += ["with an end"] if rule["remaining_s"] is not None else []
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
