"""Signals are a choice of each data set: how it is asked for, and what comes of it by the flows."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.training import train as cli_train
from flows.decide import evaluate as evaluating
from flows.decide import rebuild
from flows.ingest.build import Plan, build_table
from flows.ingest.folders import data_sets, resolve_folders
from flows.ingest.simulate import write_simulated
from flows.train import flow as training
from flows.train import settings
from flows.train.flow import TrainingResult
from flows.train.release import quickest
from flows.train.settings import train_settings
from flows.train.training_run import reading
from storage.audit.verify import MATCH, MISMATCH, OUT, table_findings, verify
from storage.audit.versions import VersionRecord
from storage.datasets.dataset import load_spec
from storage.errors import SplitError
from storage.places import Place, beats_place
from storage.registry.signing import public_key
from storage.tables.beats import read_beats
from storage.tables.beats_manifest import (
    Entry,
    Manifest,
    known_entries,
    manifest_path,
    manifest_places,
    read_manifest,
    write_manifest,
)
from tasks.signal.preprocessing import Preprocessing
from tests.storage.test_content import renamed


def toml_of(folder: Path, dataset: str, *, signal: bool = True) -> str:
    """A TOML beside simulated records, with what it says of their signals."""
    text = (folder / "dataset.toml").read_text().replace('"simulated"', f'"{dataset}"')
    line = "" if signal else "\nsignal = false"
    (folder / "dataset.toml").write_text(text.replace("[records]", f"[records]{line}"))
    return str(folder / "dataset.toml")


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        (None, [True, False]),
        ([], [True, False]),
        (True, [True, True]),
        (False, [False, False]),
        ([False], [False, False]),
        ([False, True], [False, True]),
    ],
)
def test_each_data_set_has_its_choice(tmp_path: Path, signal: Any, expected: list[bool]) -> None:
    """One for all, one for each in order, or what each TOML says."""
    for name in ("mitdb", "ward"):
        (tmp_path / name).mkdir()
        write_simulated(tmp_path / name, 1, 0.01, 0)
    names = [toml_of(tmp_path / "mitdb", "mitdb"), toml_of(tmp_path / "ward", "ward", signal=False)]
    folders = [tmp_path / "mitdb", tmp_path / "ward"]
    sets = resolve_folders(data_sets(names, data=folders, signal=signal))
    assert [one.signal for one in sets] == expected


def test_a_choice_too_few_or_too_many_is_refused() -> None:
    """The data sets are named."""
    with pytest.raises(ValueError, match=r"once for each data set \(mitdb, afdb\); found 3"):
        data_sets(["mitdb", "afdb"], signal=[True, False, True])


def test_single_beats_need_every_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One data set without its signal is refused; signals of all are what is usual."""
    monkeypatch.setattr(settings, "resolve_folders", list)

    def read(signal: list[bool] | None) -> list[bool | None]:
        sets = data_sets(["a", "b"], signal=signal)
        return [one.signal for one in train_settings(datasets=sets, model="squeeze").read()]

    with pytest.raises(ValueError, match="squeeze reads one beat at a time: it needs the signal"):
        read([True, False])
    assert read([True, True]) == read(None) == [True, True]


