"""Comparing versions: the same patients on both sides, paired, and all that changed is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.reports import pareto
from flows.reports.compare import Comparison, compare, decisions_of
from flows.reports.shown import deliver
from storage.audit.versions import read_version
from storage.errors import DigestMismatch, NotInRegistry, SplitError
from storage.registry import tracking
from storage.registry.client import call
from tasks.pages.document import Table
from tasks.scores.bootstrap import RATES, bootstrap_difference, f1
from tasks.scores.compare import CELLS, by_patient, pair
from tests import made_up

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import


def table(done: Comparison, column: str) -> Table:
    """The one table that has a column."""
    (found,) = (b for b in done.blocks if isinstance(b, Table) and column in b.columns)
    return found


def test_edited_versions_are_not_compared(fresh_model: str, tmp_path: Path) -> None:
    """A figure in MLflow that is not the signed one: the version is refused, run and values named.

    `holter pareto` leaves it out with the same words.
    """
    one, two = (made_up.register(tmp_path / str(n), name=fresh_model) for n in range(2))
    made_up.on_device(one, "belt", latency_p99_ms=90.0)
    run_id = read_version(one.model.reference).reports[0].request_id
    tracking.log_metrics(run_id, {"latency_p99_ms": 3.0})
    told = f"run {run_id}: metric latency_p99_ms: found 3.0; sealed was 90.0"
    with pytest.raises(DigestMismatch, match=told):
        compare(read_version(one.model.reference), two)
    versions, left_out = pareto.read([one.model.reference, two.model.reference])
    assert [version.model.reference for version in versions] == [two.model.reference]
    assert told in left_out[one.model.reference]


def test_an_edited_training_is_not_compared(fresh_model: str, tmp_path: Path) -> None:
    """Nor is one whose training has another figure in MLflow than was sealed."""
    version = made_up.register(tmp_path / "1", name=fresh_model)
    tracking.log_metrics(version.model.run_id, {"test_f1": 1.0})
    with pytest.raises(DigestMismatch, match=r"metric test_f1: found 1\.0; sealed was"):
        compare(read_version(version.model.reference), version)


def test_what_changed_is_told(fresh_model: str, tmp_path: Path) -> None:
    """Records that came and went, parameters, files, and each shared patient are in the report."""
    before = made_up.register(tmp_path / "1", name=fresh_model)
    after = made_up.register(
        tmp_path / "2",
        name=fresh_model,
        threshold=0.52,
        patients=("b", "c", "d"),
        data=made_up.manifest("bcdefghijk"),
    )
    with pytest.raises(ValueError, match="twice; expected two versions"):
        compare(before, before)
    done = compare(before, after)
    assert done.paired.patients == ("made-up/b", "made-up/c", "made-up/d")
    moved = {row[0]: row[2:] for row in table(done, "side before").rows}
    assert moved["made-up/a"] == ("removed", "test", "-")
    assert moved["made-up/k"] == ("added", "-", "none")
    assert moved["made-up/e"] == ("the same table", "test", "none")
    assert "made-up/b" not in moved
    changed = [row for b in done.blocks if isinstance(b, Table) for row in b.rows]
    assert ("threshold", "0.5187", "0.52") in changed
    counts = by_patient(decisions_of(after.model))
    assert list(counts.columns) == CELLS
    assert np.array_equal(done.paired.after, counts.loc[list(done.paired.patients)])
    assert done.paired.differences()["f1"].high < 0
    deliver(done.title, done.blocks, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "made-up/k" in page
    assert "http" not in page.split("<body>")[1]
    with pytest.raises(ValueError, match=r"\.md or \.html"):
        deliver(done.title, done.blocks, tmp_path / "report.pdf")


def test_no_shared_patient_is_refused(fresh_model: str, tmp_path: Path) -> None:
    """Test sets without a patient in common are no grounds to compare, and the message says so."""
    before = made_up.register(tmp_path / "1", name=fresh_model, patients=("a", "b"))
    after = made_up.register(tmp_path / "2", name=fresh_model, patients=("c", "d"))
    with pytest.raises(SplitError, match=r"share no patient.*made-up/a.*made-up/c"):
        compare(before, after)


def test_a_changed_chain_is_refused(fresh_model: str, tmp_path: Path) -> None:
    """A version whose sealed chain was replaced is not compared; one without a chain neither."""
    from storage.audit.chain import chain_file
    from storage.files import write_json
    from storage.registry import tracking

    version = made_up.register(tmp_path / "1", name=fresh_model).model
    for kept in (tmp_path / "home" / "chains").iterdir():
        kept.unlink()
    other = write_json(tmp_path / chain_file(fresh_model, 1), {"model": "another"})
    tracking.log_file(version.run_id, other, "chain")
    with pytest.raises(DigestMismatch):
        read_version(version.reference)
    call("POST", "model-versions/create", name=fresh_model, source="s3://nowhere/model")
    with pytest.raises(NotInRegistry, match="no sealed chain"):
        read_version(f"{fresh_model}/2")


counts = st.lists(
    st.tuples(*[st.integers(0, 50)] * 4).filter(lambda row: row[0] + row[3] > 0),
    min_size=2,
    max_size=8,
)


@given(counts)
def test_a_model_gains_nothing_on_itself(rows: list[tuple[int, ...]]) -> None:
    """The same counts on both sides differ by zero, bounds and all."""
    same = np.array(rows, np.float64)
    for rate in RATES.values():
        found = bootstrap_difference(same, same, rate, draws=50)
        defined = [x for x in (found.value, found.low, found.high) if np.isfinite(x)]
        assert defined == [0.0] * len(defined)


@given(counts)
def test_a_difference_turns_round_with_its_sides(rows: list[tuple[int, ...]]) -> None:
    """What one side gains the other loses, bounds mirrored."""
    one = np.array(rows, np.float64) + 1
    two = one[:, [0, 2, 1, 3]] + np.arange(4)
    there, back = bootstrap_difference(one, two, f1), bootstrap_difference(two, one, f1)
    assert np.allclose((there.value, there.low, there.high), (-back.value, -back.high, -back.low))


def test_one_patient_gives_no_bounds() -> None:
    """A difference on one patient has a value and no interval; unequal patients are misuse."""
    one, two = np.array([[3.0, 1, 1, 3]]), np.array([[4.0, 0, 0, 4]])
    found = bootstrap_difference(one, two, f1)
    assert found.value == pytest.approx(0.25)
    assert np.isnan(found.low)
    with pytest.raises(ValueError, match="do not pair"):
        bootstrap_difference(one, np.vstack([two, two]), f1)


def test_beats_pair_by_place_not_by_order() -> None:
    """Shuffled beats pair as before; one whose label changed, or that one side lacks, is out."""
    rng = np.random.default_rng(1)
    n = 60
    one = pd.DataFrame(
        {
            "record": np.repeat(["r", "s", "t"], 20),
            "subject": np.repeat(["p", "p", "q"], 20),
            "sample": np.tile(np.arange(20), 3),
            "label": rng.integers(0, 2, n).astype(np.int8),
            "decided": rng.integers(0, 2, n).astype(bool),
        }
    )
    other = one.take(rng.permutation(n)[:50]).reset_index(drop=True)
    other.loc[7, "label"] = 1 - other.loc[7, "label"]
    found = pair(one, other)
    assert found.patients == ("p", "q")
    assert found.relabelled == 1
    assert found.before.sum() == 49
    assert np.array_equal(found.before, found.after)
    assert pair(one, other[other.subject == "none"]).patients == ()
