"""Cross-validation: from records to figures of patients that no network saw."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from typer.main import get_command
from typer.testing import CliRunner

from flows.cli.app import app
from flows.decide import fold_worker
from flows.decide.cross_validate import cross_validate
from flows.decide.fold_plan import patients_to_test, plan_seed
from flows.decide.fold_settings import CrossValidationSettings
from flows.decide.fold_worker import FoldTraining, Source, all_answers, fold_folder, run_folds
from flows.ingest.flow import IngestResult
from flows.ingest.simulate import write_simulated
from flows.reports.cross_validation import LEVEL_RATES, mean_bounds, means_of, patient_counts
from flows.reports.evaluation import curve_figures, figures_of
from flows.settings import valid
from storage.bounds import BOUNDS
from storage.errors import SplitError, TableError, TrainingStopped
from storage.tables.beats_manifest import read_manifest
from storage.tables.content import copies_among
from tasks.learning.folds import Fold
from tasks.learning.rhythm_training import RhythmConfig
from tasks.scores.evaluation import ScoredRecord
from tests.answers import held
from tests.conftest import ROOT
from tests.tiny import tiny_dataset

#: Enough to be a training.
SHORT = ("--epochs", "1", "--steps", "2", "--simulated", "0")


def settings(**values: Any) -> CrossValidationSettings:
    """Settings of a cross-validation from their values."""
    made: CrossValidationSettings = valid(
        CrossValidationSettings, {"network": "rhythm_tiny", "on": ["a"], **values}
    )
    return made


def ingested(path: Path) -> IngestResult:
    """What an ingest of a tiny data set gave."""
    return IngestResult(path, read_manifest(path), ())


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[IngestResult, IngestResult]:
    """Five patients of one data set, and the same recordings by the name of another."""
    folder = tmp_path_factory.mktemp("tiny")
    return (
        ingested(tiny_dataset(folder / "a", dataset="a")),
        ingested(tiny_dataset(folder / "b", records=3, dataset="b")),
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "resnet21"}, "one beat at a time"),
        ({"network": "rhytm"}, "did you mean 'rhythm'"),
        ({"on": []}, "on: found no data set"),
        ({"fold_rule": "patients"}, "expected a count of them .*, patient or dataset"),
        ({"seed": [1, 1]}, "seed: found 1, 1; expected each once"),
        ({"seed": [-1]}, "seed: found -1"),
        ({"patients": ["1", "1"]}, "patients: found 1, 1"),
        ({"patients": ["1"], "fold_rule": "dataset"}, "leave patients out"),
        ({"averaged": 0.5, "sparsity": 0.5}, "averaged without early stopping and pruning"),
        ({"steps": 0}, "steps: found 0"),
        ({"patience": 3}, "no setting 'patience'"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    """By name, with what was expected, before anything is read."""
    with pytest.raises(ValueError, match=message):
        settings(**values)


@pytest.mark.parametrize("name", CrossValidationSettings.model_fields)
def test_a_setting_is_an_option_and_in_the_form(name: str) -> None:
    """Each has its option, its sentence in the form, and a row of the page of settings."""
    command: Any = get_command(app)
    options = {option.name: option for option in command.commands["cross-validate"].params}
    field = CrossValidationSettings.model_fields[name]
    assert field.description
    form = cross_validate.parameters.model_dump()["definitions"]["CrossValidationSettings"]
    assert form["properties"][name]["description"] == field.description
    assert options[name].help.startswith(field.description.split(" (")[0])
    assert re.search(rf"^\| `{name}` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    if name in BOUNDS:
        assert BOUNDS[name].words in options[name].help


def test_columns_are_one_for_each_data_set() -> None:
    """Those tested first, then those beside; what is said once of signals is for all."""
    own = settings(on=["mitdb"], beside=["afdb"], weight=[1, 2], signal=[True, False])
    assert [(d.dataset, d.weight, d.signal) for d in own.datasets] == [
        ("mitdb", 1, True),
        ("afdb", 2, False),
    ]
    config = own.config(7)
    assert (config.seed, config.steps, config.patience) == (7, 150, 0)
    with pytest.raises(ValueError, match="one weight or none for each data set"):
        settings(on=["mitdb"], beside=["afdb"], weight=[1])


def test_everybody_is_planned(sets: tuple[IngestResult, IngestResult]) -> None:
    """Named patients alone are tested; one fold alone has folds of whom it learns from."""
    plan = plan_seed(settings(fold_rule="patient"), sets[:1], (), 0)
    assert [t.fold.test for t in plan.folds] == [(f"a/{k}",) for k in range(5)]
    assert plan.inner == []
    plan = plan_seed(settings(fold_rule="1", patients=["2", "a/4"]), sets[:1], (), 0)
    (training,) = plan.folds
    assert training.fold == Fold(("a/0", "a/1", "a/3"), ("a/2", "a/4"))
    assert sorted(n for t in plan.inner for n in t.fold.test) == ["a/0", "a/1", "a/3"]
    assert not {"a/2", "a/4"} & {n for t in plan.inner for n in (*t.fold.learn, *t.fold.test)}
    with pytest.raises(SplitError, match="found nobody to fix a threshold on"):
        plan_seed(settings(fold_rule="1", patients=["0", "1", "2", "3"]), sets[:1], (), 0)


def test_a_threshold_that_nobody_could_fix_is_told_before_any_training(
    sets: tuple[IngestResult, IngestResult],
) -> None:
    """Each fold's is fixed on other patients, who need beats of both classes."""
    entries = [replace(e, af_beats=0) for e in sets[0].manifest.entries]
    entries[0] = replace(entries[0], af_beats=30)
    rare = replace(sets[0], manifest=replace(sets[0].manifest, entries=tuple(entries)))
    with pytest.raises(SplitError, match="fold 1 of 5: found 0 AF beats and 240 others"):
        plan_seed(settings(fold_rule="patient"), [rare], (), 0)
    plan = plan_seed(settings(beside=["b"], fold_rule="1"), [rare, sets[1]], (), 0)
    assert {n for t in plan.inner for n in t.fold.test} == {"b/0", "b/1", "b/2"}


