"""Hold the pages to the rules that no linter has: `python scripts/prose.py PAGE ...`.

A page starts with what its reader can do, its sentences are short, and it is no diary. Code, tables
and marked blocks of figures are left out. Prints each fault as PAGE:LINE: RULE: TEXT, and ends with
1 where there is one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

MOST_WORDS = 25
#: What a diary says, by what is wrong with it.
DIARY = {
    "a day": r"\b(yesterday|today|the day before|a day (before|later)|20\d\d-\d\d-\d\d)\b",
    "a past": r"\b(no longer|any more|anymore|was asked|were asked|asked for|so far|now)\b",
    "a score": r"\b(short by|what was asked)\b",
}
#: Pages that tell what was measured or decided, and when.
DATED = ("docs/measurements/", "docs/adr/", "CHANGELOG.md")
#: Blocks that hold no sentences: code, marked figures, comments.
LEFT_OUT = re.compile(
    r"^(```|~~~).*?^\1|<!-- begin ([\w-]+) -->.*?<!-- end \2 -->|<!--.*?-->",
    re.DOTALL | re.MULTILINE,
)
#: One word each: code, a link's text and a picture's stand for what they hide.
WORDS = (
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), ""),
    (re.compile(r"\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"`[^`]*`"), "CODE"),
    (re.compile(r"[*_]{1,2}(?=\S)|(?<=\S)[*_]{1,2}"), ""),
)
END = re.compile(r"(?<=[.!?])[)\"]?\s+")
ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|et al|Dr|vs|approx)\.")


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Each paragraph, item of a list and heading, with the line on which it begins."""
    blank = LEFT_OUT.sub(lambda match: "\n" * match[0].count("\n"), text)
    lines: list[str] = []
    first = 0
    for number, line in enumerate([*blank.splitlines(), ""], start=1):
        table = line.lstrip().startswith("|")
        item = re.match(r"\s*([-*+]|\d+\.) +", line)
        if lines and (table or item or not line.strip() or line.startswith("#")):
            yield first, " ".join(lines)
            lines = []
        if table or not line.strip():
            continue
        if not lines:
            first = number
        lines.append(line[item.end() :] if item else line.strip())


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph; code counts as a word."""
    for pattern, word in WORDS:
        paragraph = pattern.sub(word, paragraph)
    return END.split(ABBREVIATIONS.sub(r"\1", paragraph))


def faults(page: str, text: str) -> Iterator[tuple[int, str]]:
    """Line and fault of all that breaks a rule."""
    blocks = list(paragraphs(text))
    dated = any(place in page for place in DATED)
    prose = [(line, words) for line, words in blocks if not words.startswith("#")]
    if not dated and prose and not re.search(r"\byou\b", prose[0][1], re.IGNORECASE):
        yield prose[0][0], "a page starts with what you can do"
    for line, words in prose:
        for sentence in sentences(words):
            if (count := len(sentence.split())) > MOST_WORDS:
                yield line, f"{count} words, at most {MOST_WORDS}: {sentence[:60]} ..."
            for name, pattern in DIARY.items():
                if not dated and (match := re.search(pattern, sentence, re.IGNORECASE)):
                    yield line, f"{name} of a diary: {match[0]!r}"


def pages(places: list[str]) -> list[Path]:
    """The Markdown files named, and those below folders named."""
    return [
        page
        for place in map(Path, places)
        for page in (sorted(place.rglob("*.md")) if place.is_dir() else [place])
    ]


def main(places: list[str]) -> int:
    """Print the faults of these pages; 1 where there is one."""
    bad = [
        f"{page}:{line}: {fault}"
        for page in pages(places)
        for line, fault in faults(page.as_posix(), page.read_text(encoding="utf-8"))
    ]
    print(*bad, sep="\n", end="\n" if bad else "")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
