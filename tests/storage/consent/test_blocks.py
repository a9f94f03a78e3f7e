"""Blocks: a withdrawn recording is known again, and the list tells nobody who withdrew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from storage.consent.blocks import block, key_path, list_path, read_blocks
from storage.errors import ConsentError
from storage.tables.content import Recording

FILES = tuple(f"{number:064x}" for number in range(4))
PRINTS = tuple(f"{number:016x}" for number in range(16))
STRANGE = tuple(f"{number:016x}" for number in range(100, 111))


def recording(
    name: str, subject: str, files: tuple[str, ...] = (), prints: tuple[str, ...] = ()
) -> Recording:
    """A recording with a signal."""
    no_digests: frozenset[str] = frozenset()
    return Recording(
        name,
        subject,
        {"signal": frozenset(prints), "beats": no_digests},
        {"signal": frozenset(files), "beats": no_digests},
        has_signal=True,
    )


WITHDRAWN = recording("ward/r1", "ward/p1", FILES, PRINTS)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    "again",
    [
        recording("ward/r9", "ward/p1"),
        recording("other/x", "other/y", files=FILES),
        recording("other/x", "other/y", prints=PRINTS[:13]),
    ],
    ids=["another recording of the person", "its files by another name", "its prints"],
)
def test_a_withdrawn_recording_is_known_again(again: Recording) -> None:
    """By its subject, by its files, and by most of its prints, whatever it is called."""
    assert read_blocks().withdrawal_of(again) == ""
    block("w-1", ["ward/p1"], [WITHDRAWN])
    assert read_blocks().withdrawal_of(again) == "w-1"


def test_others_are_not() -> None:
    """Not by a part of the prints, by a name that begins alike, or by the bytes of nothing."""
    block("w-1", ["ward/p1"], [WITHDRAWN, recording("ward/r2", "ward/p1")])
    blocks = read_blocks()
    for other in (
        recording("ward/r3", "ward/p10", (FILES[0], "f" * 64), (*PRINTS[:5], *STRANGE)),
        recording("ward/r4", "ward/p2"),
        recording("ward2/r1", "ward2/p1"),
    ):
        assert blocks.withdrawal_of(other) == ""


def test_the_list_tells_nobody_who_withdrew(home: Path) -> None:
    """No name, digest or print is in it; its key is its owner's, and another key gives others."""
    block("w-1", ["ward/p1"], [WITHDRAWN])
    text = list_path().read_text()
    assert not any(word in text for word in ("ward", "p1", "r1", *FILES, *PRINTS))
    assert list_path().stat().st_mode & 0o077 == 0
    assert key_path().stat().st_mode & 0o077 == 0
    list_path().rename(home / "list")
    key_path().unlink()
    block("w-1", ["ward/p1"], [WITHDRAWN])
    assert set(list_path().read_text().split()).isdisjoint((home / "list").read_text().split('"'))


def test_the_list_only_grows() -> None:
    """The same again adds nothing; another person is added, and the first withdrawal stays."""
    block("w-1", ["ward/p1"], [WITHDRAWN])
    before = list_path().read_bytes()
    block("w-1", ["ward/p1"], [WITHDRAWN])
    assert list_path().read_bytes() == before
    block("w-2", ["ward/p1", "ward/p2"], [replace(WITHDRAWN, name="ward/r5")])
    blocks = read_blocks()
    assert blocks.withdrawal_of(recording("a/b", "ward/p1")) == "w-1"
    assert blocks.withdrawal_of(recording("a/b", "ward/p2")) == "w-2"


@pytest.mark.parametrize("damage", ["no key", "open key", "cut list", "newer list"])
def test_a_list_that_cannot_be_read_is_no_empty_list(damage: str) -> None:
    """Nobody can tell then who withdrew: it is an error that names list and key."""
    block("w-1", ["ward/p1"], [WITHDRAWN])
    text = list_path().read_text()
    match damage:
        case "no key":
            key_path().unlink()
        case "open key":
            key_path().chmod(0o644)
        case "cut list":
            list_path().write_text(text[:-9])
        case _:
            list_path().write_text(text.replace('"version": 1', '"version": 9'))
    read_blocks.__globals__["_read"].cache_clear()
    with pytest.raises(ConsentError, match=r"blocked\.json.*consent\.key"):
        read_blocks()
    with pytest.raises(ConsentError):
        block("w-2", ["ward/p2"], [])
