"""Owns what a host believes of a repository: TUF's workflow, and then the choice of a policy.

https://theupdateframework.github.io/specification/latest/ (section 5). It reads and writes nothing
but a temporary directory, and gets every file from the function that it is given.

1. All or nothing: what is returned was verified as a whole, what is raised changes nothing.
2. Only the index of targets, and those of the groups that the host is in, are read.
3. Every file has a greatest length before it is fetched.
"""

from __future__ import annotations

import hashlib
import inspect
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import FetcherInterface, TargetFile, Updater, UpdaterConfig

from ipsecd.errors import InvalidInput, IpsecdError
from ipsecd.language.documents import MAX_BYTES
from ipsecd.quoting import count, shorten
from ipsecd_domain.bundle import METADATA, TARGETS, Bundle
from ipsecd_domain.carried import SignedList, carried_by, signed_lists
from ipsecd_domain.errors import DomainError, Expired, Missing, NotFetched, NotTrusted
from ipsecd_domain.layout import MAX_INDEX_BYTES, Index, index_path, read_index, role_of, unhashed
from ipsecd_domain.selection import Candidate, Choice, Host, choose, selects

Fetch = Callable[[str, int], bytes]
"""The file at a path of the repository, of at most so many bytes.

It raises ``Missing`` if there is none, and ``NotFetched`` if that cannot be said.
"""

ROOT, TIMESTAMP = "root.json", "timestamp.json"
MAX_VERSION = 1 << 53
"""What every reader of JSON takes for a whole number (RFC 8259, section 6)."""
_LIMITS = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=8,
    root_max_length=256 << 10,
    timestamp_max_length=16 << 10,
    snapshot_max_length=2 << 20,
    targets_max_length=4 << 20,
)
_ASK_THE_PUBLISHER = "in force stays what is; tell whoever publishes the domain policy"
_TAKE_ROOT = "take the root of the repository with 'ipsecctl domain trust REPO'"


@dataclass(frozen=True)
class Refreshed:
    """What a host is to do, and what it believes from now on.

    `outcome` is ``policy``, ``withdrawn`` or ``nothing``. Of a policy there are its `path`, its
    name in the index, its document, the SHA-256 of that in hexadecimal, and the interval it asks
    for. `version` is that of the timestamp, `versions` are those of all files by name, `expires`
    is when the first of them does. `trusted` replaces what was trusted; `bundle` is all that was
    fetched. `lists` are those that the policy carries, of which nothing was fetched.
    """

    outcome: str
    trusted: Mapping[str, str]
    bundle: Bundle
    version: int
    versions: Mapping[str, int]
    expires: datetime
    why: str
    path: str = ""
    policy: str = ""
    text: str = ""
    sha256: str = ""
    interval_s: float | None = None
    lists: tuple[SignedList, ...] = ()


def refresh(trusted: Mapping[str, str], host: Host, fetch: Fetch) -> Refreshed:
    """What `host`, which trusts the files of `trusted`, is to do by what `fetch` gives.

    Raises ``NotFetched`` as `fetch` does, and ``NotTrusted`` or ``Expired`` for what it gives.
    """
    if ROOT not in trusted:
        raise NotTrusted("this host trusts no repository yet", _TAKE_ROOT)
    fetcher = _Fetcher(fetch)
    with TemporaryDirectory(prefix="ipsecd-domain-") as directory, _told(fetcher):
        metadata, targets = Path(directory, "metadata"), Path(directory, "targets")
        metadata.mkdir()
        targets.mkdir()
        roles = ["root", "timestamp", "snapshot", role_of(None)]
        roles += [role_of(group) for group in sorted(set(host.groups))]
        for role in roles:
            if f"{role}.json" in trusted:
                (metadata / f"{role}.json").write_bytes(_content(trusted[f"{role}.json"]))
        repository = _Repository(_updater(metadata, targets, fetcher), targets / "file")
        repository.refresh()
        indexes = repository.indexes(host)
        choice = _choice(repository, indexes, host)
        text = repository.document(choice.chosen) if choice.chosen else ""
        lists = repository.lists(choice.chosen) if choice.chosen else ()
        believed = _believed(metadata, roles)
    return replace(_refreshed(choice, text, believed, fetcher), lists=lists)


def newest_root(fetch: Fetch) -> tuple[int, str]:
    """The version and the text of the root of a repository that nothing is known of yet.

    It is the last that is signed by the keys of the one before it. Raises ``NotTrusted`` where
    none is signed by as many keys as it asks for itself, and ``Expired``.
    """
    text = fetch(f"{METADATA}{ROOT}", _LIMITS.root_max_length)
    root = _read_root(text, None)
    for _ in range(_LIMITS.max_root_rotations):
        try:
            name = f"{METADATA}{root.signed.version + 1}.{ROOT}"
            following = fetch(name, _LIMITS.root_max_length)
        except Missing:
            break
        root, text = _read_root(following, root), following
    return _not_expired(root), text.decode()


