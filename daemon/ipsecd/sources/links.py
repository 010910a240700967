"""Owns which links of policy files are followed when something is written; must not write.

People keep policies elsewhere, as in a checkout of git, and have a link to each. Who may change
what lies on the way to a file could have anything written over by root. So a link is followed for
writing only where all that lies on the way belongs to root, or to who runs this, and nobody else
may write there. For reading links are followed like everywhere.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_LINKS = 40
"""As many as the kernel follows (path_resolution(7))."""
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UnsafeLink(OSError):
    """A link that nothing is written through. ``strerror`` says why, ``hint`` what to do."""

    def __init__(self, code: int, reason: str, path: Path, hint: str) -> None:
        super().__init__(code, reason, str(path))
        self.hint = hint


def place_to_write(link: Path) -> Path:
    """Where what is written to a policy file goes: the file behind the links there, if any.

    Raises ``UnsafeLink``. The directory of `link` itself is trusted.
    """
    if not link.is_symlink():
        return link
    links = 0
    here = folder = Path(os.path.realpath(link.parent))
    waiting = [link.name]
    while waiting:
        name = waiting.pop()
        path = here / name
        if name == "..":
            here = here.parent
            continue
        try:
            status = path.lstat()
        except OSError as error:
            code = error.errno or errno.ENOENT
            reason = f"it is a link, and {str(path)!r} cannot be reached: {os.strerror(code)}"
            raise UnsafeLink(code, reason, link, "mend the link, or delete it") from error
        if here != folder:
            _must_be_safe(here, path, status, link)
        elif name != link.name and name.endswith(link.suffix):
            raise UnsafeLink(
                errno.EINVAL,
                f"it leads to {name!r}, which is a policy file of its own",
                link,
                "change that policy, or put a file of its own in the place of the link",
            )
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > MOST_LINKS:
                hint = "mend the link, or delete it"
                raise UnsafeLink(errno.ELOOP, "its links lead in a circle", link, hint)
            target = os.readlink(path)  # noqa: PTH115 - a Path would drop what it takes for needless
            here = Path("/") if target.startswith("/") else here
            waiting += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        else:
            here = path
    if not here.is_file():
        hint = "have it lead to a file, or delete it"
        raise UnsafeLink(errno.EISDIR, f"{str(here)!r} is no regular file", link, hint)
    return here


def _must_be_safe(folder: Path, path: Path, status: os.stat_result, link: Path) -> None:
    """Raise ``UnsafeLink`` if others can put anything in the place of `path`, which is in `folder`.

    In a directory like /tmp they cannot replace what is not theirs.
    """
    own = {0, os.geteuid()}
    of_folder = folder.lstat()
    is_open = bool(of_folder.st_mode & _OTHERS)
    is_sticky = bool(of_folder.st_mode & stat.S_ISVTX) and status.st_uid in own
    if of_folder.st_uid in own and (not is_open or is_sticky):
        return
    raise UnsafeLink(
        errno.EPERM,
        f"it is a link, and {str(path)!r} lies in a directory that others can change",
        link,
        "edit the file that it leads to, and run: ipsecctl reload; or give the directory to root, "
        "with: chown root DIRECTORY; chmod go-w DIRECTORY",
    )
