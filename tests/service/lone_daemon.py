"""A whole daemon around a fake engine, as a process: its story goes to standard output.

Arguments: the runtime directory, then any of ``slow-expiry``, ``failing-start``, ``deaf-engine``,
``due-feed``, ``refused-reload`` and ``names``, to have names looked up again all the time.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from ipsecd import log
from ipsecd.config import Config, Directories
from ipsecd.errors import BackendFailed, IpsecdError, Refused
from ipsecd.service.lifecycle import Daemon
from tests.service.harness import FakeEngine


class Story(list[str]):
    """A list whose items are also printed."""

    def append(self, word: str) -> None:
        super().append(word)
        print(word, flush=True)


class ToldEngine(FakeEngine):
    def __init__(self, wishes: set[str]) -> None:
        super().__init__()
        self.story = Story()
        self._wishes = wishes
        self.hooks["Reload"] = self._reload
        self.hooks["RefreshNames"] = self._refresh
        self.hooks["FlushDynamic"] = self._news
        if "slow-expiry" in wishes:
            self.hooks["AddDynamic"] = self._add
            self.hooks["AddToList"] = self._add_to_list
        if "due-feed" in wishes:
            self.feed_due = time.time(), "drop"
            self.hooks["UpdateList"] = self._update

    def start(self) -> None:
        if "failing-start" in self._wishes:
            raise BackendFailed("the kernel has no nftables", "load nf_tables")
        super().start()

    def ping(self) -> None:
        if "deaf-engine" in self._wishes:
            time.sleep(60)

    def _reload(self, _: dict[str, Any]) -> dict[str, Any]:
        self.story.append("reload")
        if "refused-reload" in self._wishes:
            raise Refused("broken.yaml is broken", "mend it")
        return {"outcome": {"changed": False, "message": "", "assigned": None}}

    def _refresh(self, _: dict[str, Any]) -> dict[str, Any]:
        self.story.append("refresh")
        return {"outcome": {"changed": False, "message": "", "assigned": None}}

    def _news(self, _: dict[str, Any]) -> dict[str, Any]:
        if "counts" in self._wishes:
            self.counts_are_behind = True
            return {"removed": 0}
        if "history" in self._wishes:
            self.history_due_s = 0.01
            return {"removed": 0}
        self.tell_news()
        return {"removed": 0}

    def keep_counts(self) -> None:
        self.counts_are_behind = False
        if "counts" in self._wishes:
            self.story.append("keep counts")

    def _add(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.expires_at = time.monotonic() + parameters["ttl_s"]
        return {"rule": {}}

    def _add_to_list(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.list_ends_at = time.time() + parameters["ttl_s"]
        return {"outcome": {"message": ""}}

    def feed_failed(self, name: str, problem: str) -> None:
        super().feed_failed(name, problem.partition("\n")[0])
        self.feed_due = time.time(), "drop"

    def _update(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.feed_due = None
        self.story.append(f"update {parameters['name']} {parameters['fetched'].text!r}")
        return {"outcome": {"message": ""}}


def main() -> int:
    log.set_up()
    runtime = Path(sys.argv[1])
    engine = ToldEngine(set(sys.argv[2:]))
    try:
        config = Config(names_every_s=0.01 if "names" in sys.argv else None)
        asyncio.run(Daemon(engine, config, Directories(runtime=runtime)).run())
    except IpsecdError as error:
        print(error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
