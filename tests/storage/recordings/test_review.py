"""Review as a layer of rhythm: it holds where somebody decided, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.ingest.build import Plan, build_table, record_key
from storage.datasets.dataset import DatasetSpec, load_spec
from storage.datasets.dataset_write import dataset_toml
from storage.errors import NoRhythm, RecordError, SpecError, UnknownRhythm
from storage.labels.decisions import append_decision, log_heads
from storage.recordings.records import open_record
from storage.tables.beats import Quality
from tasks.signal.preprocessing import Preprocessing
from tests.deciding import decision
from tests.storage.recordings.test_marks import BEATS, FS_HZ, spec, table, written

#: Annotated: N, from 20 s on AFIB, from 40 s on N.
MARKS = {0: ["(N"], 20: ["(AFIB"], 40: ["(N"]}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The record r1 of a minute."""
    (tmp_path / "set").mkdir()
    return written(tmp_path / "set", [(int(at), 0, "N") for at in BEATS], MARKS)


def layered(
    rule: str = "agreement", layers: Any = ("review", "atr"), **rhythms: Any
) -> DatasetSpec:
    """The data set with layers of rhythm."""
    values = spec(**rhythms).model_dump(mode="json")
    values["annotations"]["rhythm"] = layers
    return DatasetSpec.model_validate({**values, "review": {"rule": rule}})


def decide(
    start_s: float, end_s: float, rhythm: str, who: str = "Anna", record: str = "r1"
) -> None:
    """Keep a decision about seconds of the record."""
    span = round(start_s * FS_HZ), round(end_s * FS_HZ)
    append_decision(decision(*span, rhythm, dataset="made", record=record, reviewer=who))


def test_only_what_was_decided_changes(folder: Path) -> None:
    """Beats in a passage have its rhythm, those nobody can tell none; all others stay."""
    before = table(folder, layered())
    decide(10, 15, "AFIB")
    decide(30, 50, "N")
    decide(50, 55, "")
    after, second = table(folder, layered()), BEATS / FS_HZ
    expected = np.array(before.rhythm, "U8")
    expected[(second >= 10) & (second < 15)] = "AFIB"
    expected[(second >= 30) & (second < 50)] = "N"
    expected[(second >= 50) & (second < 55)] = ""
    assert after.rhythm.tolist() == expected.tolist()
    label = np.select([expected == "AFIB", expected == ""], [1, -1], 0)
    assert after.label.tolist() == label.tolist()
    assert ((after.quality & Quality.NO_RHYTHM) > 0).tolist() == (expected == "").tolist()
    assert after.sample.tolist() == before.sample.tolist()
    record = open_record(layered(), folder, "r1", signal=False)
    assert (record.review, record.corrected) == ({"Anna": 3}, 3)
    assert table(folder, spec()).rhythm.tolist() == before.rhythm.tolist()


@pytest.mark.parametrize(
    ("rule", "rhythm"),
    [("agreement", ""), ("latest", "N"), ("reviewer:Anna", "AFIB"), ("reviewer:Ben", "N")],
)
def test_the_rule_decides_between_two(folder: Path, rule: str, rhythm: str) -> None:
    """Where two reviewers say different things, the TOML's rule says what holds; both are kept."""
    decide(5, 15, "AFIB", "Anna")
    decide(10, 15, "N", "Ben")
    record = open_record(layered(rule), folder, "r1", signal=False)
    place = np.searchsorted(record.rhythm_start, 12 * FS_HZ, side="right") - 1
    assert record.rhythms[place] == rhythm
    assert record.review == {"Anna": 1, "Ben": 1}


def test_a_decision_changes_the_key_of_its_record_alone(folder: Path) -> None:
    """The layer without a decision changes no key; a decision changes that of its record."""
    config = Preprocessing()
    plain, layer = (open_record(how, folder, "r1", signal=False) for how in (spec(), layered()))
    assert record_key(plain, config) == record_key(layer, config)
    decide(5, 6, "N", record="r2")
    other = open_record(layered(), folder, "r1", signal=False)
    assert record_key(other, config) == record_key(plain, config)
    decide(5, 6, "N")  # as it is annotated: looked at all the same
    own = open_record(layered(), folder, "r1", signal=False)
    assert record_key(own, config) != record_key(plain, config)
    assert own.corrected == 0
    assert own.rhythms.tolist() == plain.rhythms.tolist()


