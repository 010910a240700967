"""Files of lists and policies that changed together come into force together, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.config import Config
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, InvalidInput, IpsecdError, Refused
from ipsecd.language.documents import format_policy
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.protected import Protected
from ipsecd.model.values import Action
from ipsecd.sources.dynamic import DynamicRule
from tests.engine.site import Site, fail_once
from tests.engine.test_lists import INSIDE, NEXT, OUTSIDE, policy, write

OLD = policy(("block", "@drop=0"))
NEW = policy(("block", "*=0:53:UDP"), ("permit", "@drop=0"))


@pytest.fixture
def bench(site: Site) -> Site:
    """With a list that a policy blocks, and another that a dynamic rule blocks at port 54."""
    write(site, drop="203.0.113.7\n", bans="8.8.8.8\n")
    site.engine.reload({})
    site.engine.change(put=[OLD], assign="P")
    site.engine.add_dynamic(DynamicRule("d", (parse_filter("@bans=0:54:UDP"),), Action.BLOCK))
    return site


def edit_both(site: Site) -> None:
    """Both mean the same as before together, and something else with the other one of before."""
    write(site, drop="203.0.113.8\n", bans="8.8.8.0/24\n")
    Path(site.engine.path_of("P")).write_text(format_policy(NEW), encoding="utf-8")


def verdicts(site: Site) -> tuple[bool, ...]:
    return (site.blocks(53, INSIDE), site.blocks(53, NEXT), site.blocks(54, OUTSIDE + 1))


def test_no_moment_has_the_lists_of_one_and_the_policy_of_the_other(
    bench: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the backend is given on the way, packets meet all that was or all that comes."""
    seen = []
    apply, change = bench.backend.apply, bench.backend.change

    def applied(classifier: Classifier, volatile: Volatile) -> None:
        apply(classifier, volatile)
        seen.append(verdicts(bench)[:2])

    def changed(delta: Delta, volatile: Volatile) -> None:
        change(delta, volatile)
        seen.append(verdicts(bench)[:2])

    monkeypatch.setattr(bench.backend, "apply", applied)
    monkeypatch.setattr(bench.backend, "change", changed)
    assert verdicts(bench) == (True, False, False)
    edit_both(bench)
    assert bench.engine.reload({})[0]
    assert seen
    assert set(seen) == {(True, False)}
    assert verdicts(bench) == (True, False, True)
    assert bench.engine.observe().digest == bench.engine.classifier.digest
    assert not bench.engine.reload({})[0]


def test_a_policy_that_cannot_be_used_keeps_lists_from_changing(bench: Site) -> None:
    """It says so, and names them; when it is mended, both are in force."""
    edit_both(bench)
    file = Path(bench.engine.path_of("P"))
    good = file.read_text(encoding="utf-8")
    file.write_text("no policy", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(InvalidInput) as raised:
            bench.engine.reload({})
        assert "the lists whose files have changed stay as they were too: @bans, @drop" in (
            raised.value.hint
        )
        assert verdicts(bench) == (True, False, False)
        assert bench.engine.kept_lists.store.get("drop").addresses == bench.engine.lists["drop"]
    assert "stay as they were" not in "".join(bench.engine.failures)
    file.write_text(good, encoding="utf-8")
    bench.engine.reload({})
    assert verdicts(bench) == (True, False, True)
    assert bench.again().lists.keys() == {"drop", "bans"}


@pytest.mark.parametrize("verb", ["prepare", "apply"])
def test_a_backend_that_fails_leaves_both_as_they_were(
    bench: Site, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever step fails; and the next reload has both."""
    before = dict(bench.engine.lists)
    has_failed = fail_once(monkeypatch, bench.backend, verb)
    edit_both(bench)
    with pytest.raises(BackendFailed, match="no room") as raised:
        bench.engine.reload({})
    assert "@drop" in raised.value.hint
    assert has_failed()
    assert bench.engine.lists == before
    assert verdicts(bench) == (True, False, False)
    assert bench.engine.observe().digest == bench.engine.classifier.digest
    bench.engine.reload({})
    assert verdicts(bench) == (True, False, True)


def test_what_is_protected_is_judged_by_the_policy_that_comes(site: Site) -> None:
    """A list and the rule that blocks it may come together, and block nobody who is protected."""
    protected = Protected(Network(Family.IPV4, INSIDE, 32), "203.0.113.7", "line 1")
    site.config = Config(protected=(protected,))
    engine: Engine = site.again()
    engine.change(put=[policy(("permit", "@drop=0"))], assign="P")
    write(site, drop="203.0.113.0/24\n")
    Path(engine.path_of("P")).write_text(format_policy(OLD), encoding="utf-8")
    with pytest.raises(Refused, match="which is protected") as raised:
        engine.reload({})
    assert isinstance(raised.value, IpsecdError)
    assert not engine.lists
    assert not site.blocks(53, NEXT)
    write(site, drop="203.0.113.8\n")
    engine.reload({})
    assert site.blocks(53, NEXT)


def test_lists_alone_are_no_change_of_the_policy(bench: Site) -> None:
    """They are in force all the same, also while enforcement is stopped and then started."""
    write(bench, drop="203.0.113.8\n")
    assert bench.engine.reload({})[0]
    assert verdicts(bench) == (False, True, False)
    bench.engine.stop()
    write(bench, drop="203.0.113.7\n")
    assert bench.engine.reload({})[0]
    assert not bench.blocks(53, INSIDE)
    bench.engine.start()
    assert bench.blocks(53, INSIDE)
