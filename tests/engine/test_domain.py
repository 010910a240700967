"""The policy of a domain: it comes before that of this host, and leaves when it is withdrawn."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ipsecd.config import Config
from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.errors import (
    MAX_MESSAGE,
    BackendFailed,
    InvalidInput,
    IpsecdError,
    NotFound,
    Refused,
)
from ipsecd.language.documents import format_policy
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.values import Action, Policy, Rule
from ipsecd.sources.dynamic import DynamicRule
from tests.counts import counts_of
from tests.engine.domain import (
    PATH,
    answer,
    bundle,
    call,
    configured,
    policy,
    publish,
    question,
    root,
    take,
    trust,
    withdraw,
)
from tests.engine.site import Site

LOCAL, OTHER = policy("Local", "*=0:1:UDP"), policy("Other", "*=0:2:UDP")
CENTRAL, ADDED = policy("Fleet", "*=0:3:UDP"), policy("Fleet", "*=0:3:UDP", "*=0:4:UDP")
DAY_S = 86_400


@pytest.fixture
def engine(site: Site) -> Engine:
    """With a policy assigned on this host, and a domain that has given none yet."""
    site.engine.change(put=[LOCAL], assign="Local")
    return configured(site)


def blocked(site: Site) -> set[int]:
    return {port for port in range(1, 7) if site.blocks(port)}


def blocked_again(site: Site) -> set[int]:
    """The same once a new daemon has started."""
    site.again()
    return blocked(site)


def status(engine: Engine) -> dict[str, Any]:
    report: dict[str, Any] = call(engine, "Status")["status"]
    return report


def test_it_replaces_the_local_policy_as_a_whole(site: Site, engine: Engine) -> None:
    """Nothing of the local policy is in force beside it, bans are, and everybody says so."""
    engine.add_dynamic(DynamicRule("ban", (parse_filter("*=0:5:UDP"),), Action.BLOCK))
    assert blocked(site) == {1, 5}
    outcome = publish(engine, CENTRAL)
    assert outcome["changed"]
    assert "'Fleet' of the domain is in force, in the place of 'Local'" in outcome["message"]
    assert blocked(site) == {3, 5}
    report = status(engine)
    assert (report["loaded_from"], report["assigned"]) == ("domain", "Fleet")
    assert report["policy_path"] == f"file:///srv/fleet: {PATH}"
    assert report["domain"]["overridden"] == "Local"
    assert report["domain"]["why"] == "it is for all hosts"
    stores = {entry["store"] for entry in call(engine, "ListFilters")["filters"]}
    assert stores == {"domain", "dynamic"}
    listed = {entry["name"]: entry["store"] for entry in call(engine, "ListPolicies")["policies"]}
    assert listed == {"Fleet": "domain", "Local": "static"}
    assert call(engine, "GetPolicy", name="Fleet")["document"] == format_policy(CENTRAL)
    rules = {(rule["store"], rule["rule"]) for rule in call(engine, "Stats")["rules"]}
    assert rules == {("domain", "R"), ("dynamic", "ban")}


def test_a_quarantine_holds_against_what_it_permits(site: Site, engine: Engine) -> None:
    """Whatever the domain lets through, who is cut off stays so, and is let go by its own end."""
    call(engine, "Quarantine", who="0", permits=[], ttl_s=None)
    filters = (parse_filter("203.0.113.7=0:3:UDP"),)
    publish(engine, Policy("Fleet", (Rule("R", filters, Action.PERMIT),)))
    assert blocked(site) == set(range(1, 7))
    withdraw(engine)
    assert blocked(site) == set(range(1, 7))
    call(engine, "Release", who="0")
    assert blocked(site) == {1}


def test_an_addition_to_it_is_in_force_at_once(site: Site, engine: Engine) -> None:
    """A filter that is added to a policy of the domain counts as soon as it was taken."""
    publish(engine, CENTRAL)
    assert publish(engine, ADDED, 2)["changed"]
    assert blocked(site) == {3, 4}
    assert status(engine)["domain"]["version"] == 2


def test_the_same_policy_is_another_in_another_store(site: Site, engine: Engine) -> None:
    """Filters say where they come from, also where both places have the same document."""
    site.engine.change(put=[CENTRAL], assign="Fleet")

    def stores() -> set[str]:
        return {origin.store for origin in counts_of(engine.backend)}

    assert stores() == {"static"}
    assert publish(engine, CENTRAL)["changed"]
    assert stores() == {"domain"}
    assert withdraw(engine)["changed"]
    assert (stores(), blocked(site)) == ({"static"}, {3})


def test_newer_metadata_alone_switches_nothing(
    site: Site, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is written anew, and the kernel is not asked for anything."""
    publish(engine, CENTRAL)

    def refuse(*_: object) -> None:
        raise AssertionError("the kernel was given something")

    monkeypatch.setattr(site.backend, "apply", refuse)
    monkeypatch.setattr(site.backend, "change", refuse)
    outcome = publish(engine, CENTRAL, 2)
    assert not outcome["changed"]
    assert outcome["message"] == "nothing is new: policy 'Fleet' of the domain is in force"
    monkeypatch.undo()
    assert site.again().domain.version == 2


