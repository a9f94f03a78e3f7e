"""Croissant metadata of a data set's recordings, and of its beat tables: JSON-LD for a catalogue.

Croissant 1.1 of MLCommons, https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html, with
fields of its RAI extension where the TOML or the manifest has facts. mlcroissant 1.1.1 is the judge
of the tests; what it does not do is told where it matters.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from storage.datasets.dataset import DatasetSpec
from storage.datasets.labels import DETECT
from storage.tables.beats import arrow_schema
from storage.tables.beats_manifest import Entry, Manifest

VERSION = "http://mlcommons.org/croissant/1.1"
_CR: tuple[str, ...] = (
    "arrayShape",
    "citeAs",
    "column",
    "containedIn",
    "equivalentProperty",
    "extract",
    "field",
)
_CR += ("fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset")
_CR += ("jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex")
_CR += ("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform")
#: The standard's own context.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _CR},
}
PARQUET = "application/x-parquet"
#: Media types of recordings' files, by the format of the data set.
FORMATS = {"wfdb": "application/x-wfdb", "edf": "application/edf", "ishne": "application/x-ishne"}
#: Croissant's types, by the names of Arrow's; a waveform's bytes have none.
TYPES = {
    "string": "sc:Text",
    "int64": "cr:Int64",
    "double": "cr:Float64",
    "float": "cr:Float32",
    "int8": "cr:Int8",
    "uint16": "cr:UInt16",
}
#: What each column of a beat table is, with its unit.
COLUMNS = {
    "dataset": "Data set",
    "record": "Record",
    "subject": "Subject, whose beats stay on one side of a split",
    "sample": "R peak; unit: sample of the record, from 0",
    "time_s": "R peak; unit: s from the record's start",
    "rr_prev_s": "RR interval before the beat; unit: s; NaN at the start of a stretch",
    "rr_next_s": "RR interval after the beat; unit: s; NaN at the end of a stretch",
    "symbol": "Beat annotation (WFDB mnemonic); empty where it was detected alone",
    "rhythm": "Rhythm in force; empty where none is known",
    "label": "1 AF, 0 not AF, -1 unknown",
    "quality": "Sum of flags: 1 gap, 2 flat, 4 saturated, 8 noisy, 16 missed, 32 extra, 64 RR out "
    "of range, 128 no rhythm, 256 outside the annotated stretch",
    "noise": "Noise index of the beat's segment; unit: none; NaN without a signal",
}
WAVEFORM = (
    "The column waveform (300 little-endian float32, unit mV, R peak at index 100, as 1,200 bytes) "
    "is no field: Croissant has no type of bytes."
)
#: Of a record in the table of records: type, what it is, and how it is had of its entry.
RECORD_FIELDS: dict[str, tuple[str, str]] = {
    "record": ("sc:Text", "Record"),
    "subject": ("sc:Text", "Subject"),
    "lead": ("sc:Text", "Lead that was read; empty without a signal"),
    "hours": ("cr:Float64", "Length; unit: h"),
    "beats": ("cr:Int64", "Beats in its table"),
    "af_beats": ("cr:Int64", "Beats labelled AF"),
    "unknown_beats": ("cr:Int64", "Beats without a label"),
}


def croissant(
    spec: DatasetSpec, manifest: Manifest | None, sizes: Mapping[str, int], *, tables: bool
) -> dict[str, Any]:
    """The Croissant document of a data set.

    Parameters
    ----------
    spec : DatasetSpec
        The data set's TOML.
    manifest : Manifest, optional
        Its beat tables; without them no file is described.
    sizes : mapping of str to int
        Bytes of files, by their names in the manifest; those that are not known are left out.
    tables : bool
        Describe the beat tables, or else the recordings.

    Returns
    -------
    dict
        JSON-LD. Addresses of files are relative: the document belongs beside the manifest, or into
        the folder of the recordings.
    """
    name = f"{spec.name}-beats" if tables else spec.name
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": name,
        "description": f"Beats of {spec.title}" if tables else spec.title,
        "version": spec.version,
        "license": spec.licence,
        "citeAs": spec.citation,
        **({"url": spec.homepage} if spec.homepage else {}),
        "distribution": [],
        "recordSet": [],
        **responsible(spec, manifest, tables=tables),
    }
    if manifest is not None and manifest.entries:
        document["distribution"] = (
            _tables(manifest.entries, sizes) if tables else _recordings(spec, manifest, sizes)
        )
        document["recordSet"] = [_records(manifest.entries), *([_beats()] if tables else [])]
    return document


def _file(name: str, media_type: str, sha256: str, size: int | None) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": f"file/{quote(name)}",
        "name": name,
        "contentUrl": quote(name),
        "encodingFormat": media_type,
        "sha256": sha256,
        **({"contentSize": f"{size} B"} if size is not None else {}),
    }


def _recordings(
    spec: DatasetSpec, manifest: Manifest, sizes: Mapping[str, int]
) -> list[dict[str, Any]]:
    digests = {name: sha for entry in manifest.entries for name, sha in entry.files.items()}
    media_type = FORMATS[spec.records.format]
    return [_file(name, media_type, sha, sizes.get(name)) for name, sha in sorted(digests.items())]


def _tables(entries: Iterable[Entry], sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """Each table, and the set of them all: of what else lies there nothing is read."""
    files = [_file(entry.file, PARQUET, entry.sha256, sizes.get(entry.file)) for entry in entries]
    together = {
        "@type": "cr:FileSet",
        "@id": "tables",
        "name": "tables",
        "encodingFormat": PARQUET,
        # Each by its name: mlcroissant 1.1.1 does nothing on "excludes", and finds no file of a
        # set that is contained in several objects.
        "includes": [glob.escape(file["name"]) for file in files],
    }
    return [*files, together]


def _beats() -> dict[str, Any]:
    """The beats as records, a field for each column that Croissant has a type for."""
    fields = []
    for column in arrow_schema():
        kind = str(getattr(column.type, "value_type", column.type))
        if kind not in TYPES:
            continue
        source = {"fileSet": {"@id": "tables"}, "extract": {"column": column.name}}
        fields.append(_field("beats", column.name, TYPES[kind], COLUMNS[column.name], source))
    return {
        "@type": "cr:RecordSet",
        "@id": "beats",
        "name": "beats",
        "description": f"A record for each beat. {WAVEFORM}",
        "field": fields,
    }


def _records(entries: Iterable[Entry]) -> dict[str, Any]:
    """The records of the data set, whose values stand in the document itself."""
    return {
        "@type": "cr:RecordSet",
        "@id": "records",
        "name": "records",
        "description": "A record of the data set each.",
        "key": {"@id": "records/record"},
        "field": [_field("records", name, *words) for name, words in RECORD_FIELDS.items()],
        "data": [
            {f"records/{name}": getattr(entry, name) or _empty(name) for name in RECORD_FIELDS}
            for entry in entries
        ],
    }


def _empty(name: str) -> object:
    return "" if RECORD_FIELDS[name][0] == "sc:Text" else 0


def _field(
    group: str, name: str, kind: str, description: str, source: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{group}/{name}",
        "name": name,
        "description": description,
        "dataType": kind,
        **({"source": dict(source)} if source else {}),
    }


def responsible(spec: DatasetSpec, manifest: Manifest | None, *, tables: bool) -> dict[str, Any]:
    """The fields of the RAI extension that the TOML and the manifest have facts for."""
    facts: dict[str, Any] = {
        "rai:dataCollection": " ".join(spec.notes.split()),
        "rai:dataAnnotationProtocol": annotation_facts(spec),
        "rai:machineAnnotationTools": [
            "Beats that no annotator marks are found by the R-peak detector of Holter AF."
        ]
        * (DETECT in spec.annotations.beats),
        "rai:dataLimitations": limitation_facts(spec),
    }
    if manifest is not None:
        facts["rai:dataCollectionMissingData"] = missing_facts(manifest)
    if manifest is not None and tables:
        settings = ", ".join(f"{k}={v}" for k, v in sorted(manifest.preprocessing.items()))
        facts["rai:dataPreprocessingProtocol"] = [
            f"Cleaned and segmented with {settings}.",
            f"Code, by its SHA-256: {manifest.code_sha256}.",
        ]
    return {name: value for name, value in facts.items() if value}


def annotation_facts(spec: DatasetSpec) -> list[str]:
    """How beats and rhythms are annotated, in sentences."""
    sources = [
        "found in the signal" if name == DETECT else f"annotator {name}"
        for name in spec.annotations.beats
    ]
    sentences = [f"Beats: {', else '.join(sources)}."]
    if spec.annotations.rhythm:
        sentences.append(f"Rhythm: annotator {spec.annotations.rhythm}.")
    if spec.labels.files or spec.labels.paths:
        place = f"file {' or '.join(spec.labels.files)}" if spec.labels.files else "folders' names"
        sentences.append(f"Labels of whole records: {place}.")
    names = [key for key, value in spec.rhythms.map.items() if value in spec.rhythms.af]
    sentences.append(f"AF is what is marked {', '.join(names) or ', '.join(spec.rhythms.af)}.")
    return sentences


def limitation_facts(spec: DatasetSpec) -> list[str]:
    """What the data cannot say, in sentences."""
    sentences = []
    if spec.source.simulated:
        sentences.append("The recordings are simulated: they say nothing about people.")
    subjects = spec.subjects
    if not (
        subjects.map or subjects.pattern or subjects.numbers or "subject" in spec.labels.columns
    ):
        sentences.append("No subject is told: each record is taken for a subject.")
    if spec.labels.files or spec.labels.paths:
        sentences.append("A label is of a whole record, of which AF may fill a part alone.")
    return sentences


def missing_facts(manifest: Manifest) -> str:
    """What is not there, in sentences: records left out or failed, hours without annotation."""
    uncovered = sum(entry.uncovered_hours for entry in manifest.entries)
    unknown = sum(entry.unknown_beats for entry in manifest.entries)
    sentences = [
        f"{len(manifest.excluded)} records are left out by the data set's description.",
        f"{len(manifest.failures)} records could not be used.",
        f"{uncovered:.2f} h of annotated records have no beat annotation.",
        f"{unknown} beats have no label.",
    ]
    return " ".join(sentences)
