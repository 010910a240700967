"""How netsh takes words for tags and values, and files for lines: as real scripts need it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecctl.netsh.failing import Failure, NotDoneHere, NotUnderstood, error_line
from ipsecctl.netsh.lines import command_lines, decoded, split
from ipsecctl.netsh.table import BY_CONTEXT, DYNAMIC, STATIC
from ipsecctl.netsh.words import Command, given_to
from tests.ctl.netsh_host import NetshHost, words_of


def of(name: str, context: str = "static") -> Command:
    return BY_CONTEXT[context][name]


@pytest.mark.parametrize(
    ("command", "words", "wanted"),
    [
        ("add policy", "P", {"name": "P"}),
        ("add policy", "name = P", {"name": "P"}),
        ("add policy", "name =P", {"name": "P"}),
        ("add policy", "name= P", {"name": "P"}),
        ("add policy", "NAME=P Desc=x", {"name": "P", "description": "x"}),
        ("add policy", '"name=va lue"', {"name": "va lue"}),
        ("add policy", 'name="a=b"', {"name": "a=b"}),
        ("add policy", 'name=P description="" assign=y',
         {"name": "P", "description": "", "assign": "yes"}),
        ("add policy", "name=P activatedefaultrule=yes words assign=YES",
         {"name": "P", "activatedefaultrule": "yes", "description": "words", "assign": "yes"}),
        ("set policy", "P assign=y", {"name": "P", "assign": "yes"}),
        ("set policy", "OLD NEW", {"name": "OLD", "newname": "NEW"}),
        ("delete rule", "name=R P", {"name": "R", "policy": "P"}),
        ("show policy", "name=Host verbose", {"name": "Host", "level": "verbose"}),
        ("show policy", "all", {"name": "all"}),
        ("importpolicy", "F", {"file": "F"}),
        ("add filter", "filterlist=L any srcmask=32 dstaddr=me dstport=80 web",
         {"filterlist": "L", "srcaddr": "any", "srcmask": "32", "dstaddr": "me", "dstport": "80",
          "description": "web"}),
        ("add filter", "filterlist=L srcaddr=any dstadd=me mirror=n proto=tcp",
         {"filterlist": "L", "srcaddr": "any", "dstaddr": "me", "mirrored": "no",
          "protocol": "tcp"}),
        ("add rule", "name=3 policy=C filter=N filteraction=B",
         {"name": "3", "policy": "C", "filterlist": "N", "filteraction": "B"}),
        ("add rule", "name=3 policy=C filter=N filter=B",
         {"name": "3", "policy": "C", "filterlist": "N", "filteraction": "B"}),
        ("add rule", "name =BanIp Policy = P filterlist =L filteraction =  S",
         {"name": "BanIp", "policy": "P", "filterlist": "L", "filteraction": "S"}),
        ("add filteraction", "name=A action=Block soft=y",
         {"name": "A", "action": "block", "soft": "yes"}),
        ("add filteraction", "A action=perm", {"name": "A", "action": "permit"}),
        ("set store", "location=local", {"location": "local"}),
    ],
)  # fmt: skip
def test_words_are_taken_for_tags(command: str, words: str, wanted: dict[str, str]) -> None:
    """Every form is of a real script, or of the documentation."""
    assert dict(given_to(of(command), words_of(words))) == wanted


@pytest.mark.parametrize(
    ("command", "words", "said", "hint"),
    [
        ("add filter", "filterlist=L srcaddy=any dstaddr=me", "no 'srcaddy'=", "srcaddr="),
        (
            "add rule",
            "name=R policy=P filterlist=L filteration=A",
            "'filteration'",
            "filteraction=",
        ),
        (
            "add rule",
            "name=R policy=P filterlist=L filteraction=A contype=all",
            "'contype'",
            "conntype",
        ),
        (
            "add rule",
            "name=R policy=P filterlist=L filteraction=A active=yes",
            "'active'",
            "activate=",
        ),
        ("add policy", "policyname=P", "'policyname'", "name="),
        ("add policy", "name=A name=B", "name= is given twice", ""),
        ("add policy", "na=A name=B", "name= is given twice", ""),
        ("add policy", "name=", "name= has no value", ""),
        ("add filter", "filterlist=L srcaddr=any srcmask= dstaddr=me", "srcmask= has no value", ""),
        ("add policy", "name=P assign=maybe", "assign='maybe' is not yes or no", "assign=yes"),
        ("add filterlist", "a b c", "'c' is one word too many", "quotation marks"),
        ("add policy", "description=x", "name= is missing", "name=…"),
        ("add rule", "name=R policy=P filterlist=L filteraction=A =x", "no ''=", ""),
    ],
)
def test_nothing_is_guessed(command: str, words: str, said: str, hint: str) -> None:
    """What is wrong is named, and what was meant."""
    with pytest.raises(NotUnderstood) as caught:
        given_to(of(command), words_of(words))
    assert said in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("tag", ["tunnel=1.2.3.4", "id=3"])
def test_what_is_not_done_here_is_named(tag: str) -> None:
    """A tag that asks for something else than blocking or permitting is refused by its name."""
    with pytest.raises(NotDoneHere, match=tag.partition("=")[0]):
        given_to(of("set rule"), words_of(f"name=R policy=P {tag}"))


@given(st.sampled_from([*STATIC, *DYNAMIC]), st.data())
def test_any_words_give_values_or_a_failure(command: Command, data: st.DataObject) -> None:
    """Whatever is typed, and what is given has the tags that are needed."""
    piece = st.sampled_from(
        [*command.tags, "=", "any", "me", "yes", "x=", "=y", "all", "\x1b[m", ""]
    )
    words = data.draw(st.lists(st.lists(piece, max_size=3).map("".join), max_size=8))
    try:
        values = given_to(command, words)
    except Failure as error:
        said = error_line(error)
    else:
        said = ""
        assert set(command.required) <= set(values) <= set(command.tags)
    assert said.isprintable()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("add  policy\tname=P ", ["add", "policy", "name=P"]),
        ('add policy name="a b"c', ["add", "policy", "name=a bc"]),
        ('"filterlist=Host PermitList" ""', ["filterlist=Host PermitList", ""]),
        ('name="R&D | x > y"', ["name=R&D | x > y"]),
        ("name=R&D", ["name=R&D"]),
    ],
)
def test_lines_are_split(line: str, words: list[str]) -> None:
    """Quotation marks hold blanks, and whatever a shell would take."""
    assert split(line) == words


@pytest.mark.parametrize(
    "line", ["a > nul", "a 2>nul", "a && echo x", "a | findstr x", "a|findstr x", "a & b", 'a "b']
)
def test_what_is_for_a_shell_is_refused(line: str) -> None:
    """No shell reads a file of netsh."""
    with pytest.raises(NotUnderstood):
        split(line)


def test_lines_of_a_file() -> None:
    """Comments and empty lines are skipped, and lines that go on are one, with its number."""
    text = "# one ^\r\n\r\nadd ^\r\n  policy ^\r\n name=P\r\n  # two\r\nb\x1a"
    lines = [(number, line.split()) for number, line in command_lines(text)]
    assert lines == [(3, ["add", "policy", "name=P"]), (7, ["b"])]
    assert list(command_lines("a ^")) == [(1, "a  ")]


@pytest.mark.parametrize(
    ("content", "text", "said"),
    [
        ("规则".encode(), "规则", ""),
        ("\ufeff规则".encode(), "规则", ""),
        (b"\xff\xfe" + "规则".encode("utf-16-le"), "规则", ""),
        (b"\xfe\xff" + "규칙".encode("utf-16-be"), "규칙", ""),
        ("规则".encode("gbk"), "规则", "936"),
        (b"caf\xe9 ", "caf\xe9 ", "Latin-1"),
    ],
)
def test_the_encoding_of_a_file(content: bytes, text: str, said: str) -> None:
    """UTF-8 and UTF-16 are seen; of what is older, it is said what it was taken for."""
    read, note = decoded(content)
    assert read == text
    assert said in note
    assert bool(said) is bool(note)


@given(st.binary(max_size=60))
def test_any_bytes_are_text(content: bytes) -> None:
    """A file that is no text has lines that are not understood, and nothing else happens."""
    text, _ = decoded(content)
    host = NetshHost()
    answer = host.file(text)
    assert host.changes == 0
    assert all(line.isprintable() for line in (*answer.lines, *answer.hints))


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["pushd ipsec static", "add policy P", "popd", "ipsec static add policy Q"], 0),
        (["ipsec static", "add policy P", "ipsec static add policy Q"], 0),
        (["ipsec", "static", "add policy P", "..", "static add policy Q"], 0),
        (["netsh ipsec static add policy P", "Netsh.exe  ipsec st x p Q"], 1),
        (["netsh ipsec static add policy P", "Netsh.exe  ipsec st ad policy Q"], 0),
        (["ipsec static add policy P", "ipsec static add policy Q", "exit", "rubbish"], 0),
        (["ipsec static add policy P", "bye"], 0),
        (["add policy P"], 1),
        (["ipsec static add policy P", "-f other"], 1),
    ],
)
def test_contexts(lines: list[str], code: int) -> None:
    """They last from line to line in a file, and a line may name all of its own."""
    host = NetshHost()
    assert host.file("\n".join(lines)).code == code
    if not code and len(lines) > 2:
        assert sorted(host.documents) == ["P", "Q"]
    if code:
        assert not host.documents


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["ipsec", "static", "del", "all"], 0),
        (["netsh.exe", "IPSEC", "Static", "DELETE", "All"], 0),
        (["-c", "ipsec static", "delete", "all"], 0),
        (["-c", "ipsec", "static", "delete", "all"], 0),
        (["/c", "ipsec static", "delete", "all"], 0),
        (["ipsec", "static", "delete", "all\r"], 0),
        (["-r", "HOST", "ipsec", "static", "delete", "all"], 1),
        (["-f"], 1),
        (["-f", "/no/such/file"], 1),
        ([], 1),
        (["interface", "show"], 1),
        (["ipsec", "static", "frob"], 1),
        (["ipsec", "static", "add"], 1),
        (["ipsec", "static", "add", "thing"], 1),
        (["?"], 0),
        (["ipsec", "static", "?"], 0),
        (["ipsec", "static", "add", "?"], 0),
        (["ipsec", "static", "add", "rule", "?"], 0),
        (["ipsec", "static"], 0),
        (["ipsec"], 0),
    ],
)
def test_forms_of_calling(words: list[str], wanted: int) -> None:
    """One process with these words; a context of it lasts no longer."""
    answer = NetshHost().line(words)
    assert answer.code == wanted
    is_quiet = wanted == 0 and words[-1].rstrip("\r").lower() == "all"
    assert bool(answer.lines) is not is_quiet