def test_what_is_expected_of_it_is_judged_once(
    site: Site, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not do that is refused; the one in force is not judged at every look."""
    met = format_policy(CENTRAL) + "expect:\n- block udp 203.0.113.7:4000 > me:3\n"
    with pytest.raises(Refused, match="does not meet its expectation"):
        publish(engine, met.replace("me:3", "me:4"))
    assert blocked(site) == {1}
    publish(engine, met)

    def judge(_: Policy) -> None:
        raise AssertionError("it was judged again")

    monkeypatch.setattr("ipsecd.engine.taking.must_be_met", judge)
    assert not publish(engine, met, 2)["changed"]
    assert not publish(site.again(), met, 3)["changed"]
    assert (site.engine.domain.version, blocked(site)) == (3, {3})


def test_what_is_changed_on_this_host_is_stored_and_said_to_be_without_effect(
    site: Site, engine: Engine
) -> None:
    """Each change of a policy says so, and is in force once the domain withdraws its own."""
    publish(engine, CENTRAL)
    reply = call(
        engine,
        "PutRules",
        policy="Other",
        rules=[{"name": "R", "action": "block", "filters": ["*=0:2:UDP"]}],
        create=True,
        assign=True,
    )["outcome"]
    assert "without effect until the domain withdraws it" in reply["warnings"][0]
    assert blocked(site) == {3}
    assert engine.loaded.assigned == "Other"
    document = format_policy(OTHER).encode()
    given = {"assign": True, "dry_run": False, "source": None}
    said = Control(engine).call("ApplyPolicy", given, "uid 0", {}, document)["outcome"]
    assert "'Fleet' of the domain is in force in the place" in said["warnings"][0]
    outcome = withdraw(engine)
    assert (
        outcome["message"]
        == "the domain has withdrawn its policy: policy 'Other' of this host is in force"
    )
    assert blocked(site) == {2}
    assert call(engine, "CreatePolicy", name="New", description=None)["outcome"]["warnings"] == []


def test_only_a_signed_withdrawal_ends_it(site: Site, engine: Engine) -> None:
    """That nothing is for this host any more, or that it cannot be had, withdraws nothing."""
    publish(engine, CENTRAL)
    outcome = take(engine, bundle(), answer("nothing", version=2))
    assert not outcome["changed"]
    assert blocked(site) == {3}
    call(engine, "ReportDomain", problem="it cannot be reached", refresh=0)
    assert status(engine)["domain"]["problem"] == "it cannot be reached"
    assert blocked(site) == {3}
    withdraw(engine, 3)
    assert blocked(site) == {1}
    assert status(engine)["domain"]["withdrawn"]
    assert blocked_again(site) == {1}
    assert not take(site.engine, bundle(), answer("nothing", version=4))["changed"]
    assert site.engine.domain.withdrawn


def test_a_withdrawal_without_a_local_policy_leaves_none(site: Site) -> None:
    """Then nothing is in force but dynamic rules."""
    engine = configured(site)
    publish(engine, CENTRAL)
    assert "no policy is in force" in withdraw(engine)["message"]
    assert blocked(site) == set()
    assert status(engine)["state"] == "idle"


def test_it_is_in_force_from_the_first_moment_of_a_start(site: Site, engine: Engine) -> None:
    """A restart and a boot enforce it from the file; nobody is asked for it."""
    publish(engine, CENTRAL)
    again = site.again()
    assert (again.loaded_from, blocked(site)) == ("domain", {3})
    assert again.domain == engine.domain
    site.backend.remove()
    other = Engine(site.config, site.directories, lambda: site.backend, clock=site.clock)
    assert other.boot()
    assert (other.loaded_from, blocked(site)) == ("domain", {3})


def test_a_boot_with_wrong_settings_enforces_it(site: Site, engine: Engine) -> None:
    """Where the settings cannot be read it is not known that there is no domain."""
    publish(engine, CENTRAL)
    site.backend.remove()
    (site.directories.state / "last-good").unlink()
    other = Engine(Config(), site.directories, lambda: site.backend, clock=site.clock)
    assert not other.boot(InvalidInput("the settings are wrong"))
    assert blocked(site) == {3}


def test_without_a_domain_in_the_settings_the_local_policy_is_in_force(
    site: Site, engine: Engine
) -> None:
    """Root takes this host out of the domain; what was taken waits on disk."""
    publish(engine, CENTRAL)
    site.config = Config()
    again = site.again()
    assert (again.loaded_from, blocked(site)) == ("policy", {1})
    assert status(again)["domain"] is None
    with pytest.raises(NotFound, match="no domain is configured"):
        Control(again).ask_domain()
    with pytest.raises(NotFound, match="no domain is configured"):
        call(again, "GetDomain")
    assert configured(site).loaded_from == "domain"


@pytest.mark.parametrize("content", [b"", b"nonsense", b"ipsecd domain 2 " + b"0" * 64 + b"\n{}"])
def test_a_file_that_cannot_be_used_withdraws_nothing(
    site: Site, engine: Engine, content: bytes
) -> None:
    """What was in force stays, from the last good policy, and it is said what to do."""
    publish(engine, CENTRAL)
    file = site.directories.state / "domain/taken"
    file.write_bytes(content)
    again = site.again()
    assert (again.loaded_from, blocked(site)) == ("domain", {3})
    told = [warning for warning in again.warnings if "domain/taken" in warning]
    assert ["ipsecctl domain trust REPO" in warning for warning in told] == [True]
    again.change(put=[OTHER], assign="Other")
    assert blocked(site) == {3}
    call(again, "TrustDomain", root=root())
    assert not any("domain/taken" in warning for warning in again.warnings)
    publish(again, ADDED, 2)
    assert blocked_again(site) == {3, 4}


def test_a_file_that_cannot_be_used_disables_only_itself(site: Site, engine: Engine) -> None:
    """Without a last good policy of the domain the local one is in force."""
    publish(engine, CENTRAL)
    (site.directories.state / "domain/taken").write_bytes(b"nonsense")
    (site.directories.state / "last-good").write_bytes(b"nonsense")
    again = site.again()
    assert (again.loaded_from, blocked(site)) == ("policy", {1})


def test_one_that_cannot_be_compiled_does_not_make_way_for_the_local_one(
    site: Site, engine: Engine
) -> None:
    """The last good policy of the domain is in force, at a start and at a boot, until it can be."""
    host = (Network(Family.IPV4, 0xCB007107, 32),)
    publish(engine, policy("Fleet", "worm.example=0:3:UDP"), names={"worm.example": host})
    (site.directories.state / "names").unlink()
    again = site.again()
    assert (again.loaded_from, blocked(site)) == ("last-good", {3})
    assert any("'worm.example' has not been resolved" in failure for failure in again.failures)
    assert again.boot() is False
    assert blocked(site) == {3}
    again.reload({"worm.example": host})
    assert (again.loaded_from, again.failures, blocked(site)) == ("domain", (), {3})


def test_one_that_is_withdrawn_makes_way_though_it_is_the_last_good(
    site: Site, engine: Engine
) -> None:
    """As where the daemon was killed before it could keep another."""
    publish(engine, CENTRAL)
    last_good = (site.directories.state / "last-good").read_bytes()
    withdraw(engine)
    (site.directories.state / "last-good").write_bytes(last_good)
    assert (site.again().loaded_from, blocked(site)) == ("policy", {1})


def test_a_broken_local_file_is_no_failure_meanwhile(site: Site, engine: Engine) -> None:
    """What is not to be in force cannot fail to be."""
    publish(engine, CENTRAL)
    (site.directories.config / "policies/local.yaml").write_text("nonsense")
    with pytest.raises(IpsecdError):
        site.engine.stored("Nonsense")
    engine.reload({})
    assert status(engine)["state"] == "enforcing"
    with pytest.raises(InvalidInput):
        withdraw(engine)
    assert blocked(site) == {3}
    assert not engine.domain.withdrawn
    assert configured(site).loaded_from == "domain"


def test_a_document_that_is_no_policy_is_refused(site: Site, engine: Engine) -> None:
    """What is in force stays, in the kernel and on disk."""
    publish(engine, CENTRAL)
    bomb = "".join(f"x{n}: &x{n} [{f'*x{n - 1}, ' * 9}]\n" for n in range(1, 20))
    for document in (
        "nonsense",
        "policy: X\nrules: [{rule: R, action: eat, filters: ['*=0']}]\n",
        f"policy: X\nx0: &x0 [y]\n{bomb}",
        "[" * 100_000,
    ):
        with pytest.raises(InvalidInput):
            publish(engine, document, 2)
        assert blocked(site) == {3}
        assert site.again().domain.version == 1


def test_what_the_kernel_does_not_take_is_not_kept(
    site: Site, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file says what is in force, also after a failure."""
    publish(engine, CENTRAL)

    def refuse(*_: object) -> None:
        raise BackendFailed("no", "try again")

    with monkeypatch.context() as patch:
        patch.setattr(site.backend, "apply", refuse)
        with pytest.raises(BackendFailed):
            publish(engine, ADDED, 2)
    assert (blocked(site), engine.domain.version) == ({3}, 1)
    assert site.again().domain.version == 1
    assert blocked(site) == {3}


def test_a_stopped_engine_keeps_it_for_the_start(site: Site, engine: Engine) -> None:
    """What comes while nothing is in force is in force when enforcement is started."""
    engine.stop()
    assert "enforcement is stopped" in publish(engine, CENTRAL)["message"]
    assert blocked(site) == set()
    engine.start()
    assert blocked(site) == {3}


def test_its_names_are_looked_up(site: Site, engine: Engine) -> None:
    """As those of local policies are; one without an answer keeps the addresses that it had."""
    host = (Network(Family.IPV4, 0xCB007107, 32),)
    named = policy("Fleet", "worm.example=0:6:UDP", "*=0:3:UDP", "gone.example=0:4:UDP")
    document = format_policy(named)
    trust(engine)
    sha256 = hashlib.sha256(document.encode()).hexdigest()
    files, said = bundle(document), answer(path=PATH, sha256=sha256)
    verdict = question(engine, files).verdict(json.dumps(said).encode())
    needed = Control(engine).names_needed(
        "TakeDomain", {"refresh": 0, "verdict": verdict}, verdict.document
    )
    assert needed == {"worm.example", "gone.example"}
    with pytest.raises(Refused, match=r"'gone\.example' has not been resolved"):
        publish(engine, named, names={"worm.example": host, "gone.example": ()})
    assert blocked(site) == {1}
    publish(engine, named, names={"worm.example": host, "gone.example": host})
    assert blocked(site) == {3, 4, 6}
    assert (
        Control(engine).names_needed(
            "TakeDomain", {"refresh": 0, "verdict": verdict}, verdict.document
        )
        == set()
    )
    assert blocked_again(site) == {3, 4, 6}
    more = policy("Fleet", "*=0:5:UDP", "gone.example=0:4:UDP")
    publish(site.engine, more, 2, names={"gone.example": ()})
    assert blocked(site) == {4, 5}
    assert any("gone.example" in warning for warning in site.engine.warnings)


def test_what_has_expired_stays_in_force_with_a_warning(site: Site, engine: Engine) -> None:
    """Nobody loses a policy because somebody did not sign in time."""
    trust(engine)
    document = format_policy(CENTRAL)
    sha256 = hashlib.sha256(document.encode()).hexdigest()
    said = answer(path=PATH, sha256=sha256, expires="2020-01-01T00:00:00Z")
    take(engine, bundle(document), said)
    report = status(engine)
    assert blocked(site) == {3}
    assert report["domain"]["expired"]
    assert any("was good until 2020-01-01" in warning for warning in report["file_warnings"])
    assert report["state"] == "enforcing"


# -- what is not believed ----------------------------------------------------------------------


DOCUMENT = format_policy(ADDED)
SHA256 = hashlib.sha256(DOCUMENT.encode()).hexdigest()
GOOD = answer(path=PATH, sha256=SHA256, version=5)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"sha256": "0" * 64}, "another digest"),
        ({"version": 1}, "replays what was published before"),
        ({"trusted": {"root.json": root(1)}}, "the root has version 1"),
        ({"trusted": {"root.json": root(3, "t"), "x": 5}}, "no verdict"),
        ({"trusted": {}}, "no verdict"),
        ({"trusted": {"root.json": "{}"}}, "no verdict"),
        ({"outcome": "obey"}, "no verdict"),
        ({"outcome": None}, "no verdict"),
        ({"version": -1}, "no verdict"),
        ({"version": True}, "no verdict"),
        ({"interval_s": 10**400}, "the interval is not finite"),
        ({"expires": "tomorrow"}, "no verdict"),
        ({"expires": "2100-01-01T00:00:00"}, "time zone"),
        ({"interval_s": "soon"}, "no verdict"),
        ({"path": 5}, "no verdict"),
        ({"path": "all/other.yaml"}, "was not handed over"),
        ({"outcome": "refused", "reason": "a stranger signed it"}, "a stranger signed it"),
    ],
)
def test_a_verdict_that_cannot_be_is_refused(
    site: Site, engine: Engine, said: dict[str, Any], reason: str
) -> None:
    """A digest that is another's, older versions, anything but a verdict; nothing changes."""
    publish(engine, CENTRAL)
    call(engine, "TrustDomain", root=root(2))
    take(engine, bundle(), answer("nothing", version=4, trusted={"root.json": root(2)}))
    given = {**GOOD, "trusted": {"root.json": root(2)}, **said}
    with pytest.raises(Refused, match=reason):
        take(engine, bundle(DOCUMENT), given)
    assert (blocked(site), engine.domain.version) == ({3}, 4)
    assert take(engine, bundle(DOCUMENT), {**GOOD, "trusted": {"root.json": root(2)}})["changed"]
    assert blocked(site) == {3, 4}


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b"{}"])
def test_any_bytes_are_a_verdict_or_refused(engine: Engine, said: bytes) -> None:
    """Whatever the process says."""
    trust(engine)
    with pytest.raises(Refused, match="no verdict"):
        question(engine, bundle()).verdict(said)


