"""Which calls have to spare connections, and which names have to be looked up for that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipsecd.config.domain import DomainSettings
from ipsecd.control import METHODS, Control
from ipsecd.control.guarding import HARMLESS
from ipsecd.engine.caller import DAEMON, Caller, ChangeOptions
from tests.engine.site import Site

LOGIN = ChangeOptions(connection="192.0.2.7 50000 192.0.2.1 22")
PROGRAM, ADMINISTRATOR = Caller(pid=1), Caller(pid=1, options=LOGIN)
NOTHING: frozenset[str] = frozenset()
SOURCE = "https://policy.example.net/fleet"


def to_guard(site: Site, method: str, caller: Caller) -> frozenset[str] | None:
    return Control(site.engine).names_to_guard(method, caller)


@pytest.mark.parametrize(
    ("method", "caller", "spares"),
    [
        ("AddDynamic", ADMINISTRATOR, True),
        ("AddDynamicRules", PROGRAM, False),
        ("ChangeDynamicRules", PROGRAM, False),
        ("AddToList", PROGRAM, False),
        ("AddToList", ADMINISTRATOR, True),
        ("UpdateList", DAEMON, False),
        ("RefreshNames", DAEMON, False),
        ("ApplyPolicy", PROGRAM, True),
        ("Reload", DAEMON, True),
        ("TakeDomain", DAEMON, True),
        ("Start", PROGRAM, True),
        ("Revert", PROGRAM, True),
        ("Stop", ADMINISTRATOR, False),
        ("Confirm", ADMINISTRATOR, False),
    ],
)
def test_who_has_to_spare_what(site: Site, method: str, caller: Caller, spares: bool) -> None:
    """Programs that ban and the daemon spare nothing; policies do, whoever brings them."""
    assert (to_guard(site, method, caller) is not None) is spares


@pytest.mark.parametrize(
    "options", [ChangeOptions(force=True), ChangeOptions(confirm_s=60.0), None]
)
def test_who_wants_it_all_the_same(site: Site, options: ChangeOptions | None) -> None:
    """By force, for a while, or by the settings."""
    if options is None:
        site.engine.config = replace(site.engine.config, guard=False)
    caller = Caller(pid=1, options=options or LOGIN)
    assert to_guard(site, "ApplyPolicy", caller) is None


def test_what_takes_a_change_is_guarded_or_harmless() -> None:
    """A method that is new is guarded unless somebody says that it blocks nothing."""
    assert {name for name in METHODS if METHODS[name].takes_change} > HARMLESS


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (DomainSettings("file:///srv/fleet"), NOTHING),
        (DomainSettings("https://192.0.2.1/fleet"), NOTHING),
        (DomainSettings(SOURCE), {"policy.example.net"}),
        (DomainSettings(SOURCE, proxy="http://proxy.example:3128"), {"proxy.example"}),
        (
            DomainSettings(SOURCE, "etcds://a:b@h1.example:2379,[2001:db8::1]:2379/key"),
            {"policy.example.net", "h1.example"},
        ),
    ],
)
def test_the_names_of_the_source(
    site: Site, settings: DomainSettings, names: frozenset[str]
) -> None:
    """Those that this host asks; for bans none is looked up."""
    site.engine.config = replace(site.engine.config, domain=settings)
    assert to_guard(site, "ApplyPolicy", PROGRAM) == names
    assert to_guard(site, "AddDynamic", ADMINISTRATOR) == NOTHING
