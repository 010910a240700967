"""Owns how a terminal shows how far a call is; must not know what is called, nor how it is sent."""

from __future__ import annotations

from ipsecctl.options import Options
from ipsecd.output import can_show, show

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any

    from ipsecctl.client import Hear


def listener(options: Options) -> Hear | None:
    """The function that shows how far a call is; None if nobody sees it, or a program reads it."""
    return None if options.has("--json") or not can_show() else _show


def _show(reply: dict[str, Any]) -> None:
    progress = reply.get("progress")
    if not isinstance(progress, dict) or "phase" not in progress:
        # Another version of the daemon may say something else here.
        return
    phase, done, total = (progress.get(name) for name in ("phase", "done", "total"))
    counted = isinstance(done, int) and isinstance(total, int) and total > 0
    show(f"{phase}: {done:,} of {total:,}" if counted else f"{phase} ...")
