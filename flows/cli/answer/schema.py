"""The schema of what each command answers with `--format json`, from the kinds of answers."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from flows.cli.answer import kinds
from flows.consent.certificate import Certificate
from flows.upkeep.backup import Backup
from flows.upkeep.restore import RestoreResult
from storage.audit.findings import Finding
from storage.datasets.dataset import DatasetSpec
from tasks.analysis.answers import FolderAnswer, NoRhythm, RecordAnswer

#: What each command answers with, by its words after `holter`.
ANSWERS: dict[str, Any] = {
    "analyse": RecordAnswer | NoRhythm | FolderAnswer,
    "data list": kinds.DataSets,
    "data show": DatasetSpec,
    "data fetch": kinds.Download,
    "data check": kinds.DataCheck,
    "data add": kinds.DataAddition,
    "data simulate": kinds.Simulation,
    "data datasheet": kinds.Report,
    "data watch": kinds.Look,
    "data remove": kinds.DataRemoval,
    "ingest": kinds.Ingest,
    "labels": kinds.Labels,
    "train": kinds.Training,
    "retrain": kinds.Retraining,
    "run": kinds.Retraining,
    "evaluate": kinds.Evaluation,
    "ec57": kinds.Ec57,
    "cross-validate": kinds.CrossValidation,
    "reproduce": kinds.Reproductions,
    "lineage": kinds.Lineage | kinds.RecordLineage,
    "verify": list[Finding],
    "card": kinds.Report,
    "compare": kinds.Report,
    "pareto": kinds.Pareto,
    "promote": kinds.Promotion,
    "pccp": kinds.ChangeControl,
    "rollback": kinds.Rollback,
    "rebuild": kinds.Rebuild,
    "drift": kinds.Drift,
    "review": kinds.Review,
    "up": kinds.Up,
    "down": kinds.Down,
    "status": kinds.Status,
    "env": kinds.Variables,
    "notify": kinds.Notices,
    "doctor": kinds.Health,
    "backup": Backup,
    "restore": RestoreResult,
    "gc": kinds.CleanUp,
    "exchange key": kinds.Key,
    "exchange sign": kinds.SignedRelease,
    "exchange stamp": kinds.TimeStamp,
    "forget": Certificate,
    "edge request": kinds.DeviceReports,
    "edge devices": kinds.Devices,
    "edge group": kinds.Deed,
    "edge compare": kinds.DeviceComparison,
    "edge release": kinds.DeviceRelease,
    "edge account": kinds.Deed,
    "edge maker": kinds.Deed,
    "edge sign": kinds.Deed,
    "edge key": kinds.Key,
    "edge status": kinds.DeviceRequests,
    "edge export": kinds.Export,
    "edge check-export": kinds.Export,
}
#: What the commands of a device answer with, by their words after `holter-edge`.
DEVICE_ANSWERS: dict[str, Any] = {
    "analyse": ANSWERS["analyse"],
    "bench": kinds.Bench,
    "status": kinds.DeviceContents,
}


def document() -> dict[str, Any]:
    """One schema: `$defs` holds the kinds, `properties` the answer of each command by its words.

    Those of a device begin with `holter-edge`.
    """
    answers = ANSWERS | {f"holter-edge {words}": kind for words, kind in DEVICE_ANSWERS.items()}
    schemas, shared = TypeAdapter.json_schemas(
        [(words, "serialization", TypeAdapter(kind)) for words, kind in sorted(answers.items())],
        ref_template="#/$defs/{model}",
    )
    schema: dict[str, Any] = _seal(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "What each command of holter and holter-edge answers with --format json",
            "properties": {words: schema for (words, _), schema in schemas.items()},
            "$defs": shared["$defs"],
        }
    )
    return schema


def _seal(schema: Any) -> Any:
    """The schema with no field but those that it names."""
    if isinstance(schema, list):
        return [_seal(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    bounded = schema.get("type") == "object" and "properties" in schema
    limits = {"additionalProperties": False} if bounded else {}
    return {**{key: _seal(part) for key, part in schema.items()}, **limits}
