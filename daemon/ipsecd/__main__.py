"""Owns the daemon's command line: words to settings, and errors to an exit code."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from ipsecd import __version__, journal
from ipsecd.config import DEFAULT_CONFIG, Config, Directories, load_config
from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.errors import IpsecdError
from ipsecd.lifecycle import Daemon


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon, or check what it would run with; 0 done, 1 refused (2 usage)."""
    options = _parser().parse_args(arguments)
    directories = Directories(
        options.config_dir, options.state_dir, options.runtime_dir, options.bpffs_dir
    )
    try:
        config = _config(options)
        engine = Engine(config, directories)
        if options.check:
            return _report(engine.check())
        journal.set_up()
        asyncio.run(Daemon(Control(engine), config, directories).run())
    except IpsecdError as error:
        sys.stderr.write(f"ipsecd: {error}\n")
        return 1
    return 0


def _config(options: argparse.Namespace) -> Config:
    config = load_config(options.config)
    return config.with_backend(options.backend) if options.backend else config


def _report(problems: Sequence[str]) -> int:
    for problem in problems:
        sys.stderr.write(f"ipsecd: {problem}\n")
    if not problems:
        sys.stdout.write("configuration and policies are valid\n")
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    default = Directories()
    parser = argparse.ArgumentParser(
        prog="ipsecd",
        description="Enforces IPsec-style block and permit rules; ipsecctl tells it which.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"settings (default: {DEFAULT_CONFIG})"
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
        choices=("auto", "nftables", "xdp"),
        help="what enforces the rules, instead of what the settings say",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="read settings and policies, say whether they can be used, and change nothing",
    )
    parser.add_argument("--version", action="version", version=f"ipsecd {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
