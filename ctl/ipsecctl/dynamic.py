"""Owns the verbs that change dynamic rules; only the daemon knows how long one lives by default."""

from __future__ import annotations

from ipsecctl.client import Client
from ipsecctl.failures import DONE
from ipsecctl.options import Options, conditions_of, duration_s
from ipsecctl.plain import plain_filter, plain_filters
from ipsecctl.presentation import paint_action, print_warnings, span
from ipsecd.errors import InvalidInput, NotFound
from ipsecd.output import say, say_json
from ipsecd.quoting import count, few

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any


def block(client: Client, options: Options) -> int:
    """Add a dynamic rule that blocks."""
    return _add(client, options, "block")


def permit(client: Client, options: Options) -> int:
    """Add a dynamic rule that permits."""
    return _add(client, options, "permit")


def unblock(client: Client, options: Options) -> int:
    """Remove dynamic rules by name, by filter or by address.

    The text is tried as typed first, so that a name wins over a filter that is spelled like it.
    """
    selector = options.argument()
    try:
        removed = client.call("RemoveDynamic", {"selector": selector})["removed"]
    except NotFound as absent:
        try:
            canonical = canonical_filter(selector)
            if canonical == selector:
                raise
            removed = client.call("RemoveDynamic", {"selector": canonical})["removed"]
        except (InvalidInput, NotFound):
            # The refusal has to name what was typed.
            raise absent from None
    if options.has("--json"):
        say_json({"removed": removed})
    else:
        names = few([*map(repr, removed)])
        say(f"removed {count(len(removed), 'dynamic rule')}: {names}")
    return DONE


def flush(client: Client, options: Options) -> int:
    """Remove every dynamic rule."""
    removed = client.call("FlushDynamic")["removed"]
    if options.has("--json"):
        say_json({"removed": removed})
    else:
        say(flushed_line(removed))
    return DONE


def canonical_filter(text: str) -> str:
    """The filter that `text`, perhaps a short form, stands for; raises ``InvalidInput``."""
    if plain := plain_filter(text):
        return plain
    from ipsecd.language.filters import format_filter, parse_short

    return format_filter(parse_short(text))


def canonical_filters(arguments: list[str]) -> list[str]:
    """The filters that arguments of a command stand for; raises ``InvalidInput``."""
    if plain := plain_filters(arguments):
        return plain
    from ipsecd.language.filters import join_arguments

    return [canonical_filter(text) for text in join_arguments(arguments)]


def add_dynamic(
    client: Client,
    filters: list[str],
    action: str,
    *,
    name: str | None = None,
    ttl_s: float | None = None,
    conditions: dict[str, str | None],
) -> dict[str, Any]:
    """The dynamic rule as the daemon has put it in force, and its ``warnings``."""
    parameters = {
        "filters": filters,
        "action": action,
        "name": name,
        "ttl_s": ttl_s,
        **conditions,
    }
    reply = client.call("AddDynamic", parameters)
    return {**reply["rule"], "warnings": reply["warnings"]}


def rule_line(rule: dict[str, Any]) -> str:
    """A line that says what a dynamic rule does, for how long, on which links and by which name."""
    shown = few(rule["filters"])
    remaining_s = rule["remaining_s"]
    life = "until the daemon stops" if remaining_s is None else f"for {span(remaining_s)}"
    asked = f" on {rule['interface']} links" if rule["interface"] else ""
    # A daemon that is older does not answer it.
    asked += f" when {rule['when']}" if rule.get("when") else ""
    return f"{paint_action(rule['action'])} {shown}{asked} · in force {life} as {rule['name']!r}"


def flushed_line(removed: int) -> str:
    """A line that says how many dynamic rules were removed when all were."""
    if not removed:
        return "there was no dynamic rule; none is in force"
    return f"removed {count(removed, 'dynamic rule')}; none is in force"


def _add(client: Client, options: Options, action: str) -> int:
    lifetime = options.value("--for")
    rule = add_dynamic(
        client,
        canonical_filters(options.arguments),
        action,
        name=options.value("--name"),
        ttl_s=None if lifetime is None else duration_s(lifetime),
        conditions=conditions_of(options),
    )
    if options.has("--json"):
        say_json(rule)
    else:
        say(rule_line(rule))
        print_warnings(rule["warnings"])
    return DONE
