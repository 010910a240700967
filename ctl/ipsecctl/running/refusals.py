"""Owns what is said of commands that do something else than rules; must not know what does."""

from __future__ import annotations

from ipsecd.errors import Refused
from ipsecd.quoting import quote

_FILES = "does something with files"
_HOST = "does something with the computer"
_PROGRAM = "starts another program"
_TAKE_OUT = "take it out; whatever it is for is done by other means here"
_TAKEN = (
    "taken are ipseccmd, ipsecpol, netsh ipsec, netdiag, gpupdate, secedit, and net and sc about "
    "the policy agent"
)
_JUMP = "write the commands one after the other, in the order in which they are to be done"
_OTHER_PROGRAMS = "write the command itself"
_WHY: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("del", "erase", "copy", "xcopy", "robocopy", "move", "ren", "rename", "md", "mkdir",
         "rd", "rmdir", "type", "dir", "attrib", "cacls", "icacls", "cipher", "more", "sort",
         "cd", "chdir", "pushd", "popd", "subst", "expand"),
        (_FILES, _TAKE_OUT),
    ),
    **dict.fromkeys(
        ("shutdown", "reg", "regedit", "regsvr32", "wmic", "taskkill", "tskill", "schtasks", "at",
         "bcdedit", "diskpart", "format", "ipconfig", "route", "arp", "nbtstat", "dism",
         "auditpol", "net1", "netdom", "setx", "assoc", "ftype", "rundll32", "gpresult",
         "vssadmin", "wevtutil", "sfc", "logoff"),
        (_HOST, _TAKE_OUT),
    ),
    **dict.fromkeys(
        ("start", "cmd", "powershell", "pwsh", "cscript", "wscript", "mshta", "runas", "psexec",
         "forfiles"),
        (_PROGRAM, _OTHER_PROGRAMS),
    ),
    "goto": ("jumps to another place", _JUMP),
    "call": ("calls another file or another place of this one", _JUMP),
    "shift": ("is about words behind the name of the file", "write the values into the file"),
    "choice": ("asks somebody", "write what is to be done"),
    "ping": ("does something with the network", "take it out: nothing has to be waited for"),
}  # fmt: skip


def why_refused(program: str) -> Refused:
    """Why a command of that name is not carried out."""
    if program not in _WHY:
        return Refused(f"{quote(program)} is no command of those that are taken", _TAKEN)
    why, hint = _WHY[program]
    return Refused(f"this line does something else than rules: {quote(program)} {why}", hint)