@pytest.mark.parametrize(
    "files",
    [
        b"",
        b"[]",
        b"{}",
        b'{"metadata": {}}',
        b'{"metadata": {"a": 1}, "targets": {}}',
        b"[" * 99999,
    ],
)
def test_any_bytes_are_a_bundle_or_refused(engine: Engine, files: bytes) -> None:
    """Whatever the fetcher hands over, before a process is started for it."""
    trust(engine)
    with pytest.raises(InvalidInput, match="no bundle"):
        question(engine, files).text()


def test_without_a_root_nothing_is_verified(engine: Engine) -> None:
    """A host that trusts nobody obeys nobody."""
    with pytest.raises(Refused, match="trusts no root"):
        question(engine, bundle()).text()


def test_versions_begin_anew_with_other_keys(site: Site, engine: Engine) -> None:
    """Who stole the key of timestamps may have signed any version; a new root has other keys."""
    publish(engine, CENTRAL, 1_000_000)
    rotated = {"root.json": root(2, "new")}
    assert take(engine, bundle(DOCUMENT), {**GOOD, "trusted": rotated})["changed"]
    assert (blocked(site), engine.domain.version) == ({3, 4}, 5)
    with pytest.raises(Refused, match="replays"):
        take(engine, bundle(), answer("nothing", version=4, trusted=rotated))


