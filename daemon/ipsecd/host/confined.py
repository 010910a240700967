"""Owns what a process gives up before it reads what a stranger wrote.

``python -m ipsecd.host.confined MODULE`` gives all of it up and then runs MODULE, as ``python -m``
would, in the same process. Whoever starts it gives it no descriptors but three, ``TMPDIR`` as the
one directory that it may write to, and another user where that can be done. Where it cannot, this
is user 0, whom the daemon's socket obeys and to whom its files belong: so there is neither a socket
nor a file of others for it.
"""

from __future__ import annotations

import os
import resource
import runpy
import sys
from pathlib import Path

import ipsecd
from ipsecd.host import capabilities, landlock, seccomp

MEMORY_BYTES = 1 << 30
"""Of address space: that of the libraries is some hundred megabytes, and little of it is used."""
CPU_S = 60
FILE_BYTES = 128 << 20
"""Of a file that it writes, and so of what it says."""
DESCRIPTORS = 64
_READABLE = (
    # Python and its libraries; the cache of the loader, and what OpenSSL reads when it is loaded.
    *("/usr", "/lib", "/lib64", sys.prefix, sys.base_prefix),
    *("/etc/ld.so.cache", "/etc/ssl/openssl.cnf", "/etc/localtime", "/proc/self"),
    *("/dev/null", "/dev/urandom", "/proc/sys/vm/overcommit_memory"),
)


def main(arguments: list[str]) -> int:
    """Run the module that is named first, with all that this process keeps."""
    _limit()
    capabilities.forbid_new_privileges()
    capabilities.drop_all()
    ours = Path(ipsecd.__file__).parents[1]
    landlock.confine((*_READABLE, *filter(None, sys.path), str(ours)), (os.environ["TMPDIR"],))
    seccomp.close_what_reaches_others()
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    return 0


def _limit() -> None:
    for kind, limit in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, DESCRIPTORS),
        (resource.RLIMIT_CORE, 0),
    ):
        _, most = resource.getrlimit(kind)
        least = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(kind, (least, least))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
