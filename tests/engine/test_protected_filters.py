"""Filters that the settings protect pass whatever blocks them, and everybody is told of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.base import Backend
from ipsecd.backend.memory import MemoryBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.config import Boot, Config, parse_config
from ipsecd.config.domain import DomainSettings
from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.engine.backends import Backends
from ipsecd.engine.caller import Caller
from ipsecd.errors import InvalidInput, IpsecdError, LimitExceeded
from ipsecd.language.documents import parse_policy
from ipsecd.model.addresses import Family, Network
from ipsecd.model.lists import listed
from ipsecd.model.packets import Packet, Point
from ipsecd.model.protected_filters import BY_SETTINGS, MAX_FILTERS
from ipsecd.model.values import Action
from tests.engine.domain import publish
from tests.engine.site import HOST, ME, Site
from tests.engine.test_bans import order
from tests.engine.test_guard import GUARDED

OFFICE, SOMEBODY = 0xC6336407, 0xCB007107
EVERYTHING = "policy: P\nrules:\n- {rule: R, action: block, filters: ['*=0', '0=*']}\n"
LOGIN = "198.51.100.0/24+0:22:TCP"


def settings(*entries: str, boot: Boot = Boot.PERMIT) -> Config:
    listed = ", ".join(f'"{entry}"' for entry in entries)
    return parse_config(f"boot: {boot.value}\nprotect: [{listed}]\n".encode())


def started(path: Path, *entries: str) -> Site:
    site = Site(path)
    restart(site, *entries)
    return site


def restart(site: Site, *entries: str) -> None:
    site.config = settings(*entries)
    site.engine.close()
    site.again()


@pytest.fixture
def protecting(tmp_path: Path) -> Site:
    return started(tmp_path, "198.51.100.0/24=0:22:TCP")


def call(site: Site, method: str, document: str | None = None, **given: Any) -> dict[str, Any]:
    content = document.encode() if document is not None else None
    return Control(site.engine).call(method, given, "uid 0", {}, content)


def assign(site: Site, document: str = EVERYTHING) -> Any:
    return call(site, "ApplyPolicy", document, assign=True, source=None)["outcome"]


def passes(site: Site, peer: int = OFFICE, port: int = 22) -> tuple[bool, bool]:
    """Whether what a peer sends to a port of this host arrives, and whether what answers leaves."""
    packets = (
        Packet(Point.ARRIVING, Family.IPV4, peer, ME, 6, 4000, port),
        Packet(Point.SENDING, Family.IPV4, ME, peer, 6, port, 4000),
    )
    first, second = (site.backend.judge(packet, HOST).action is Action.PERMIT for packet in packets)
    return first, second


def test_nothing_blocks_it_in_either_direction(protecting: Site) -> None:
    """No policy, dynamic rule, quarantine or list does, however narrow; all else is blocked."""
    assign(protecting)
    call(protecting, "CreateList", "198.51.100.7\n", name="bad", source=None, format=None)
    order(protecting, "@bad=0:22:TCP", "198.51.100.7=0:22:TCP", "0:22=198.51.100.7:4000:TCP")
    call(protecting, "Quarantine", who="0", permits=[], ttl_s=None)
    assert passes(protecting) == (True, True)
    assert passes(protecting, SOMEBODY) == passes(protecting, port=23) == (False, False)


def test_the_domain_does_not_block_it(protecting: Site) -> None:
    """Its policy comes before those of this host, and not before the settings of this host.

    A list of the same name that the policy carries is another one.
    """
    call(protecting, "CreateList", "198.51.100.7\n", name="office", source=None, format=None)
    protecting.config = replace(
        settings("@office=0:22:TCP"), domain=DomainSettings("file:///srv/fleet", host="web1")
    )
    protecting.again()
    carried = {"office": listed([Network(Family.IPV4, SOMEBODY, 32)])}
    policy = parse_policy(EVERYTHING.replace("'0=*'", "'0=*', '@office=0:22:TCP'"))
    outcome = publish(protecting.engine, policy, lists=carried)
    assert protecting.engine.loaded_from == "domain"
    assert passes(protecting) == (True, True)
    assert passes(protecting, SOMEBODY) == (False, False)
    assert any("still passes" in warning for warning in outcome["warnings"])


def test_lists_are_looked_into_as_they_are(tmp_path: Path) -> None:
    """A list that is missing protects nobody, which is told; its entries count once it is there."""
    site = started(tmp_path, "@office=0:22:TCP", "@branch=0:22:TCP")
    missing = "@office matches nothing at the moment: there is no such list"
    assert missing in assign(site)["warnings"]
    assert passes(site) == (False, False)
    call(site, "CreateList", "198.51.100.0/24\n", name="office", source=None, format=None)
    assert passes(site) == (True, True)
    (described,) = call(site, "ListLists")["lists"]
    assert described["rules"] == [{"store": "configuration", "policy": "", "rule": "protect"}]
    added: Any = {"addresses": ["203.0.113.7"], "ttl_s": None, "accept": True}
    call(site, "AddToList", name="office", **added)
    assert passes(site, SOMEBODY) == (True, True)
    site.again()
    assert passes(site) == (True, True)
    call(site, "DeleteList", name="office")
    assert passes(site) == (False, False)


def test_it_is_named_and_counted(protecting: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every answer about what is in force, and apart from policies."""
    assign(protecting)
    shown = call(protecting, "ListFilters")["filters"]
    assert (shown[0]["store"], shown[0]["rule"], shown[0]["filter"], shown[0]["action"]) == (
        *("configuration", "protect", LOGIN),
        "permit",
    )
    passes(protecting)
    passes(protecting, SOMEBODY)
    first, second = call(protecting, "Stats")["rules"]
    assert (first["store"], first["rule"], first["packets"]) == ("configuration", "protect", 2)
    assert (second["rule"], second["packets"]) == ("R", 2)
    status = call(protecting, "Status")["status"]
    assert (status["protected_filters"], status["policy_filters"]) == (1, 2)
    has_addresses = type("", (), {"host": HOST, "types": {}})
    monkeypatch.setattr("ipsecd.control.explain.read_host", has_addresses)
    explained = call(protecting, "Explain", packet="tcp 198.51.100.7:4000 > 10.9.0.1:22")
    assert explained["explanation"]["by"]["store"] == "configuration"
    assert [each["rule"] for each in explained["explanation"]["beaten"]] == ["R"]