def test_a_root_that_is_trusted_anew_changes_nothing_in_force(site: Site, engine: Engine) -> None:
    """It says what it is; the policy stays, and what was verified by another root is forgotten."""
    publish(engine, CENTRAL)
    outcome = call(engine, "TrustDomain", root=root(7, "other"))["outcome"]
    assert outcome["message"].startswith(
        "the root is trusted: version 7, of which 2 of 3 keys sign"
    )
    assert engine.domain.trusted == {"root.json": root(7, "other")}
    assert engine.domain.version == 0
    assert blocked(site) == {3}
    assert blocked_again(site) == {3}
    assert not call(site.engine, "TrustDomain", root=root(7, "other"))["outcome"]["changed"]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"signed": {"_type": "targets"}}', "\ud800", "x" * (1 << 21)]
)
def test_what_is_no_root_is_not_trusted(engine: Engine, text: str) -> None:
    """It is said what to pass."""
    with pytest.raises(InvalidInput, match="no root") as caught:
        call(engine, "TrustDomain", root=text)
    assert "metadata/root.json" in caught.value.hint


def test_a_verdict_on_what_is_here_no_more_is_not_taken(engine: Engine) -> None:
    """Somebody trusted another root while a bundle was verified."""
    trust(engine)
    verdict = question(engine, bundle(DOCUMENT)).verdict(json.dumps(GOOD).encode())
    call(engine, "TrustDomain", root=root(2))
    given = {"refresh": 0, "source": PATH, "verdict": verdict}
    with pytest.raises(Refused, match="changed while this was verified"):
        Control(engine).call("TakeDomain", given, "uid 990", {}, verdict.document)


