"""Read from its database, MLflow answers as its server does."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from storage.databases.mlflow_answers import readable
from storage.errors import DigestMismatch, NotInRegistry, RegistryError
from storage.registry import tracking
from storage.registry.client import call, fetch_model_file, fetch_run_file, pages, reading
from storage.registry.model_files import MANIFEST
from storage.registry.models import resolve
from storage.registry.tags import artifact_tag
from tests.conftest import register_made_up
from tests.emptied import Emptied, copy_database

#: Requests that read, with what they name; "{run}" and "{experiment}" are of the fixture.
REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a run": ("GET", "runs/get", {"run_id": "{run}"}),
    "a deleted run": ("GET", "runs/get", {"run_id": "{gone}"}),
    "runs of an experiment": ("POST", "runs/search", {"experiment_ids": ["{experiment}"]}),
    "deleted ones too": (
        "POST",
        "runs/search",
        {"experiment_ids": ["{experiment}"], "run_view_type": "ALL"},
    ),
    "runs of a status": (
        "POST",
        "runs/search",
        {"experiment_ids": ["{experiment}"], "filter": "attributes.status = 'RUNNING'"},
    ),
    "no runs": (
        "POST",
        "runs/search",
        {"experiment_ids": ["{experiment}"], "filter": "attributes.status = 'KILLED'"},
    ),
    "a metric": ("GET", "metrics/get-history", {"run_id": "{run}", "metric_key": "loss"}),
    "no metric": ("GET", "metrics/get-history", {"run_id": "{run}", "metric_key": "none"}),
    "an experiment": ("GET", "experiments/get", {"experiment_id": "{experiment}"}),
    "one by name": ("GET", "experiments/get-by-name", {"experiment_name": "train/it's one"}),
    "a deleted one": ("GET", "experiments/get-by-name", {"experiment_name": "train/gone"}),
    "experiments": ("POST", "experiments/search", {"max_results": 100}),
    "all of them": ("POST", "experiments/search", {"max_results": 100, "view_type": "ALL"}),
    "some of them": (
        "POST",
        "experiments/search",
        {"max_results": 100, "filter": "name LIKE 'TRAIN/%'", "view_type": "ALL"},
    ),
    "a model": ("GET", "registered-models/get", {"name": "holter-made-up"}),
    "models": ("GET", "registered-models/search", {"max_results": 100}),
    "an alias": ("GET", "registered-models/alias", {"name": "holter-made-up", "alias": "champion"}),
    "a version": ("GET", "model-versions/get", {"name": "holter-made-up", "version": "1"}),
    "versions": ("GET", "model-versions/search", {"max_results": 100}),
    "the newest": (
        "GET",
        "model-versions/search",
        {
            "filter": "name = 'holter-made-up'",
            "order_by": "version_number DESC",
            "max_results": 1,
        },
    ),
    "files": ("GET", "artifacts/list", {"run_id": "{run}"}),
    "files of a folder": ("GET", "artifacts/list", {"run_id": "{run}", "path": "testset"}),
    "no files": ("GET", "artifacts/list", {"run_id": "{run}", "path": "nowhere"}),
}
#: What is not there: 404 from both.
MISSING: dict[str, tuple[str, dict[str, Any]]] = {
    "a run": ("runs/get", {"run_id": "0" * 32}),
    "an experiment": ("experiments/get-by-name", {"experiment_name": "none"}),
    "a model": ("registered-models/get", {"name": "none"}),
    "a version": ("model-versions/get", {"name": "holter-made-up", "version": "9"}),
    "a deleted version": ("model-versions/get", {"name": "holter-made-up", "version": "2"}),
}

#: What the server adds, and no command of ours reads.
NOT_READ = {"latest_versions", "model_id", "outputs", "root_uri", "workspace"}

Names = dict[str, str]


@pytest.fixture(scope="module")
def names(empty_mlflow: Emptied, tmp_path_factory: pytest.TempPathFactory) -> Names:
    """A registry with a bit of everything; the ids of what the requests name."""
    address = empty_mlflow.address
    folder = tmp_path_factory.mktemp("registered")
    version = register_made_up(address, folder)
    register_made_up(address, tmp_path_factory.mktemp("again"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address)
        model, run_id = version.model.name, version.model.run_id
        params, tags = {"epochs": "3"}, {"note": "ä, ' and %"}
        run = tracking.start_run("train/it's one", "first", params, tags)
        tracking.log_file(run, folder / "testset.npz", "testset")
        history = [(0.5, 1), (0.25, 2), (0.25, 3), (float("nan"), 4)]
        metrics = [
            {"key": "loss", "value": str(value), "timestamp": 5, "step": step}
            for value, step in history
        ]
        metrics.append({"key": "best", "value": "Infinity", "timestamp": 6, "step": 0})
        call("POST", "runs/log-batch", run_id=run, metrics=metrics)
        gone = tracking.start_run("train/it's one", "second", {}, {})
        call("POST", "runs/delete", run_id=gone)
        tracking.start_run("train/gone", "third", {}, {})
        other = call("GET", "experiments/get-by-name", experiment_name="train/gone")
        call("POST", "experiments/delete", experiment_id=other["experiment"]["experiment_id"])
        call("POST", "registered-models/alias", name=model, alias="champion", version="1")
        call("POST", "registered-models/set-tag", name=model, key="ledger", value="f00")
        call("DELETE", "model-versions/delete", name=model, version="2")
        experiment = call("GET", "runs/get", run_id=run)["run"]["info"]["experiment_id"]
    return {"run": run, "gone": gone, "experiment": experiment, "registered": run_id}


@pytest.fixture
def database(empty_mlflow: Emptied, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The server's database; the server is named, and asked outside of `reading`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_mlflow.address)
    return empty_mlflow.home / "mlflow" / "mlflow.db"


def filled(value: Any, names: Names) -> Any:
    """A request's fields with the fixture's ids."""
    if isinstance(value, list):
        return [filled(part, names) for part in value]
    if isinstance(value, dict):
        return {key: filled(part, names) for key, part in value.items()}
    return value.format(**names) if isinstance(value, str) else value


def comparable(value: Any) -> str:
    """An answer as text, its objects' keys and its lists of tags, parameters, metrics in order."""
    if isinstance(value, dict):
        value = {
            key: sorted(part, key=lambda row: json.dumps(row, sort_keys=True))
            if key in ("tags", "params", "metrics", "aliases", "experiments", "model_versions")
            else part
            for key, part in value.items()
        }
        value = {
            key: json.loads(comparable(part)) for key, part in value.items() if key not in NOT_READ
        }
    elif isinstance(value, list):
        value = [json.loads(comparable(part)) for part in value]
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("what", REQUESTS)
def test_answers_as_the_server(what: str, names: Names, database: Path) -> None:
    """Each request that our commands make to look something up has the server's answer."""
    method, endpoint, fields = REQUESTS[what]
    fields = filled(fields, names)
    expected = call(method, endpoint, **fields)
    with reading(database):
        assert comparable(call(method, endpoint, **fields)) == comparable(expected)
        assert len(list(pages(method, endpoint, **fields))) == 1


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("what", MISSING)
def test_what_is_missing_is_missing(what: str, database: Path) -> None:
    """What the server answers with 404 is not in the database either."""
    endpoint, fields = MISSING[what]
    with pytest.raises(NotInRegistry):
        call("GET", endpoint, **fields)
    with reading(database), pytest.raises(NotInRegistry):
        call("GET", endpoint, **fields)


