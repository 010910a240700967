"""A page is followed word for word, and what is otherwise than it says is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.following import NotAsWritten, follow
from tests.docs.pages import Command, File, UnclearPage, steps

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial"
PAGE = """\
# A page

Write this into `greeting.txt`:

```
hello
world
```

1. Look at it:

   ```console
   $ cat greeting.txt
   hello
   world
   $ cd / && pwd
   /
   $ pwd; echo seen >&2
   /
   seen
   $ printf '%s-%s\\n' a \\
   >   b
   a-b
   $ printf 'a    b\\n'
   a  b
   $ seq 9
   1
   …
   8
   9
   $ cat nothing-there
   cat: …: No such file or directory
   $ echo $?
   1
   $ true
   other$ echo $HOSTNAME
   elsewhere
   ```

Only to be read:

```
not run
```
"""


def followed(page: str, directory: Path) -> None:
    file = directory / "page.md"
    file.write_text(page)
    here = ("env", "-C", str(directory))
    follow(file, {"$": here, "other$": (*here, "HOSTNAME=elsewhere")})


def test_a_page_is_read_in_order() -> None:
    """Commands stand behind their prompts, files have names, and what is only read is left out."""
    found = list(steps(PAGE))
    assert found[0] == File(5, "", "greeting.txt", "hello\nworld\n")
    assert found[1] == Command(13, "$", "cat greeting.txt", ("hello", "world"))
    assert [step.prompt for step in found if isinstance(step, Command)][-2:] == ["$", "other$"]
    assert len(found) == 11


def test_a_file_may_be_for_another_machine() -> None:
    """Its name comes after that of the file."""
    (file,) = steps("Write `a.yaml` on the laptop:\n\n```yaml\na: 1\n```\n")
    assert file == File(3, "laptop", "a.yaml", "a: 1\n")


def test_a_page_that_is_right_is_followed(tmp_path: Path) -> None:
    """Directories, exit codes and both streams are as in a terminal."""
    followed(PAGE, tmp_path)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("   hello\n   world", "   hello\n   worlds"),
        ("   hello\n   world", "   hello"),
        ("   8\n   9\n", "   8\n   9\n   10\n"),
        ("   a  b", "   a b"),
        ("   a  b", "   a  bc"),
        ("   $ true", "   $ false"),
        ("   $ true", "   $ true\n   printed"),
        ("   $ true", "   $ echo more"),
        ("   $ echo $?\n   1", "   $ echo $?\n   2"),
        ("   $ echo $?\n   1\n", ""),
        ("   $ true", "   $ exit 3"),
        ("hello\nworld\n```", "hello\nWorld\n```"),
    ],
)
def test_what_is_otherwise_is_found(was: str, becomes: str, tmp_path: Path) -> None:
    """A line more, a line less, another exit code, another file."""
    assert PAGE.count(was) == 1
    with pytest.raises(NotAsWritten):
        followed(PAGE.replace(was, becomes), tmp_path)


@pytest.mark.parametrize("page", sorted(TUTORIAL.glob("*.md")), ids=lambda page: page.stem)
def test_every_block_of_the_tutorial_is_followed(page: Path) -> None:
    """Whatever is no command is a file that has a name."""
    text = page.read_text()
    found = list(steps(text))
    fences = [line.strip() for line in text.splitlines() if line.strip().startswith("```")][::2]
    files = [fence for fence in fences if fence != "```console"]
    assert len(files) == sum(isinstance(step, File) for step in found)
    assert sum(isinstance(step, Command) for step in found) > 10


@pytest.mark.parametrize(
    "page",
    [
        "",
        "```console\nno prompt\n```\n",
        "```console\n$ true\n",
        "```sh\ntrue\n```\n",
        "```console\nnobody# true\n```\n",
        "Write `a` on the moon:\n```\na\n```\n",
    ],
)
def test_a_page_that_cannot_be_followed_is_refused(page: str, tmp_path: Path) -> None:
    """Nothing that looks like a command is passed over."""
    with pytest.raises(UnclearPage):
        followed(page, tmp_path)
