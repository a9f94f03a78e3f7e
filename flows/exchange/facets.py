"""Facets of ours, where OpenLineage has none: what makes lineage of ECG networks worth keeping.

`docs/openlineage.schema.json` is made of them. OpenLineage 1.54 has no facet of machine learning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

#: What the address of a facet's schema begins with; the file in `docs/` has it as its `$id`.
SCHEMA = "urn:holter-af:openlineage:1"
Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
Count = Annotated[int, Field(ge=0)]
Figures = Annotated[dict[str, float], Field(description="Figures by name; undefined ones are out.")]


class Facet(BaseModel):
    """A facet of ours; its key among an event's facets is `KEY`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )
    KEY: ClassVar[str]

    def values(self) -> dict[str, Any]:
        """Its fields by their names in an event."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def address(cls) -> str:
        """Where its schema is: a JSON pointer into the published file."""
        return f"{SCHEMA}#/$defs/{cls.__name__}"


class BeatsDatasetFacet(Facet):
    """The beat tables of a data set: how much is in them, and digests of what made them."""

    KEY: ClassVar[str] = "holter_beats"
    records: Count
    subjects: Count
    failed_records: Count
    beats: Count
    af_beats: Count
    unknown_beats: Count
    flagged_beats: Count
    hours: Annotated[float, Field(ge=0)]
    simulated: bool
    licence: str
    spec_sha256: Digest
    preprocessing_sha256: Digest
    code_sha256: Digest


class VersionDatasetFacet(Facet):
    """A registered model version: its training's run, and the digests that it is checked by."""

    KEY: ClassVar[str] = "holter_version"
    network: str
    run_id: str
    chain_sha256: Digest
    testset_sha256: Digest
    split_sha256: Digest


class FiguresDatasetFacet(Facet):
    """Figures of an evaluation or of a device's report."""

    KEY: ClassVar[str] = "holter_figures"
    figures: Figures


class TrainingRunFacet(Facet):
    """A training: how patients were dealt, and how the registered file scored on the test side."""

    KEY: ClassVar[str] = "holter_training"
    mlflow_run_id: str
    split: str
    figures: Figures


class DecisionRunFacet(Facet):
    """A decision about an alias: what was decided, and the digest of the result that says why."""

    KEY: ClassVar[str] = "holter_decision"
    alias: str
    decision: str
    checks: Count
    not_passed: Count
    result_sha256: Digest


class CodeRunFacet(Facet):
    """The code and environment of a run, by commit and digest."""

    KEY: ClassVar[str] = "holter_code"
    commit: str
    dirty: str
    environment_sha256: Digest


FACETS: tuple[type[Facet], ...] = (
    BeatsDatasetFacet,
    CodeRunFacet,
    DecisionRunFacet,
    FiguresDatasetFacet,
    TrainingRunFacet,
    VersionDatasetFacet,
)


def finite(figures: Mapping[str, Any]) -> dict[str, float]:
    """Figures as JSON can hold them: Python's own numbers, without NaN and infinity.

    The client of OpenLineage writes NaN as it stands, and float32 as a text.
    """
    numbers = {name: float(value) for name, value in figures.items()}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def schema() -> dict[str, Any]:
    """The published schema: `$defs` holds each facet by its name."""
    kinds = [(kind, "serialization", TypeAdapter(kind)) for kind in FACETS]
    _, shared = TypeAdapter.json_schemas(kinds, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    base = {name: {"type": "string", "format": "uri"} for name in ("_producer", "_schemaURL")}
    definitions = {
        name: {
            **definition,
            "properties": {**base, **definition["properties"]},
            "required": [*base, *definition["required"]],
        }
        for name, definition in shared["$defs"].items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA,
        "title": "Facets of Holter AF in events of OpenLineage",
        "$defs": definitions,
    }
