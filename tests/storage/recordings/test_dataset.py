"""Data-set TOMLs: what they may say, and what is said about a mistake in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.datasets.dataset import available_specs, load_spec, record_names
from storage.errors import SpecError
from storage.formats.wfdb_write import write_dataset


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return write_dataset(tmp_path, ["sim001"], {}, "a test")


@pytest.mark.parametrize("name", sorted(available_specs()))
def test_shipped_ones_load(name: str) -> None:
    """Every shipped data set loads, says what AF is, and under which licence it comes."""
    spec = load_spec(name)
    assert spec.name == name
    assert spec.rhythms.af == ("AFIB",)
    assert spec.licence


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("[leads]", "[laeds]", r"unknown key 'laeds' \(did you mean 'leads'\?\)"),
        ("prefer =", "prefers =", r"unknown key 'leads.prefers' \(did you mean 'prefer'\?\)"),
        ("rhythm =", "rythm =", r"unknown key 'annotations.rythm' \(did you mean 'rhythm'\?\)"),
        ('licence = "Apache-2.0"\n', "", "the key 'licence' is missing"),
        ('"AFIB"]', '"AFB"]', "af names 'AFB', which no entry of map gives"),
        ('"atr"', '"../atr"', r"annotations.rhythm: .*found '../atr'"),
        ('["qrs"]', '["detect", "qrs"]', '"detect" can only be the last'),
        ('file = "RECORDS"', 'file = "RECORDS"\nnames = ["a"]', "exactly one of file, names"),
        ("[source]", "[source", "not valid TOML"),
    ],
)
def test_a_mistake_is_named(toml: Path, right: str, wrong: str, said: str) -> None:
    """A mistake in a TOML is an error naming file and key, with the nearest key for a typo."""
    text = toml.read_text()
    assert right in text
    toml.write_text(text.replace(right, wrong))
    with pytest.raises(SpecError, match=said) as caught:
        load_spec(toml)
    assert str(toml) in str(caught.value)


def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    """An unknown data set's error names the known one that is near."""
    with pytest.raises(SpecError, match=r"'afbd' \(did you mean 'afdb'\?\)"):
        load_spec("afbd")


def test_a_user_toml_wins(toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TOML in a folder of HOLTER_DATASETS is found by name, before a shipped one."""
    (tmp_path / "afdb.toml").write_bytes(toml.read_bytes())
    monkeypatch.setenv("HOLTER_DATASETS", str(tmp_path))
    assert load_spec("afdb").title == "Simulated Holter recordings"


@pytest.mark.parametrize(
    ("damage", "said"),
    [("no folder", "is not there"), ("no list", "has no RECORDS"), ("empty list", "no records in")],
)
def test_records_that_cannot_be_listed(toml: Path, damage: str, said: str) -> None:
    """A missing folder, a missing list and an empty one are errors naming data set and folder."""
    spec, folder = load_spec(toml), toml.parent
    if damage == "no folder":
        folder /= "elsewhere"
    elif damage == "no list":
        (folder / "RECORDS").unlink()
    else:
        (folder / "RECORDS").write_text("\n\n")
    with pytest.raises(SpecError, match=f"simulated.*{said}"):
        record_names(spec, folder)


def test_a_changed_meaning_changes_the_digest(toml: Path) -> None:
    """What shapes a table is in the TOML's digest; a note or an excluded record is not."""
    before = load_spec(toml).digest()
    text = toml.read_text()
    toml.write_text(text.replace('file = "RECORDS"', 'file = "RECORDS"\nexclude = { a = "why" }'))
    assert load_spec(toml).digest() == before
    toml.write_text(text.replace('N = "N"', 'N = "SR"'))
    assert load_spec(toml).digest() != before
