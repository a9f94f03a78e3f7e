"""Runs, experiments and registered models in MLflow's tables, as its REST interface gives them."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from storage.errors import NotInRegistry, RegistryError

Fields = Mapping[str, Any]
Row = dict[str, Any]

#: Largest double: what MLflow keeps of an infinite metric.
MOST = 1.7976931348623157e308
_FILTER = re.compile(r"\s*(?:attributes\.)?(name|status)\s*(=|LIKE)\s*'([^']*)'\s*", re.ASCII)


def open_database(database: Path) -> sqlite3.Connection:
    """Open a database to read it; another process may write meanwhile."""
    store = sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True, timeout=30)
    store.row_factory = sqlite3.Row
    store.execute("PRAGMA case_sensitive_like = ON")
    return store


def rows(store: sqlite3.Connection, sql: str, values: Sequence[Any] = ()) -> list[Row]:
    """What a query gives."""
    return [dict(row) for row in store.execute(sql, values)]


def _set_fields(row: Row) -> Row:
    """Without what is not set, as the server leaves it out."""
    return {key: value for key, value in row.items() if value is not None}


def _condition(fields: Fields, columns: Mapping[str, str]) -> tuple[str, list[str]]:
    """The filter as SQL, and its values: one comparison of a name or a status, or none."""
    words = fields.get("filter") or ""
    if not words:
        return "1", []
    match = _FILTER.fullmatch(words)
    if match is None or match[1] not in columns:
        raise RegistryError(f"filter {words[:200]!r}: found none that is read without a server")
    return f"{columns[match[1]]} {match[2]} ?", [match[3]]


def _stage(view_type: str | None) -> str:
    return "1" if view_type == "ALL" else "lifecycle_stage = 'active'"


# -- runs and experiments


def _run(store: sqlite3.Connection, row: Row) -> Row:
    run_id = row["run_uuid"]
    info = {
        "run_uuid": run_id,
        "run_id": run_id,
        "experiment_id": str(row["experiment_id"]),
        "run_name": row["name"],
        "user_id": row["user_id"],
        "status": row["status"],
        "start_time": row["start_time"],
        "end_time": row["end_time"],
        "artifact_uri": row["artifact_uri"],
        "lifecycle_stage": row["lifecycle_stage"],
    }
    data = {
        "metrics": [_metric(metric) for metric in _of_run(store, "latest_metrics", run_id)],
        "params": _of_run(store, "params", run_id, "key, value"),
        "tags": _of_run(store, "tags", run_id, "key, value"),
    }
    inputs = _inputs(store, run_id)
    return {
        "info": _set_fields(info),
        "data": {k: v for k, v in data.items() if v},
        "inputs": inputs,
    }


def _of_run(store: sqlite3.Connection, table: str, run_id: str, columns: str = "*") -> list[Row]:
    sql = f"SELECT {columns} FROM {table} WHERE run_uuid = ? ORDER BY key"  # noqa: S608 - our own words
    return [_set_fields(row) for row in rows(store, sql, [run_id])]


def _metric(row: Row) -> Row:
    value: float | str = row["value"]
    if row["is_nan"]:
        value = "NaN"
    elif math.isinf(row["value"]):
        value = math.copysign(MOST, row["value"])
    return {
        "key": row["key"],
        "value": value,
        "timestamp": row["timestamp"],
        "step": row["step"],
    }


def _inputs(store: sqlite3.Connection, run_id: str) -> Row:
    sql = (
        "SELECT i.input_uuid, d.name, d.digest, d.dataset_source_type AS source_type, "
        "d.dataset_source AS source, d.dataset_schema AS schema, d.dataset_profile AS profile "
        "FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id "
        "WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' AND i.destination_id = ?"
    )
    inputs = []
    for row in rows(store, sql, [run_id]):
        marks = "SELECT name AS key, value FROM input_tags WHERE input_uuid = ?"
        tags = rows(store, marks, [row.pop("input_uuid")])
        inputs.append({**({"tags": tags} if tags else {}), "dataset": _set_fields(row)})
    return {"dataset_inputs": inputs} if inputs else {}


def _get_run(store: sqlite3.Connection, fields: Fields) -> Row:
    run_id = str(fields.get("run_id", ""))
    for row in rows(store, "SELECT * FROM runs WHERE run_uuid = ?", [run_id]):
        return {"run": _run(store, row)}
    raise NotInRegistry(f"run {run_id}: found none")


def _search_runs(store: sqlite3.Connection, fields: Fields) -> Row:
    condition, values = _condition(fields, {"status": "status"})
    stage = _stage(fields.get("run_view_type"))
    places = [int(number) for number in fields.get("experiment_ids", ())]
    marks = ", ".join("?" * len(places))
    sql = (
        f"SELECT * FROM runs WHERE experiment_id IN ({marks}) AND {stage} AND {condition} "  # noqa: S608 - our own words, values apart
        "ORDER BY start_time DESC, run_uuid"
    )
    runs = [_run(store, row) for row in rows(store, sql, [*places, *values])]
    return {"runs": runs} if runs else {}


def _history(store: sqlite3.Connection, fields: Fields) -> Row:
    sql = "SELECT * FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY timestamp, step, value"
    points = rows(store, sql, [fields.get("run_id"), fields.get("metric_key")])
    return {"metrics": [_metric(point) for point in points]} if points else {}


def _experiment(store: sqlite3.Connection, row: Row) -> Row:
    sql = "SELECT key, value FROM experiment_tags WHERE experiment_id = ? ORDER BY key"
    tags = rows(store, sql, [row["experiment_id"]])
    return _set_fields(
        {
            "experiment_id": str(row["experiment_id"]),
            "name": row["name"],
            "artifact_location": row["artifact_location"],
            "lifecycle_stage": row["lifecycle_stage"],
            "creation_time": row["creation_time"],
            "last_update_time": row["last_update_time"],
            "tags": tags or None,
        }
    )


def _get_experiment(store: sqlite3.Connection, fields: Fields) -> Row:
    column, value = (
        ("name", fields["experiment_name"])
        if "experiment_name" in fields
        else ("experiment_id", fields.get("experiment_id"))
    )
    sql = f"SELECT * FROM experiments WHERE {column} = ?"  # noqa: S608 - one of two words
    for row in rows(store, sql, [value]):
        return {"experiment": _experiment(store, row)}
    raise NotInRegistry(f"experiment {value}: found none")


def _search_experiments(store: sqlite3.Connection, fields: Fields) -> Row:
    condition, values = _condition(fields, {"name": "name"})
    stage = _stage(fields.get("view_type"))
    sql = (
        f"SELECT * FROM experiments WHERE {stage} AND {condition} "  # noqa: S608 - our own words, values apart
        "ORDER BY creation_time DESC, experiment_id"
    )
    experiments = [_experiment(store, row) for row in rows(store, sql, values)]
    return {"experiments": experiments} if experiments else {}


# -- registered models


def _version(store: sqlite3.Connection, row: Row) -> Row:
    name, number = row["name"], row["version"]
    sql = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"
    tags = rows(store, sql, [name, number])
    return _set_fields(
        {
            "name": name,
            "version": str(number),
            "creation_timestamp": row["creation_time"],
            "last_updated_timestamp": row["last_updated_time"],
            "user_id": row["user_id"] or None,
            "current_stage": row["current_stage"],
            "description": row["description"] or "",
            "source": row["source"],
            "run_id": row["run_id"] or "",
            "status": row["status"],
            "status_message": row["status_message"],
            "run_link": row["run_link"] or "",
            "tags": tags or None,
        }
    )


def version_row(store: sqlite3.Connection, name: Any, number: Any) -> Row:
    """The row of a model's version; NotInRegistry where there is none."""
    sql = "SELECT * FROM model_versions WHERE name = ? AND version = ?"
    sql += " AND current_stage != 'Deleted_Internal'"
    for row in rows(store, sql, [name, number]):
        return row
    raise NotInRegistry(f"model {name}: found no version {number}")


