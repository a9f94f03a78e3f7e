"""F1 against costs: only the same test beats are compared, and what no other beats is named."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from flows.reports import pareto as work
from flows.reports.shown import deliver
from storage.audit.versions import all_references, read_version
from storage.json_text import as_json
from tasks.pages.document import Picture, Table, Words
from tasks.pages.figures import pareto, spread
from tasks.scores.pareto import COSTS, Point, front
from tests import made_up

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import


def point(name: str, f1: float, **costs: float) -> Point:
    return Point(name, "", f1, None, costs)


def test_a_front_holds_what_no_other_beats() -> None:
    """Cheaper, or better; a dearer one that is no better is not on it, equals both are."""
    points = [
        point("dear and good", 0.9, bytes=100),
        point("cheap", 0.7, bytes=10),
        point("dear and no better", 0.7, bytes=20),
        point("as cheap, worse", 0.6, bytes=10),
        point("twin", 0.7, bytes=10),
        point("cheapest, undefined", float("nan"), bytes=1),
        point("no such cost", 1.0, parameters=1),
    ]
    assert [p.name for p in front(points, "bytes")] == ["cheap", "twin", "dear and good"]
    assert [p.name for p in front(points, "parameters")] == ["no such cost"]
    assert front(points, "latency_us") == []


def test_the_picture_is_drawn_of_any_points() -> None:
    """One point, a cost that none has, and an interval are all drawn."""
    whole = dict.fromkeys(COSTS, 7.0)
    one = Point("a/1", "3 epochs", 0.5, (0.4, 0.6), whole)
    assert pareto([one], "ms", "made up").startswith(b"\x89PNG")
    assert pareto(
        [one, point("b/1", 0.6, bytes=9), point("c/1", float("nan"), bytes=9)], "ms", "made up"
    ).startswith(b"\x89PNG")


@pytest.mark.parametrize("heights", [[0.9, 0.9, 0.9, 0.1], [1.2, 0.0, 0.0, 0.0], [0.5] * 40, []])
def test_names_are_spread_in_order(heights: list[float]) -> None:
    """Neighbours are a gap apart, all within the field; a name that has room stays."""
    found = spread(heights, 0.05)
    gap = min(0.05, 1 / max(len(heights), 1))
    assert len(found) == len(heights)
    assert all(a - b >= gap - 1e-9 for a, b in pairwise(found))
    assert all(0 <= height <= 1 for height in found)
    if heights == [0.9, 0.9, 0.9, 0.1]:
        assert found == pytest.approx([0.9, 0.85, 0.8, 0.1])


def test_only_the_same_beats_stand_in_one_picture(fresh_model: str, tmp_path: Path) -> None:
    """Versions of one test set share a picture; one of other patients stands alone, and says so.

    A version whose chain is not sealed is left out with its reason.
    """
    costs = {"holter.parameters": "900", "holter.multiply_adds": "40000"}
    one = made_up.register(tmp_path / "1", name=fresh_model, parity={"bytes": 9_000}, marks=costs)
    other = made_up.register(tmp_path / "2", name=fresh_model, threshold=0.52, marks=costs)
    alone = made_up.register(tmp_path / "3", name=fresh_model, patients=("b", "c"))
    asked = [r for r in all_references() if r.startswith(f"{fresh_model}/")]
    assert asked == [f"{fresh_model}/{k}" for k in (1, 2, 3)]
    versions, left_out = work.read([*asked, f"{fresh_model}/9"])
    assert list(left_out) == [f"{fresh_model}/9"]
    first, second = work.groups(versions)
    assert [f"holter-{p.name}" for p in first.points] == [v.model.reference for v in (one, other)]
    assert [f"holter-{p.name}" for p in second.points] == [alone.model.reference]
    assert (first.patients, second.patients) == (6, 2)
    assert first.points[0].f1 == one.metrics["test_f1"] > first.points[1].f1
    assert first.points[0].costs == {
        "parameters": 900.0,
        "multiply_adds": 40_000.0,
        "bytes": 9_000.0,
    }
    assert first.points[0].training == "3 epochs"
    frame = work.points_frame(first)
    assert frame.version.tolist() == [p.name for p in first.points]
    assert frame.loc[0, ["f1", "bytes"]].tolist() == [one.metrics["test_f1"], 9_000]
    assert frame[["f1_low", "latency_us"]].isna().all(axis=None)
    report = work.blocks([first, second], left_out)
    assert sum(isinstance(block, Picture) for block in report) == 1
    assert any(isinstance(b, Words) and "Alone on its test set" in b.text for b in report)
    table, *_ = (b for b in report if isinstance(b, Table))
    assert table.rows[0][-1] == "parameters, multiply-adds, bytes"
    assert table.rows[1][-1] == "-"
    deliver("Costs", report, tmp_path / "out" / "report.md")
    assert (tmp_path / "out" / "figures" / "pareto_1.png").is_file()
    told = json.loads(as_json(work.content([first, second], left_out)))
    assert told["groups"][0]["points"][0]["front"] == ["parameters", "multiply_adds", "bytes"]


def test_latencies_are_of_one_device_or_of_the_server(fresh_model: str, tmp_path: Path) -> None:
    """The device that reported on most versions, or the one asked for; no two sources are mixed."""
    versions = [
        made_up.register(tmp_path / str(k), name=fresh_model, parity={"cpu_us_per_row": 50.0 + k})
        for k in range(2)
    ]
    (group,) = work.groups(versions, bounds=True)
    assert group.latency == work.SERVER
    assert [p.costs["latency_us"] for p in group.points] == [50.0, 51.0]
    assert all(p.bounds and p.bounds[0] < p.f1 < p.bounds[1] for p in group.points)
    made_up.on_device(versions[0], "a-belt", latency_p50_ms=4.0)
    for version in versions:
        made_up.on_device(version, "belt", latency_p50_ms=2.0)
    again = [read_version(one.model.reference) for one in versions]
    (group,) = work.groups(again)
    assert "on belt," in group.latency
    assert [p.costs["latency_us"] for p in group.points] == [2_000.0, 2_000.0]
    (group,) = work.groups(again, "a-belt")
    assert [p.costs.get("latency_us") for p in group.points] == [4_000.0, None]
