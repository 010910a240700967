"""How batch files are read: their bytes, lines, statements, variables and words."""

from __future__ import annotations

import pytest

from ipsecctl.running.decoding import MAX_BYTES, decoded
from ipsecctl.running.searching import found
from ipsecctl.running.statements import Block, Chain, Command, Condition, For, If
from ipsecctl.running.syntax import MAX_DEPTH, parse
from ipsecctl.running.variables import MAX_LENGTH, assignment, with_values
from ipsecctl.running.words import program_of, words_of
from ipsecd.errors import InvalidInput, LimitExceeded, Refused

TEXT = 'netsh ipsec static add policy name="Räume 房"\r\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_needs_no_word_about_it(encoding: str) -> None:
    """With a byte order mark or without, as editors of Windows save it."""
    assert decoded(TEXT.encode(encoding)) == [TEXT.strip(), ""]


def test_code_pages() -> None:
    """What is not Unicode is read as in the West, or as is said."""
    assert decoded("echo Räume".encode("cp1252")) == ["echo Räume"]
    assert decoded("echo 房".encode("cp936"), "cp936") == ["echo 房"]
    with pytest.raises(InvalidInput, match="not text in cp1252") as raised:
        decoded(b"echo\necho \x81\n", source="a.cmd")
    assert (raised.value.line, "--code-page" in raised.value.hint) == (2, True)
    for name in ("cp99999", "", "hex", "rot13", "idna\0", "undefined"):
        with pytest.raises(InvalidInput, match="is not a code page"):
            decoded(b"echo", name)


def test_what_is_no_text() -> None:
    """A program, or a policy file of Windows, is told as such; too much is not read."""
    with pytest.raises(InvalidInput, match="zero byte"):
        decoded(b"MZ\x90\0\3\0\0\0\4", "cp437")
    with pytest.raises(LimitExceeded):
        decoded(b" " * (MAX_BYTES + 1))
    assert decoded(b"a\rb\x1a") == ["a", "b"]


def one(text: str) -> object:
    """The only statement of a file."""
    (statement,) = parse(text.split("\n"), "a.cmd")
    return statement


COMMANDS = [
    ("netsh x", Command(1, "netsh x")),
    ("  @netsh x  ", Command(1, "netsh x")),
    ("a -x>NUL", Command(1, "a -x", hides_output=True)),
    ("a -x >nul 2>&1", Command(1, "a -x", hides_output=True)),
    ("a >&2", Command(1, "a")),
    ("a 2>nul", Command(1, "a", hides_errors=True)),
    ("a dstport=802>nul", Command(1, "a dstport=802", hides_output=True)),
    ('a "x > y & z"', Command(1, 'a "x > y & z"')),
    ("a x^>y^&z", Command(1, "a x>y&z")),
    ("a ^\nb", Command(1, "a b")),
    ("a ^\n    b=1 ^\n    c", Command(1, "a     b=1     c")),
    ("a^\nb", Command(1, "ab")),
    ("a ^\n\n", Command(1, "a")),
    ("a ^", Command(1, "a")),
    ("\n\n:: x\n:label\nrem a & b | c\nREM\na", Command(7, "a")),
    ('a|find "x" > nul', Command(1, "a", filters=(Command(1, 'find "x"', hides_output=True),))),
    ("a & b && c || d", Chain((("&", Command(1, "a")), ("&", Command(1, "b")),
                               ("&&", Command(1, "c")), ("||", Command(1, "d"))))),
    ("(\na\n\n b & c\n)", Block((Command(2, "a"), Chain((("&", Command(4, "b")),
                                                        ("&", Command(4, "c"))))))),
    ("if errorlevel 1 a", If(1, Condition("1"), Command(1, "a"))),
    ("if not errorlevel 1 (\na\n) else b",
     If(1, Condition("1", negated=True), Block((Command(2, "a"),)), Command(3, "b"))),
    ('IF /I "%X%"=="y z" a', If(1, Condition('"%X%"', "==", '"y z"', ignores_case=True),
                                Command(1, "a"))),
    ("if %X% EQU 3 a", If(1, Condition("%X%", "equ", "3"), Command(1, "a"))),
    ("for %%p in (135 137) do a %%p", For(1, "p", "135 137", Command(1, "a %%p"))),
    ("for /L %%i in (1,1,3) do (\na %%i\n)", For(1, "i", "1,1,3", Block((Command(2, "a %%i"),)),
                                                counts=True)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), COMMANDS, ids=[text for text, _ in COMMANDS])
def test_statements(text: str, wanted: object) -> None:
    """Each has its line, and its command without what is not part of it."""
    assert one(text) == wanted


