"""Tests of the table of verbs: it is complete, and what it says of every verb is true."""

from __future__ import annotations

import shlex
from importlib import import_module
from itertools import takewhile

import pytest

from ipsecctl.failures import UsageError
from ipsecctl.generate.leaves import leaves
from ipsecctl.grammar import JSON, Argument, Option, Verb
from ipsecctl.options import find_action, parse_options
from ipsecctl.usage import help_on, synopsis
from ipsecctl.verbs import DIALECTS, VERBS
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import FakeDaemon

LEAVES = {verb.path.removeprefix("ipsecctl "): verb for _, _, verb in leaves()}


def parsed(line: str) -> Verb:
    """The verb or action of a whole command line; raises if the line is wrong."""
    program, word, *following = takewhile(">".__ne__, shlex.split(line))
    assert program == "ipsecctl"
    verb, following = find_action(VERBS[word], following)
    parse_options(verb, following)
    return verb


@pytest.mark.parametrize("path", LEAVES)
def test_every_handler_is_there(path: str) -> None:
    """A name in the table that leads nowhere is found here and not by a user."""
    module, _, function = LEAVES[path].handler.partition(":")
    assert callable(getattr(import_module(f"ipsecctl.{module}"), function))


@pytest.mark.parametrize("target", DIALECTS.values())
def test_every_dialect_is_there(target: str) -> None:
    """Every legacy command has a handler that exists."""
    module, _, function = target.partition(":")
    assert callable(getattr(import_module(f"ipsecctl.{module}"), function))


@pytest.mark.parametrize("path", LEAVES)
def test_help_explains_everything(path: str) -> None:
    """Help has the synopsis, what every argument and option is, and an example that is right."""
    verb = LEAVES[path]
    text = help_on(path.split())
    one_line = " ".join(text.split())
    assert text.startswith(f"usage: {verb.path}") or path == "show filters"
    things: list[Argument | Option] = [*verb.arguments, *verb.options]
    for thing in things:
        assert thing.name in synopsis(verb)
        assert f" {thing.name}" in text
        assert thing.explanation in one_line
    assert text.endswith(f"\n\nexample: {verb.example}")
    assert parsed(verb.example) is verb
    assert all(len(line) <= 80 for line in text.splitlines() if line.startswith("  "))


@pytest.mark.parametrize("word", VERBS)
def test_examples_of_verbs_with_actions(word: str) -> None:
    """Theirs are right too, and are in their help with every action."""
    verb = VERBS[word]
    assert parsed(verb.example) in (verb, *verb.actions.values())
    for action in verb.actions.values():
        assert f"\n  {action.name} " in help_on([word])


def test_the_overview_fits_a_terminal() -> None:
    """Every verb is a line of it, and no line is wider than 80 columns."""
    lines = help_on([]).splitlines()
    assert max(map(len, lines)) <= 80
    for verb in VERBS.values():
        assert f"  {verb.name:<20}{verb.does}" in lines


def test_json_is_everywhere() -> None:
    """Every verb and every action answers as JSON if it is told to."""
    assert all(JSON in verb.options for verb in LEAVES.values())


@pytest.mark.parametrize(
    ("line", "question"),
    [
        ("statsu", "did you mean 'ipsecctl stats'?"),
        ("blok", "did you mean 'ipsecctl block'?"),
        ("BLOCK", "did you mean 'ipsecctl block'?"),
        ("ban 203.0.113.7", "did you mean 'ipsecctl block'?"),
        ("allow", "did you mean 'ipsecctl permit'?"),
        ("ipsecmd", "did you mean 'ipsecctl ipseccmd'?"),
        ("show filtres", "did you mean 'ipsecctl show filters'?"),
        ("policy remove Web", "did you mean 'ipsecctl policy delete'?"),
        ("block udp/1 --fro 10m", "did you mean '--for'?"),
        ("apply x --asign", "did you mean '--assign'?"),
        ("help blck", "did you mean 'ipsecctl block'?"),
    ],
)
def test_near_misses(daemon: FakeDaemon, run: Run, line: str, question: str) -> None:
    """What is nearly right, or right elsewhere, is answered with what was probably meant."""
    ran = run("ipsecctl", *line.split())
    assert (ran.code, ran.out) == (2, "")
    assert question in ran.err
    assert daemon.calls == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("block", "write: ipsecctl block FILTER…"),
        ("rule add P", "write: ipsecctl rule add POLICY RULE FILTER… --action block|permit"),
        ("rule add P R tcp/1", "needs --action block|permit"),
        ("rule add P R tcp/1 --action no", "write --action block|permit"),
        ("block udp/1 --for", "write --for TIME"),
        ("block udp/1 --lan=1", "write --lan"),
        ("explain --offline x", "--offline needs --policy FILE"),
        ("explain --me 192.0.2.1 x", "--me goes with --offline"),
        ("quarantine", "give container:NAME or --host"),
        ("quarantine container:x --host", "give container:NAME or --host"),
        ("status extra", "write: ipsecctl status [--json]"),
        ("policy", "one of: list, show, export"),
        ("frobnicate-the-daemon", "'ipsecctl help' lists all"),
        ("--json status", "as in: ipsecctl status --json"),
        ("--socket", "write --socket PATH"),
    ],
)
def test_what_to_type_instead(daemon: FakeDaemon, run: Run, line: str, said: str) -> None:
    """Wrong usage is answered with what is right, and with exit code 2."""
    ran = run("ipsecctl", *line.split())
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert daemon.calls == []


def test_options_may_stand_before_an_action(daemon: FakeDaemon, run: Run) -> None:
    """Where there is an action, options with their values stand before or after it."""
    line = ("policy", "--description", "list", "--json", "create", "Web")
    assert run("ipsecctl", *line).code == 0
    assert daemon.calls == [("CreatePolicy", {"name": "Web", "description": "list"})]


def test_an_empty_name_is_a_name(daemon: FakeDaemon, run: Run) -> None:
    """A variable that is empty in a script never stands for everything."""
    assert run("ipsecctl", "policy", "unassign", "").code == 0
    assert daemon.calls == [("UnassignPolicy", {"name": ""})]


def test_double_dash_ends_the_options() -> None:
    """A name may look like an option after it."""
    verb = LEAVES["policy assign"]
    assert parse_options(verb, ["--", "--json"]).arguments == ["--json"]
    with pytest.raises(UsageError, match="no option '--jsn'"):
        parse_options(verb, ["--jsn"])
