"""Any commands of netsh, against a model of lists, actions, rules and policies in a few lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.language.filters import parse_filter
from ipsecd.model.decide import decide
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.values import Action, InForce, Origin, Store
from tests.ctl.netsh_host import HOST, NetshHost, packet_of

PACKETS = (
    "tcp 203.0.113.9:4000 > me:80",
    "udp 203.0.113.9:4000 > me:80",
    "tcp me:80 > 203.0.113.9:4000",
    "tcp me:4000 > 203.0.113.77:80",
    "tcp 203.0.113.77:4000 > me:443",
    "icmp 10.9.0.1 > me",
)
FILTERS = {
    "any me protocol=tcp dstport=80": "*+0:80:TCP",
    "203.0.113.9 me": "203.0.113.9+0",
    "203.0.113.0/24 me mirrored=no": "203.0.113.0/24=0",
    "me any protocol=tcp mirrored=no": "0=*::TCP",
    "any any protocol=icmp": "*+*::ICMP",
}
"""Tags, each with the filter that they mean."""


@dataclass
class Model:
    """What there is; a method returns whether the command works."""

    lists: dict[str, set[str]] = field(default_factory=dict)
    actions: dict[str, str] = field(default_factory=dict)
    policies: dict[str, dict[str, tuple[str, str, bool]]] = field(default_factory=dict)
    assigned: str | None = None
    contradicted: bool = False
    """Whether a filter action was to be made whose name is that of another."""

    def uses(self, at: int, name: str) -> bool:
        rules = (rule for policy in self.policies.values() for rule in policy.values())
        return any(rule[at] == name for rule in rules)

    def add_list(self, name: str) -> bool:
        return name not in self.lists and self.lists.setdefault(name, set()) is not None

    def add_filter(self, name: str, text: str) -> bool:
        self.lists.setdefault(name, set()).add(FILTERS[text])
        return True

    def delete_filter(self, name: str, text: str) -> bool:
        there = self.lists.get(name, set())
        if FILTERS[text] not in there:
            return False
        there.remove(FILTERS[text])
        return True

    def delete_list(self, name: str) -> bool:
        if self.uses(0, name):
            return False
        return self.lists.pop(name, None) is not None

    def add_action(self, name: str, does: str) -> bool:
        self.contradicted = self.contradicted or self.actions.get(name, does) != does
        return name not in self.actions and self.actions.setdefault(name, does) is not None

    def set_action(self, name: str, does: str) -> bool:
        if name not in self.actions:
            return False
        self.actions[name] = does
        return True

    def delete_action(self, name: str) -> bool:
        if self.uses(1, name):
            return False
        return self.actions.pop(name, None) is not None

    def add_policy(self, name: str, assign: bool) -> bool:
        if name in self.policies:
            return False
        self.policies[name] = {}
        if assign:
            self.assigned = name
        return True

    def assign(self, name: str, assign: bool) -> bool:
        if name not in self.policies:
            return False
        if assign or self.assigned == name:
            self.assigned = name if assign else None
        return True

    def rename(self, name: str, new: str) -> bool:
        if name not in self.policies or (new in self.policies and new != name):
            return False
        self.policies[new] = self.policies.pop(name)
        if self.assigned == name:
            self.assigned = new
        return True

    def delete_policy(self, name: str) -> bool:
        if self.assigned == name:
            self.assigned = None
        return self.policies.pop(name, None) is not None

    def add_rule(self, name: str, policy: str, used: str, action: str, active: bool) -> bool:
        there = self.policies.get(policy)
        if there is None or name in there or used not in self.lists or action not in self.actions:
            return False
        there[name] = (used, action, active)
        return True

    def switch(self, name: str, policy: str, active: bool) -> bool:
        rule = self.policies.get(policy, {}).get(name)
        if rule is None:
            return False
        self.policies[policy][name] = (*rule[:2], active)
        return True

    def delete_rule(self, name: str, policy: str) -> bool:
        return self.policies.get(policy, {}).pop(name, None) is not None

    def delete_all(self) -> bool:
        self.lists, self.actions, self.policies, self.assigned = {}, {}, {}, None
        return True

    def in_force(self) -> Iterator[InForce]:
        for name, (used, action, active) in self.policies.get(self.assigned or "", {}).items():
            origin = Origin(Store.STATIC.value, self.assigned or "", name)
            for text in self.lists[used] if active else ():
                yield InForce(origin, parse_filter(text), Action(self.actions[action]))


Step = tuple[str, Callable[[Model], bool]]
NAMES = st.sampled_from(["a", "b"])
ACTIONS = st.sampled_from(["block", "permit"])
TEXTS = st.sampled_from(sorted(FILTERS))


def yes(value: bool) -> str:
    return "yes" if value else "no"


STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda n: (f"add filterlist {n}", lambda m: m.add_list(n)), NAMES),
    st.builds(lambda n, t: (f"add filter {n} {t}", lambda m: m.add_filter(n, t)), NAMES, TEXTS),
    st.builds(
        lambda n, t: (f"delete filter {n} {t}", lambda m: m.delete_filter(n, t)), NAMES, TEXTS
    ),
    st.builds(lambda n: (f"delete filterlist {n}", lambda m: m.delete_list(n)), NAMES),
    st.builds(
        lambda n, a: (f"add filteraction {n} action={a}", lambda m: m.add_action(n, a)),
        NAMES,
        ACTIONS,
    ),
    st.builds(
        lambda n, a: (f"set filteraction {n} action={a}", lambda m: m.set_action(n, a)),
        NAMES,
        ACTIONS,
    ),
    st.builds(lambda n: (f"delete filteraction {n}", lambda m: m.delete_action(n)), NAMES),
    st.builds(
        lambda n, y: (f"add policy {n} assign={yes(y)}", lambda m: m.add_policy(n, y)),
        NAMES,
        st.booleans(),
    ),
    st.builds(
        lambda n, y: (f"set policy {n} assign={yes(y)}", lambda m: m.assign(n, y)),
        NAMES,
        st.booleans(),
    ),
    st.builds(lambda n, o: (f"set policy {n} {o}", lambda m: m.rename(n, o)), NAMES, NAMES),
    st.builds(lambda n: (f"delete policy {n}", lambda m: m.delete_policy(n)), NAMES),
    st.builds(
        lambda n, p, used, a, y: (
            f"add rule {n} {p} {used} {a} activate={yes(y)}",
            lambda m: m.add_rule(n, p, used, a, y),
        ),
        *(NAMES, NAMES, NAMES, NAMES),
        st.booleans(),
    ),
    st.builds(
        lambda n, p, y: (f"set rule {n} policy={p} activate={yes(y)}", lambda m: m.switch(n, p, y)),
        *(NAMES, NAMES),
        st.booleans(),
    ),
    st.builds(lambda n, p: (f"delete rule {n} {p}", lambda m: m.delete_rule(n, p)), NAMES, NAMES),
    st.just(("delete all", lambda m: m.delete_all())),
)
BEGINNING: list[Step] = [
    ("add policy a assign=yes", lambda m: m.add_policy("a", True)),
    ("add filter a 203.0.113.9 me", lambda m: m.add_filter("a", "203.0.113.9 me")),
    ("add filteraction a action=block", lambda m: m.add_action("a", "block")),
    ("add rule a a a a", lambda m: m.add_rule("a", "a", "a", "a", True)),
]


def differences(host: NetshHost, model: Model) -> list[str]:
    """In what the host is not as the model has it."""
    stored = {
        name: {
            rule.name: (rule.filter_list, rule.filter_action, active)
            for rules, active in ((policy.rules, True), (policy.resting, False))
            for rule in rules
        }
        for name in host.documents
        for policy in (host.policy(name),)
    }
    shared = host.shared
    wrong = [
        name
        for name, is_same in (
            ("assigned", host.assigned == model.assigned),
            ("policies", stored == model.policies),
            ("lists", {n: len(each.filters) for n, each in shared.lists.items()}
             == {n: len(filters) for n, filters in model.lists.items()}),
            ("actions", {n: each.action.value for n, each in shared.actions.items()}
             == model.actions),
        )
        if not is_same
    ]  # fmt: skip
    for packet in PACKETS:
        meant = decide(model.in_force(), packet_of(packet), HOST, ESSENTIALS).action.value
        if host.verdict(packet) != meant:
            wrong.append(packet)
    return wrong


@settings(max_examples=150)
@given(st.lists(STEPS, min_size=1, max_size=14))
def test_any_commands_come_to_what_the_model_says(steps: list[Step]) -> None:
    """One after the other, and as one file; what does not work changes nothing.

    A file that takes a filter action for another than is there comes to nothing.
    """
    by_line, model = NetshHost(), Model()
    for line, step in [*BEGINNING, *steps]:
        before = by_line.changes
        answer = by_line.line(f"ipsec static {line}")
        works = step(model)
        assert (answer.code == 0) is works, (line, answer)
        assert works or by_line.changes == before
        assert not differences(by_line, model), line
    by_file = NetshHost()
    by_file.file("\n".join(f"ipsec static {line}" for line, _ in [*BEGINNING, *steps]))
    if model.contradicted:
        assert by_file.changes == 0
        return
    assert not differences(by_file, model)
    assert by_file.shared == by_line.shared


def test_the_model_would_be_seen_to_differ() -> None:
    """If the host had one filter more, or an action were another."""
    host, model = NetshHost(), Model()
    for line, step in BEGINNING:
        host.line(f"ipsec static {line}")
        step(model)
    assert not differences(host, model)
    assert "lists" in differences(host, replace(model, lists={"a": set(FILTERS.values())}))
    assert PACKETS[0] in differences(host, replace(model, actions={"a": "permit"}))