def test_it_is_in_force_without_a_policy_and_gone_after_a_stop(protecting: Site) -> None:
    """A ban needs no policy. What is stopped enforces nothing."""
    order(protecting, "198.51.100.7=0")
    assert passes(protecting) == (True, True)
    assert passes(protecting, port=23) == (False, True)
    protecting.engine.stop()
    assert protecting.engine.in_force() == ()
    assert protecting.engine.rules() == {}
    assert call(protecting, "Status")["status"]["protected_filters"] == 0
    protecting.engine.start()
    assign(protecting)
    assert passes(protecting) == (True, True)
    protecting.engine.change(assign=None)
    order(protecting, "198.51.100.7=0")
    assert passes(protecting) == (True, True)


def test_a_change_that_it_outranks_is_told(protecting: Site) -> None:
    """A ban names what outranks it, and a policy, a quarantine and entries of a list do too."""
    packet = "tcp 198.51.100.7:49152 > 10.9.0.1:22"
    with pytest.MonkeyPatch.context() as patched:
        has_addresses = type("", (), {"host": HOST})
        patched.setattr("ipsecd.control.contradictions.read_host", has_addresses)
        (told,) = order(protecting, "198.51.100.7=0")["outranked"]
        assert told["by"]["store"] == "configuration"
        assert told["packet"] == packet
        (warning,) = assign(protecting, EVERYTHING.replace("'0=*'", "'*=0:80:TCP'"))["warnings"]
        assert warning == (
            "tcp 198.51.100.1:49152 > 10.9.0.1:22 still passes: permit 198.51.100.0/24+0:22:TCP, "
            "which the configuration protects, outranks block *=0 of rule 'R' of policy 'P'"
        )
        assert (
            assign(protecting, EVERYTHING.replace("'*=0', '0=*'", "'*=0:80:TCP'"))["warnings"] == []
        )
        call(protecting, "CreateList", "203.0.113.7\n", name="bad", source=None, format=None)
        assign(protecting, EVERYTHING.replace("'*=0', '0=*'", "'@bad=0'"))
        adding: Any = {"name": "bad", "ttl_s": None, "accept": True}
        outcome = call(protecting, "AddToList", addresses=["192.0.2.1"], **adding)["outcome"]
        assert outcome["warnings"] == []
        outcome = call(protecting, "AddToList", addresses=["198.51.100.7"], **adding)["outcome"]
        (warning,) = outcome["warnings"]
        assert warning.startswith(f"{packet} still passes")
        assert "outranks block 198.51.100.7=0 of rule 'R' of policy 'P'" in warning
        protecting.engine.flush()
        warnings = call(protecting, "Quarantine", who="0", permits=[], ttl_s=None)["warnings"]
        assert any("still passes" in warning and "dynamic rule" in warning for warning in warnings)


