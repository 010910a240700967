"""Owns what ``netsh ipsec static show`` prints; must not know how the command is written.

Scripts look for these labels: each is padded to 23 columns, and a colon and the value follow. Text
of others is made visible, so that it can neither end a line nor look like a label.
"""

from __future__ import annotations

from collections.abc import Iterator

from ipsecctl.netsh.draft_values import ListDraft, PolicyDraft, RuleDraft
from ipsecctl.netsh.failing import NO_POLICY, Conflict
from ipsecctl.netsh.session import Session
from ipsecctl.netsh.words import Given
from ipsecd.language.addresses import format_address, format_value
from ipsecd.language.protocols import format_protocol
from ipsecd.language.shared_filters import format_address_of
from ipsecd.model.addresses import Family, HostName, Keyword, Network
from ipsecd.model.kinds import Action
from ipsecd.model.shared_filters import AddressRange, FilterAction, SharedEndpoint, SharedFilter
from ipsecd.model.values import PortRange
from ipsecd.quoting import visible

_LABEL_WIDTH = 23
_KEYWORDS = {Keyword.ME: "<My IP Address>", Keyword.ANY: "<Any IP Address>"}
_ACTIONS = {Action.BLOCK: "BLOCK", Action.PERMIT: "PERMIT", Action.AUDIT: "AUDIT"}
_CONNECTIONS = {None: "ALL", "lan": "LAN", "dialup": "DIALUP"}


def labelled(label: str, value: object) -> str:
    """A line with a label and a value."""
    return f"{label:<{_LABEL_WIDTH}}: {visible(str(value))}"


def everything(session: Session, _given: Given) -> None:
    """``show all``: filter lists, filter actions and policies."""
    drafts = session.drafts
    policies, lists = drafts.policy_names(), drafts.list_names()
    actions = drafts.action_names()
    if not policies and not lists and not actions:
        raise _no_policies()
    for filter_list in lists:
        session.say("", *_list_lines(drafts.list_of(filter_list), verbose=True))
    for action in actions:
        session.say("", *_action_lines(drafts.action(action)))
    for policy in policies:
        session.say("", *_policy_lines(session, drafts.policy(policy), verbose=True))


def policies(session: Session, given: Given) -> None:
    """``show policy``."""
    drafts, verbose = session.drafts, given.get("level") == "verbose"
    names = _names(given, drafts.policy_names())
    if not names:
        raise _no_policies()
    for name in names:
        session.say("", *_policy_lines(session, drafts.policy(name), verbose=verbose))
    if len(names) > 1:
        session.say("", labelled("No. of policies", len(names)))


def rules(session: Session, given: Given) -> None:
    """``show rule``: of one policy or of all."""
    drafts = session.drafts
    in_policies = [given["policy"]] if "policy" in given else drafts.policy_names()
    if not in_policies:
        raise _no_policies()
    found = False
    for policy_name in in_policies:
        policy = drafts.policy(policy_name)
        for name in _names(given, list(policy.rules)):
            if name in policy.rules:
                found = True
                session.say("", labelled("Policy Name", policy.name))
                session.say(*_rule_lines(session, policy.rules[name]))
    if not found:
        hint = f"no rule is called {visible(given['name'])!r}"
        raise Conflict("there is no such rule", hint)


def filter_lists(session: Session, given: Given) -> None:
    """``show filterlist``."""
    verbose, names = given.get("level") == "verbose", _names(given, session.drafts.list_names())
    for name in names:
        one = len(names) == 1 and not given.is_all("name")
        lines = _list_lines(session.drafts.list_of(name), verbose=verbose or one)
        session.say("", *lines)


def filter_actions(session: Session, given: Given) -> None:
    """``show filteraction``."""
    for name in _names(given, session.drafts.action_names()):
        session.say("", *_action_lines(session.drafts.action(name)))


def store(session: Session, _given: Given) -> None:
    """``show store``."""
    session.say(labelled("Policy Store", "Local Computer"))


def domain_policy(session: Session, _given: Given) -> None:
    """``show gpoassignedpolicy``: that of the domain, if it is in force."""
    status = session.client.call("Status")["status"]
    is_domain = status["loaded_from"] == "domain"
    session.say(labelled("Domain Policy", status["assigned"] if is_domain else "NONE"))


def _names(given: Given, there: list[str]) -> list[str]:
    """The names that are to be shown; ``all`` is all, unless it is a name and written as one."""
    name = given["name"]
    if name.lower() == "all" and (given.is_all("name") or name not in there):
        return there
    return [name]


