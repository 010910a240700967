"""Owns the module ``policy``: a stored policy, and whether it is in force."""

from __future__ import annotations

DOCUMENTATION = r"""
module: policy
short_description: Store a policy on a host, and have it in force
version_added: "1.0.0"
description:
  - Stores a policy document, or deletes a stored policy, and says whether it is in force.
  - A document is compiled and checked before anything is changed, and replaces the policy of its
    name as one change.
extends_documentation_fragment:
  - ipsecd.host.ipsecctl
options:
  name:
    description: The name of the policy.
    type: str
    required: true
  state:
    description: Whether the policy is stored.
    type: str
    choices: [present, absent]
    default: present
  content:
    description:
      - The policy document, whose name is I(name); see ipsec-policy(5).
      - If it is left out, a policy without rules is stored where there is none of that name.
    type: str
  assigned:
    description:
      - Whether the policy is the one in force. If it is left out, that stays as it is, and a new
        policy is not.
      - A policy that is in force is not deleted, unless this is C(false).
    type: bool
"""

EXAMPLES = r"""
- name: Keep the worm out, and in
  ipsecd.host.policy:
    name: Block UDP 1434 Filter
    content: |
      policy: Block UDP 1434 Filter
      rules:
        - rule: Block Inbound UDP 1434 Rule
          action: block
          filters: ["*=0:1434:UDP"]
    assigned: true

- name: Have the policy of a file of the control host in force
  ipsecd.host.policy:
    name: Server
    content: "{{ lookup('ansible.builtin.file', 'server.yaml') }}"
    assigned: true

- name: Have it no more
  ipsecd.host.policy:
    name: Block UDP 1434 Filter
    state: absent
    assigned: false
"""

RETURN = r"""
changes:
  description: What is different in the policy, a line for each rule or filter.
  returned: always
  type: list
  elements: str
  sample: ['+ rule "No telnet": *=0:23:TCP']
policy:
  description: The policy as it is stored, or would be in check mode.
  returned: if it is stored
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    document:
      description: Its document, in canonical form.
      type: str
    assigned:
      description: Whether it is the one in force.
      type: bool
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
    with_diff,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "content": {"type": "str"},
            "assigned": {"type": "bool"},
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    ipsecctl = Ipsecctl(module)
    before = stored(ipsecctl)
    if module.params["state"] == "absent":
        changes = delete(ipsecctl, before)
    else:
        changes = store(ipsecctl, before)
    after = expected(ipsecctl, before, changes) if module.check_mode else stored(ipsecctl)
    header = f"policy {module.params['name']}"
    module.exit_json(
        changed=bool(changes),
        changes=changes,
        diff=with_diff(header, text_of(before), text_of(after)),
        **({"policy": after} if after else {}),
    )


def stored(ipsecctl: Ipsecctl) -> dict[str, Any] | None:
    """The policy as it is; None if it is not stored."""
    name = ipsecctl.module.params["name"]
    told = ipsecctl.ask(["policy", "show"], [name], missing_ok=True)
    if told is None or told["store"] != "static":
        return None
    return {"name": name, "document": told["document"], "assigned": told["assigned"]}


def delete(ipsecctl: Ipsecctl, before: dict[str, Any] | None) -> list[str]:
    """Delete the policy, if there is one."""
    name, assigned = ipsecctl.module.params["name"], ipsecctl.module.params["assigned"]
    if before is None:
        return []
    if before["assigned"] and assigned is not False:
        ipsecctl.module.fail_json(
            msg=f"policy {name!r} is in force (say with assigned: false that it is not to be)"
        )
    words = ["policy", "delete"] + (["--unassign"] if before["assigned"] else [])
    ipsecctl.do(words, [name])
    return [f"- policy {name}"]


def store(ipsecctl: Ipsecctl, before: dict[str, Any] | None) -> list[str]:
    """Store the policy, and have it in force or not."""
    given = ipsecctl.module.params
    name, content, assigned = given["name"], given["content"], given["assigned"]
    is_to_be_assigned = assigned and not (before and before["assigned"])
    changes: list[str] = []
    if content is not None:
        check_name(ipsecctl)
    if assigned is False and before and before["assigned"]:
        # First, so that the new content is not in force for a moment.
        ipsecctl.do(["policy", "unassign"], [name])
        changes.append("~ assigned: no")
    assign = ["--assign"] if assigned else []
    if content is not None:
        told = ipsecctl.change(["apply", *assign], ["-"], content)
        if told and told["changed"]:
            changes += told["changes"]
            if is_to_be_assigned:
                changes.append("~ assigned: yes")
            changes = changes or ["~ stored anew"]
        return changes
    if before is None:
        ipsecctl.do(["policy", "create"], [name])
        changes.append(f"+ policy {name}")
    if is_to_be_assigned:
        ipsecctl.do(["policy", "assign"], [name])
        changes.append("~ assigned: yes")
    return changes


def check_name(ipsecctl: Ipsecctl) -> None:
    """End the module if the document is one of another name."""
    name = ipsecctl.module.params["name"]
    told = canonical(ipsecctl)["policy"]
    if told != name:
        ipsecctl.module.fail_json(
            msg=f"the document is that of policy {told!r}, and not {name!r}",
            error="InvalidInput",
            hint="give both one name",
        )


def canonical(ipsecctl: Ipsecctl) -> Any:
    """The document as it will be stored, with its name."""
    return ipsecctl.ask(["format"], ["-"], ipsecctl.module.params["content"])


def expected(
    ipsecctl: Ipsecctl, before: dict[str, Any] | None, changes: list[str]
) -> dict[str, Any] | None:
    """The policy as it would be."""
    given = ipsecctl.module.params
    if given["state"] == "absent" or not changes:
        return None if given["state"] == "absent" else before
    assigned = given["assigned"]
    if assigned is None:
        assigned = bool(before and before["assigned"])
    document = before["document"] if before else f"policy: {given['name']}\nrules: []\n"
    if given["content"] is not None:
        document = canonical(ipsecctl)["document"]
    return {"name": given["name"], "document": document, "assigned": assigned}


def text_of(policy: dict[str, Any] | None) -> str:
    """A policy for people to compare."""
    if policy is None:
        return ""
    return f"{policy['document']}# assigned: {'yes' if policy['assigned'] else 'no'}\n"


if __name__ == "__main__":
    main()
