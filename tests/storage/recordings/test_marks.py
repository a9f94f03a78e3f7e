"""Marks of beats and rhythms: what ends a rhythm, and what is one beat on several leads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.datasets.dataset import DatasetSpec
from storage.errors import NoRhythm, UnknownRhythm
from storage.formats.wfdb_annotation import BEAT, encode_annotations, parse_annotations
from storage.recordings.marks import ONE_BEAT_S, unique_beats
from storage.recordings.records import open_record
from storage.recordings.survey import survey
from storage.tables.beats import BeatTable, Quality, join_tables
from tasks.proposals.proposal import propose
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing

FS_HZ = 250
BEATS = np.arange(1, 60, dtype=np.int64) * 200


def spec(**rhythms: Any) -> DatasetSpec:
    """A data set of annotated beats and rhythms."""
    known = {"af": ["AFIB"], "map": {"N": "N", "AFIB": "AFIB"}}
    return DatasetSpec.model_validate(
        {
            **{"name": "made", "title": "x", "version": "1", "licence": "x", "citation": "x"},
            "records": {"pattern": "*"},
            "annotations": {"beats": ["atr"], "rhythm": "atr"},
            "leads": {"prefer": ["II"]},
            "rhythms": {**known, **rhythms},
        }
    )


def written(folder: Path, beats: list[tuple[int, int, str]], texts: dict[int, list[str]]) -> Path:
    """A record without samples: beats by sample, lead and symbol, rhythm texts by second."""
    marks = [(sample, lead, symbol, "") for sample, lead, symbol in beats]
    marks += [(at * FS_HZ, 0, "+", text) for at, several in texts.items() for text in several]
    marks.sort(key=lambda mark: mark[0])
    data = encode_annotations(
        np.array([at for at, *_ in marks], np.int64),
        [symbol for _, _, symbol, _ in marks],
        {number: text for number, (*_, text) in enumerate(marks) if text},
        {number: lead for number, (_, lead, *_) in enumerate(marks)},
    )
    (folder / "r1.hea").write_text(f"r1 0 {FS_HZ} {60 * FS_HZ}\n")
    (folder / "r1.atr").write_bytes(data)
    return folder


def table(folder: Path, how: DatasetSpec) -> BeatTable:
    """The record's beat table."""
    record = open_record(how, folder, "r1", signal=False)
    return join_tables([*beat_tables(record, None, Preprocessing())[0]])