def test_settings_are_told_and_secrets_kept(site: Site) -> None:
    """Passwords and what vouches for the domain are for who fetches it."""
    engine = configured(
        site,
        doorbell="etcd://fleet:secret@h1:2379/ipsecd",
        proxy="http://us:pw@proxy:3128",
        groups=("web",),
        ca=Path("/ca.pem"),
    )
    trust(engine)
    reply = call(engine, "GetDomain")
    assert reply["domain"]["doorbell"] == "etcd://fleet:secret@h1:2379/ipsecd"
    assert reply["domain"]["trusted"] == {"root.json": root()}
    assert (reply["domain"]["groups"], reply["domain"]["ca"]) == (["web"], "/ca.pem")
    from ipsecd.control import METHODS  # noqa: PLC0415

    hide = METHODS["GetDomain"].without_secrets
    assert hide is not None
    shown = hide(reply)["domain"]
    assert reply["domain"]["proxy"] == "http://us:pw@proxy:3128"
    assert shown["doorbell"] == "etcd://fleet:…@h1:2379/ipsecd"
    assert shown["proxy"] == "http://us:…@proxy:3128"
    assert shown["trusted"] == {}
    without = hide({"domain": reply["domain"] | {"doorbell": None, "proxy": None}})["domain"]
    assert (without["doorbell"], without["proxy"]) == (None, None)


