"""Tests of what an operator does with a repository, and what hosts make of it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ipsecd.errors import InvalidInput, NotFound, Refused
from ipsecd_domain.errors import DomainError, NotTrusted
from ipsecd_domain.repository.creation import init
from ipsecd_domain.repository.publishing import remove, withdraw
from ipsecd_domain.repository.rotation import keygen, sign_anew
from ipsecd_domain.repository.status import status
from tests.domain.fleets import WEB, WORM, Fleet, Member, now

CHANGED = WEB.replace(b"23", b"24")


def test_a_new_repository_gives_out_nothing(fleet: Fleet) -> None:
    """A host that trusts it keeps what it has."""
    seen = Member.of(fleet).look(fleet.repository)
    assert (seen.outcome, seen.version) == ("nothing", 1)
    assert seen.expires > now()


def test_what_is_published_reaches_a_host(fleet: Fleet) -> None:
    """The document arrives as it was written, with its digest and its versions."""
    host = Member.of(fleet)
    host.look(fleet.repository)
    fleet.publish(WEB, interval_s=60.0)
    seen = host.look(fleet.repository)
    assert (seen.outcome, seen.text, seen.policy) == ("policy", WEB.decode(), "Web")
    assert (seen.path, seen.interval_s, seen.version) == ("all/web.yaml", 60.0, 2)
    again = host.look(fleet.repository)
    assert (again.sha256, again.trusted) == (seen.sha256, seen.trusted)
    assert set(again.bundle.metadata) == {"timestamp.json"}


def test_keys_are_for_their_owner_alone(fleet: Fleet) -> None:
    """Their files and their directory; and one that others can read is not used."""
    names = sorted(path.name for path in fleet.keys.iterdir())
    assert names == [
        *("root1.pem", "root2.pem", "root3.pem"),
        *("snapshot.pem", "targets.pem", "timestamp.pem"),
    ]
    assert stat.S_IMODE(fleet.keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in fleet.keys.iterdir()} == {0o600}
    (fleet.keys / "targets.pem").chmod(0o640)
    with pytest.raises(DomainError, match="others than its owner"):
        fleet.publish()


def test_a_repository_is_not_made_over_another(fleet: Fleet, tmp_path: Path) -> None:
    """Neither over a repository, nor over keys."""
    with pytest.raises(DomainError, match="a repository already"):
        init(fleet.repository, tmp_path / "other", now())
    with pytest.raises(DomainError, match=r"keys in .* already"):
        init(tmp_path / "other", fleet.keys, now())


def test_what_is_no_policy_is_not_published(fleet: Fleet) -> None:
    """The document is read as the daemon reads it, and nothing has changed."""
    before = status(fleet.repository, now())
    for document in (
        b"policy: Web\nrules: [{rule: x}]\n",
        b"policy: Web\ndescription: &a [x, x]\nrules: [*a, *a]\n",
        b"[" * 100_000,
    ):
        with pytest.raises(InvalidInput):
            fleet.publish(document)
    assert status(fleet.repository, now()) == before


def test_what_does_not_meet_its_expectations_is_not_published(fleet: Fleet) -> None:
    """The publisher hears which one, and no host has to refuse it."""
    before = status(fleet.repository, now())
    expected = b'expect: ["%s tcp 203.0.113.7:4000 > me:23"]\n'
    with pytest.raises(Refused, match="me:23"):
        fleet.publish(WEB + expected % b"permit")
    assert status(fleet.repository, now()) == before
    fleet.publish(WEB + expected % b"block")


def test_a_group_gets_its_own_policy(fleet: Fleet) -> None:
    """Its role is made with the first one; hosts of other groups do not see it."""
    fleet.publish(WORM)
    made = fleet.publish(WEB, "web")
    assert made.new_keys == ("group-web",)
    assert (fleet.keys / "group-web.pem").exists()
    assert fleet.publish(CHANGED, "web").new_keys == ()
    assert Member.of(fleet, "w", "web").look(fleet.repository).text == CHANGED.decode()
    assert Member.of(fleet, "d", "db").look(fleet.repository).text == WORM.decode()


def test_a_publisher_of_a_group_needs_only_its_key(fleet: Fleet) -> None:
    """Beside those of snapshot and timestamp; it can publish for no other one."""
    fleet.publish(WEB, "web")
    for name in ("root1", "root2", "root3", "targets"):
        (fleet.keys / f"{name}.pem").unlink()
    fleet.publish(CHANGED, "web")
    assert Member.of(fleet, "w", "web").look(fleet.repository).text == CHANGED.decode()
    with pytest.raises(DomainError, match="of its keys targets is not in"):
        fleet.publish(WORM)
    with pytest.raises(DomainError, match="of its keys targets is not in"):
        fleet.publish(WORM, "db")


def test_a_canary_goes_to_its_share_and_then_to_all(fleet: Fleet) -> None:
    """Those in the share get the new one, the others keep the old one until it is completed."""
    fleet.publish(WEB, hosts=("web*",))
    fleet.publish(CHANGED, canary=30.0)
    hosts = [Member.of(fleet, f"web{number}") for number in range(40)]

    def new_ones() -> set[str]:
        texts = {host.name: host.look(fleet.repository).text for host in hosts}
        assert set(texts.values()) <= {WEB.decode(), CHANGED.decode()}
        return {name for name, text in texts.items() if text == CHANGED.decode()}

    first = new_ones()
    assert 3 <= len(first) <= 25
    fleet.publish(CHANGED, canary=60.0)
    second = new_ones()
    assert first < second < {host.name for host in hosts}
    published = fleet.publish(CHANGED)
    assert published.offer.hosts == ("web*",)
    assert len(new_ones()) == 40
    assert Member.of(fleet, "db").look(fleet.repository).outcome == "nothing"


def test_selectors_stay_until_others_are_given(fleet: Fleet) -> None:
    """Whoever publishes a change says nothing about whom it is for, unless that changes."""
    fleet.publish(WEB, labels=(("site", "paris"),), precedence=3)
    again = fleet.publish(CHANGED).offer
    assert (again.labels, again.precedence) == ((("site", "paris"),), 3)
    assert fleet.publish(CHANGED, hosts=("a*",)).offer.labels == (("site", "paris"),)
    assert fleet.publish(CHANGED, everywhere=True).offer.labels == ()


def test_policies_of_like_names_do_not_meet(fleet: Fleet) -> None:
    """Two names that are one word as a file are two files."""
    paths = [
        fleet.publish(b'policy: "%s"\nrules: []\n' % name.encode()).offer.path
        for name in ("A b", "a-B", "\u00e9", "\u00e8")
    ]
    assert paths == ["all/a-b.yaml", "all/a-b-2.yaml", "all/policy.yaml", "all/policy-2.yaml"]


def test_a_withdrawal_reaches_a_host(fleet: Fleet) -> None:
    """And what is published later is in force again."""
    host = Member.of(fleet)
    fleet.publish(WEB)
    host.look(fleet.repository)
    gone = withdraw(fleet.repository, fleet.keys, now())
    assert (gone.roles, gone.left) == (("targets",), ())
    assert host.look(fleet.repository).outcome == "withdrawn"
    fleet.publish(WEB)
    assert host.look(fleet.repository).outcome == "policy"


def test_a_withdrawal_is_of_the_roles_at_hand(fleet: Fleet) -> None:
    """Those of others are told, and stay; a group alone can be withdrawn."""
    fleet.publish(WEB, "web")
    fleet.publish(WORM, "db")
    fleet.publish(WORM)
    withdraw(fleet.repository, fleet.keys, now(), group="db")
    assert Member.of(fleet, "d", "db").look(fleet.repository).path == "all/worm.yaml"
    (fleet.keys / "group-web.pem").rename(fleet.keys / "group-web.elsewhere")
    gone = withdraw(fleet.repository, fleet.keys, now())
    assert gone.roles == ("group-db", "targets")
    assert gone.left == (("group-web", "group-web"),)
    assert Member.of(fleet, "d", "db").look(fleet.repository).outcome == "withdrawn"
    assert Member.of(fleet, "w", "web").look(fleet.repository).outcome == "policy"
    with pytest.raises(NotFound):
        withdraw(fleet.repository, fleet.keys, now(), group="mail")


def test_one_of_several_policies_is_taken_out(fleet: Fleet) -> None:
    """Hosts take the next one; the last one that goes is a withdrawal."""
    fleet.publish(WEB)
    fleet.publish(WORM, precedence=-1)
    host = Member.of(fleet)
    assert host.look(fleet.repository).policy == "Web"
    remove(fleet.repository, fleet.keys, "Web", now())
    assert host.look(fleet.repository).policy == "Worm"
    with pytest.raises(NotFound):
        remove(fleet.repository, fleet.keys, "Web", now())
    remove(fleet.repository, fleet.keys, "Worm", now())
    assert host.look(fleet.repository).outcome == "withdrawn"


@pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets", "root1", "web"])
def test_a_key_is_replaced(fleet: Fleet, name: str) -> None:
    """Hosts follow, the new key has the name of the old one, and the old one is worth nothing."""
    fleet.publish(WEB, "web")
    host = Member.of(fleet, "w", "web")
    host.look(fleet.repository)
    file = fleet.keys / ("group-web.pem" if name == "web" else f"{name}.pem")
    old = file.read_bytes()
    keygen(fleet.repository, fleet.keys, [name], now())
    assert file.read_bytes() != old
    assert not list(fleet.keys.glob("*.new.pem"))
    assert host.look(fleet.repository).text == WEB.decode()
    fleet.publish(CHANGED, "web")
    fleet.publish(WORM)
    assert host.look(fleet.repository).text == CHANGED.decode()
    file.write_bytes(old)
    if name == "root1":
        (fleet.keys / "root2.pem").unlink()
        assert keygen(fleet.repository, fleet.keys, ["timestamp"], now()).waits_for
    else:
        with pytest.raises(DomainError, match="cannot be signed"):
            publish_in_both(fleet)


def publish_in_both(fleet: Fleet) -> None:
    fleet.publish(CHANGED, "web")
    fleet.publish(CHANGED)


def test_a_root_waits_for_the_second_signature(fleet: Fleet, tmp_path: Path) -> None:
    """Root keys in three places: meanwhile all goes on with the old keys, then the new ones."""
    places = {}
    for name in ("root1", "root2", "root3"):
        places[name] = tmp_path / f"safe-{name}"
        places[name].mkdir()
        (fleet.keys / f"{name}.pem").rename(places[name] / f"{name}.pem")
    host = Member.of(fleet)
    came = keygen(fleet.repository, fleet.keys, ["timestamp", "targets"], now())
    assert came.waits_for == ("root1", "root2", "root3")
    fleet.publish(WEB)
    assert host.look(fleet.repository).text == WEB.decode()
    assert sign_anew(fleet.repository, places["root1"], now()).waits_for == ("root2", "root3")
    waiting = status(fleet.repository, now())["waiting_root"]
    assert (waiting["signed_by"], waiting["version"]) == (["root1"], 2)
    fleet.publish(WORM)
    assert host.look(fleet.repository).versions["root.json"] == 1
    # Enough have signed, and the keys that sign the rest with it are not where root keys are.
    assert set(sign_anew(fleet.repository, places["root3"], now()).waits_for) == {
        *("snapshot", "timestamp")
    }
    assert host.look(fleet.repository).versions["root.json"] == 1
    assert ("root", 2) in sign_anew(fleet.repository, fleet.keys, now()).renewed
    assert status(fleet.repository, now())["waiting_root"] is None
    assert host.look(fleet.repository).versions["root.json"] == 2
    fleet.publish(WEB)
    assert host.look(fleet.repository).text == WEB.decode()


def test_what_expires_is_renewed(fleet: Fleet) -> None:
    """Timestamp and snapshot every time; targets and root when they have little time left."""
    came = sign_anew(fleet.repository, fleet.keys, now())
    assert [role for role, _ in came.renewed] == ["snapshot", "timestamp"]
    later = now() + timedelta(days=330)
    came = sign_anew(fleet.repository, fleet.keys, later)
    assert [role for role, _ in came.renewed] == ["root", "snapshot", "targets", "timestamp"]
    assert Member.of(fleet).look(fleet.repository).versions["root.json"] == 2


def test_what_is_not_signed_is_not_signed_for_somebody(fleet: Fleet) -> None:
    """Who can write into the directory gets nothing signed by the next publication."""
    fleet.publish(WEB)
    for path in (fleet.repository / "metadata").glob("*.targets.json"):
        path.write_bytes(path.read_bytes().replace(b"all/web", b"all/bad"))
    with pytest.raises(DomainError, match="not as it was written"):
        fleet.publish(WORM)
    with pytest.raises(NotTrusted):
        Member.of(fleet).look(fleet.repository)


def test_the_status_names_who_signed_and_who_is_meant(fleet: Fleet) -> None:
    """Every role with its keys, and every policy with its selectors."""
    fleet.publish(WEB, "web", hosts=("web*",), labels=(("site", "paris"),))
    said = status(fleet.repository, now())
    roles = {role["role"]: role for role in said["roles"]}
    assert set(roles) == {"root", "timestamp", "snapshot", "targets", "group-web"}
    assert (roles["root"]["threshold"], len(roles["root"]["signed_by"])) == (2, 3)
    assert roles["group-web"]["signed_by"] == ["group-web"]
    [offer] = said["policies"][1]["offers"]
    assert (offer["hosts"], offer["labels"]) == (["web*"], {"site": "paris"})


def _publish_some(fleet: Fleet, word: str) -> None:
    for number in range(5):
        fleet.publish(f'policy: "{word}{number}"\nrules: []\n'.encode())


def test_two_publishers_wait_for_each_other(fleet: Fleet) -> None:
    """What both have published is there, and every version once."""
    both = [
        multiprocessing.get_context("fork").Process(target=_publish_some, args=(fleet, word))
        for word in "ab"
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    said = status(fleet.repository, now())
    assert said["version"] == 11
    assert len(said["policies"][0]["offers"]) == 10


EFFECTS = ("fsync", "replace", "unlink")


@pytest.mark.parametrize("doing", ["publish", "rotate", "group", "withdraw"])
def test_whatever_ends_a_publisher_a_host_sees_old_or_new(
    fleet: Fleet, doing: str, tmp_path: Path
) -> None:
    """Killed before every effect on disk in turn: hosts follow, and it can be done again."""
    fleet.publish(WEB)
    before = Member.of(fleet)
    before.look(fleet.repository)

    def act(changed: Fleet) -> None:
        if doing == "publish":
            changed.publish(CHANGED)
        elif doing == "group":
            changed.publish(CHANGED, "web")
        elif doing == "withdraw":
            withdraw(changed.repository, changed.keys, now())
        else:
            keygen(changed.repository, changed.keys, ["timestamp", "snapshot", "targets"], now())

    expected = {"publish": {CHANGED}, "rotate": {WEB}, "group": {CHANGED}, "withdraw": {b""}}
    done = False
    step = 0
    while not done:
        step += 1
        copy = Fleet(tmp_path / f"repo{step}", tmp_path / f"keys{step}")
        shutil.copytree(fleet.repository, copy.repository)
        shutil.copytree(fleet.keys, copy.keys)
        child = os.fork()
        if not child:
            ends_after(step)
            act(copy)
            os._exit(0)
        done = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for trusted in (before.trusted, {"root.json": before.trusted["root.json"]}):
            host = Member("web1", ("web",), (), trusted)
            text = host.look(copy.repository).text.encode()
            assert text in {WEB} | expected[doing], step
            act(copy)
            assert host.look(copy.repository).text.encode() in expected[doing], step
    assert step > 8


def ends_after(steps: int) -> None:
    """End this process at once where it would do so many effects on disk."""
    left = [steps]

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os._exit(1)
            return call(*args, **kwargs)

        return counted

    for name in EFFECTS:
        setattr(os, name, counting(getattr(os, name)))