def _no_policies() -> Conflict:
    return Conflict("there are no policies", "add one: add policy name=NAME", NO_POLICY)


def _policy_lines(session: Session, policy: PolicyDraft, *, verbose: bool) -> Iterator[str]:
    yield labelled("Policy Name", policy.name)
    yield labelled("Description", policy.description or "NONE")
    yield labelled("Assigned", "YES" if session.drafts.assigned == policy.name else "NO")
    yield labelled("No. of Rules", len(policy.rules))
    if verbose:
        for number, rule in enumerate(policy.rules.values(), 1):
            yield from ("", f"Rule ID                : {number}")
            yield from _rule_lines(session, rule)


def _rule_lines(session: Session, rule: RuleDraft) -> Iterator[str]:
    interface = rule.conditions.interface_text
    yield labelled("Rule Name", rule.name)
    yield labelled("Description", rule.description or "NONE")
    yield labelled("Connection Type", _CONNECTIONS.get(interface, interface))
    yield labelled("Activated", "YES" if rule.active else "NO")
    yield labelled("FilterList Name", rule.filter_list or "NONE")
    yield labelled("FilterAction Name", rule.filter_action or "NONE")
    if not rule.filter_list and rule.rule:
        yield labelled("No. of Filters", len(rule.rule.filters))
    elif session.drafts.has_list(rule.filter_list):
        yield labelled("No. of Filters", session.drafts.list_of(rule.filter_list).count())


def _action_lines(action: FilterAction) -> Iterator[str]:
    yield labelled("FilterAction Name", action.name)
    yield labelled("Description", action.description or "NONE")
    yield labelled("Action", _ACTIONS[action.action])


def _list_lines(filter_list: ListDraft, *, verbose: bool) -> Iterator[str]:
    yield labelled("FilterList Name", filter_list.name)
    yield labelled("Description", filter_list.description or "NONE")
    yield labelled("No. of Filters", filter_list.count())
    if verbose and filter_list.count():
        yield from ("Filter(s)", "-" * 9)
        for number, flt in enumerate(filter_list.all_filters()):
            yield from ("",) if number else ()
            yield from _filter_lines(flt)


def _filter_lines(flt: SharedFilter) -> Iterator[str]:
    yield labelled("Description", flt.description or "NONE")
    yield labelled("Mirrored", "YES" if flt.mirrored else "NO")
    for side, word in ((flt.source, "Source"), (flt.destination, "Destination")):
        yield from _side_lines(side, word)
    protocol = "ANY" if flt.protocol is None else format_protocol(flt.protocol)
    yield labelled("Protocol", protocol)
    yield labelled("Source Port", _ports(flt.source.ports))
    yield labelled("Destination Port", _ports(flt.destination.ports))


def _side_lines(side: SharedEndpoint, word: str) -> Iterator[str]:
    address = side.address
    if isinstance(address, Keyword):
        yield labelled(f"{word} IP Address", _KEYWORDS[address])
    elif isinstance(address, Network):
        yield labelled(f"{word} IP Address", format_value(address.family, address.address))
    elif isinstance(address, AddressRange):
        yield labelled(f"{word} IP Address", format_address_of(side))
    else:
        looked_up = getattr(address, "addresses", ())
        shown = ", ".join(map(format_address, looked_up)) if looked_up else "<resolved when used>"
        yield labelled(f"{word} IP Address", shown)
    yield labelled(f"{word} Mask", _mask(side))
    name = format_address_of(side).partition("(")[0]
    is_named = not isinstance(address, Keyword | Network | AddressRange)
    yield labelled(
        f"{word} DNS Name", name if is_named or isinstance(address, HostName) else "NONE"
    )


def _mask(side: SharedEndpoint) -> str:
    address = side.address
    if isinstance(address, Keyword) and address is Keyword.ANY:
        return format_value(Family.IPV4, 0)
    if not isinstance(address, Network):
        return format_value(Family.IPV4, (1 << 32) - 1)
    if address.family is Family.IPV6:
        return str(address.length)
    return format_value(Family.IPV4, (1 << 32) - (1 << 32 - address.length))


def _ports(ports: tuple[PortRange, ...]) -> str:
    shown = (str(r.first) if r.first == r.last else f"{r.first}-{r.last}" for r in ports)
    return ",".join(shown) or "ANY"
