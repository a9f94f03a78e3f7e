"""Text from outside (names, reasons, titles) as text in Markdown, in HTML and SVG, in Mermaid.

Whatever a registry, a header or a person has written into a name: each page shows its characters,
and none of them begins a heading, a link, a cell or an element of the page.
"""

from __future__ import annotations

import html
import re

#: Characters that no page of ours, and no XML (1.0, 2.2), may hold.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)
#: What begins markup within a line (CommonMark 0.31, 6; GitHub's tables and strikethrough).
_INLINE = re.compile(r"[\\`*\[\]<|~]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)|#(?=#*$)")
#: What makes a block of the line that it begins (CommonMark 0.31, 4 and 5).
_LEADING = re.compile(r"^(\d{1,9}(?=[.)]\s)|(?=[#>]|[+-]\s|--))")
#: What ends a label of Mermaid or is markup in it.
_LABEL = re.compile(r"""[#&<>"'`\\]""")


def clean(text: str) -> str:
    """Text without control characters and marks that turn its direction."""
    return _CONTROL.sub("\ufffd", text)


def line(text: str) -> str:
    """Text on one line, each character of it visible."""
    return clean(" ".join(text.split()))


def inline(text: str) -> str:
    """Text within a line of Markdown: a heading, a table's cell, a link's words."""
    return _INLINE.sub(r"\\\g<0>", line(text))


def paragraph(text: str) -> str:
    """Text as a paragraph of Markdown."""
    return _LEADING.sub(r"\1\\", inline(text))


def escape(text: str) -> str:
    """Text as HTML and XML show it, within an element or a quoted attribute."""
    return html.escape(clean(text))


def show(value: object) -> object:
    """What a template prints of a value: visible text, which it escapes, or markup as it is."""
    return value if hasattr(value, "__html__") else clean(str(value))


def label(text: str) -> str:
    """Text within a quoted label of Mermaid."""
    return _LABEL.sub(lambda match: f"#{ord(match[0])};", line(text))
