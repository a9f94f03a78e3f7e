"""Lineage and verification in a store of 2,000 runs and 500 sealed versions, in SQLite."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.harness import Case, measure, workplace
from bench.tables import Cell, Table

MODELS, VERSIONS, RUNS, RECORDS = 5, 100, 2_000, 48
RECORD = "rec017"


@contextmanager
def store() -> Iterator[Path]:
    """An MLflow server on the made-up store, which is filled at first use; its state folder."""
    from flows.services.servers import mlflow_server

    folder = workplace() / f"lineage-{MODELS}x{VERSIONS}-{RUNS}"
    marker = folder / "filled"
    if folder.exists() and not marker.exists():
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    before = dict(os.environ)
    try:
        with mlflow_server(folder) as address:
            os.environ |= {"MLFLOW_TRACKING_URI": address, "HOLTER_HOME": str(folder)}
            if not marker.exists():
                fill(folder)
                marker.touch()
            yield folder
    finally:
        os.environ.clear()
        os.environ |= before


def fill(folder: Path) -> None:
    """Make the runs and versions, every version of a split of its own.

    The first run and version of each model go the usual way; the others are their rows in SQLite
    again, under other names, with chains and ledger entries that are signed each by itself.
    """
    from storage.audit import chain, ledger
    from storage.registry.client import call
    from storage.registry.model_files import MANIFEST
    from storage.registry.signing import sign, sign_release
    from storage.registry.tags import CHAIN_FOLDER, ENTRY_PARAM

    work = folder / "work"
    (work / "model" / MANIFEST).parent.mkdir(parents=True, exist_ok=True)
    (work / "model" / MANIFEST).write_text("{}")
    sign_release(work / "model")
    experiment = call("POST", "experiments/create", name="train/made-up")["experiment_id"]
    run = made_run(experiment)["run_id"]
    database = sqlite3.connect(folder / "mlflow" / "mlflow.db", timeout=60)
    runs = [uuid.uuid4().hex for _ in range(RUNS - 1)]
    for run_id in runs:
        for name in ("runs", "params", "tags", "metrics", "latest_metrics"):
            again(database, name, {"run_uuid": run}, {"run_uuid": run_id})
    database.commit()
    for number in range(MODELS):
        model, model_runs = f"holter-bench{number}", runs[number * VERSIONS :][:VERSIONS]
        call("POST", "registered-models/create", name=model)
        source = "s3://nowhere/model"
        call("POST", "model-versions/create", name=model, source=source, run_id=model_runs[0])
        first = chain.document(model, 1, [manifest()], made_split(model, 0), work / "model")
        entries: list[ledger.Entry] = []
        for version, run in enumerate(model_runs, start=1):
            split = made_split(f"{model}/{version}", version)
            description = {**first["model"], "version": version, "run_id": run}
            place = folder / "mlflow" / "artifacts" / experiment / run / "artifacts"
            sha256, _ = chain.write_sealed(
                place / CHAIN_FOLDER, {**first, "model": description, "split": split}
            )
            details = {"run_id": run, "chain_sha256": sha256, "split_sha256": split["sha256"]}
            if version == 1:
                entries.append(
                    ledger.append(model, 1, ledger.REGISTERED, "made up", **details, datasets="d")
                )
                continue
            old, new = {"name": model, "version": 1}, {"version": version, "run_id": run}
            again(database, "model_versions", old, new)
            entry = replace(
                entries[-1],
                sequence=version,
                version=version,
                details={**details, "datasets": "d"},
                previous=entries[-1].sha256,
            )
            signed = sign(entry.signed_bytes())
            entries.append(replace(entry, key=signed["key"], signature=signed["signature"]))
            key = f"{ENTRY_PARAM}%06d"
            again(
                database,
                "params",
                {"key": key % 1, "value": json.dumps(asdict(entries[0]), sort_keys=True)},
                {"key": key % version, "value": json.dumps(asdict(entries[-1]), sort_keys=True)},
            )
        database.commit()
        ledger.move_alias(model, VERSIONS, "candidate", "the newest version")
    database.close()


def again(
    database: sqlite3.Connection, name: str, old: dict[str, Any], new: dict[str, Any]
) -> None:
    """The rows of a table that hold the old values once more, with new ones."""
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({name})")]
    picked = [f":{column}" if column in new else column for column in columns]
    if name == "runs":
        place = columns.index("artifact_uri")
        picked[place] = f"replace(artifact_uri, '{old['run_uuid']}', :run_uuid)"
    condition = " AND ".join(f"{column} = :old_{column}" for column in old)
    statement = f"INSERT INTO {name} SELECT {', '.join(picked)} FROM {name} WHERE {condition}"  # noqa: S608 - our own names
    values = {f"old_{key}": value for key, value in old.items()} | new
    if not database.execute(statement, values).rowcount:
        raise LookupError(f"{name}: found no row with {old}")


def made_run(experiment: str) -> Any:
    """A run with twenty parameters, tags and metrics."""
    from storage.registry.client import call

    info = call("POST", "runs/create", experiment_id=experiment, start_time=1)["run"]["info"]
    parameters = [{"key": f"name{number}", "value": str(number)} for number in range(20)]
    metrics = [{"key": f"m{n}", "value": n / 7, "timestamp": 1, "step": 0} for n in range(20)]
    tags = [
        *parameters,
        {"key": "git.commit", "value": "0" * 40},
        {"key": "git.dirty", "value": "false"},
    ]
    call(
        "POST",
        "runs/log-batch",
        run_id=info["run_id"],
        params=parameters,
        tags=tags,
        metrics=metrics,
    )
    return info


def manifest() -> Any:
    """A data set of 48 records with four source files each, all made up."""
    from storage.files import sha256_bytes
    from storage.tables.beats_manifest import Entry, Manifest

    entries = tuple(
        Entry(
            record=name,
            subject=name,
            file=f"{name}.parquet",
            sha256=sha256_bytes(name.encode()),
            key="k" * 64,
            lead="II",
            hours=0.5,
            beats=2_000,
            af_beats=100,
            unknown_beats=0,
            flagged_beats=0,
            counts={"matched": 2_000},
            files={f"{name}.{end}": "f" * 64 for end in ("hea", "dat", "atr", "qrs")},
            task_run_id="t" * 36,
        )
        for name in (f"rec{number:03d}" for number in range(RECORDS))
    )
    words = ("dataset", "title", "version", "licence", "citation", "origin")
    digests = ("spec_sha256", "preprocessing_sha256", "code_sha256")
    texts: dict[str, Any] = dict.fromkeys(words, "made-up") | dict.fromkeys(digests, "0" * 64)
    return Manifest(**texts, simulated=True, entries=entries, failures={}, excluded={})


def made_split(name: str, seed: int) -> dict[str, Any]:
    """Subjects dealt in turn, beginning elsewhere with each seed."""
    from storage.files import sha256_bytes

    people = [f"made-up/rec{(number + seed) % RECORDS:03d}" for number in range(RECORDS)]
    cut = {"train": people[:30], "validation": people[30:38], "test": people[38:]}
    sides = {
        side: {"subjects": subjects, "beats": 1, "af_beats": 0} for side, subjects in cut.items()
    }
    digest = sha256_bytes(name.encode())
    return {"paradigm": "interpatient", "seed": seed, "sha256": digest, **sides}


def of_a_version(form: str) -> str:
    """`holter lineage` of the newest version of a model; what it wrote, in characters."""
    from flows.cli.lineage import lineage

    out = workplace() / "lineage.out"
    lineage("holter-bench2@candidate", form=form, out=out)
    return f"{out.stat().st_size:,} bytes"


def of_a_record(first: bool) -> str:
    """`holter lineage --record`, with none of the chains on this disk yet, or all of them."""
    from flows.cli.lineage import lineage

    if first:
        shutil.rmtree(Path(os.environ["HOLTER_HOME"]) / "chains", ignore_errors=True)
    with redirect_stdout(io.StringIO()):
        lineage(record=RECORD)
    return f"{MODELS * VERSIONS} versions"


def run() -> list[Table]:
    """Time the commands as a user starts them, interpreter and imports included."""
    version, record = "bench.sections.lineage:of_a_version", "bench.sections.lineage:of_a_record"
    cases = {
        "`holter lineage MODEL@candidate`": Case(
            "bench.sections.lineage:of_a_version", ("tree",), cold=True
        ),
        "the same, `--format html`": Case(version, ("html",), cold=True),
        "the same, `--format prov`": Case(version, ("prov",), cold=True),
        "`holter lineage --record R`, first": Case(record, (True,), cold=True),
        "the same, again": Case(record, (False,), cold=True),
    }
    with store():
        figures = measure(cases)
    rows: list[list[Cell]] = [
        [name, result.wall_s, result.cpu_s, result.peak_mb, result.result]
        for name, result in figures.items()
    ]
    columns = [("command", None), ("wall s", 2), ("CPU s", 2), ("peak MB", 0), ("answer", None)]
    title = f"{RUNS:,} runs, {MODELS * VERSIONS} versions of {MODELS} models, {RECORDS} records"
    return [Table(title, list(columns), rows)]
