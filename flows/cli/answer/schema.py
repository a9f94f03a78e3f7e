"""The schema of what each command answers with `--format json`, from the kinds of answers."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from flows.cli.answer import (
    data_kinds,
    decision_kinds,
    device_kinds,
    exchange_kinds,
    report_kinds,
    server_kinds,
    training_kinds,
    upkeep_kinds,
)
from flows.consent.certificate import Certificate
from flows.upkeep.backup import Backup
from flows.upkeep.restore import RestoreResult
from storage.audit.findings import Finding
from storage.datasets.dataset import DatasetSpec
from tasks.analysis.answers import FolderAnswer, NoRhythm, RecordAnswer

#: What each command answers with, by its words after `holter`.
ANSWERS: dict[str, Any] = {
    "analyse": RecordAnswer | NoRhythm | FolderAnswer,
    "data list": data_kinds.DataSets,
    "data show": DatasetSpec,
    "data fetch": data_kinds.Download,
    "data check": data_kinds.DataCheck,
    "data add": data_kinds.DataAddition,
    "data simulate": data_kinds.Simulation,
    "data datasheet": report_kinds.Report,
    "data watch": training_kinds.Look,
    "data remove": upkeep_kinds.DataRemoval,
    "ingest": data_kinds.Ingest,
    "labels": data_kinds.LabelDecisions,
    "train": training_kinds.Training,
    "retrain": training_kinds.Retraining,
    "run": training_kinds.Retraining,
    "evaluate": training_kinds.Evaluation,
    "ec57": training_kinds.Ec57,
    "cross-validate": training_kinds.CrossValidation,
    "reproduce": training_kinds.Reproductions,
    "lineage": decision_kinds.Lineage | decision_kinds.RecordLineage,
    "verify": list[Finding],
    "card": report_kinds.Report,
    "compare": report_kinds.Report,
    "pareto": decision_kinds.Pareto,
    "promote": decision_kinds.Promotion,
    "pccp": decision_kinds.ChangeControl,
    "rollback": decision_kinds.Rollback,
    "rebuild": decision_kinds.Rebuild,
    "drift": decision_kinds.Drift,
    "review": server_kinds.ReviewPage,
    "up": server_kinds.Up,
    "down": server_kinds.Down,
    "status": server_kinds.Status,
    "env": server_kinds.Variables,
    "notify": server_kinds.Notices,
    "doctor": server_kinds.Health,
    "backup": Backup,
    "restore": RestoreResult,
    "gc": upkeep_kinds.CleanUp,
    "exchange key": device_kinds.Key,
    "exchange sign": exchange_kinds.SignedRelease,
    "exchange stamp": exchange_kinds.TimeStamp,
    "forget": Certificate,
    "edge request": device_kinds.DeviceReports,
    "edge devices": device_kinds.Devices,
    "edge group": device_kinds.Deed,
    "edge compare": device_kinds.DeviceComparison,
    "edge release": device_kinds.DeviceRelease,
    "edge account": device_kinds.Deed,
    "edge maker": device_kinds.Deed,
    "edge sign": device_kinds.Deed,
    "edge key": device_kinds.Key,
    "edge status": device_kinds.DeviceRequests,
    "edge export": device_kinds.Export,
    "edge check-export": device_kinds.Export,
}
#: What the commands of a device answer with, by their words after `holter-edge`.
DEVICE_ANSWERS: dict[str, Any] = {
    "analyse": ANSWERS["analyse"],
    "bench": device_kinds.Bench,
    "status": device_kinds.DeviceContents,
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