def check_root(text: str) -> int:
    """The version of the root that `text` is, signed by as many keys as it asks for itself.

    Raises ``NotTrusted`` for anything else, and ``Expired``.
    """
    return _not_expired(_read_root(_content(text), None))


def _read_root(content: bytes, before: Metadata[Root] | None) -> Metadata[Root]:
    """A root, signed by itself and by the one before it; raises ``NotTrusted``."""
    try:
        root = Metadata[Root].from_bytes(content)
        for signer in filter(None, (before, root)):
            signer.signed.verify_delegate(Root.type, root.signed_bytes, root.signatures)
    except Exception as error:
        raise NotTrusted(
            "this is no root of a repository that enough of its keys have signed",
            "take root.json from the directory metadata of the repository",
        ) from error
    return root


def _not_expired(root: Metadata[Root]) -> int:
    """The version of a root; raises ``Expired``, or ``NotTrusted`` for one without end."""
    expires = _in_utc(root.signed.expires)
    if root.signed.version > MAX_VERSION:
        raise NotTrusted("this root has a version that is none", _ASK_THE_PUBLISHER)
    if expires <= datetime.now(UTC):
        raise Expired(
            f"this root has expired at {written(expires)}",
            "whoever publishes the domain policy renews it with 'ipsecctl domain sign', and the "
            "clock of this host must be right",
        )
    return root.signed.version


class _Fetcher(FetcherInterface):
    """Asks a ``Fetch`` in the place of a web server, and keeps what came.

    `failed` is what kept it from having a file that must be there.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._get = fetch
        self.metadata: dict[str, str] = {}
        self.targets: dict[str, str] = {}
        self.failed: IpsecdError | None = None

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """The file at `url`, which is a path of the repository."""
        try:
            content = self._get(url, max_length)
        except Missing as error:
            self.failed = error
            raise exceptions.DownloadHTTPError(str(error), 404) from error
        except IpsecdError as error:
            self.failed = error
            raise exceptions.DownloadError(str(error)) from error
        self.failed = None
        if len(content) > max_length:
            raise NotTrusted(
                f"{shorten(url)} has {count(len(content), 'byte')}, and at most {max_length:,} "
                "are taken",
                _ASK_THE_PUBLISHER,
            )
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise NotTrusted(f"{shorten(url)} is no text", _ASK_THE_PUBLISHER) from error
        if url.startswith(METADATA):
            self.metadata[url.removeprefix(METADATA)] = text
        else:
            self.targets[unhashed(url.removeprefix(TARGETS))] = text
        return content

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """The file at `url`, open for reading."""
        yield io.BytesIO(self.download_bytes(url, max_length))

    def _fetch(self, url: str) -> Iterator[bytes]:
        """What the base class asks for when it does not know a greatest length."""
        yield self.download_bytes(url, MAX_BYTES)


class _Repository:
    """A repository as one run of TUF's client sees it; `place` is where it may put a file."""

    def __init__(self, updater: Updater, place: Path) -> None:
        self._updater = updater
        self._place = str(place)

    def refresh(self) -> None:
        """Bring root, timestamp, snapshot and targets up to date."""
        self._updater.refresh()

    def indexes(self, host: Host) -> dict[str, Index]:
        """The indexes that are for a host, by role."""
        indexes = {}
        for role in [role_of(None), *(role_of(group) for group in sorted(set(host.groups)))]:
            target = self._updater.get_targetinfo(index_path(role))
            if target is not None:
                indexes[role] = read_index(self._download(target, MAX_INDEX_BYTES), role)
        return indexes

    def digest(self, path: str) -> str:
        """The SHA-256 of a document, as it is signed."""
        target = self._target(path)
        digest = target.hashes.get("sha256", "")
        if len(digest) != 64:
            raise NotTrusted(f"{shorten(path)} is signed without a SHA-256", _ASK_THE_PUBLISHER)
        return digest

    def document(self, candidate: Candidate) -> str:
        """The text of a policy."""
        content = self._download(self._target(candidate.offer.path), MAX_BYTES)
        if hashlib.sha256(content).hexdigest() != candidate.sha256:
            raise NotTrusted(
                f"{candidate.offer.path} is not the file that was signed", _ASK_THE_PUBLISHER
            )
        return content.decode()

    def lists(self, candidate: Candidate) -> tuple[SignedList, ...]:
        """The lists that a policy carries, as they are signed."""
        try:
            carried = carried_by(self._target(candidate.offer.path), candidate.role)
        except InvalidInput as error:
            raise NotTrusted(error.message, _ASK_THE_PUBLISHER) from error
        return signed_lists(carried, self._target)

    def _target(self, path: str) -> TargetFile:
        target = self._updater.get_targetinfo(path)
        if target is None:
            raise NotTrusted(
                f"{shorten(path)} stands in an index, and nobody has signed it", _ASK_THE_PUBLISHER
            )
        return target

    def _download(self, target: TargetFile, most: int) -> bytes:
        if target.length > most:
            raise NotTrusted(
                f"{shorten(target.path)} has {count(target.length, 'byte')}, and at most {most:,} "
                "are taken",
                _ASK_THE_PUBLISHER,
            )
        return Path(self._updater.download_target(target, self._place)).read_bytes()


