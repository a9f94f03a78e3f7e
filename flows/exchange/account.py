"""Runs, what happened to them, and what they account for: data sets read and made, facets."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import singledispatch
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from flows.exchange.facets import BeatsDatasetFacet, Facet, FiguresDatasetFacet, VersionDatasetFacet
from flows.exchange.facets import finite as finite
from storage.addresses import without_credentials
from storage.places import Place, Remote
from storage.registry.models import ModelVersion
from storage.registry.tags import CHAIN_SHA256_TAG, SPLIT_TAG, TESTSET_SHA256_TAG
from storage.tables.beats_manifest import Manifest

#: What an event tells: a run begins, or ends in one of three ways.
Kind = Literal["START", "COMPLETE", "FAIL", "ABORT"]
#: Addresses of MLflow whose port is another one at each start.
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Data:
    """A data set of an event, named by OpenLineage's rules.

    Attributes
    ----------
    namespace, name : str
        Which data source it is in, and its name there.
    version : str
        Its version or content digest; "" where none is known.
    description : str
        What it is, in a line; "" where nothing says it.
    layer, form : str
        How it is stored ("file", "mlflow"), and the format of its files.
    columns : mapping of str to str
        Type of each column, by name; empty where it is no table.
    facets : tuple of Facet
        What else is told of it.
    rows, files : int or None
        How much there is of it.
    """

    namespace: str
    name: str
    version: str = ""
    description: str = ""
    layer: str = "file"
    form: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    facets: tuple[Facet, ...] = ()
    rows: int | None = None
    files: int | None = None


@dataclass(frozen=True)
class Account:
    """What a run read and made, and facets of it."""

    inputs: tuple[Data, ...] = ()
    outputs: tuple[Data, ...] = ()
    facets: tuple[Facet, ...] = ()


@dataclass(frozen=True)
class Run:
    """A run of a job: its id, the job, the run that it is a part of, and how it was asked for."""

    run_id: str
    job: str
    description: str = ""
    owner: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    parent: Run | None = None

    @property
    def root(self) -> Run:
        """The run that it is a part of in the end."""
        return self.parent.root if self.parent else self


@dataclass(frozen=True)
class Moment:
    """What happened to a run, when (UTC), and what kind of failure it was, if any."""

    kind: Kind
    time: datetime
    error: str = ""


@singledispatch
def account_of(result: object) -> Account:  # noqa: ARG001 - a result of no registered kind
    """What a flow's result accounts for; each kind of result registers its own account."""
    return Account()


def place_name(place: Place) -> tuple[str, str]:
    """Namespace and name of a folder: "file" and its path, or a bucket and the key in it."""
    if not isinstance(place, Remote):
        return "file", str(place.absolute())
    parts = urlsplit(without_credentials(place.uri))
    return f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/")


def registry_name(address: str) -> str:
    """The namespace of what is in MLflow; on loopback the machine's name, without the port."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    local = not host or host in LOOPBACK or host.startswith("127.")
    port = "" if local or parts.port is None else f":{parts.port}"
    return f"mlflow://{platform.node() if local else host}{port}"


def recordings_of(manifest: Manifest) -> Data:
    """The recordings that beat tables were made from."""
    namespace, name = place_name(Path(manifest.origin))
    return Data(
        namespace,
        name,
        version=manifest.version,
        description=f"{manifest.title}; {manifest.licence}",
        form=str(manifest.spec.get("records", {}).get("format", "")),
        files=len({file for entry in manifest.entries for file in entry.files}),
    )


def beat_tables_of(path: Place, manifest: Manifest) -> Data:
    """The beat tables of a data set, by their manifest and its file."""
    from storage.tables.beats import arrow_schema

    entries = manifest.entries
    namespace, name = place_name(path.parent)
    beats = BeatsDatasetFacet(
        records=len(entries),
        subjects=len({entry.subject for entry in entries}),
        failed_records=len(manifest.failures),
        beats=sum(entry.beats for entry in entries),
        af_beats=sum(entry.af_beats for entry in entries),
        unknown_beats=sum(entry.unknown_beats for entry in entries),
        flagged_beats=sum(entry.flagged_beats for entry in entries),
        hours=sum(entry.hours for entry in entries),
        simulated=manifest.simulated,
        licence=manifest.licence,
        spec_sha256=manifest.spec_sha256,
        preprocessing_sha256=manifest.preprocessing_sha256,
        code_sha256=manifest.code_sha256,
    )
    return Data(
        namespace,
        name,
        version=manifest.digest(),
        description=f"Beats of {manifest.title}",
        form="parquet",
        columns={column.name: _type_name(column.type) for column in arrow_schema()},
        facets=(beats,),
        rows=beats.beats,
        files=len(entries),
    )


def _type_name(kind: Any) -> str:
    """The name of an Arrow type; a dictionary is told by what its values are."""
    return str(getattr(kind, "value_type", kind))


def version_of(model: ModelVersion, address: str) -> Data:
    """A registered version of a model on the MLflow server of an address."""
    tags = model.tags
    facet = VersionDatasetFacet(
        network=model.network,
        run_id=model.run_id,
        chain_sha256=tags.get(CHAIN_SHA256_TAG, ""),
        testset_sha256=tags.get(TESTSET_SHA256_TAG, ""),
        split_sha256=tags.get(SPLIT_TAG, ""),
    )
    return Data(
        registry_name(address),
        model.name,
        version=str(model.version),
        layer="mlflow",
        form="litert",
        facets=(facet,),
    )


def version_named(name: str, version: int, address: str) -> Data:
    """The same of a version of which its name and number are known."""
    return Data(registry_name(address), name, version=str(version), layer="mlflow", form="litert")


def alias_of(name: str, alias: str, version: int, address: str) -> Data:
    """An alias of a registered model, which stands on a version."""
    return replace(version_named(f"{name}@{alias}", version, address), form="")


def report_of(name: str, run_id: str, address: str, figures: Mapping[str, Any]) -> Data:
    """The report of an evaluation or a device, an MLflow run of a model."""
    facet = FiguresDatasetFacet(figures=finite(figures))
    return Data(
        registry_name(address),
        name,
        version=run_id,
        layer="mlflow",
        form="json",
        facets=(facet,),
    )
