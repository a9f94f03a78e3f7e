"""Descriptions of data sets: mlcroissant reads ours, a datasheet says what is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.exchange.descriptions import manifest_of
from storage.datasets.dataset import available_specs, load_spec
from storage.files import sha256_file
from storage.places import beats_place
from storage.tables.beats import arrow_schema, read_beats
from storage.tables.beats_manifest import Manifest, write_manifest
from tasks.exchange.croissant import COLUMNS, TYPES, croissant
from tasks.exchange.datasheet import NOBODY, OWNER, QUESTIONS, Facts, datasheet
from tasks.pages.document import Summary, Table, to_html, to_markdown
from tests.sealed import made_up_manifest

mlc: Any = pytest.importorskip("mlcroissant", reason="no mlcroissant: pip install '.[dev]'")
pytestmark = pytest.mark.filterwarnings("default")  # mlcroissant's own


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Manifest]]:
    """Beat tables of two simulated records, one called 001, in a state folder of their own."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLTER_HOME", str(folder / "home"))
        path, manifest = made_up_manifest(folder / "records", 2)
        first, second = manifest.entries
        manifest = replace(manifest, entries=(replace(first, record="001"), second))
        write_manifest(path, manifest)
        yield path, manifest


def read(document: dict[str, Any], folder: Path) -> Any:
    """A document as mlcroissant reads it from a folder; what it refuses ends the test."""
    path = folder / "croissant.json"
    path.write_text(json.dumps(document))
    return mlc.Dataset(str(path))


def test_mlcroissant_reads_the_beats(made: tuple[Path, Manifest]) -> None:
    """Every beat of every table is read by its description, and no other file of the folder."""
    path, manifest = made
    (path.parent / "left.parquet").write_bytes(b"no table")
    spec = load_spec(str(Path(manifest.origin) / "dataset.toml"))
    data = read(croissant(spec, manifest, {}, tables=True), path.parent)
    rows = list(data.records("beats"))
    tables = [read_beats(path.parent / entry.file) for entry in manifest.entries]
    for name in ("sample", "time_s", "label", "quality"):
        expected = np.concatenate([getattr(table, name) for table in tables])
        np.testing.assert_array_equal([row[f"beats/{name}"] for row in rows], expected)
    (path.parent / "left.parquet").unlink()


def test_names_of_digits_stay_text(made: tuple[Path, Manifest]) -> None:
    """A record called 001 is 001 to who reads the document."""
    path, manifest = made
    spec = load_spec(str(Path(manifest.origin) / "dataset.toml"))
    for tables in (True, False):
        data = read(croissant(spec, manifest, {}, tables=tables), path.parent)
        names = [row["records/record"] for row in data.records("records")]
        assert [n.decode() if isinstance(n, bytes) else n for n in names] == ["001", "sim001"]


@pytest.mark.parametrize("tables", [True, False])
def test_each_file_has_its_digest(made: tuple[Path, Manifest], tables: bool) -> None:
    """Files are named from where they lie, with the SHA-256 of their bytes and their size."""
    path, manifest = made
    words = ["data", "croissant", str(Path(manifest.origin) / "dataset.toml")]
    done = CliRunner().invoke(app, [*words, *["--tables"] * tables])
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    folder = path.parent if tables else Path(manifest.origin)
    files = [part for part in document["distribution"] if part["@type"] == "cr:FileObject"]
    assert len(files) == (2 if tables else 8)
    for file in files:
        assert sha256_file(folder / file["contentUrl"]) == file["sha256"]
        assert file["contentSize"] == f"{(folder / file['name']).stat().st_size} B"


@pytest.mark.parametrize("name", sorted(available_specs()))
def test_every_shipped_data_set_is_described(name: str, tmp_path: Path) -> None:
    """Each data set's TOML alone makes a document that mlcroissant takes, with its licence."""
    spec = load_spec(name)
    data = read(croissant(spec, None, {}, tables=False), tmp_path)
    assert data.metadata.license == [spec.licence]
    assert data.metadata.cite_as == spec.citation
    assert data.metadata.data_annotation_protocol[0].startswith("Beats: ")
    assert " ".join(spec.notes.split()) == data.metadata.data_collection


def test_every_column_is_told_of() -> None:
    """A column that a beat table gains is described, or the document would be silent on it."""
    kinds = {c.name: str(getattr(c.type, "value_type", c.type)) for c in arrow_schema()}
    assert {name for name, kind in kinds.items() if kind in TYPES} == set(COLUMNS)
    assert set(kinds) - set(COLUMNS) == {"waveform"}


def answers(spec_name: str, manifest: Manifest | None) -> dict[str, tuple[str, str]]:
    _, blocks = datasheet(Facts(load_spec(spec_name), manifest))
    tables = [block for block in blocks if isinstance(block, Table) and block.columns[0] == "asked"]
    return {asked: (text, place) for table in tables for asked, text, place in table.rows}


def test_a_datasheet_says_what_is_recorded(made: tuple[Path, Manifest]) -> None:
    """Counts are those of the tables; a question without a fact is left to the owner, by name."""
    _, manifest = made
    told = answers(str(Path(manifest.origin) / "dataset.toml"), manifest)
    assert set(told) == {question.text for question in QUESTIONS}
    beats = sum(entry.beats for entry in manifest.entries)
    assert f"Here: 2 records, {beats} beats" in told["What are its instances, and how many?"][0]
    assert "simulated" in told["What must it not be used for?"][0]
    open_questions = {asked for asked, (text, _) in told.items() if text == OWNER}
    assert {asked for asked, (_, place) in told.items() if place == NOBODY} == open_questions
    assert {q.text for q in QUESTIONS if q.place == NOBODY} <= open_questions


def test_without_tables_nothing_is_made_up() -> None:
    """What is measured is left open until it is, and what the TOML says is told."""
    told = answers("mitdb", None)
    assert told["Under which licence?"] == ("ODC-By 1.0", "data set's TOML")
    assert "holter ingest mitdb" in told["What are its instances, and how many?"][0]
    assert "annotator atr" in told["How was it labelled?"][0]


def test_a_datasheet_is_a_page(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    """The command writes Markdown and HTML; the answer stands first, simulated data is marked."""
    _, manifest = made
    toml = str(Path(manifest.origin) / "dataset.toml")
    title, blocks = datasheet(Facts(load_spec(toml), manifest))
    assert isinstance(blocks[0], Summary)
    for suffix, form in ((".md", to_markdown), (".html", to_html)):
        out = tmp_path / f"sheet{suffix}"
        done = CliRunner().invoke(app, ["data", "datasheet", toml, "--out", str(out)])
        assert done.exit_code == 0, done.output
        assert out.read_text() == form(title, blocks)
        assert "SIMULATED" in out.read_text()


def test_the_usual_tables_go_first(made: tuple[Path, Manifest]) -> None:
    """Of several kinds of tables those that are named by the data set alone are described."""
    path, manifest = made
    other = path.parent.with_name(f"{path.parent.name}.annotations") / "manifest.json"
    write_manifest(other, replace(manifest, entries=()))
    assert manifest_of(beats_place(), manifest.dataset) == (path, manifest)
    assert manifest_of(beats_place(), "nothing") is None