def test_a_recording_is_never_on_both_sides(sets: tuple[IngestResult, IngestResult]) -> None:
    """The same tables by another data set's name are no set beside; tested too, they are dealt."""
    prints = [
        replace(
            result,
            manifest=replace(
                result.manifest,
                entries=tuple(
                    replace(e, content={"signal": [f"{e.record}-{k}" for k in range(4)]})
                    for e in result.manifest.entries
                ),
            ),
        )
        for result in sets
    ]
    pairs = copies_among([result.manifest for result in prints])
    assert len(pairs) == 3
    with pytest.raises(SplitError, match="the same recording is on two sides"):
        plan_seed(settings(beside=["b"], fold_rule="patient"), prints, pairs, 0)
    plan = plan_seed(settings(on=["a", "b"], fold_rule="patient"), prints, pairs, 0)
    assert [len(training.fold.test) for training in plan.folds] == [2, 2, 2, 1, 1]


def test_a_patient_that_is_not_there_is_told() -> None:
    """With the nearest name; a name of two data sets has to be told with one of them."""
    people = {"a/101": (1, 1), "b/101": (1, 1), "b/102": (1, 1)}
    assert patients_to_test([], people) == list(people)
    assert patients_to_test(["102", "a/101"], people) == ["b/102", "a/101"]
    with pytest.raises(SplitError, match=r"patient 103: found 0 .did you mean '102'"):
        patients_to_test(["103"], people)
    with pytest.raises(SplitError, match="patient 101: found 2; expected one of a/101, b/101"):
        patients_to_test(["101"], people)


