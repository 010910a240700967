"""Owns the module ``list``: a list of addresses on a host, and the entries in it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: list
short_description: Keep a list of addresses on a host
version_added: "1.0.0"
description:
  - Makes, fills or deletes a list of addresses, which filters name as C(@NAME).
  - Without I(purge), entries that are there already, from wherever, stay.
extends_documentation_fragment:
  - ipsecd.host.ipsecctl
options:
  name:
    description: The name of the list.
    type: str
    required: true
  state:
    description: Whether the list is there, or with I(entries) whether these are in it.
    type: str
    choices: [present, absent]
    default: present
  entries:
    description: Addresses, prefixes and ranges.
    type: list
    elements: str
  purge:
    description: Have the list hold the entries and nothing else.
    type: bool
    default: false
  accept:
    description: Take what looks like a mistake, such as a list that shrinks to less than half.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: These stay out
  ipsecd.host.list:
    name: bans
    entries: [203.0.113.7, 198.51.100.0/24]

- name: These alone are administrators
  ipsecd.host.list:
    name: admins
    entries: [192.0.2.10, 192.0.2.11]
    purge: true

- name: One of them is none any more
  ipsecd.host.list:
    name: admins
    entries: [192.0.2.11]
    state: absent

- name: Nobody names the list any more
  ipsecd.host.list:
    name: bans
    state: absent
"""

RETURN = r"""
entries:
  description: How many entries the list has, or would have in check mode.
  returned: if the list is there
  type: int
added:
  description: Entries that came.
  returned: always
  type: list
  elements: str
removed:
  description: Entries that went.
  returned: always
  type: list
  elements: str
error:
  description: The name of the error.
  returned: if it failed
  type: str
  sample: Refused
hint:
  description: What to do about the error.
  returned: if it failed
  type: str
"""

import ipaddress
from collections.abc import Iterable

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
            "entries": {"type": "list", "elements": "str"},
            "purge": {"type": "bool", "default": False},
            "accept": {"type": "bool", "default": False},
            **OPTIONS,
        },
        required_if=[("purge", True, ("entries",))],
        supports_check_mode=True,
    )
    given = module.params
    if given["purge"] and given["state"] == "absent":
        module.fail_json(msg="purge says what is in a list that is there", error="InvalidInput")
    ipsecctl = Ipsecctl(module)
    before = entries_of(ipsecctl)
    asked = [*dict.fromkeys(text for each in given["entries"] or [] for text in canonical(each))]
    change = keep if given["state"] == "present" else take_out
    changed, after = change(ipsecctl, before, asked)
    old, new = set(before or ()), set(after or ())
    diff = with_diff(f"list {given['name']}", text_of(before), text_of(after))
    module.exit_json(
        changed=changed,
        added=sorted(new - old),
        removed=sorted(old - new),
        diff=diff,
        **({"entries": len(after)} if after is not None else {}),
    )


Changed = tuple[bool, list[str] | None]
"""Whether anything is different, and the entries after that; None if there is no list."""


def keep(ipsecctl: Ipsecctl, before: list[str] | None, asked: list[str]) -> Changed:
    """Have the list, with what is asked for in it."""
    given = ipsecctl.module.params
    accept = ["--accept"] if given["accept"] else []
    text = "".join(f"{entry}\n" for entry in asked)
    if before is None:
        if asked:
            ipsecctl.change(["list", "create", "--from", "-", *accept], [given["name"]], text)
        else:
            ipsecctl.change(["list", "create"], [given["name"]])
        return True, asked
    if given["purge"]:
        if set(asked) == set(before):
            return False, before
        ipsecctl.change(["list", "replace", *accept], [given["name"], "-"], text)
        return True, asked
    missing = [entry for entry in asked if entry not in set(before)]
    if missing:
        ipsecctl.change(["list", "add", *accept], [given["name"], *missing])
    return bool(missing), [*before, *missing]


def take_out(ipsecctl: Ipsecctl, before: list[str] | None, asked: list[str]) -> Changed:
    """Have the list no more, or have it without what is asked for."""
    given = ipsecctl.module.params
    if before is None:
        return False, None
    if given["entries"] is None:
        ipsecctl.change(["list", "delete"], [given["name"]])
        return True, None
    present = [entry for entry in asked if entry in set(before)]
    if present:
        ipsecctl.change(["list", "remove"], [given["name"], *present])
    return bool(present), [entry for entry in before if entry not in set(present)]


def entries_of(ipsecctl: Ipsecctl) -> list[str] | None:
    """The entries of the list; None if there is no such list of this host."""
    told = ipsecctl.ask(["list", "show"], [ipsecctl.module.params["name"]], missing_ok=True)
    return None if told is None or told["list"]["domain"] else list(told["entries"])


def canonical(text: str) -> list[str]:
    """The entries that a text stands for, as the daemon writes them.

    What is none is left as it is, so that the daemon says what is wrong with it.
    """
    bare = text.strip().replace("[", "").replace("]", "")
    try:
        if "-" in bare:
            first, last = (ipaddress.ip_address(part.strip()) for part in bare.split("-"))
            networks = ipaddress.summarize_address_range(first, last)
            return [as_text(network) for network in networks]
        return [as_text(ipaddress.ip_network(bare))]
    except (TypeError, ValueError):
        return [text]


def as_text(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """A network as the daemon writes it: one address has no prefix length."""
    address = network.network_address
    if network.prefixlen < network.max_prefixlen:
        return str(network)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def text_of(entries: Iterable[str] | None) -> str:
    """Entries for people to compare."""
    return "".join(f"{entry}\n" for entry in sorted(entries or ()))


if __name__ == "__main__":
    main()