PLAIN = [(at, 0, "N") for at in BEATS.tolist()]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({0: ["(N"], 10: ["(AFIB"], 20: [")"], 30: ["(N"], 45: [") "]}, "0N 10AFIB 20 30N 45"),
        ({0: ["(AFIB"], 10: ["AFIB)"], 30: ["( N "]}, "0AFIB 10 30N"),
        ({0: ["(AFIB"], 10: ["(N", ")"], 20: [")", "(AFIB"]}, "0AFIB 10 10N 20 20AFIB"),
        ({0: ["(AFIB"], 10: ["(N"], 11: ["AFIB)"], 20: ["(AFIB"]}, "0AFIB 10N 20AFIB"),
        ({5: [")"], 10: ["(AFIB"]}, "0 5 10AFIB"),
        ({5: ["AFIB)"]}, "0 5"),
        ({0: ["(AFIB"], 10: ["noise (lead off)", "TS"]}, "0AFIB"),
        ({5: ["(AFIB"]}, "0N 5AFIB"),
    ],
)  # fmt: skip
def test_a_bracket_ends_a_rhythm(
    tmp_path: Path, texts: dict[int, list[str]], expected: str
) -> None:
    """After ")" no rhythm is known until the next mark, nor before one that ends the first."""
    folder = written(tmp_path, PLAIN, texts)
    record = open_record(spec(before_first="N"), folder, "r1", signal=False)
    pairs = zip(record.rhythm_start // FS_HZ, record.rhythms.tolist(), strict=True)
    assert " ".join(f"{at}{rhythm}" for at, rhythm in pairs) == expected


def test_beats_after_a_bracket_have_no_label(tmp_path: Path) -> None:
    """Beats of a stretch that no rhythm mark covers are unknown, flagged, and not of the rhythm."""
    folder = written(tmp_path, PLAIN, {0: ["(AFIB"], 20: [")"], 40: ["(N"]})
    beats = table(folder, spec())
    unknown = (beats.time_s >= 20) & (beats.time_s < 40)
    assert (beats.label[beats.time_s < 20] == 1).all()
    assert (beats.label[unknown] == -1).all()
    assert (beats.quality[unknown] & Quality.NO_RHYTHM != 0).all()
    assert (beats.label[beats.time_s >= 40] == 0).all()


def test_after_a_bracket_the_rhythm_is_what_the_toml_says(tmp_path: Path) -> None:
    """Where a data set marks AF alone, from "(AFIB" to ")", its TOML says what is outside."""
    folder = written(tmp_path, PLAIN, {10: ["(AFIB"], 20: [")"]})
    record = open_record(spec(before_first="N", outside="N"), folder, "r1", signal=False)
    assert record.rhythms.tolist() == ["N", "AFIB", "N"]


def test_an_unknown_rhythm_is_no_bracket(tmp_path: Path) -> None:
    """A code in brackets that the TOML does not name is refused, and one without any is no mark."""
    with pytest.raises(UnknownRhythm, match=r"AFIB\)"):
        open_record(spec(), written(tmp_path, PLAIN, {0: ["(AFIB)"]}), "r1", signal=False)
    with pytest.raises(NoRhythm):
        open_record(spec(), written(tmp_path, PLAIN, {0: ["AFIB"]}), "r1", signal=False)


def test_a_survey_counts_rhythms_that_begin(tmp_path: Path) -> None:
    """An end is no rhythm of its own: the codes that begin are proposed, and the ends are told."""
    texts = {0: ["(N"], 10: ["(AFIB"], 20: [")"], 30: ["(AFIB"], 45: ["AFIB)"]}
    seen = survey(written(tmp_path, PLAIN, texts))
    marked = seen.records[0].annotators["atr"]
    assert (marked.rhythms, marked.first, marked.ends) == ({"N": 1, "AFIB": 2}, (0, "N"), 2)
    proposal = propose(seen)
    assert proposal.values["rhythms"]["map"] == {"N": "N", "AFIB": "AFIB"}
    assert any("in 1 records a mark ) ends a rhythm" in note for note in proposal.notes)


@pytest.mark.parametrize("shift", [0, 1, 5, 37])
def test_a_beat_on_two_leads_is_one_beat(tmp_path: Path, shift: int) -> None:
    """Marks of one QRS complex on several leads are one beat, where the first lead has it."""
    pairs = [(at + shift * lead, lead, "NV"[lead]) for at in BEATS.tolist() for lead in (0, 1)]
    beats = table(written(tmp_path, pairs, {0: ["(N"]}), spec())
    assert beats.sample.tolist() == BEATS.tolist()
    assert set(beats.symbol) == {"N"}
    assert not (beats.quality & Quality.RR_RANGE).any()
    np.testing.assert_allclose(beats.rr_next_s[:-1], 0.8)


def test_close_marks_on_one_lead_are_flagged(tmp_path: Path) -> None:
    """No two beats lie at one sample; two within a refractory period are flagged on both sides."""
    near = [(1000, 0, "V"), (1001, 0, "V"), (2040, 0, "V")]
    beats = table(written(tmp_path, [*PLAIN, *near], {0: ["(N"]}), spec())
    assert np.isfinite(beats.rr_next_s[:-1]).all()
    flagged = beats.sample[(beats.quality & Quality.RR_RANGE) != 0].tolist()
    assert flagged == [1000, 1001, 2000, 2040]
    assert len(beats) == len(BEATS) + 2


@pytest.mark.parametrize(
    ("sample", "channel", "kept"),
    [
        ([0, 0, 200], [1, 0, 0], [False, True, True]),
        ([0, 3, 30, 33], [0, 1, 0, 1], [True, False, True, False]),
        ([0, 20, 40, 300], [0, 1, 2, 0], [True, True, True, True]),
        ([0, 1, 2], [2, 2, 2], [True, True, True]),
        ([5, 5], [1, 1], [True, False]),
    ],
)
def test_one_mark_of_each_beat_is_kept(
    sample: list[int], channel: list[int], kept: list[bool]
) -> None:
    """Of marks at one sample, or within reach on different leads, the lowest lead's is kept."""
    keep = unique_beats(np.array(sample, np.int64), np.array(channel, np.int16), 10)
    assert keep.tolist() == kept


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "fs_hz"), {"mitdb": 360, "nsrdb": 128, "cpsc2021": 200, "ltafdb": 128}.items()
)
def test_real_beats_stay_as_they_are_marked(name: str, fs_hz: int, real_data: Path) -> None:
    """No beat of a real data set is taken for another lead's mark of the one before."""
    for path in sorted((real_data / name).rglob("*.atr"))[:12]:
        marks = parse_annotations(path.read_bytes(), path.stem, path.name)
        beats = BEAT[marks.code]
        assert unique_beats(marks.sample[beats], marks.channel[beats], ONE_BEAT_S * fs_hz).all(), (
            path
        )
