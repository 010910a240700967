"""Owns the module ``rule``: one rule of a stored policy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rule
short_description: Keep one rule in a stored policy
version_added: "1.0.0"
description:
  - Puts a rule into a stored policy, in the place of the rule of its name, or takes it out.
  - Whoever has the whole document uses M(ipsecd.host.policy) instead.
extends_documentation_fragment:
  - ipsecd.host.ipsecctl
options:
  policy:
    description: The name of the stored policy.
    type: str
    required: true
  name:
    description: The name of the rule.
    type: str
    required: true
  state:
    description: Whether the rule is in the policy.
    type: str
    choices: [present, absent]
    default: present
  action:
    description: What the rule does. It is needed for a rule that is to be there.
    type: str
    choices: [block, permit]
  filters:
    description:
      - What the rule matches, such as C(*=0:1434:UDP), C(tcp/23) or an address; see
        ipsec-policy(5).
      - They are needed for a rule that is to be there.
    type: list
    elements: str
  interface:
    description: The interface that it is for, by name or pattern, or C(lan) or C(dialup).
    type: str
  opening:
    description: Whether it matches only packets that open a connection.
    type: bool
    default: false
  create:
    description: Store the policy too, if there is none of that name.
    type: bool
    default: false
  assign:
    description: Have the policy in force.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Nobody logs in by telnet
  ipsecd.host.rule:
    policy: Server
    name: No telnet
    action: block
    filters: [tcp/23]
    create: true
    assign: true

- name: Again they may
  ipsecd.host.rule:
    policy: Server
    name: No telnet
    state: absent
"""

RETURN = r"""
changes:
  description: What is different in the policy, a line for each rule or filter.
  returned: always
  type: list
  elements: str
  sample: ['+ rule "No telnet": *=0:23:TCP']
error:
  description: The name of the error.
  returned: if it failed
  type: str
  sample: NotFound
hint:
  description: What to do about the error.
  returned: if it failed
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ipsecd.host.plugins.module_utils.ipsecctl import (
    OPTIONS,
    Ipsecctl,
    conditions,
    diff_of_lines,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "policy": {"type": "str", "required": True},
            "action": {"type": "str", "choices": ["block", "permit"]},
            "filters": {"type": "list", "elements": "str"},
            "interface": {"type": "str"},
            "opening": {"type": "bool", "default": False},
            "create": {"type": "bool", "default": False},
            "assign": {"type": "bool", "default": False},
            **OPTIONS,
        },
        required_if=[("state", "present", ("action", "filters"))],
        supports_check_mode=True,
    )
    ipsecctl, given = Ipsecctl(module), module.params
    place = [given["policy"], given["name"]]
    if given["state"] == "present":
        words = ["rule", "add", "--action", given["action"], *conditions(module)]
        words += [f"--{name}" for name in ("create", "assign") if given[name]]
        told = ipsecctl.change(words, [*place, *given["filters"]])
    else:
        told = ipsecctl.change(["rule", "remove"], place, missing_ok=True)
    changed, changes = (told["changed"], told["changes"]) if told else (False, [])
    diff = diff_of_lines(f"policy {given['policy']}", changes)
    module.exit_json(changed=changed, changes=changes, diff=diff)


if __name__ == "__main__":
    main()
