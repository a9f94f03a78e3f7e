"""Pareto: F1 of the registered versions against what they cost, one picture a test set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from flows.reports.compare import decisions_of
from storage.audit.versions import VersionRecord, check_unedited, read_version
from storage.errors import HolterError, OutOfReach
from storage.registry.evaluations import RequestState
from storage.registry.tags import MULTIPLY_ADDS_TAG, PARAMETERS_TAG, RUNTIME_TAG, runtime_tag
from tasks.networks.models import known_models
from tasks.networks.sequence import reads_records, windows
from tasks.pages import figures
from tasks.pages.document import Block, Heading, Picture, Summary, Table, Tile, Words
from tasks.pages.numbers import bounds_of, label_of, text_of, with_bounds
from tasks.scores.compare import by_patient
from tasks.scores.compare import figures as rates
from tasks.scores.pareto import COSTS, Point, front

LATENCY = "latency_p50_ms"
#: What the picture says where no device has reported.
SERVER = "the server's CPU time of a beat in batches of 32 rows, \u00b5s"
#: What is told of each training.
TRAINING_WORDS = {
    "epochs": "epochs",
    "most_beats": "beats at most",
    "patience": "epochs of patience",
}
RULES = (
    "Only versions tested on the same beats stand in one picture: the same content of the data "
    "sets and the same split. F1 is the sealed one of the registered LiteRT file at the version's "
    "own threshold, decisions not smoothed; bytes are that file's. A point is joined where no "
    "other is as cheap and better, or cheaper and as good. Of a network of whole records a "
    "window's multiply-adds and latency are divided by the beats it answers."
)
UNSURE = (
    "One training each: another seed moves a point, and points whose intervals over patients "
    "overlap are not told apart by this picture; holter compare gives the paired difference."
)


@dataclass(frozen=True)
class Group:
    """Versions tested on the same beats.

    Attributes
    ----------
    scope : str
        Data sets, split and level.
    patients, beats : int
        Of the test set.
    latency : str
        Whose latency the points have.
    points : tuple of Point
    """

    scope: str
    patients: int
    beats: int
    latency: str
    points: tuple[Point, ...]


def read(references: Sequence[str]) -> tuple[list[VersionRecord], dict[str, str]]:
    """The versions that can be drawn, and why each of the others cannot."""
    versions, left_out = [], {}
    for reference in references:
        try:
            version = check_unedited(read_version(reference))
        except OutOfReach:
            raise
        except HolterError as error:
            left_out[reference] = str(error)
            continue
        if "test_f1" in version.metrics:
            versions.append(version)
        else:
            left_out[version.model.reference] = "found no F1 on a test set"
    return versions, left_out


def groups(
    versions: Sequence[VersionRecord], device: str | None = None, *, bounds: bool = False
) -> list[Group]:
    """Versions by the beats they were tested on, the largest group first.

    Parameters
    ----------
    versions : sequence of VersionRecord
        As `read` gives them.
    device : str, optional
        Whose latency; else of the device that reported on most of a group, else the server's.
    bounds : bool
        Answer the test sets again for the intervals of F1 over patients.
    """
    by_testset: dict[tuple[str, ...], list[VersionRecord]] = {}
    for version in {candidate.model.reference: candidate for candidate in versions}.values():
        by_testset.setdefault(_tested_on(version), []).append(version)
    result = [_group(members, device, bounds=bounds) for members in by_testset.values()]
    return sorted(result, key=lambda group: (-len(group.points), group.scope))


def _tested_on(version: VersionRecord) -> tuple[str, ...]:
    """What decides the beats of a version's test set: their number is a check."""
    beats = f"{version.metrics.get('test_n_beats', 0):.0f}"
    return (*(m.digest() for m in version.manifests), str(version.split["sha256"]), beats)


def _group(versions: Sequence[VersionRecord], device: str | None, *, bounds: bool) -> Group:
    first = versions[0]
    split, names = first.split, " + ".join(m.dataset for m in first.manifests)
    simulated = "SIMULATED " if any(m.simulated for m in first.manifests) else ""
    source = device or _most_reports(versions)
    people = len(split["test"]["subjects"])
    beats = int(first.metrics.get("test_n_beats", split["test"]["beats"]))
    return Group(
        scope=f"{simulated}{names}, {split['paradigm']}, split of seed {split['seed']} "
        f"({split['sha256'][:12]}), test side, beat level",
        patients=people,
        beats=beats,
        latency=f"median latency of a beat on {source}, \u00b5s" if source else SERVER,
        points=tuple(_point(version, source, bounds=bounds) for version in versions),
    )


def _most_reports(versions: Sequence[VersionRecord]) -> str | None:
    """The device that reported on most of the versions; the first by name where several did."""
    reported = [report.device for version in versions for report in _reports(version)]
    return min(set(reported), key=lambda name: (-reported.count(name), name), default=None)


def _reports(version: VersionRecord) -> list[RequestState]:
    """Devices' reports on the file that was scored: an agent may run another runtime's."""
    usual = version.model.tags.get(RUNTIME_TAG)
    return [
        report
        for report in version.reports
        if LATENCY in report.metrics and report.tags.get(RUNTIME_TAG, usual) == usual
    ]