def test_review_may_be_all_there_is(folder: Path) -> None:
    """Without any mark no rhythm is known outside of passages; nobody's decision is an error."""
    (folder / "r1.qrs").write_bytes((folder / "r1.atr").read_bytes())
    (folder / "r1.atr").unlink()
    values = layered(layers=["review", "atr"]).model_dump(mode="json")
    values["annotations"]["beats"] = ["qrs"]
    for layers, error in ((["review", "atr"], RecordError), ("review", NoRhythm)):
        values["annotations"]["rhythm"] = layers
        with pytest.raises(error):
            open_record(DatasetSpec.model_validate(values), folder, "r1", signal=False)
    decide(10, 20, "AFIB")
    record = open_record(DatasetSpec.model_validate(values), folder, "r1", signal=False)
    assert record.rhythms.tolist() == ["", "AFIB", ""]
    assert record.label_source == "review"


def test_the_first_file_that_is_there_holds_under_it(folder: Path) -> None:
    """Of several files in order the first one of a record is read."""
    record = open_record(layered(layers=["review", "none", "atr"]), folder, "r1", signal=False)
    assert record.rhythms.tolist() == ["N", "AFIB", "N"]


def test_a_rhythm_is_one_of_the_toml_s(folder: Path) -> None:
    """A code of the map is mapped, AFL is always one, and an unknown rhythm is an error."""
    decide(0, 5, "SR")
    decide(5, 10, "AFL")
    record = open_record(layered(map={"N": "N", "AFIB": "AFIB", "SR": "N"}), folder, "r1")
    assert record.rhythms.tolist() == ["N", "AFL", "N", "AFIB", "N"]
    with pytest.raises(
        UnknownRhythm, match=r"decisions\.jsonl: found the decision for rhythm 'SR'"
    ):
        open_record(layered(), folder, "r1", signal=False)


def test_what_lies_after_the_end_is_told(folder: Path) -> None:
    """A passage ends with its record; a decision about moments after it counts for nothing."""
    decide(55, 90, "AFIB")
    decide(70, 80, "AFIB")
    record = open_record(layered(), folder, "r1", signal=False)
    assert record.rhythm_start.tolist() == [0, 20 * FS_HZ, 40 * FS_HZ, 55 * FS_HZ]
    assert record.n_samples == 60 * FS_HZ
    assert record.warnings == ("1 decisions about moments after the record's end",)


def test_a_worker_without_the_log_makes_no_table(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose state folder lacks the flow's decisions fails the record: no wrong label."""
    decide(10, 20, "AFIB")
    how = layered()
    plan = Plan(how, folder, tmp_path / "out", Preprocessing(), False, log_heads("made")[-1])
    assert build_table(plan, "r1")[1].review == {"Anna": 1}
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(RecordError, match="another log of decisions on this machine"):
        build_table(plan, "r1")
    assert build_table(replace(plan, decisions_head=""), "r1")[1].review == {}


@pytest.mark.parametrize(
    ("layers", "rule", "words"),
    [
        (["atr", "review"], "latest", '"review" can only be the first layer'),
        (["atr", "atr"], "latest", "named twice"),
        ([], "latest", "annotations.rhythm: "),
        (["review", "../atr"], "latest", "annotations.rhythm.1: "),
        ("review", "majority", "review.rule"),
        ("review", "reviewer:", "review.rule"),
    ],
)
def test_a_toml_s_layers_are_held(layers: Any, rule: str, words: str, tmp_path: Path) -> None:
    """An order, a file or a rule that cannot be used is refused, and named."""
    text = dataset_toml(spec()).replace('rhythm = "atr"', f"rhythm = {layers!r}".replace("'", '"'))
    (tmp_path / "x.toml").write_text(f'{text}\n[review]\nrule = "{rule}"\n')
    with pytest.raises(SpecError, match=r"x\.toml") as refused:
        load_spec(tmp_path / "x.toml")
    assert words in str(refused.value)


def test_a_toml_with_one_source_is_what_it_was(tmp_path: Path) -> None:
    """Its text and its digest do not change; layers and rule are written, and shape the digest."""
    assert load_spec("afdb").digest().startswith("45a0a4edec2a")
    assert "review" not in dataset_toml(load_spec("afdb"))
    (tmp_path / "x.toml").write_text(dataset_toml(layered("reviewer:Dr. Who")))
    assert load_spec(tmp_path / "x.toml") == layered("reviewer:Dr. Who")
    digests = {how.digest() for how in (spec(), layered(), layered("latest"))}
    assert len(digests) == 3
