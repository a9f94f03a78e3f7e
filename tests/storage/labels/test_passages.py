"""What holds by decisions: moment by moment as the rule says, in passages and in files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import wfdb
from hypothesis import given
from hypothesis import strategies as st

from storage.formats.wfdb_annotation import MOST_TEXT_BYTES, NOTE, parse_annotations
from storage.labels.decisions import Decision
from storage.labels.export import TABLE, annotations_of, write_labels
from storage.labels.passages import passages
from storage.recordings.marks import rhythm_changes
from tests.deciding import decision

LENGTH = 30
RULES = ("agreement", "latest", "reviewer:Ben")
decided = st.lists(
    st.builds(
        lambda start, length, rhythm, who: decision(start, start + length, rhythm, reviewer=who),
        st.integers(0, LENGTH - 10),
        st.integers(1, 10),
        st.sampled_from(["AFIB", "N", "AFL", ""]),
        st.sampled_from(["Anna", "Ben", "Cy"]),
    ),
    max_size=8,
)


def moment(decisions: list[Decision], at: int, rule: str) -> str | None:
    """What holds at a sample, told the slow way; None where nothing does."""
    words = {d.reviewer: d.rhythm for d in decisions if d.start <= at < d.end}  # the last counts
    if rule.startswith("reviewer:"):
        return words.get(rule.removeprefix("reviewer:"))
    if rule == "latest":
        return next((d.rhythm for d in reversed(decisions) if d.start <= at < d.end), None)
    return (words.popitem()[1] if len({*words.values()}) == 1 else "") if words else None


@pytest.mark.parametrize("rule", RULES)
@given(decisions=decided)
def test_each_moment_is_as_the_rule_says(rule: str, decisions: list[Decision]) -> None:
    """Passages are apart and ascend; within them the rule's rhythm holds, outside nothing."""
    layer = passages(decisions, rule)
    assert all(a.end <= b.start for a, b in pairwise(layer))
    held = {at: passage.rhythm for passage in layer for at in range(passage.start, passage.end)}
    for at in range(LENGTH):
        assert held.get(at) == moment(decisions, at, rule), at
    for passage in layer:
        names = {d.reviewer for d in decisions if d.start <= passage.start < d.end} & (
            {"Ben"} if rule.startswith("reviewer:") else {"Anna", "Ben", "Cy"}
        )
        assert {*passage.reviewers} == names


@given(decisions=decided)
def test_a_wfdb_file_says_the_same(decisions: list[Decision]) -> None:
    """Its marks give the rhythm of every moment, none where nobody can tell; a note each has."""
    marks = parse_annotations(annotations_of(decisions, "agreement"), "sim001", "sim001.review")
    changes = rhythm_changes(marks)
    for at in range(LENGTH):
        force = next((code for start, code in reversed(changes) if start <= at), None)
        assert (force or "") == (moment(decisions, at, "agreement") or ""), at
    notes = [marks.aux[n] for n, code in enumerate(marks.code.tolist()) if code == NOTE]
    assert len(notes) == len(decisions)


def test_the_files_are_read_by_others(tmp_path: Path) -> None:
    """wfdb reads marks and notes, no text is too long for it; pandas reads the whole remark."""
    remark = "<b>é</b> " * 100
    rows = [
        decision(1_000, 70_000, "AFIB", remark=remark),
        decision(70_000, 80_000, "N", record="ward/r 1", reviewer="Ben"),
        decision(90_000, 95_000, ""),
    ]
    files = write_labels(rows, "agreement", tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in files]
    assert names == [TABLE, "sim001.review", "ward/r 1.review"]
    read = wfdb.rdann(str(tmp_path / "sim001"), "review")
    assert read.sample.tolist() == [1_000, 1_000, 70_000, 90_000]
    assert read.symbol == ["+", '"', "+", '"']
    assert (read.aux_note[0], read.aux_note[2]) == ("(AFIB", ")")
    text = parse_annotations(files[1].read_bytes(), "sim001", "review").aux[1]
    assert text.startswith("Anna, 2026-01-31T08:15:00+00:00: correct AFIB, 69000 samples. <b>é")
    assert len(text.encode()) <= MOST_TEXT_BYTES
    frame = pd.read_parquet(tmp_path / TABLE)
    assert frame.to_dict("records") == [vars(row) for row in rows]