def _point(version: VersionRecord, device: str | None, *, bounds: bool) -> Point:
    tags, name = version.model.tags, version.params.get("model", "")
    beats = windows(name).core if name in known_models() and reads_records(name) else 1
    runtime = json.loads(tags.get(runtime_tag(tags.get(RUNTIME_TAG, "")), "{}"))
    if device:
        ms = [r.metrics[LATENCY] for r in _reports(version) if r.device == device]
        latency_us = 1e3 * ms[0] if ms else 0.0
    else:
        latency_us = float(runtime.get("cpu_us_per_row", 0))
    costs = {
        "parameters": float(tags.get(PARAMETERS_TAG, 0)),
        "multiply_adds": float(tags.get(MULTIPLY_ADDS_TAG, 0)) / beats,
        "bytes": float(runtime.get("bytes", 0)),
        "latency_us": latency_us / beats,
    }
    interval = None
    if bounds:
        scores = rates(by_patient(decisions_of(version.model)))
        interval = (scores["f1_low"], scores["f1_high"]) if "f1_low" in scores else None
    return Point(
        name=" ".join([version.model.reference.removeprefix("holter-"), *_compression(version)]),
        training=", ".join(
            f"{int(version.params[key]):,} {words}"
            for key, words in TRAINING_WORDS.items()
            if int(version.params.get(key, 0))
        ),
        f1=version.metrics["test_f1"],
        bounds=interval,
        costs={key: value for key, value in costs.items() if value > 0},
    )


def _compression(version: VersionRecord) -> list[str]:
    """What marks a version beside others of its network."""
    params = version.params
    pruned = float(params.get("sparsity", 0))
    return [
        *([f"pruned {pruned:g}"] if pruned else []),
        *(["quantised"] if params.get("quantised") == "True" else []),
        *(
            [f"taught by {params['teacher'].removeprefix('holter-')}"]
            if "teacher" in params
            else []
        ),
    ]


def blocks(groups: Sequence[Group], left_out: dict[str, str]) -> list[Block]:
    """The report: of each group a picture and a table, then what it cannot say."""
    out: list[Block] = []
    for number, group in enumerate(groups, 1):
        out += [Heading(group.scope), _summary(group)]
        if len(group.points) > 1:
            png = figures.pareto(group.points, group.latency, _title(group))
            shows = f"F1 against parameters, multiply-adds, bytes and latency: {group.scope}"
            out.append(Picture(f"pareto_{number}.png", png, shows))
        else:
            out.append(Words("Alone on its test set: no other version can be held against it."))
        out += [_table(group), Words(f"Latency: {group.latency}.")]
    if left_out:
        out += [Heading("Left out"), Table(("version", "why"), list(left_out.items()))]
    return [*out, Heading("What this says, and what it cannot"), Words(RULES), Words(UNSURE)]


def _summary(group: Group) -> Summary:
    best = max(group.points, key=lambda point: (point.f1 == point.f1, point.f1))
    return Summary(
        f"The highest F1 is that of {best.name}",
        [
            Tile(label_of("f1"), text_of(best.f1, "f1"), bounds_of(_figures(best), "f1")),
            Tile("Versions", f"{len(group.points):,}"),
            Tile("Patients", f"{group.patients:,}", f"{group.beats:,} beats"),
        ],
    )


def _title(group: Group) -> str:
    return f"{group.scope}\n{group.patients} patients, {group.beats:,} beats"


def points_frame(group: Group) -> pd.DataFrame:
    """A group's versions, the best first.

    Returns
    -------
    DataFrame, a row a version
        `version`, `training`; `f1`, `f1_low` and `f1_high`, NaN where no interval was asked for;
        each cost of `tasks.scores.pareto.COSTS`, NaN where it is not known; `not_beaten_in`, the
        costs in which no other version is as cheap and better, or cheaper and as good.
    """
    best = {cost: front(group.points, cost) for cost in COSTS}
    rows = [
        {
            "version": point.name,
            "training": point.training,
            "f1": point.f1,
            **dict(zip(("f1_low", "f1_high"), point.bounds or (np.nan, np.nan), strict=True)),
            **{cost: point.costs.get(cost, np.nan) for cost in COSTS},
            "not_beaten_in": [cost for cost in COSTS if point in best[cost]],
        }
        for point in group.points
    ]
    return pd.DataFrame(rows).sort_values("f1", ascending=False, kind="stable", ignore_index=True)


def _table(group: Group) -> Table:
    frame = points_frame(group)
    cells = {
        "version": frame.version,
        "training": frame.training.replace("", "-"),
        label_of("f1"): [with_bounds(row, "f1") for row in frame.to_dict("records")],
        **{name: frame[cost].map(_cost) for cost, name in COSTS.items()},
        "not beaten in": frame.not_beaten_in.map(
            lambda costs: ", ".join(c.replace("_us", "").replace("_", "-") for c in costs) or "-"
        ),
    }
    columns = ["latency, \u00b5s" if name == "latency" else name for name in cells]
    return Table(columns, list(zip(*cells.values(), strict=True)))


def _figures(point: Point) -> dict[str, float]:
    ends = dict(zip(("f1_low", "f1_high"), point.bounds or (), strict=False))
    return {"f1": point.f1, **ends}


def _cost(value: float) -> str:
    if np.isnan(value):
        return text_of(None)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def content(groups: Sequence[Group], left_out: dict[str, str]) -> dict[str, Any]:
    """The same for a program; of each point also in which costs no other beats it."""
    whole = [
        {
            "about": group.scope,
            "patients": group.patients,
            "beats": group.beats,
            "latency": group.latency,
            "points": [
                {**asdict(p), "front": [c for c in COSTS if p in front(group.points, c)]}
                for p in group.points
            ],
        }
        for group in groups
    ]
    return {"groups": whole, "left_out": left_out}
