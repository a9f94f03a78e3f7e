"""Lineage events: a receiver that checks every one gets what happened, and no flow waits for it."""

from __future__ import annotations

import json
import os
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prefect.states import Cancelled, Completed, Failed, Running

from flows.decide.decision_events import as_run, promotion_account, rollback_account
from flows.decide.evaluate import EvaluationResult
from flows.decide.promote import PromotionResult
from flows.decide.release_stages import StagedRelease
from flows.exchange import emitter, hooks
from flows.exchange.account import (
    Account,
    Moment,
    Run,
    account_of,
    place_name,
    registry_name,
    report_of,
)
from flows.exchange.emitter import VARIABLE, Emitter
from flows.exchange.facets import schema
from flows.exchange.wording import event
from flows.ingest.flow import IngestResult
from flows.services.alive import WATCHED, _tell
from storage.audit.ledger_entry import APPROVED, REFUSED
from storage.errors import RecordError, SplitError
from storage.places import Remote
from storage.registry.evaluations import RequestState
from tasks.scores.promotion import Verdict
from tests.conftest import ROOT
from tests.receiver import Receiver, receiving
from tests.sealed import made_up_manifest


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """Events are asked for, by an emitter of the test's own, in a state folder of its own."""
    before = {name: value for name, value in os.environ.items() if "OPENLINEAGE" in name}
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setattr(emitter, "MOST_WAIT_S", 100.0)  # a busy machine is slow
    emitter._of_process.cache_clear()
    yield monkeypatch
    emitter._of_process.cache_clear()
    for name in [name for name in os.environ if "OPENLINEAGE" in name]:
        del os.environ[name]  # the client writes some of its own
    os.environ.update(before)


