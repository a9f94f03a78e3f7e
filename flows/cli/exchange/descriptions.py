"""`holter data croissant` and `datasheet`: a data set, described for catalogues and for people."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import JSON, Form, Format, answer
from flows.cli.options import Dataset, report_to_write, to_write
from flows.reports.shown import deliver, say
from flows.services.progress import console
from storage.errors import TableError

if TYPE_CHECKING:
    from storage.datasets.dataset import DatasetSpec
    from storage.places import Place
    from storage.tables.beats_manifest import Manifest


def manifest_of(beats: Place, dataset: str) -> tuple[Place, Manifest] | None:
    """The manifest of a data set and its file: of the usual tables, else of others; or none."""
    from storage.tables.beats_manifest import manifest_path, manifest_paths, read_manifest

    usual = manifest_path(beats, dataset)
    for path in sorted(manifest_paths(beats), key=lambda path: str(path) != str(usual)):
        with suppress(TableError):
            manifest = read_manifest(path)
            if manifest.dataset == dataset:
                return path, manifest
    return None


def _description(dataset: str) -> tuple[DatasetSpec, Place | None, Manifest | None]:
    """A data set's TOML, and its beat tables where they were made; a warning where not."""
    from storage.datasets.dataset import load_spec
    from storage.places import beats_place

    spec = load_spec(dataset)
    path, manifest = manifest_of(beats_place(), spec.name) or (None, None)
    if manifest is None:
        console.print(
            f"[yellow]warning[/yellow]  {spec.name}: no beat tables here; only what its TOML says "
            f"is told. holter ingest {spec.name} makes them.",
            soft_wrap=True,
        )
    return spec, path, manifest


def croissant(
    dataset: Dataset,
    tables: Annotated[
        bool, typer.Option("--tables", help="Describe its beat tables, not its recordings.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(callback=to_write, help="Write it here; else it is printed.")
    ] = None,
    output: Annotated[
        Form, typer.Option("--format", help="json: Croissant (JSON-LD); or text: its files.")
    ] = "json",
) -> None:
    """Croissant metadata for a catalogue: files with SHA-256, fields, licence, what is known."""
    from storage.files import write_json
    from tasks.exchange.croissant import croissant as work

    spec, path, manifest = _description(dataset)
    document = work(spec, manifest, _sizes(path, manifest, tables=tables), tables=tables)
    files = [part["name"] for part in document["distribution"] if "sha256" in part]
    if out is not None:
        write_json(out, document)
        console.print(f"Written  {out}: {len(files)} files", markup=False, soft_wrap=True)
    elif output == JSON:
        print(json.dumps(document, indent=1, sort_keys=True))
    else:
        for name in files:
            say(name)


def _sizes(path: Place | None, manifest: Manifest | None, *, tables: bool) -> dict[str, int]:
    """The bytes of the files that lie on this machine, by their names."""
    if manifest is None or not isinstance(path, Path):
        return {}
    folder = path.parent if tables else Path(manifest.origin)
    own = [[entry.file] if tables else list(entry.files) for entry in manifest.entries]
    names = {name for files in own for name in files}
    return {name: (folder / name).stat().st_size for name in names if (folder / name).is_file()}


def datasheet(
    dataset: Dataset,
    out: Annotated[
        Path | None,
        typer.Option(callback=report_to_write, help="Write it here: .html or .md; else printed."),
    ] = None,
    output: Format = "text",
) -> None:
    """A data set's datasheet: what is recorded of it, and what its owner is to write."""
    from flows.cli.answer.contents import report_of
    from tasks.exchange.datasheet import Facts
    from tasks.exchange.datasheet import datasheet as work

    spec, _, manifest = _description(dataset)
    title, blocks = work(Facts(spec, manifest))
    if out and output == JSON:
        deliver(title, blocks, out)
    answer(report_of(title, blocks, out), output, lambda: deliver(title, blocks, out))