def test_a_local_policy_is_said_to_be_without_effect(site: Site, engine: Engine) -> None:
    """Whoever shows, assigns or deletes one hears what is in force, also of the same name."""
    site.engine.change(put=[Policy("Fleet", LOCAL.rules), Policy("Other")])
    publish(engine, CENTRAL)
    shown = call(engine, "GetPolicy", name="Fleet")
    assert (shown["store"], shown["assigned"], shown["overriding"]) == ("static", False, "Fleet")
    for method, given in (
        ("AssignPolicy", {"name": "Fleet"}),
        ("UnassignPolicy", {"name": None}),
        ("DeletePolicy", {"name": "Fleet", "unassign": True, "missing_ok": False}),
        ("CreatePolicy", {"name": "New", "description": None}),
    ):
        warning = call(engine, method, **given)["outcome"]["warnings"][0]
        assert "'Fleet' of the domain is in force in the place of those of this host" in warning
    shown = call(engine, "GetPolicy", name="Fleet")
    assert (shown["store"], shown["assigned"], shown["overriding"]) == ("domain", True, "Fleet")
    for method, given in (
        ("AssignPolicy", {"name": "Fleet"}),
        ("DeletePolicy", {"name": "Fleet", "unassign": True, "missing_ok": False}),
        ("RemoveRules", {"policy": "Fleet", "rules": ["R"], "delete_empty": False}),
    ):
        with pytest.raises(NotFound, match="is the domain's, and this host has none of that name"):
            call(engine, method, **given)
    withdraw(engine)
    assert call(engine, "GetPolicy", name="Other")["overriding"] is None