def test_the_guard_sees_that_it_is_not_cut(tmp_path: Path) -> None:
    """The login that the settings protect survives whatever is blocked, so nothing is refused."""
    site = started(tmp_path, "203.0.113.7=0:22:TCP")
    caller = Caller(pid=1, guarded=GUARDED)
    control = Control(site.engine)
    narrow = EVERYTHING.replace("'0=*'", "'0=*', '203.0.113.7:4000=0:22:TCP'")
    control.call("ApplyPolicy", {"assign": True}, "", {}, narrow.encode(), caller=caller)
    assert passes(site, SOMEBODY) == (True, True)


def test_a_quarantine_does_not_fight_it(protecting: Site) -> None:
    """It makes no block in the place of a permit that it cannot outrank."""
    assign(protecting)
    rules = call(protecting, "Quarantine", who="0", permits=[], ttl_s=None)["rules"]
    assert not [rule for rule in rules if LOGIN in rule["filters"]]


def test_a_start_goes_by_the_settings_of_now(protecting: Site, tmp_path: Path) -> None:
    """Where the policy is compiled anew, and where the last good one takes its place."""
    assign(protecting)
    restart(protecting, "203.0.113.7=0:22:TCP")
    assert passes(protecting) == (False, False)
    assert passes(protecting, SOMEBODY) == (True, True)
    next((tmp_path / "etc/policies").iterdir()).write_text("policy: P\nrules: nonsense\n")
    restart(protecting, "198.51.100.0/24=0:22:TCP")
    assert protecting.engine.loaded_from == "last-good"
    assert passes(protecting) == (True, True)
    assert passes(protecting, SOMEBODY) == (False, False)
    restart(protecting)
    assert passes(protecting) == passes(protecting, SOMEBODY) == (False, False)
    assert BY_SETTINGS not in protecting.engine.rules()


def booted(site: Site, config: Config, error: InvalidInput | None = None) -> None:
    """Boot as the first unit does, over a kernel that holds nothing."""
    site.backend = MemoryBackend(site.clock)
    engine = Engine(config, site.directories, lambda: site.backend, clock=site.clock)
    engine.boot(error)
    engine.close()


def test_boot_has_what_was_protected_last_if_the_settings_are_broken(protecting: Site) -> None:
    """They are not known then: what is kept beside the last good policy counts."""
    assign(protecting)
    booted(protecting, Config(), InvalidInput("broken"))
    assert passes(protecting) == (True, True)
    assert passes(protecting, SOMEBODY) == (False, False)


def test_boot_protects_while_it_blocks_everything(protecting: Site, tmp_path: Path) -> None:
    """Where no policy can be used the host stays reachable for whom the settings protect."""
    assign(protecting)
    call(protecting, "CreateList", "203.0.113.7\n", name="office", source=None, format=None)
    (tmp_path / "lib/last-good").unlink()
    next((tmp_path / "etc/policies").iterdir()).write_text("policy: P\nrules: nonsense\n")
    booted(protecting, settings("198.51.100.0/24=0:22:TCP", boot=Boot.BLOCK))
    assert passes(protecting) == (True, True)
    assert passes(protecting, SOMEBODY) == (False, False)
    booted(protecting, settings("@office=0:22:TCP", boot=Boot.BLOCK))
    assert passes(protecting, SOMEBODY) == (True, True)
    assert passes(protecting) == (False, False)