def _get_version(store: sqlite3.Connection, fields: Fields) -> Row:
    row = version_row(store, fields.get("name"), fields.get("version"))
    sql = "SELECT alias FROM registered_model_aliases WHERE name = ? AND version = ?"
    aliases = [alias["alias"] for alias in rows(store, sql, [row["name"], row["version"]])]
    return {"model_version": {**_version(store, row), **({"aliases": aliases} if aliases else {})}}


def _search_versions(store: sqlite3.Connection, fields: Fields) -> Row:
    condition, values = _condition(fields, {"name": "name"})
    by_number = fields.get("order_by") == "version_number DESC"
    order = "version DESC" if by_number else "last_updated_time DESC, name, version DESC"
    limit = f" LIMIT {int(fields['max_results'])}" if by_number else ""
    sql = (
        f"SELECT * FROM model_versions WHERE {condition} "  # noqa: S608 - our own words, values apart
        f"AND current_stage != 'Deleted_Internal' ORDER BY {order}{limit}"
    )
    versions = [_version(store, row) for row in rows(store, sql, values)]
    return {"model_versions": versions} if versions else {}


def _get_alias(store: sqlite3.Connection, fields: Fields) -> Row:
    name, alias = fields.get("name"), fields.get("alias")
    sql = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
    for row in rows(store, sql, [name, alias]):
        return _get_version(store, {"name": name, "version": row["version"]})
    raise NotInRegistry(f"model {name}: found no alias {alias}")


def _model(store: sqlite3.Connection, row: Row) -> Row:
    name = row["name"]
    sql = "SELECT alias, version FROM registered_model_aliases WHERE name = ?"
    aliases = [{**alias, "version": str(alias["version"])} for alias in rows(store, sql, [name])]
    tags = rows(store, "SELECT key, value FROM registered_model_tags WHERE name = ?", [name])
    return _set_fields(
        {
            "name": name,
            "creation_timestamp": row["creation_time"],
            "last_updated_timestamp": row["last_updated_time"],
            "description": row["description"] or None,
            "tags": tags or None,
            "aliases": aliases or None,
        }
    )


def _get_model(store: sqlite3.Connection, fields: Fields) -> Row:
    for row in rows(store, "SELECT * FROM registered_models WHERE name = ?", [fields.get("name")]):
        return {"registered_model": _model(store, row)}
    raise NotInRegistry(f"model {fields.get('name')}: found none")


def _search_models(store: sqlite3.Connection, fields: Fields) -> Row:
    condition, values = _condition(fields, {"name": "name"})
    sql = f"SELECT * FROM registered_models WHERE {condition} ORDER BY name"  # noqa: S608 - as above
    models = [_model(store, row) for row in rows(store, sql, values)]
    return {"registered_models": models} if models else {}


#: What reads the tables, by method and endpoint.
TABLES: Mapping[tuple[str, str], Callable[[sqlite3.Connection, Fields], Any]] = {
    ("GET", "runs/get"): _get_run,
    ("POST", "runs/search"): _search_runs,
    ("GET", "metrics/get-history"): _history,
    ("GET", "experiments/get"): _get_experiment,
    ("GET", "experiments/get-by-name"): _get_experiment,
    ("POST", "experiments/search"): _search_experiments,
    ("GET", "registered-models/get"): _get_model,
    ("GET", "registered-models/search"): _search_models,
    ("GET", "registered-models/alias"): _get_alias,
    ("GET", "model-versions/get"): _get_version,
    ("GET", "model-versions/search"): _search_versions,
}
