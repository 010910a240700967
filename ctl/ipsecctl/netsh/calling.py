"""Owns the forms in which netsh is called: one line, a file, a context; must not know a daemon.

A file is one change. A line that fails because of what exists or does not exist is told, and the
others are carried out; one that is not understood, or asks for what is not done here, keeps the
whole file from being carried out, because what would be left could be weaker than what was meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from ipsecctl.legacy_switches import without_carriage_return
from ipsecctl.netsh.failing import Conflict, NotDoneHere, NotUnderstood, error_line, hint_lines
from ipsecctl.netsh.lines import command_lines, decoded, split
from ipsecctl.netsh.reading import content_of
from ipsecctl.netsh.session import DONE, FAILED, Answer, Session, told_together
from ipsecd.errors import IpsecdError
from ipsecd.quoting import count, quote, quote_path, visible

MAX_BYTES = 16 << 20
_OPTIONS = ("-f", "-c", "-a", "-r", "-u", "-p")


def carry_out(session: Session, words: Sequence[str]) -> Answer:
    """Carry out one command line of netsh, with or without the word ``netsh`` before it."""
    try:
        return _called(session, without_program(words))
    except IpsecdError as error:
        hints = tuple(map(visible, hint_lines(error)))
        understood = isinstance(error, Conflict)
        return Answer(FAILED, (error_line(error),), hints, understood=understood)


def without_program(words: Sequence[str]) -> list[str]:
    """The words after ``netsh``, in any letter case, if they begin with it."""
    program = words[0].lower().removesuffix(".exe") if words else ""
    return list(words[1:] if program == "netsh" else words)


def _called(session: Session, words: list[str]) -> Answer:
    words = without_carriage_return(words)
    if not words:
        raise NotUnderstood(
            "netsh asks for no commands here",
            "give one, or a file of them: netsh -f FILE",
        )
    option = words[0].lower().replace("/", "-", 1)
    if option in _OPTIONS:
        return _with_option(session, option, words[1:])
    if option == "exec":
        return _file(session, words[1:])
    answer = session.carry_out(words)
    # What begins here ends here: there is nobody who types more in the context.
    return session.leave_context() if session.context else answer


def _with_option(session: Session, option: str, words: list[str]) -> Answer:
    if option == "-f":
        return _file(session, words)
    if option in ("-r", "-u", "-p"):
        raise NotDoneHere(
            f"{option} is about another computer", "run netsh there, over ssh for example"
        )
    if option == "-a":
        raise NotDoneHere("-a names a file of aliases, and there are none here", "leave it out")
    if not words:
        raise NotUnderstood("-c names no context", 'write -c "ipsec static"')
    answer = session.carry_out(words[0].split())
    if answer.code == DONE and words[1:]:
        answer = session.carry_out(words[1:])
        session.context = ()
        return answer
    return session.leave_context() if session.context else answer


def _file(session: Session, words: list[str]) -> Answer:
    if len(words) != 1:
        raise NotUnderstood("one file is needed", "write: netsh -f FILE")
    content = content_of(Path(words[0]), words[0], MAX_BYTES, NotUnderstood)
    if len(content) > MAX_BYTES:
        raise NotUnderstood("the file is too long", f"at most {MAX_BYTES:,} bytes are read")
    text, note = decoded(content)
    answer = carry_out_lines(session, command_lines(text))
    if not note:
        return answer
    return answer.with_hints(f"{quote_path(words[0])}: {note}")


def carry_out_lines(session: Session, lines: Iterable[tuple[int, str]]) -> Answer:
    """Carry out the numbered lines of a file, all of them or none that is `understood`."""
    answers: list[Answer] = []
    for number, line in lines:
        answer = _line(session, number, line)
        answers.append(answer)
        if answer.ends:
            break
    session.context, session.contexts = (), []
    said = tuple(chain.from_iterable(answer.lines for answer in answers))
    hints = tuple(told_together([*chain.from_iterable(answer.hints for answer in answers)]))
    wrong = sum(not answer.understood for answer in answers)
    if wrong:
        hints = (*hints, f"nothing was changed, because of {count(wrong, 'line')} of the file")
    code = max((answer.code for answer in answers), default=DONE)
    return Answer(
        code,
        said,
        hints,
        understood=not wrong,
        lacks=any(answer.lacks for answer in answers),
        unassigned=any(answer.unassigned for answer in answers),
    )


def _line(session: Session, number: int, line: str) -> Answer:
    place = f"line {number}: "
    try:
        words = without_program(split(line))
        if words and words[0].lower() in ("exec", *_OPTIONS):
            raise NotDoneHere(
                f"{quote(words[0])} in a file is not done", "put the lines themselves here"
            )
    except IpsecdError as error:
        hint = visible(place + error.hint)
        return Answer(FAILED, (error_line(error, place),), (hint,), understood=False)
    return session.carry_out(words, place)