def test_what_the_backend_cannot_protect_does_not_open_a_host(
    protecting: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It boots all the same: blocked, with the reason, and without what is protected."""
    assign(protecting)

    def check(_: MemoryBackend, classifier: Classifier) -> None:
        if any(table.id.protected for table in classifier.tables):
            raise LimitExceeded("it is too much")

    def make_no_other(_: Backends, error: IpsecdError) -> Backend:
        raise error

    monkeypatch.setattr(MemoryBackend, "check", check)
    monkeypatch.setattr(Backends, "make_other", make_no_other)
    booted(protecting, settings("tcp/22", boot=Boot.BLOCK))
    assert passes(protecting) == passes(protecting, port=23) == (False, False)
    protecting.config = settings("tcp/22", boot=Boot.BLOCK)
    protecting.engine.close()
    protecting.again()
    assert protecting.engine.held
    assert any("it is too much" in failure for failure in protecting.engine.failures)
    assert passes(protecting) == (False, False)


def test_a_reload_keeps_it(protecting: Site, tmp_path: Path) -> None:
    """Settings are read at a start, so what is protected stays, whatever a reload brings."""
    assign(protecting)
    file = next((tmp_path / "etc/policies").iterdir())
    file.write_text(EVERYTHING.replace("'0=*'", "'0=*', '198.51.100.7=0:22:TCP'"))
    protecting.engine.reload({})
    assert passes(protecting) == (True, True)
    assert passes(protecting, SOMEBODY) == (False, False)


def test_proofs_take_it_into_account(protecting: Site) -> None:
    """A dry run tells no packet that stays protected, and lint a rule that can never decide."""
    never = "policy: P\nrules:\n- {rule: R, action: block, filters: ['198.51.100.7=0:22:TCP']}\n"
    parameters = {"assign": True, "dry_run": True, "source": None}
    outcome = call(protecting, "ApplyPolicy", never, **parameters)["outcome"]
    assert outcome["verdicts"]["classes"] == []
    outcome = call(protecting, "ApplyPolicy", EVERYTHING, **parameters)["outcome"]
    assert outcome["verdicts"]["classes"]
    assert all(one["now"]["by"]["rule"] == "R" for one in outcome["verdicts"]["classes"])
    assign(protecting, never)
    (finding,) = call(protecting, "GetFindings")["findings"]
    assert finding["kind"] == "never decides"
    assert finding["of"]["rule"] == "R"
    assert finding["message"].endswith(f"permit {LOGIN} of rule 'protect' of the configuration")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("office.example=0:22:TCP", "cannot name a DNS name"),
        ("container:web=0", "cannot name containers"),
        ("label:a=b", "cannot name containers"),
        ("service:ssh.service=*", "cannot name a service or a control group"),
        ("0=0", "matches nothing"),
        ("*=0:1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33:TCP", "17 ranges of ports"),
        ("10.0.0.0/8=0:22:UDPX", "'UDPX' is not a known protocol"),
        ("@office", "'@office' is not an address"),
        ("tcp/70000", "70000"),
    ],
)
def test_what_cannot_be_protected_is_refused_with_its_line(entry: str, message: str) -> None:
    """Settings with such an entry are not used at all."""
    with pytest.raises(InvalidInput, match=message) as refused:
        parse_config(f'guard: on\nprotect: [\n  192.0.2.1,\n  "{entry}"]\n'.encode(), "file")
    assert (refused.value.source, refused.value.line) == ("file", 4)


def test_addresses_and_filters_stand_beside_each_other() -> None:
    """An address is what it was; a filter is protected in both directions, and once."""
    config = settings("192.0.2.1", "fd00::/8", "tcp/22", "*=0:22:TCP", "[fd00::]/8+0:22:TCP")
    assert [entry.written for entry in config.protected] == ["192.0.2.1", "fd00::/8"]
    assert len(config.protected_filters) == 2
    assert all(each.mirrored for each in config.protected_filters)
    with pytest.raises(InvalidInput, match="more than 100 filters"):
        settings(*(f"*=0:{port}:TCP" for port in range(1, MAX_FILTERS + 2)))
