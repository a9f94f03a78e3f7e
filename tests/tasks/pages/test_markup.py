"""What others wrote into names is text on every page: no heading, link, cell or element of it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tasks.pages.document import (
    Block,
    Branch,
    Code,
    Heading,
    Picture,
    Summary,
    Table,
    Tile,
    Words,
    table_of,
    to_html,
    to_markdown,
)
from tasks.pages.markup import escape, inline, label, paragraph
from tasks.pages.provenance_graph import Edge, Graph, Node, mermaid

#: A name each, as a registry, a header or a person may hold it.
NAMES = (
    "<b>bold</b>",
    "[a](http://evil.example)",
    "![a](http://evil.example/x.png)",
    "a | b",
    "**a** _b_ `c` ~~d~~",
    "&lt;b&gt;",
    'a"] --> n9["b',
    "a\n\n# b",
    "a\x00\x1b[31m\u202eb",
    "# a #",
    "1. a",
    "- a",
    "a\\",
)
MARKS = re.compile(r"(?<!\\)(?:\\\\)*[`*\[\]<|~]")


@pytest.mark.parametrize("name", NAMES)
def test_markdown_shows_a_name_and_nothing_else(name: str) -> None:
    """Each block is the one line that it would be with a name of letters; no mark is bare."""
    for text in (inline(name), paragraph(name)):
        assert "\n" not in text
        assert not MARKS.search(text)
    blocks: list[Block] = [
        Heading(name),
        Words(name),
        Code(name),
        Table((name, "b"), [("1", name)]),
        Picture("p.png", b"", name),
    ]
    lines = to_markdown(name, blocks).splitlines()
    assert [bool(text) for text in lines] == [True, False] * 4 + [True] * 3 + [False, True]
    assert [len(re.findall(r"(?<!\\)\|", text)) for text in lines[8:11]] == [3, 3, 3]
    assert not paragraph(name).startswith(("#", "- ", "1. "))


@pytest.mark.parametrize("name", NAMES)
def test_answers_and_outlines_show_a_name_and_nothing_else(name: str) -> None:
    """In Markdown a tile and a branch are a line of a list each, whatever they are called."""
    blocks: list[Block] = [
        Summary(name, [Tile(name, name, name)]),
        Branch(name, (Branch(name),)),
    ]
    _, _, text, _, *items = to_markdown("a page", blocks).splitlines()
    assert text[:2] == text[-2:] == "**"
    assert not MARKS.search(text[2:-2])
    assert [bool(item) for item in items] == [True, False, True, True]
    for item, begin in zip(filter(None, items), ("- ", "- ", "  - "), strict=True):
        assert item.startswith(begin)
        assert not MARKS.search(item)
        assert not item.removeprefix(begin).startswith(("#", "- ", "1. "))


@pytest.mark.parametrize("text", ["F1 0.98 of resnet21_x", "-0.5", "a -> b", "3.11.2", "x, 5 %"])
def test_plain_text_stays_as_it_is(text: str) -> None:
    """What has no markup in it is written as it is."""
    assert inline(text) == paragraph(text) == text


class Elements(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - its signature
        """Note an element."""
        self.tags.append(tag)


@pytest.mark.parametrize("name", NAMES)
def test_html_shows_a_name_and_nothing_else(name: str) -> None:
    """A page has the elements that it would have with a name of letters, and XML can read one."""
    made: list[list[str]] = []
    for one in (name, "name"):
        parser = Elements()
        blocks: list[Block] = [
            Heading(one),
            Words(one),
            Code(one),
            Summary(one, [Tile(one, one, one)]),
            Table((one,), [(one,)]),
            table_of([{one: one}]),
            Picture(one, b"", one),
            Branch(one, (Branch(one),)),
        ]
        parser.feed(to_html(one, blocks * 5))  # so many headings have a list of contents
        made.append(parser.tags)
    assert made[0] == made[1]
    text = f'<a b="{escape(name)}">{escape(name)}</a>'
    assert ElementTree.fromstring(text).tag == "a"  # noqa: S314 - our own


@pytest.mark.parametrize("name", NAMES)
def test_mermaid_shows_a_name_and_nothing_else(name: str) -> None:
    """A label holds no quote and no element but our line breaks; the arrows are the graph's."""
    nodes = (Node("a", "entity", 0, (name, name)), Node("b", "activity", 1, ("b",)))
    lines = mermaid(Graph(nodes, (Edge("used", "b", "a"),))).splitlines()
    assert len(lines) == 4
    assert re.fullmatch(r'    n0\["[^"<>`]*<br>[^"<>`]*"\]', lines[1])
    assert not re.search(r"#(?!\d+;)", label(name))
