"""Owns reading the XML of a stranger into a small tree with lines; must not know firewalld.

No document type is taken, so there are no entities to expand. Size, depth, and the number of
elements and of characters in each are limited. Comments and processing instructions are passed
over.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from xml.parsers import expat

from ipsecctl.importing.source import InputFile, Line
from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote

MAX_DEPTH = 16
MAX_ELEMENTS = 1_000_000
"""An ipset of a country has some ten thousand entries, each of which is an element."""
MAX_TEXT = 64 << 10
MAX_WORDS = 200


@dataclass(slots=True)
class Element:
    """One element: its attributes, the elements in it, its text, and where it begins."""

    tag: str
    line: Line
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def get(self, name: str) -> str:
        """The attribute called `name` without spaces around it; "" if it is not there."""
        return self.attributes.get(name, "").strip()


def read_xml(file: InputFile, root: str, title: str) -> Element:
    """The tree of the document in `file`, whose outermost element has to be `root`.

    The text of each line is `title` and the element in words, as in ``zone dmz: service name=ssh``.
    Raises ``InvalidInput`` with the file and the line.
    """
    builder = _Builder(file, title)
    # A carriage return alone ends no line anywhere else.
    text = file.text.replace("\r\n", "\n").replace("\r", " ")
    try:
        builder.parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise InvalidInput(
            f"this is not XML: {expat.ErrorString(error.code)}",
            "run firewall-cmd --check-config on the host that has it",
            source=file.path,
            line=error.lineno,
        ) from error
    tree = builder.root
    if tree is None or tree.tag != root:
        found = tree.tag if tree else ""
        raise InvalidInput(
            f"the outermost element is {quote(found)}, and not {quote(root)}",
            f"what lies in this directory has to begin with <{root}>",
            source=file.path,
            line=tree.line.number if tree else 1,
        )
    return tree


class _Builder:
    """Puts the tree together as the parser tells of its parts."""

    def __init__(self, file: InputFile, title: str) -> None:
        self.root: Element | None = None
        self._source = file.path
        self._title = title
        self._open: list[Element] = []
        self._elements = 0
        self.parser = parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def _doctype(self, *_: object) -> None:
        raise self._wrong("it declares a document type", "files of firewalld have none: remove it")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise self._wrong(f"it has more than {MAX_ELEMENTS:,} elements", "")
        if len(self._open) >= MAX_DEPTH:
            raise self._wrong(f"it is nested deeper than {MAX_DEPTH} elements", "")
        line = Line(self._source, self.parser.CurrentLineNumber, self._title)
        element = Element(tag, line, dict(attributes))
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, _: str) -> None:
        element = self._open.pop()
        if self._open:
            text = f"{self._title}: {_words(element)}"[:MAX_WORDS]
            element.line = replace(element.line, text=text)

    def _characters(self, text: str) -> None:
        element = self._open[-1]
        if len(element.text) + len(text) > MAX_TEXT:
            raise self._wrong(f"an element has more than {MAX_TEXT:,} characters of text", "")
        element.text += text

    def _wrong(self, message: str, hint: str) -> InvalidInput:
        line = self.parser.CurrentLineNumber
        return InvalidInput(message, hint, source=self._source, line=line)


def _words(element: Element) -> str:
    """An element and those in it, without the signs of XML."""
    given = (f"{name}={value.strip()}" for name, value in element.attributes.items())
    inside = map(_words, element.children[:MAX_DEPTH])
    return " ".join((element.tag, *given, *inside))