def _updater(metadata: Path, targets: Path, fetcher: _Fetcher) -> Updater:
    made: Callable[..., Updater] = Updater
    # Since version 6 it wants to be told that the root in the directory is the one to trust.
    told: dict[str, Any] = {}
    if "bootstrap" in inspect.signature(Updater).parameters:
        told["bootstrap"] = None
    return made(
        metadata_dir=str(metadata),
        metadata_base_url=METADATA,
        target_dir=str(targets),
        target_base_url=TARGETS,
        fetcher=fetcher,
        config=_LIMITS,
        **told,
    )


def _choice(repository: _Repository, indexes: Mapping[str, Index], host: Host) -> Choice:
    candidates = [
        Candidate(offer, role, repository.digest(offer.path))
        for role, index in indexes.items()
        for offer in index.offers
        if selects(offer, host)
    ]
    return choose(indexes.items(), candidates, host)


def _believed(metadata: Path, roles: list[str]) -> dict[str, str]:
    """What the client believes now, of the roles that there are."""
    files = [metadata / f"{role}.json" for role in roles]
    return {file.name: file.read_text(encoding="utf-8") for file in files if file.exists()}


def _refreshed(
    choice: Choice,
    text: str,
    believed: dict[str, str],
    fetcher: _Fetcher,
) -> Refreshed:
    signed = {
        name: Metadata[Any].from_bytes(content.encode()).signed
        for name, content in believed.items()
    }
    if max(part.version for part in signed.values()) > MAX_VERSION:
        raise NotTrusted("the repository has versions that are no versions", _ASK_THE_PUBLISHER)
    chosen = choice.chosen
    none = "withdrawn" if choice.withdrawn else "nothing"
    return Refreshed(
        outcome="policy" if chosen else none,
        trusted=believed,
        bundle=Bundle(fetcher.metadata, fetcher.targets),
        version=signed[TIMESTAMP].version,
        versions={name: part.version for name, part in signed.items()},
        expires=min(_in_utc(part.expires) for part in signed.values()),
        why="\n".join(choice.reasons),
        path=chosen.offer.path if chosen else "",
        policy=chosen.offer.policy if chosen else "",
        text=text,
        sha256=chosen.sha256 if chosen else "",
        interval_s=chosen.offer.interval_s if chosen else None,
    )


@contextmanager
def _told(fetcher: _Fetcher) -> Iterator[None]:
    """Tell in our words what the library raises about what it was given."""
    try:
        yield
    except DomainError:
        raise
    except InvalidInput as error:
        raise NotTrusted(
            f"an index of the repository: {error.message}", _ASK_THE_PUBLISHER
        ) from error
    except exceptions.ExpiredMetadataError as error:
        raise Expired(
            f"what the repository has is too old to be believed: {shorten(str(error))}",
            "in force stays what is; whoever publishes it renews it with 'ipsecctl domain sign', "
            "and the clock of this host must be right",
        ) from error
    except exceptions.DownloadError as error:
        if isinstance(fetcher.failed, DomainError):
            raise fetcher.failed from error
        reason = fetcher.failed.message if fetcher.failed else str(error)
        raise NotFetched(shorten(reason), _ASK_THE_PUBLISHER) from error
    except exceptions.UnsignedMetadataError as error:
        raise NotTrusted(
            f"the repository has what the keys of its role have not signed: {shorten(str(error))}",
            _ASK_THE_PUBLISHER,
        ) from error
    except exceptions.BadVersionNumberError as error:
        raise NotTrusted(
            f"the repository went back to what is older than what is here: {shorten(str(error))}",
            _ASK_THE_PUBLISHER,
        ) from error
    except Exception as error:
        raise NotTrusted(
            f"the repository cannot be believed: {shorten(str(error) or type(error).__name__)}",
            _ASK_THE_PUBLISHER,
        ) from error


def _content(text: str) -> bytes:
    """`text` in UTF-8; halves of surrogates pass, and make no file that anybody has signed."""
    return text.encode("utf-8", "surrogatepass")


def _in_utc(moment: datetime) -> datetime:
    """Older versions of the library leave the zone out."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def written(moment: datetime) -> str:
    """`moment`, in UTC, as it stands in JSON."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