REFUSED = [
    ("a > out.txt", "writes a file"),
    ("a >> log", "writes a file"),
    ("a < in.txt", "reads a file"),
    ("if exist x a", "asks about the computer"),
    ("if defined X a", "asks about the computer"),
    ("if errorlevel x a", "is not a number"),
    ("if a b c", "this condition"),
    ("if errorlevel 1", "no command behind if"),
    ("for /f %%i in (x) do a", "looks at files"),
    ("for %i in (x) do a", "no variable of a loop"),
    ("for %%i (x) do a", "no 'in'"),
    ("for %%i in x do a", r"no \(SET\)"),
    ("for %%i in (x) a", "no 'do'"),
    ("(a", "is not closed"),
    ("(\na\n) > x", "output of a block"),
    ("a &&", "no command behind &&"),
    ("&& a", "no command here"),
    ("a | ", "no command here"),
    ("a 3>&1", None),
    ("a <&2", "not taken"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_is_not_taken_is_refused_with_its_line(text: str, said: str | None) -> None:
    """Nothing is passed over in silence."""
    with pytest.raises(InvalidInput, match=said) as raised:
        parse(["netsh x", *text.split("\n")], "a.cmd")
    assert raised.value.line in range(2, 5)
    assert raised.value.source == "a.cmd"


def test_depth_is_bounded() -> None:
    """Many blocks inside each other are an error, not the end of the stack."""
    assert one("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH)
    with pytest.raises(InvalidInput, match="inside each other"):
        one("(" * 5000 + "a" + ")" * 5000)
    with pytest.raises(InvalidInput, match="inside each other"):
        one("if 1==1 " * 5000 + "a")


VALUES = {"~dp0": "/srv/", "ip": "203.0.113.9", "bad": "a&b", "errorlevel": "1"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x %IP% %ip%", "x 203.0.113.9 203.0.113.9"),
        ("100%% sure", "100% sure"),
        ("100% sure", "100 sure"),
        ("%%p %%~p %%q", 'a "b c" b c %q'),
        ("%~dp0x.ipsec %~DP0\\x", "/srv/x.ipsec /srv/x"),
    ],
)
def test_values_are_put_into_text(text: str, wanted: str) -> None:
    """Those of variables and of loops, as cmd does."""
    loops = {"p": '"b c"'}
    assert with_values(text, VALUES, loops).replace('"b c" b c', 'a "b c" b c') == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("%NONE%", "has no value"),
        ("%1", "what somebody writes behind"),
        ("%~f0", "what somebody writes behind"),
        ("%*", "what somebody writes behind"),
        ("%~nx1", "what somebody writes behind"),
        ("%bad%", "would make another command"),
        ("%IP:~0,3%", "a part of a value"),
        ("%%~z", "no variable of a loop"),
    ],
)
def test_values_that_are_not_there(text: str, said: str) -> None:
    """A filter without an address that a variable should have held must not be made."""
    with pytest.raises(InvalidInput, match=said):
        with_values(text, VALUES, {})


def test_values_do_not_grow_without_end() -> None:
    """A value that doubles with each line meets a limit."""
    with pytest.raises(InvalidInput, match=f"more than {MAX_LENGTH:,}"):
        with_values("%x%%x%", {"x": "x" * (MAX_LENGTH // 2 + 1)}, {})


def test_assignments() -> None:
    """Quotes around the whole are no part of the value; what is to be worked out is refused."""
    assert assignment("IP=203.0.113.9") == ("ip", "203.0.113.9")
    assert assignment('"IP=203.0.113.9" rest') == ("ip", "203.0.113.9")
    assert assignment("P=a=b") == ("p", "a=b")
    assert assignment("P=") == ("p", "")
    for text, said in (("/a X=1", "works something out"), ("X", "gives no variable"), ("=", "no")):
        with pytest.raises(InvalidInput, match=said):
            assignment(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('a  -p "My Pol" -x', ["a", "-p", "My Pol", "-x"]),
        (r"a \\127.0.0.1 -u", ["a", r"\\127.0.0.1", "-u"]),
        (r'a "C:\dir\\" b', ["a", "C:\\dir\\", "b"]),
        (r"a \"b c\"", ["a", '"b', 'c"']),
        ('a "b""c" ""', ["a", 'b"c', ""]),
        ('a name="x y"z', ["a", "name=x yz"]),
        ("\t", []),
    ],
)
def test_words(text: str, wanted: list[str]) -> None:
    """They are taken apart as Windows takes them apart for programs."""
    assert words_of(text) == wanted


def test_programs() -> None:
    """Paths and .exe count for nothing, nor does letter case."""
    for word in ("IPSeccmd.exe", r"%SystemRoot%\system32\ipseccmd.EXE", "C:/x/IPSECCMD"):
        assert program_of(word) == "ipseccmd"


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("find", '"ABC"', ["x ABC"]),
        ("find", '/i "abc"', ["x ABC", "abc"]),
        ("find", '/I /C "abc"', ["x ABC", "abc"]),
        ("findstr", "ABC", ["x ABC"]),
        ("findstr", '/i "ABC 12"', ["x ABC", "abc", "12"]),
        ("findstr", '/c:"x A"', ["x ABC"]),
        ("findstr", "1.", ["12"]),
        ("findstr", "/l 1.", []),
    ],
)
def test_searching(name: str, text: str, wanted: list[str]) -> None:
    """Whether something is there."""
    assert found(name, text, ["x ABC", "abc", "12"]) == wanted


@pytest.mark.parametrize(
    ("name", "text"),
    [("find", "abc"), ("find", '/v "a"'), ("find", '"a" file'), ("findstr", ""),
     ("findstr", "a file"), ("findstr", "^a"), ("findstr", "/g:file a"), ("findstr", "/v a")],
)  # fmt: skip
def test_searching_otherwise_is_refused(name: str, text: str) -> None:
    """What looks into files, or for patterns, is not guessed at."""
    with pytest.raises(Refused):
        found(name, text, [])
