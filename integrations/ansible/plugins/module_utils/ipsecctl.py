"""Owns how modules call ``ipsecctl``: every answer is JSON, and every error ends the module.

It runs on the host that is managed, with any Python that Ansible takes, and needs no package.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.basic import AnsibleModule

OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "executable": {"type": "path"},
    "socket": {"type": "path"},
    "force": {"type": "bool", "default": False},
    "message": {"type": "str"},
}
"""The options that every module has."""
PLACES = ["/usr/bin", "/usr/local/bin"]
NOT_FOUND = "NotFound"
DRY_RUN = "--dry-run"


class Ipsecctl:
    """The command on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        given = module.params
        self._program = given["executable"] or module.get_bin_path(
            "ipsecctl", required=True, opt_dirs=PLACES
        )
        self._socket = ["--socket", given["socket"]] if given["socket"] else []
        self._of_changes = ["--force"] if given["force"] else []
        self._of_changes += ["--message", given["message"]] if given["message"] else []

    def ask(
        self,
        words: Sequence[str],
        arguments: Sequence[str] = (),
        text: str | None = None,
        *,
        missing_ok: bool = False,
    ) -> Any:
        """What a command answers that changes nothing; None if there is no such thing."""
        return self._run([*words, "--json", "--", *arguments], text, missing_ok=missing_ok)

    def change(
        self,
        words: Sequence[str],
        arguments: Sequence[str] = (),
        text: str | None = None,
        *,
        missing_ok: bool = False,
    ) -> dict[str, Any] | None:
        """Make a change, unless nothing would be different or this is check mode.

        `arguments` are what stands at the end, whatever it begins with. Returns the answer, with
        ``changed``; None if there is nothing that could be changed.
        """
        command = [*words, *self._of_changes, "--json"]
        told = self._run([*command, DRY_RUN, "--", *arguments], text, missing_ok=missing_ok)
        if told is None:
            return None
        if told["changed"] and not self.module.check_mode:
            told = self._run([*command, "--", *arguments], text)
        for warning in told.get("warnings", []):
            self.module.warn(warning)
        answer: dict[str, Any] = told
        return answer

    def do(self, words: Sequence[str], arguments: Sequence[str] = ()) -> None:
        """Make a change that is known to be one, unless this is check mode."""
        if not self.module.check_mode:
            self._run([*words, *self._of_changes, "--json", "--", *arguments], None)

    def _run(self, words: Sequence[str], text: str | None, *, missing_ok: bool = False) -> Any:
        code, out, err = self.module.run_command(
            [self._program, *self._socket, *words], data=text, binary_data=True
        )
        try:
            answer = json.loads(out)
        except ValueError:
            self.module.fail_json(msg=f"ipsecctl ended with {code}: {err or out}", rc=code)
        if code == 0 or "error" not in answer:
            return answer
        if missing_ok and answer["error"] == NOT_FOUND:
            return None
        where = f"line {answer['line']}: " if answer.get("line") else ""
        hint = f" ({answer['hint']})" if answer.get("hint") else ""
        told = {key: value for key, value in answer.items() if key != "message"}
        self.module.fail_json(msg=f"{where}{answer['message']}{hint}", rc=code, **told)
        return None


def conditions(module: AnsibleModule) -> list[str]:
    """The options of a rule that say which packets it looks at."""
    interface = module.params["interface"]
    words = ["--opening"] if module.params["opening"] else []
    if interface in {"lan", "dialup"}:
        return [*words, f"--{interface}"]
    return [*words, "--interface", interface] if interface else words


def with_diff(header: str, before: str, after: str) -> dict[str, str]:
    """What Ansible shows of a change."""
    return {"before": before, "after": after, "before_header": header, "after_header": header}


def diff_of_lines(header: str, changes: Sequence[str]) -> dict[str, str]:
    """The same, of lines that begin with what becomes of them."""
    before = [line for line in changes if not line.startswith("+")]
    after = [line for line in changes if not line.startswith("-")]
    return with_diff(header, *("".join(f"{line}\n" for line in lines) for lines in (before, after)))