def test_a_new_root_ends_what_failed_for_want_of_it(engine: Engine) -> None:
    """Until the next look has come back, the status does not tell of the one before."""
    engine.tell_of_domain(0, "", problem="this host trusts no repository yet")
    assert call(engine, "GetDomain")["domain"]["problem"]
    call(engine, "TrustDomain", root=root(2))
    domain = call(engine, "GetDomain")["domain"]
    assert (domain["problem"], domain["checked_at"]) == ("", None)


def test_a_new_root_is_a_reason_to_look(engine: Engine) -> None:
    """Who looks at the domain hears of it at once."""
    before = engine.lookups.asked
    trust(engine)
    assert engine.lookups.asked == before + 1
    assert call(engine, "GetDomain")["domain"]["refresh"] == before + 1


def test_no_daemon_asks_with_a_number_of_the_one_before(site: Site, engine: Engine) -> None:
    """A fetcher that outlives a daemon would take the question for one that it has answered."""
    trust(engine)
    former = engine.lookups
    again = site.again()
    assert again.lookups.answered == again.lookups.asked
    assert again.ask_domain() > former.asked


def test_looks_have_numbers(engine: Engine) -> None:
    """Who asked for a look hears of the one that was taken after that, or why it failed."""
    publish(engine, CENTRAL)
    number = engine.ask_domain()
    waiting = call(engine, "RefreshDomain", wait_s=0.0, asked=number)["outcome"]
    assert "no answer has come yet" in waiting["message"]
    publish(engine, ADDED, 2, refresh=number)
    said = call(engine, "RefreshDomain", wait_s=0.0, asked=number)["outcome"]
    assert said["changed"]
    number = engine.ask_domain()
    call(engine, "ReportDomain", problem="no route\n  hint: look", refresh=number)
    with pytest.raises(Refused, match="no route; what was in force stays so"):
        call(engine, "RefreshDomain", wait_s=0.0, asked=number)
    call(engine, "ReportDomain", problem="", refresh=number)
    assert engine.lookups.problem == ""


def test_what_comes_again_was_taken_before(
    site: Site, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New metadata with the same policy, or withdrawn still, leaves the time when that came."""
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    publish(engine, CENTRAL)
    now = 2000.0
    publish(engine, CENTRAL, 2)
    take(engine, bundle(), answer("nothing", version=3))
    assert (engine.domain.version, engine.domain.taken_at) == (3, 1000.0)
    assert site.again().domain.taken_at == 1000.0
    publish(engine, ADDED, 4)
    assert engine.domain.taken_at == 2000.0
    now = 3000.0
    withdraw(engine, 5)
    now = 4000.0
    withdraw(engine, 6)
    assert (engine.domain.version, engine.domain.taken_at) == (6, 3000.0)


def test_a_problem_that_is_reported_is_cut(engine: Engine) -> None:
    """A hostile fetcher cannot fill the log and the status with it."""
    call(engine, "ReportDomain", problem="x" * 500_000, refresh=0)
    assert len(engine.lookups.problem) <= MAX_MESSAGE + 1
