"""Owns the verbs on a repository of domain policies, which need no daemon but keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipsecctl.client import Client
from ipsecctl.ends import duration_s
from ipsecctl.failures import DONE, REFUSED, UsageError
from ipsecctl.files import read_bytes
from ipsecctl.options import Options, labels_of
from ipsecctl.presentation import print_table
from ipsecd.output import change_made, say, say_json
from ipsecd.quoting import few, quote, quote_path
from ipsecd_domain.errors import required_packages

if TYPE_CHECKING:
    from ipsecd_domain.repository.lists import GivenLists

_LEAST, _MOST = 0.0, 100.0


def init(_: Client, options: Options) -> int:
    """Make a repository, and keys for all its roles."""
    with required_packages():
        from ipsecd_domain.repository.creation import ROOT_KEYS, THRESHOLD
        from ipsecd_domain.repository.creation import init as make
    directory, keys = _places(options)
    make(directory, keys, _now())
    change_made()
    if options.has("--json"):
        say_json({"repository": str(directory), "keys": str(keys), "root_keys": list(ROOT_KEYS)})
        return DONE
    names = few([f"{name}.pem" for name in ROOT_KEYS])
    say(
        f"{directory} is a repository that gives out nothing yet; its keys are in {keys}",
        f"take {names} to places of their own, apart from the others: {THRESHOLD} of them replace "
        "every other key",
    )
    return DONE


def keygen(_: Client, options: Options) -> int:
    """Make new keys in the place of others."""
    with required_packages():
        from ipsecd_domain.repository.rotation import keygen as make
    directory, keys = _places(options)
    signed = make(directory, keys, options.values["--role"], _now())
    change_made()
    return _say_signed(options, signed.renewed, signed.waits_for, signed.new_keys)


def sign(_: Client, options: Options) -> int:
    """Sign a root that waits, and renew what expires."""
    with required_packages():
        from ipsecd_domain.repository.rotation import sign_anew
    directory, keys = _places(options)
    signed = sign_anew(directory, keys, _now())
    change_made()
    return _say_signed(options, signed.renewed, signed.waits_for, ())


def publish(_: Client, options: Options) -> int:
    """Give out a policy."""
    with required_packages():
        from ipsecctl.doorbell import doorbell_of, tell_fleet
        from ipsecd_domain.layout import offer_to_json
        from ipsecd_domain.repository.publishing import Selection
        from ipsecd_domain.repository.publishing import publish as give_out
        from ipsecd_domain.repository.status import describe
    doorbell_of(options)
    repository, path = options.arguments
    document = read_bytes(path)
    hosts = options.values.get("--host")
    interval = options.value("--interval")
    selection = Selection(
        hosts=tuple(hosts) if hosts else None,
        labels=labels_of(options),
        precedence=_whole_number(options.value("--precedence")),
        interval_s=None if interval is None else duration_s(interval),
        canary=_share(options.value("--canary")),
        everywhere=options.has("--everywhere"),
    )
    reports = options.value("--reports")
    source = "<stdin>" if path == "-" else path
    lists = _lists(options, document, source)
    if reports is not None and not options.has("--force"):
        _must_not_fail(options, Path(repository), Path(reports), document)
    published = give_out(
        Path(repository),
        _keys(options),
        document,
        selection,
        _now(),
        group=options.value("--to"),
        source=source,
        lists=lists,
    )
    change_made()
    offer = published.offer
    if options.has("--json"):
        more = {
            "lists": list(published.lists),
            "own_lists": list(published.own_lists),
            "new_keys": list(published.new_keys),
            "version": published.version,
        }
        say_json({"role": published.role, **offer_to_json(offer), **more})
    else:
        say(
            f"policy {quote(offer.policy)} is published for {describe(offer, published.role)} · "
            f"version {published.version}",
            *_lines_of_lists(published.lists, published.own_lists),
            *(f"new key: {_keys(options) / name}.pem" for name in published.new_keys),
        )
    tell_fleet(options, Path(repository), published.version)
    return DONE


def withdraw(_: Client, options: Options) -> int:
    """Give out nothing more, or one policy less."""
    with required_packages():
        from ipsecctl.doorbell import doorbell_of, tell_fleet
        from ipsecd_domain.repository.publishing import remove
        from ipsecd_domain.repository.publishing import withdraw as give_out_nothing
    doorbell_of(options)
    directory, keys = _places(options)
    group, policy = options.value("--to"), options.value("--policy")
    if policy is None:
        gone = give_out_nothing(directory, keys, _now(), group=group)
    else:
        gone = remove(directory, keys, policy, _now(), group=group)
    change_made()
    if options.has("--json"):
        left = [{"role": role, "needs": needs} for role, needs in gone.left]
        say_json({"withdrawn": list(gone.roles), "left": left, "version": gone.version})
    else:
        if gone.roles:
            say(f"withdrawn: {', '.join(gone.roles)} · version {gone.version}")
        else:
            say(
                f"policy {quote(policy or '')} is not given out any more · version {gone.version}",
                "hosts that no other policy selects keep it",
            )
        say(*(f"not withdrawn: {role}, for want of key {needs}" for role, needs in gone.left))
    tell_fleet(options, directory, gone.version)
    return DONE


def status(options: Options) -> int:
    """The versions, ends and signatures of a repository, and its policies."""
    with required_packages():
        from ipsecd_domain.layout import read_offer
        from ipsecd_domain.repository.status import describe
        from ipsecd_domain.repository.status import status as look
    report = look(Path(options.argument()), _now())
    if options.has("--json"):
        say_json(report)
        return REFUSED if report["expired"] else DONE
    say(f"{quote_path(report['repository'])} · version {report['version']} · {_end(report)}")
    rows: list[tuple[str, ...]] = [
        (
            role["role"],
            str(role["version"]),
            _end(role),
            f"{', '.join(role['signed_by'])} ({role['threshold']} needed)",
        )
        for role in report["roles"]
    ]
    print_table(("role", "version", "end", "signed by"), rows)
    waiting = report["waiting_root"]
    if waiting:
        signed = ", ".join(waiting["signed_by"]) or "nobody"
        say(
            f"root {waiting['version']} waits: signed by {signed}, not by "
            f"{', '.join(waiting['not_by'])}; sign it with 'ipsecctl domain sign'"
        )
    for given in report["policies"]:
        if given["withdrawn"]:
            say(f"{given['role']}: withdrawn")
        for offer in given["offers"]:
            words = describe(read_offer(offer), given["role"])
            say(
                f"policy {quote(offer['policy'])} ({offer['path']}): {words}",
                *_lines_of_lists(offer["lists"], offer["own_lists"]),
            )
    return REFUSED if report["expired"] else DONE


def _lists(options: Options, document: bytes, source: str) -> GivenLists:
    """The lists that the options give, of those that the policy names."""
    from ipsecctl.given_lists import named_lists, paths_of_lists
    from ipsecd.language.address_lists import read_list
    from ipsecd.language.documents import parse_policy
    from ipsecd_domain.repository.lists import GivenLists

    own = tuple(name.removeprefix("@") for name in options.values.get("--own-list", []))
    named = named_lists(parse_policy(document, source)) - set(own)
    paths = paths_of_lists(options, named)
    read = {name: read_list(read_bytes(path), path) for name, path in paths.items()}
    return GivenLists(read, own, options.has("--accept"))


def _lines_of_lists(lists: Iterable[str], own: Iterable[str]) -> list[str]:
    """The lists that a policy carries, and those that it does not, in words."""
    words = []
    if carried := [f"@{name}" for name in lists]:
        words.append(f"  with {few(carried)}")
    if left := [f"@{name}" for name in own]:
        words.append(f"  without {few(left)}, which hosts have of their own")
    return words


def _must_not_fail(options: Options, repository: Path, reports: Path, document: bytes) -> None:
    """Raise ``DomainError`` if hosts fail with a document, or are yet to say so."""
    from ipsecctl.domain_fleet import threshold_of
    from ipsecd_domain.repository.fleet import look, must_not_fail, trial_of

    threshold, now = threshold_of(options), _now()
    members = look(repository, reports, now).members
    must_not_fail(trial_of(members, hashlib.sha256(document).hexdigest(), now), threshold)


def _say_signed(
    options: Options,
    renewed: tuple[tuple[str, int], ...],
    waits_for: tuple[str, ...],
    new_keys: tuple[str, ...],
) -> int:
    if options.has("--json"):
        say_json(
            {
                "renewed": dict(renewed),
                "waits_for": list(waits_for),
                "new_keys": list(new_keys),
            }
        )
        return DONE
    if new_keys:
        say(f"new keys: {', '.join(new_keys)}")
    if renewed:
        say("signed: " + ", ".join(f"{role} {version}" for role, version in renewed))
    if waits_for:
        say(
            "the next root waits until there are enough keys of these: " + ", ".join(waits_for),
            "run 'ipsecctl domain sign REPO --keys DIR' where they are; until then the old keys "
            "are in use",
        )
    return DONE


def _places(options: Options) -> tuple[Path, Path]:
    return Path(options.argument()), _keys(options)


def _keys(options: Options) -> Path:
    return Path(options.value("--keys") or "")


def _now() -> datetime:
    return datetime.now(UTC)


def _end(part: dict[str, Any]) -> str:
    return f"{'EXPIRED' if part['expired'] else 'good until'} {part['expires']}"


def _share(text: str | None) -> float | None:
    """The percentage that a text such as ``5%`` is."""
    if text is None:
        return None
    number = text.removesuffix("%")
    try:
        share = float(number)
    except ValueError:
        share = _LEAST
    if not _LEAST < share <= _MOST:
        raise UsageError(f"{quote(text)} is no share of the hosts", "write --canary 5%")
    return share


def _whole_number(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{quote(text)} is no whole number", "write --precedence 10") from error