@pytest.mark.parametrize(
    ("words", "signal"),
    [
        ([], [None, None]),
        (["--no-signal"], [False, False]),
        (["--signal", "--no-signal"], [True, False]),
        (["--no-signal", "--signal"], [False, True]),
    ],
)
def test_the_command_takes_one_for_each(
    words: list[str], signal: list[bool | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`--signal` and `--no-signal` are said in the data sets' order, as `--data` is."""
    calls: list[Any] = []

    def train(settings: Any) -> None:
        calls.append([one.signal for one in settings.datasets])
        raise typer.Exit

    (tmp_path / "RECORDS").write_text("100\n")
    monkeypatch.setattr(cli_train, "serving", nullcontext)
    monkeypatch.setattr(training, "train", train)
    data = ["--data", str(tmp_path), "--data", str(tmp_path)]
    done = CliRunner().invoke(app, ["train", "mitdb", "afdb", *data, "--model", "fused", *words])
    assert done.exit_code == 0, done.output
    assert calls == [signal]


def manifest(*leads: str | None, signal: bool | None = None, policy: str = "consensus") -> Manifest:
    entries = tuple(Entry("r", "s", "r.parquet", "", "", x, 1.0, 9, 3, 0, 0, {}) for x in leads)
    how = {"policy": policy}
    about = ("d", "", "", "", "", "", "", "", "")
    return Manifest(*about, False, entries, {}, {}, preprocessing=how, signal=signal)


def test_what_was_read_is_recorded() -> None:
    """As a parameter where it is not the signal of all; an old manifest tells by its leads."""
    with_signal, alone = manifest("II", signal=True), manifest("II", signal=False)
    assert reading([with_signal, with_signal]) == {}
    assert reading([with_signal, alone]) == {"signal": "true,false"}
    assert [manifest(*leads).has_signal for leads in ((), (None,), (None, "II"))] == [0, 0, 1]


def test_tables_lie_side_by_side(tmp_path: Path) -> None:
    """By what shapes them; those of before all lie in the data set's one place."""
    folders = [
        manifest_path(tmp_path, "d", signal=signal, policy=policy).parent.name
        for signal in (True, False)
        for policy in ("consensus", "reference", "detected")
    ]
    assert folders == [
        "dataset=d",
        "dataset=d.reference",
        "dataset=d.detected",
        "dataset=d.annotations",
        "dataset=d.annotations.reference",
        "dataset=d.annotations.detected",
    ]
    usual, alone = tmp_path / "dataset=d", tmp_path / "dataset=d.annotations"
    places = [
        [path.parent for path in manifest_places(tmp_path, one)]
        for one in (manifest("II"), manifest(None), manifest(None, signal=False))
    ]
    assert places == [[usual], [usual, alone], [alone]]


def test_tables_of_before_are_verified_where_they_lay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Annotations alone in the data set's one place: they match until an ingest replaces them."""
    monkeypatch.setenv("HOLTER_BEATS", str(tmp_path / "beats"))
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    keys = {public_key()}
    source = tmp_path / "records"
    spec = load_spec(write_simulated(source, 1, 0.01, 0))
    path = manifest_path(beats_place(), spec.name)

    def built(*, signal: bool, folder: Place) -> Manifest:
        plan = Plan(spec, source, folder, Preprocessing(), signal)
        entry = build_table(plan, "sim000")[1]
        about = (spec.name, "", "", "", "", str(source), "", "", "")
        return Manifest(*about, True, (entry,), {}, {})

    old = built(signal=False, folder=path.parent)
    assert [one.state for one in table_findings(asdict(old), keys)] == [MATCH]
    later = built(signal=True, folder=path.parent)
    write_manifest(path, later)
    (unsigned,) = table_findings(asdict(old), keys)
    assert unsigned.state == MISMATCH
    write_manifest(path, later, signed=True)
    (strange,) = table_findings(asdict(old), {"0" * 64})
    assert strange.state == MISMATCH
    (replaced,) = table_findings(asdict(old), keys)
    assert (replaced.state, replaced.told) == (OUT, "a later ingest took its place")
    beside = manifest_path(beats_place(), spec.name, signal=False)
    assert built(signal=False, folder=beside.parent).digest() == old.digest()
    assert [one.state for one in table_findings(asdict(old), keys)] == [MATCH]


def test_a_rebuild_reads_what_the_training_read() -> None:
    """Of each data set, where it is recorded and where only its leads tell it."""
    params = {"model": "fused_cues", "epochs": "1", "learning_rate": "0.006", "seed": "0"}
    sets = (manifest("II", signal=True), manifest(None, signal=False), manifest(None))
    version = SimpleNamespace(params=params, manifests=sets)
    again = rebuild.settings_of(cast(VersionRecord, version), ["a", "b", "c"], [])
    assert [one.signal for one in again.datasets] == [True, False, False]


def test_only_patients_that_it_did_not_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained and validated on, and through teachers; a data set without any other is refused."""
    entries = [Entry(f"r{k}", f"p{k}", "", "", "", None, 1.0, 9, 3, 0, 0, {}) for k in range(4)]
    ward = replace(manifest(), dataset="ward", entries=tuple(entries))
    clinic = replace(ward, dataset="clinic")
    split = {"train": ["ward/p0"], "validation": ["ward/p1"], "test": ["ward/p2", "ward/p3"]}
    sides = {side: {"subjects": who} for side, who in split.items()}
    model = SimpleNamespace(reference="m/1")
    version = SimpleNamespace(model=model, split=sides, tags={}, manifests=[ward])
    monkeypatch.setattr(evaluating, "read_version", lambda _: version)
    people = evaluating.unseen_people("m/1", [ward, clinic])
    assert people == {"ward/p2", "ward/p3", *(f"clinic/p{k}" for k in range(4))}
    known = replace(ward, entries=tuple(entries[:2]))
    with pytest.raises(SplitError, match=r"m/1 was trained or validated on every patient of ward"):
        evaluating.unseen_people("m/1", [clinic, known])
    (note,) = [n for n in evaluating.known_records("m/1", [ward], people) if "trained" in n]
    assert note.endswith(
        "on 2 of the 4 records of ward: their patients are left out, and the "
        "figures are of the others."
    )


def test_the_arithmetic_may_be_chosen() -> None:
    """Else it is the quickest that LiteRT runs; one that was refused has no time."""
    results = {
        "litert-float32": {"limits": {}, "cpu_us_per_row": 2.0},
        "litert-int8": {"limits": {}, "cpu_us_per_row": 1.0},
        "onnx": {"limits": {}, "cpu_us_per_row": 0.5},
    }
    assert quickest(results) == "litert-int8"
    refused = {"limits": {}, "refused": "found an error"}
    assert quickest({**results, "litert-int8": refused}) == "litert-float32"


@pytest.mark.slow
@pytest.mark.usefixtures("holter_servers")
@pytest.mark.filterwarnings("default")  # Prefect's and MLflow's own, at import and in threads
def test_a_fused_network_learns_from_signals_and_from_annotations_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one command; its tables stay beside later ones, and copies of its records are refused."""
    from flows.decide.evaluate import evaluate
    from flows.ingest.flow import ingest
    from storage.audit.versions import read_version
    from storage.registry.signing import trusted_keys
    from tasks.learning import rhythm_training as module
    from tasks.learning.rhythm_training import RhythmConfig

    sets = ("ward", "clinic")
    folders = [tmp_path / name for name in sets]
    for seed, folder in enumerate(folders):
        write_simulated(folder, 4, 0.1, 20 + seed)
    tomls = [toml_of(folder, name) for folder, name in zip(folders, sets, strict=True)]
    for file in folders[1].glob("*.dat"):
        file.unlink()
    monkeypatch.setattr(module, "RhythmConfig", partial(RhythmConfig, steps=2, batch=2))

    def train(names: list[str], data: list[Path], **signal: Any) -> TrainingResult:
        sets = data_sets(names, data=data, **signal)
        settings = train_settings(
            datasets=sets, model="fused_cues", epochs=1, runtime="litert-float32"
        )
        return training.train(settings)

    done = train(tomls, folders, signal=[True, False])
    version = read_version(done.version.reference)
    assert version.params["signal"] == "true,false"
    assert version.params["runtime"] == "litert-float32"
    assert version.model.tags["holter.runtime"] == "litert-float32"
    leads = [{entry.lead for entry in one.entries} for one in version.manifests]
    assert leads == [{"ECG1"}, {None}]

    again = ingest(tomls[0], folders[0], signal=False)
    places = [manifest_path(beats_place(), "ward", signal=signal) for signal in (True, False)]
    assert again.path == places[1]
    tables = [read_beats(place.parent / "sim000.parquet") for place in places]
    assert [table.waveform is None for table in tables] == [False, True]
    assert read_manifest(places[0]).digest() == version.manifests[0].digest()
    assert known_entries(places[1]).keys() == known_entries(places[0]).keys()
    states = verify(version.model.reference, trusted_keys())
    found = [one for one in states if one.link == "beat tables" or one.state == MISMATCH]
    assert [one.state for one in found] == [MATCH] * 8

    people = version.split["test"]["subjects"]
    owners = {f"ward/{e.subject}": e.record for e in version.manifests[0].entries}
    learnt = next(record for person, record in owners.items() if person not in people)
    tested = people[0].partition("/")[0]
    where = sets.index(tested)
    seen = evaluate(
        version.model.reference, [tomls[where]], [folders[where]], signal=not where, unseen=True
    )
    own = [person for person in people if person.startswith(f"{tested}/")]
    assert seen.figures[tested]["patients"] == len(own) < 4
    (evaluation,) = read_version(version.model.reference).evaluations
    assert evaluation.params["unseen"] == "True"
    assert "their patients are left out" in seen.report.read_text()
    copy = renamed(folders[0], tmp_path / "copy", "copy", {learnt: "p1"})
    toml = str(copy / "dataset.toml")
    assert ingest(toml, copy).manifest.duplicates == {"p1": [f"ward/{learnt}"]}
    with pytest.raises(SplitError, match=f"another name: copy/p1 as ward/{learnt}"):
        evaluate(version.model.reference, [toml], [copy])

    every = renamed(
        folders[0], tmp_path / "every", "every", {f"sim00{n}": f"p{n}" for n in range(4)}
    )
    with pytest.raises(SplitError, match="the same recording is on two sides: ward/sim00"):
        train([tomls[0], str(every / "dataset.toml")], [folders[0], every])
