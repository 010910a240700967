"""Owns the daemon's command line: reads its options, and turns errors into an exit code."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from ipsecd import __version__, log
from ipsecd.arguments import ArgumentParser
from ipsecd.backend.choice import withdraw_all
from ipsecd.backend.registry import NAMES
from ipsecd.config import DEFAULT_CONFIG, Config, Directories, boot_despite_errors, load_config
from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, IpsecdError
from ipsecd.output import begin, complain_text, finish, say
from ipsecd.service.lifecycle import Daemon
from ipsecd.service.listener import RuntimeLock
from ipsecd.service.namespace_lock import NamespaceLock
from ipsecd.service.not_starting import tell_waiting
from ipsecd.service.notify import Notifier
from ipsecd.service.owner_socket import keep_owner, take_owner
from ipsecd.sources.dynamic_file import DynamicFile


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon, or check its settings; 0 for success, 1 for an error (2 for usage)."""
    begin()
    options = _parser().parsed(arguments)
    return finish(_run(options), "ipsecd")


def _run(options: argparse.Namespace) -> int:
    _raise_descriptor_limit()
    directories = Directories(
        options.config_dir, options.state_dir, options.runtime_dir, options.bpffs_dir
    )
    if options.boot:
        return _boot(options, directories)
    try:
        if options.withdraw:
            return _withdraw(directories)
        config = _config(options) if options.check else _config_of_daemon(options)
        log.set_up()
        owner = take_owner(os.environ)
        engine = Engine(
            config,
            directories,
            keep_owner=partial(keep_owner, Notifier(os.environ), owner),
            owner=owner,
        )
        if options.check:
            return _report(engine.check())
        with closing(NamespaceLock()):
            asyncio.run(Daemon(Control(engine), config, directories).run())
    except IpsecdError as error:
        complain_text(f"ipsecd: {error}")
        return 1
    return 0


def _raise_descriptor_limit() -> None:
    """Raise the limit of descriptors as far as possible: a thousand links need more than 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # The system call filter of the systemd units forbids it; they set both limits themselves.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _boot(options: argparse.Namespace, directories: Directories) -> int:
    """Enforce and exit; if the settings cannot be used, with the last good ones or the defaults."""
    log.set_up()
    config_error = None
    try:
        config = _config(options)
    except IpsecdError as error:
        boot = boot_despite_errors(options.config, _default_config(options))
        config, config_error = Config(boot=boot), error
    try:
        with (
            closing(RuntimeLock(directories.runtime)),
            closing(NamespaceLock()),
            closing(Engine(config, directories)) as engine,
        ):
            done = engine.boot(config_error)
    except IpsecdError as error:
        complain_text(f"ipsecd: {error}")
        return 1
    return 0 if done else 1


def _withdraw(directories: Directories) -> int:
    """Remove everything that an earlier daemon left in force."""
    with closing(RuntimeLock(directories.runtime)), closing(NamespaceLock()):
        try:
            withdraw_all(directories.bpffs)
        except OSError as error:
            raise BackendFailed(f"the kernel did not let go of it: {error}") from error
        # The next daemon must not enforce the dynamic rules again.
        DynamicFile(directories.runtime).clear()
    return 0


def _config(options: argparse.Namespace) -> Config:
    config = load_config(options.config, _default_config(options))
    return config.with_backend(options.backend) if options.backend else config


def _config_of_daemon(options: argparse.Namespace) -> Config:
    """The settings; if they cannot be used, those who wait for the daemon are told why."""
    try:
        return _config(options)
    except IpsecdError as error:
        # It comes behind the socket that they wait at; the service manager keeps it all the same.
        take_owner(os.environ)
        tell_waiting(os.environ, error)
        raise


def _default_config(options: argparse.Namespace) -> Path:
    directory: Path = options.config_dir
    return directory / DEFAULT_CONFIG.name


def _report(problems: Sequence[str]) -> int:
    for problem in problems:
        complain_text(f"ipsecd: {problem}")
    if not problems:
        say("configuration and policies are valid")
    return 1 if problems else 0


def _parser() -> ArgumentParser:
    default = Directories()
    parser = ArgumentParser(
        prog="ipsecd",
        description="Enforces IPsec-style block and permit rules; ipsecctl tells it which.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"settings (default: {DEFAULT_CONFIG.name} in the directory of policies)",
    )
    for name, path, what in (
        ("config", default.config, "policies, and which one is assigned"),
        ("state", default.state, "what the daemon keeps for its next start"),
        ("runtime", default.runtime, "the socket"),
        ("bpffs", default.bpffs, "pins of the xdp backend"),
    ):
        parser.add_argument(
            f"--{name}-dir",
            type=Path,
            metavar="DIR",
            default=path,
            help=f"{what} (default: {path})",
        )
    parser.add_argument(
        "--backend",
        choices=NAMES,
        help="what enforces the rules, instead of what the settings say",
    )
    other_tasks = parser.add_mutually_exclusive_group()
    other_tasks.add_argument(
        "--check",
        action="store_true",
        help="read settings and policies, say whether they can be used, and change nothing",
    )
    other_tasks.add_argument(
        "--boot",
        action="store_true",
        help="put the assigned policy in force and exit, without serving or writing anything",
    )
    other_tasks.add_argument(
        "--withdraw",
        action="store_true",
        help="remove all that an ipsecd enforces in this network namespace, and exit",
    )
    parser.add_argument("--version", action="version", version=f"ipsecd {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