def test_files_are_those_of_the_server(names: Names, database: Path, tmp_path: Path) -> None:
    """A run's and a version's files come from the disk, their digests checked as ever."""

    def fetch(folder: Path) -> dict[str, bytes]:
        model = resolve("holter-made-up@champion")
        assert resolve("holter-made-up") == model
        fetch_run_file(names["run"], "testset/testset.npz", None, folder)
        digest = model.tags[artifact_tag(MANIFEST)]
        fetch_model_file(model.name, model.version, MANIFEST, digest, folder)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    expected = fetch(tmp_path / "server")
    assert len(expected) == 2
    with reading(database):
        assert fetch(tmp_path / "disk") == expected
        with pytest.raises(NotInRegistry, match="found no such file"):
            fetch_run_file(names["run"], "testset/none.npz", None, tmp_path)
        with pytest.raises(DigestMismatch):
            fetch_run_file(names["run"], "testset/testset.npz", "0" * 64, tmp_path)


@pytest.mark.usefixtures("names")
def test_an_artifact_stays_in_its_folder(database: Path, tmp_path: Path) -> None:
    """A run whose artifacts are said to lie elsewhere gives none of them."""
    copy = tmp_path / "mlflow" / "mlflow.db"
    copy_database(database, copy)
    (tmp_path / "secret").write_text("secret")
    for place in ("mlflow-artifacts:/../..", "file:///etc", f"file://{tmp_path}"):
        with closing(sqlite3.connect(copy)) as store:
            store.execute("UPDATE runs SET artifact_uri = ?", [place])
            (run_id, *_) = store.execute("SELECT run_uuid FROM runs").fetchone()
            store.commit()
        with reading(copy), pytest.raises(RegistryError, match=r"artifacts? .*(lie at|out of)"):
            fetch_run_file(run_id, "secret", None, tmp_path / "out")


@pytest.mark.usefixtures("names")
def test_nothing_is_written(database: Path) -> None:
    """A request that writes is refused, and so is a filter that is not read."""
    fields: dict[str, Any] = {"name": "holter-made-up", "alias": "new", "version": "1"}
    with reading(database):
        with pytest.raises(RegistryError, match="found a request that writes"):
            call("POST", "registered-models/alias", **fields)
        with pytest.raises(RegistryError, match="found none that is read without a server"):
            call("GET", "model-versions/search", filter="run_id = '1' OR 1")


def test_another_revision_is_left_to_the_server(empty_mlflow: Emptied, tmp_path: Path) -> None:
    """A database of another MLflow, a file that is none, and no file are not read."""
    kept, copy = empty_mlflow.home / "mlflow" / "mlflow.db", tmp_path / "mlflow.db"
    assert readable(kept)
    assert not readable(copy)
    with closing(sqlite3.connect(kept)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("UPDATE alembic_version SET version_num = '0'")
        target.commit()
    assert not readable(copy)
    copy.write_bytes(b"no database")
    assert not readable(copy)