@pytest.fixture
def training(
    sets: tuple[IngestResult, IngestResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FoldTraining:
    """A fold that tests one patient, in a state folder of its own."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    config = RhythmConfig(epochs=1, steps=1, batch=1, simulated=0)
    source = Source("a", sets[0].path, sets[0].manifest.digest(), 1.0)
    return FoldTraining("rhythm_tiny", config, "beats", (source,), Fold(("a/0",), ("a/1",)))


def test_the_key_of_a_fold_is_of_what_its_answers_depend_on(training: FoldTraining) -> None:
    """Settings, weights, tables and people count; a data set of none of its people does not."""
    (source,) = training.sources
    others = [
        replace(training, network="rhythm"),
        replace(training, config=replace(training.config, seed=1)),
        replace(training, balance="class"),
        replace(training, sources=(replace(source, weight=2.0),)),
        replace(training, sources=(replace(source, sha256="0"),)),
        replace(training, fold=Fold(("a/0", "a/2"), ("a/1",))),
        replace(training, fold=Fold(("a/0",), ("a/2",))),
    ]
    assert len({training.key(), *(one.key() for one in others)}) == len(others) + 1
    aside = replace(training, sources=(source, replace(source, dataset="b", sha256="0")))
    assert aside.key() == training.key()


def ended(training: FoldTraining) -> None:
    """The first patient's fold is answered; any other's process is killed."""
    if training.fold.test != ("a/1",):
        os.kill(os.getpid(), signal.SIGKILL)
    fold_folder().write(training.key(), {"a/1": np.zeros(60, np.float32)})


def test_a_killed_fold_is_told_and_the_others_are_kept(training: FoldTraining) -> None:
    """The same command again does what is missing, and nothing else."""
    other = replace(training, fold=Fold(("a/0",), ("a/2",)))
    with pytest.raises(TrainingStopped, match="testing a/2: found its process killed"):
        run_folds([training, other], 1, ended)
    assert list(all_answers([training])) == ["a/1"]
    run_folds([training, training], 1, ended)  # the one that is done is not begun
    with pytest.raises(TrainingStopped, match="found no answers"):
        all_answers([training, other])
    fold_folder().path(training.key()).write_bytes(b"cut")
    with pytest.raises(TrainingStopped, match="testing a/1: found no answers"):
        all_answers([training])


def test_tables_that_changed_meanwhile_are_not_learnt_from(training: FoldTraining) -> None:
    """A process that finds other tables than the folds were dealt of says so."""
    stale = replace(training.sources[0], sha256="0" * 64)
    with pytest.raises(TableError, match="another ingest has changed them"):
        fold_worker.records_of(stale, "rhythm_tiny")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two simulated data sets; a record of the first one is damaged."""
    folder = tmp_path_factory.mktemp("records")
    first = write_simulated(folder / "first", 5, 0.05, 1)
    second = write_simulated(folder / "second", 3, 0.05, 2)
    for toml, name in ((first, "first"), (second, "second")):
        lines = toml.read_text().splitlines()
        toml.write_text(
            "\n".join(f'name = "{name}"' if x.startswith("name =") else x for x in lines)
        )
    (first.parent / "sim004.atr").write_bytes(b"")
    return first, second


def data(*tomls: str) -> list[str]:
    """The folders of data sets, as options."""
    return [word for toml in tomls for word in ("--data", str(Path(toml).parent))]


def called(*words: str, code: int) -> Any:
    """The command's JSON, which keeps its schema."""
    done = CliRunner().invoke(app, ["cross-validate", *words, *SHORT, "--format", "json"])
    assert done.exit_code == code, f"{done.output}\n{done.exception!r}"
    return held(done.stdout, "cross-validate")


@pytest.mark.slow
@pytest.mark.usefixtures("holter_servers")
@pytest.mark.filterwarnings("default")  # Prefect's and MLflow's own, at import and in threads
def test_from_records_to_figures_by_seed(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every patient has answers for each seed; a damaged record is told, and does not end it.

    The same again trains nothing, and gives the same figures.
    """
    first, second = map(str, folders)
    words = ["rhythm_tiny", "--on", first, "--beside", second, *data(first, second), "--no-signal"]
    words += ["--folds", "2", "--seed", "0", "--seed", "3"]
    answer = called(*words, code=3)
    assert list(answer["figures"]) == list(answer["means"]) == ["first"]
    by_seed = answer["figures"]["first"]
    assert list(by_seed) == ["0", "3"]
    assert [figures["patients"] for figures in by_seed.values()] == [4, 4]
    f1 = [figures["beat_f1"] for figures in by_seed.values()]
    assert answer["means"]["first"]["beat_f1"] == pytest.approx(np.mean(f1))
    assert {"beat_f1_low", "episode_ppv_high"} <= answer["means"]["first"].keys()
    assert by_seed["0"]["beat_f1_low"] <= f1[0] <= by_seed["0"]["beat_f1_high"]
    for seed in (0, 3):
        folds = [fold for fold in answer["folds"] if fold["seed"] == seed]
        people = sorted(name for fold in folds for name in fold["patients"])
        assert people == [f"first/sim00{k}" for k in range(4)]
        assert {fold["learnt_patients"] for fold in folds} == {5}
    assert answer["ingests"][0]["failed"][0]["name"] == "sim004"
    report = Path(answer["report"])
    text = report.read_text()
    assert "1 of 5 records of first could not be used" in text
    assert "first is simulated" in text
    assert "annotations alone" in text
    rows = list(csv.DictReader((report.parent / "figures.csv").read_text().splitlines()))
    (row,) = [r for r in rows if (r["seed"], r["figure"]) == ("3", "beat_f1")]
    assert float(row["value"]) == pytest.approx(f1[1], abs=1e-6)
    (row,) = [r for r in rows if (r["seed"], r["figure"]) == ("mean", "beat_f1")]
    assert float(row["value"]) == pytest.approx(np.mean(f1), abs=1e-6)
    run = MlflowClient().get_run(answer["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["holter.kind"] == "cross-validation"
    assert run.data.metrics["first_beat_f1"] == pytest.approx(np.mean(f1))
    assert run.data.metrics["first_seed3_beat_f1"] == pytest.approx(f1[1])
    assert run.inputs is not None
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["first", "second"]
    assert run.data.params["fold_rule"] == "2"

    def none_of(_work: object, jobs: Mapping[FoldTraining, Any], _workers: int) -> Iterator[Any]:
        assert not jobs, "a fold that is done was begun again"
        return iter(())

    monkeypatch.setattr(fold_worker, "in_processes", none_of)
    monkeypatch.setattr(fold_worker, "Progress", Silent)
    again = called(*words, "--out", str(tmp_path / "page.html"), code=3)
    assert again["figures"] == answer["figures"]
    assert (tmp_path / "page.html").read_text() == Path(report).read_text()


class Silent:
    """Stands for the progress of folds: there are none to do."""

    def __init__(self, title: str, total: int) -> None:
        assert (title, total) == ("Folds (4 kept from before)", 0)

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@pytest.mark.slow
@pytest.mark.usefixtures("holter_servers")
@pytest.mark.filterwarnings("default")  # Prefect's and MLflow's own, at import and in threads
def test_signals_of_some_sets_and_annotations_of_others(folders: tuple[Path, Path]) -> None:
    """A fused network is tested on signals, having learnt from a set without any: one fold."""
    first, second = map(str, folders)
    words = ["fused_cues", "--on", second, "--beside", first, "--signal", "--no-signal"]
    words += ["--weight", "2", "--weight", "1", "--folds", "1", "--patients", "sim001"]
    words += data(second, first)
    answer = called(*words, code=3)
    (fold,) = answer["folds"]
    assert fold["patients"] == ["second/sim001"]
    assert fold["learnt_patients"] == 6
    assert answer["figures"]["second"]["0"]["patients"] == 1
    text = Path(answer["report"]).read_text()
    assert "weight 2, signals" in text
    assert "weight 1, annotations alone" in text
    assert "fixed on out-of-fold answers of the patients learnt from" in text
    assert json.loads(json.dumps(answer["links"]))["Run"].endswith("machine_learning")


def test_a_curve_s_figures_are_of_its_own_thresholds() -> None:
    """PPV at the largest threshold that keeps the sensitivity, and the best F1; NaN without AF."""
    random = np.random.default_rng(0)
    label = (random.random(4_000) < 0.3).astype(np.int8)
    probability = np.round(np.clip(0.3 * label + random.random(4_000) * 0.7, 0, 1), 2)
    expected: list[tuple[float, float, float]] = []
    for threshold in np.unique(probability):
        decided = probability >= threshold
        right = float((decided & (label == 1)).sum())
        sensitivity, ppv = right / label.sum(), right / decided.sum()
        expected.append((sensitivity, ppv, 2 * right / (decided.sum() + label.sum())))
    kept = [row for row in expected if row[0] >= 0.97]
    assert curve_figures("beat", label, probability) == {
        "beat_ppv_at_sensitivity_97": pytest.approx(kept[-1][1]),
        "beat_f1_best_threshold": pytest.approx(max(row[2] for row in expected)),
    }
    assert np.isnan(list(curve_figures("beat", label[:0], probability[:0]).values())).all()
    none = curve_figures("record", np.zeros(5, np.int8), probability[:5])
    assert np.isnan(none["record_ppv_at_sensitivity_97"])


def scored_of(seed: int, name: str, n: int = 400) -> ScoredRecord:
    """A made-up record with answers, of a patient of its own."""
    random = np.random.default_rng([seed, int(name)])
    label = (np.random.default_rng(int(name)).random(n) < 0.4).astype(np.int8)
    return ScoredRecord(
        dataset="made-up",
        record=name,
        subject=name,
        time_s=np.arange(n, dtype=np.float64) * 10,
        stretches_s=np.array([[0.0, n * 10.0]]),
        label=np.sort(label),
        rhythm=np.full(n, "N"),
        symbol=np.full(n, "N"),
        quality=np.zeros(n, np.uint16),
        probability=random.random(n).astype(np.float32),
        decided=random.random(n) < 0.2 + 0.6 * np.sort(label),
        sure=random.random(n) < 0.9,
        distance=random.random(n).astype(np.float32),
        labelled_whole=True,
    )


def test_a_mean_has_the_interval_of_the_same_patients_for_every_seed() -> None:
    """Of one seed it is that seed's own, at every level; of two alike it is no narrower."""
    scored = [[scored_of(seed, str(k)) for k in range(6)] for seed in range(2)]
    figures = [figures_of(records)["made-up"] for records in scored]
    counts = [patient_counts(records) for records in scored]
    alone = mean_bounds(counts[:1])
    assert {key: figures[0][key] for key in alone} == pytest.approx(alone, nan_ok=True)
    assert {key.split("_")[0] for key in alone} == {*LEVEL_RATES, "duration"}
    assert mean_bounds([counts[0], counts[0]]) == pytest.approx(alone, nan_ok=True)
    both = mean_bounds(counts)
    mean = np.mean([values["beat_f1"] for values in figures])
    assert both["beat_f1_low"] < mean < both["beat_f1_high"]
    means = means_of({"made-up": dict(enumerate(figures))})["made-up"]
    assert means["beat_f1"] == mean
    assert not [key for key in means if key.endswith(("_low", "_high"))]