@pytest.fixture
def receiver(fresh: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as server:
        fresh.setenv("OPENLINEAGE_URL", server.url)
        yield server


def run_flow(name: str, end: Any, parent: str = "", **parameters: Any) -> str:
    """A flow's run, from its beginning to a state, as Prefect's hooks see it; gives its id."""
    flow = SimpleNamespace(name=name, description="What it does.\n\nMore.")
    flow_run = SimpleNamespace(id=parent or uuid.uuid4(), parameters=parameters)
    hooks.follow(flow, flow_run, Running())
    hooks.follow(flow, flow_run, end)
    return str(flow_run.id)


@pytest.fixture
def ingested(tmp_path: Path, fresh: pytest.MonkeyPatch) -> IngestResult:
    assert fresh
    path, manifest = made_up_manifest(tmp_path / "records", 2)
    return IngestResult(path, manifest, ())


def test_a_flow_is_told_from_its_beginning_to_its_end(
    receiver: Receiver, ingested: IngestResult
) -> None:
    """START, then COMPLETE with recordings and tables, named by the rules; no record is named."""
    manifest = ingested.manifest
    run_id = run_flow("ingest", Completed(data=ingested), dataset=manifest.origin, record=["sim0"])
    assert receiver.refused == []
    begin, end = receiver.of(f"ingest.{manifest.dataset}")
    assert [begin["eventType"], end["eventType"]] == ["START", "COMPLETE"]
    assert begin["run"]["runId"] == end["run"]["runId"] == run_id
    (source,), (tables,) = end["inputs"], end["outputs"]
    assert (source["namespace"], source["name"]) == ("file", manifest.origin)
    assert (tables["namespace"], tables["name"]) == ("file", str(ingested.path.parent))
    assert tables["facets"]["version"]["datasetVersion"] == manifest.digest()
    assert tables["facets"]["holter_beats"]["records"] == len(manifest.entries)
    columns = {field["name"]: field["type"] for field in tables["facets"]["schema"]["fields"]}
    assert columns["record"] == "string"
    assert columns["time_s"] == "double"
    words = json.dumps(receiver.events)
    assert not any(f'"{entry.record}' in words for entry in manifest.entries)


def test_a_failure_is_told_by_its_kind(receiver: Receiver) -> None:
    """FAIL says what kind of error it was and where its reason is; the reason may name a record."""
    error = RecordError("patient-meier", "nothing", "something")
    run_id = run_flow("train", Failed(data=error, message=str(error)))
    run_flow("train", Cancelled())
    assert receiver.refused == []
    assert [e["eventType"] for e in receiver.events] == ["START", "FAIL", "START", "ABORT"]
    told = receiver.events[1]["run"]["facets"]["errorMessage"]["message"]
    assert told == f"RecordError; the reason is in Prefect, flow run {run_id}"
    assert "meier" not in json.dumps(receiver.events)


def test_a_flow_that_fails_says_what_it_had_read(
    receiver: Receiver, ingested: IngestResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ingest within a training is a part of it, and a training that fails names its tables."""
    flow = SimpleNamespace(name="train", description="")
    flow_run = SimpleNamespace(id=uuid.uuid4(), parameters={})
    hooks.follow(flow, flow_run, Running())
    with monkeypatch.context() as patch:
        context = SimpleNamespace(get=lambda: SimpleNamespace(flow_run=flow_run))
        patch.setattr("prefect.context.FlowRunContext", context)
        run_flow("ingest", Completed(data=ingested), dataset=ingested.manifest.origin)
    hooks.follow(flow, flow_run, Failed(data=SplitError("too few")))
    assert receiver.refused == []
    *_, part, end = receiver.events
    assert part["run"]["facets"]["parent"]["run"]["runId"] == str(flow_run.id)
    assert part["run"]["facets"]["parent"]["root"]["job"]["name"] == "train"
    assert [data["name"] for data in end["inputs"]] == [str(ingested.path.parent)]


def report_of_device(device: str) -> RequestState:
    return RequestState(
        *("a" * 32, device, "holter-x", 2, "FINISHED", None, None),
        *({"f1": 0.5, "auc": float("nan")}, {}, {}, "", 0),
    )


def test_each_kind_of_result_has_its_account(receiver: Receiver, ingested: IngestResult) -> None:
    """Evaluations, reports, releases and promotions name the version, and what came of it."""
    canary, figures = report_of_device("belt-1"), {"mitdb": {"beat_f1": 0.5}}
    passed = Verdict("F1", "figure", "at least 1", "2", "passed", "")
    results: dict[str, tuple[Account, list[str]]] = {
        "evaluate": (
            account_of(EvaluationResult("holter-x/2", "b", figures, Path("r"), [ingested])),
            ["holter-x/evaluations"],
        ),
        "device": (account_of(canary), ["holter-x/reports/belt-1"]),
        "release": (
            account_of(StagedRelease("stable-ward", canary, (report_of_device("belt-2"),))),
            ["holter-x@stable-ward", "holter-x/reports/belt-1", "holter-x/reports/belt-2"],
        ),
        "promote": (
            promotion_account(PromotionResult("holter-x/2", "champion", APPROVED, (), "c" * 64)),
            ["holter-x@champion"],
        ),
        "refuse": (
            promotion_account(
                PromotionResult("holter-x/2", "champion", REFUSED, (passed,), "c" * 64)
            ),
            [],
        ),
    }
    now = datetime.now(timezone.utc)
    for job, (account, outputs) in results.items():
        run, moment = Run(str(uuid.uuid4()), job), Moment("COMPLETE", now)
        emitter.emitter().put(partial(event, run, moment, account))
        assert [data.name for data in account.outputs] == outputs
        assert (account.inputs[0].name, account.inputs[0].version) == ("holter-x", "2")
    emitter.emitter().settle()
    assert receiver.refused == []
    assert len(receiver.events) == len(results)


def test_a_decision_is_a_run(receiver: Receiver) -> None:
    """A roll-back begins and ends as a run of a job of its model; one that fails, fails."""

    @as_run("rollback", rollback_account)
    def back(model: str, alias: str = "champion", *, fails: bool = False) -> tuple[int, int]:
        if fails:
            raise SplitError(f"{model}@{alias}")
        return 2, 1

    assert back("holter-x", "champion") == (2, 1)
    with pytest.raises(SplitError):
        back("holter-x", fails=True)
    hooks.bury(str(uuid.uuid4()), "train", {"settings": {"model": "x", "datasets": []}})
    assert receiver.refused == []
    kinds = [e["eventType"] for e in receiver.of("rollback.holter-x")]
    assert kinds == ["START", "COMPLETE", "START", "FAIL"]
    (alias,) = receiver.events[1]["outputs"]
    assert alias["name"] == "holter-x@champion"
    assert alias["facets"]["version"]["datasetVersion"] == "1"
    (dead,) = receiver.of("train.holter-x")
    assert dead["eventType"] == "FAIL"


@pytest.mark.parametrize(
    ("flow", "parameters", "job"),
    [
        ("ingest", {"dataset": "mitdb"}, "ingest.mitdb"),
        ("ingest", {"dataset": "/nowhere/ward7.toml"}, "ingest.ward7"),
        ("train", {"model": "rhythm", "datasets": []}, "train.holter-rhythm"),
        ("train", {"model": "rhythm", "name": "ward7-af"}, "train.ward7-af"),
        ("watch", {"model": "rhythm", "datasets": [{"dataset": "mitdb"}]}, "watch.mitdb"),
        ("evaluate", {"model": "holter-x@champion", "datasets": ["mitdb"]}, "evaluate.holter-x"),
        ("evaluate", {"model": "a/b/c"}, "evaluate"),
        ("reproduce", {}, "reproduce"),
    ],
)
def test_a_job_is_named_by_its_subject(flow: str, parameters: dict[str, Any], job: str) -> None:
    """Runs of the same work on the same thing are runs of one job; no other work is of it."""
    assert hooks.job_name(flow, parameters) == job


def test_numbers_are_json(receiver: Receiver) -> None:
    """float32 stays a number, and NaN is left out; the client writes a text and a bare NaN."""
    figures = {"f1": np.float32(0.5), "auc": float("nan"), "n": np.int64(3)}
    report = report_of("holter-x/reports/belt", "r", "http://server:5000", figures)
    run, now = Run(str(uuid.uuid4()), "job"), datetime.now(timezone.utc)
    emitter.emitter().put(lambda: event(run, Moment("COMPLETE", now), Account((), (report,))))
    emitter.emitter().settle()
    assert receiver.refused == []
    (data,) = receiver.events[0]["outputs"]
    assert data["facets"]["holter_figures"]["figures"] == {"f1": 0.5, "n": 3.0}


def test_the_receiver_refuses_what_is_wrong(receiver: Receiver) -> None:
    """The judge of these tests does not take whatever comes."""
    report = report_of("x", "r", "", {"f1": 0.5})
    facet = report.facets[0].model_copy(update={"figures": {"f1": float("nan")}})
    wrong = replace(report, facets=(facet,))
    run, now = Run(str(uuid.uuid4()), ""), datetime.now(timezone.utc)
    emitter.emitter().put(lambda: event(run, Moment("START", now), Account((wrong,))))
    emitter.emitter().settle()
    assert receiver.events == []
    assert receiver.refused
    assert "HTTPError" in hooks.complaint()


def test_a_receiver_that_does_not_answer_stops_nobody(
    fresh: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flow ends while a receiver still holds its events, and that is told once a process."""
    fresh.setattr(emitter, "MOST_WAIT_S", 0.2)
    held = threading.Event()
    stuck = Emitter(left_s=0.2)
    fresh.setattr(hooks, "emitter", lambda: stuck)
    stuck.put(held.wait)
    flow = SimpleNamespace(name="watch", description="")
    for _ in range(2):
        flow_run = SimpleNamespace(id=uuid.uuid4(), parameters={})
        _tell(flow, flow_run, Running())
        _tell(flow, flow_run, Completed(data=None))
    assert not held.is_set()
    assert stuck.left_s == 0
    assert capsys.readouterr().err.count("lineage events are lost") == 1
    held.set()


def test_more_events_than_may_wait_are_dropped(fresh: pytest.MonkeyPatch) -> None:
    """What waits for a receiver is bounded; putting an event never waits."""
    fresh.setattr(emitter, "MOST_EVENTS", 2)
    held = threading.Event()
    stuck = Emitter(left_s=0)
    for _ in range(9):
        stuck.put(held.wait)
    assert stuck.waiting.qsize() <= 2
    assert "events wait" in stuck.complaint()
    assert stuck.complaint() == ""
    held.set()


@pytest.mark.parametrize("value", ["", "0", "no"])
def test_events_are_off_by_default(fresh: pytest.MonkeyPatch, value: str) -> None:
    """Without the one variable nothing is sent, also where a receiver is configured."""
    fresh.setenv(VARIABLE, value)
    fresh.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    fresh.setattr(hooks, "emitter", lambda: pytest.fail("an emitter was made"))
    run_flow("train", Completed(data=None))
    with hooks.decision("promote", "holter-x") as tellings:
        tellings.append(Account)
    assert hooks.complaint() == ""


def test_without_a_receiver_a_file_has_them(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where OpenLineage's own configuration names no receiver, the state folder has a file."""
    fresh.chdir(tmp_path)
    fresh.setenv("HOME", str(tmp_path))
    run_flow("drift", Completed(data=None), model="holter-x@champion")
    lines = (tmp_path / "home" / "openlineage.jsonl").read_text().splitlines()
    assert [json.loads(line)["job"]["name"] for line in lines] == ["drift.holter-x"] * 2


def test_without_the_package_one_sentence_says_so(fresh: pytest.MonkeyPatch) -> None:
    """A machine without openlineage-python runs its flows, and is told what to install."""
    for name in [name for name in sys.modules if name.startswith("openlineage")]:
        fresh.setitem(sys.modules, name, None)
    fresh.delitem(sys.modules, "flows.exchange.wording", raising=False)
    run_flow("train", Completed(data=None))
    assert "pip install -e '.[exchange]'" in hooks.complaint()


def test_every_watched_flow_is_told_of() -> None:
    """The hook is among those of every state that begins or ends a flow."""
    assert all(_tell in WATCHED[f"on_{state}"] for state in ("running", "completion", "failure"))
    assert all(_tell in WATCHED[f"on_{state}"] for state in ("crashed", "cancellation"))


def test_names_follow_the_rules() -> None:
    """Buckets and MLflow are namespaces; credentials are in none, nor ports of loopback."""
    name = place_name(Remote("s3://" + "me:secret@bucket/beats/dataset=x"))
    assert name == ("s3://bucket", "beats/dataset=x")
    assert registry_name("https://mlflow.ward7:8443/x") == "mlflow://mlflow.ward7:8443"
    assert registry_name("http://127.0.0.1:5000") == registry_name("http://127.0.0.1:5001")


def test_the_published_schema_is_the_facets() -> None:
    """docs/openlineage.schema.json is what `docs/list_facets.py` writes."""
    assert json.loads((ROOT / "docs" / "openlineage.schema.json").read_text()) == schema()
