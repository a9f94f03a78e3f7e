"""`holter-edge analyse`: a raw record becomes AF episodes, burden, annotations and a picture.

The code from record to beats is the server's (`tasks.signal.beats`), so the beats are the server's,
bit for bit, and so are the network's answers on one kind of machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.audit.provenance import beat_code_sha256
from storage.errors import ModelError
from storage.files import sha256_file, whole
from storage.recordings.records import Record, open_alone, read_lead
from storage.registry.model_files import LITERT
from storage.tables.beats import BAD, BeatTable, join_tables
from tasks.analysis.page import CLINICAL_S, Page
from tasks.analysis.page_html import draw_html
from tasks.analysis.page_pdf import draw_pdf
from tasks.features.fused import fused_record, tables_with_shapes
from tasks.networks.sequence import reads_records, reads_shapes
from tasks.runtimes.inference import of_record, probabilities
from tasks.runtimes.runtimes import Network, open_runtime, usual
from tasks.scores.drift import profile
from tasks.scores.episodes import Intervals, durations_s, episodes, lasting, rhythm_annotations
from tasks.scores.smoothing import UNSMOOTHED, decide
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a network says of a record.

    Attributes
    ----------
    record : Record
        The record, opened.
    beats : BeatTable
        Its beats, without waveforms.
    probability : float32, shape (n,)
        P(AF) of each.
    decided : bool, shape (n,)
        AF or not.
    runs : float64, shape (k, 2)
        Start and end of every AF episode, seconds.
    model : mapping
        Name, digest and threshold of what decided.
    """

    record: Record
    beats: BeatTable
    probability: NDArray[np.float32]
    decided: NDArray[np.bool_]
    runs: Intervals
    model: Mapping[str, Any]

    @property
    def duration_s(self) -> float:
        """Length of the record."""
        return self.record.n_samples / self.record.fs_hz

    @property
    def analysable_s(self) -> float:
        """Seconds of it that can be analysed."""
        return float(durations_s(self.beats.stretches_s).sum())

    @property
    def burden(self) -> float:
        """Share of the analysable time in AF."""
        return float(durations_s(self.runs).sum()) / self.analysable_s


def analyse(
    path: Path,
    release: Path,
    manifest: Mapping[str, Any],
    leads: Sequence[str] = (),
    least_beats: int = 1,
    runtime: str | None = None,
) -> Analysis:
    """Find a record's beats and decide each.

    Parameters
    ----------
    path : Path
        As `storage.recordings.records.open_alone`.
    release : Path
        A model's folder, checked.
    manifest : mapping
        Its manifest: name and threshold.
    leads : sequence of str
        Leads to look for, in order of preference; the usual ones where none is given.
    least_beats : int
        Runs of fewer equal decisions become what surrounds them.
    runtime : str, optional
        What runs the network; the release's own otherwise.

    Raises
    ------
    RecordError, ModelError
        The record cannot be used; the network reads what a record's beats do not give.
    """
    network = open_runtime(release, manifest, runtime)
    try:
        name, threshold = str(manifest["name"]), float(manifest["threshold"])
        change = float(manifest.get("smoothing_change", UNSMOOTHED))
    except (KeyError, ValueError) as error:
        raise ModelError("release: its manifest names no network and threshold") from error
    record = open_alone(path, leads)
    tables, _, _ = beat_tables(record, partial(read_lead, record), Preprocessing())
    table, probability = decided_beats(network, name, tables)
    decided = decide(probability, threshold, change, least_beats, table.begins)
    runs = episodes(decided, table.time_s, table.stretches_s)
    model = {"name": name, "threshold": threshold, "smoothing_change": change}
    model |= {"sha256": sha256_file(release / LITERT), "runtime": runtime or usual(manifest)}
    return Analysis(record, table, probability, decided, runs, model)


def decided_beats(
    network: Network, name: str, tables: Iterator[BeatTable]
) -> tuple[BeatTable, NDArray[np.float32]]:
    """A record's beats, and P(AF) of each; no waveform is kept longer than it is needed."""
    if reads_shapes(name):
        beats, shapes = zip(*tables_with_shapes(tables), strict=True)
        table = join_tables(beats)
        record = fused_record(table, shape=np.concatenate(shapes))
        del shapes  # 40 MB of a day
        return table, of_record(network, name, record)
    if reads_records(name):
        table = join_tables([replace(part, waveform=None) for part in tables])
        return table, probabilities(network, name, table)[0]
    pairs = [
        (replace(part, waveform=None), probabilities(network, name, part)[0]) for part in tables
    ]
    return join_tables([part for part, _ in pairs]), np.concatenate([p_af for _, p_af in pairs])


def summary(analysis: Analysis) -> dict[str, Any]:
    """The figures of an analysis, as they go into its JSON file."""
    rr_s = analysis.beats.rr_prev_s[np.isfinite(analysis.beats.rr_prev_s)]
    long = lasting(analysis.runs, CLINICAL_S)
    flagged = (analysis.beats.quality & BAD) != 0
    return {
        "record": analysis.record.name,
        "files_sha256": dict(analysis.record.digests),
        "lead": analysis.record.lead,
        "warnings": list(analysis.record.warnings),
        "fs_hz": analysis.record.fs_hz,
        "hours": analysis.duration_s / 3600,
        "analysable_hours": analysis.analysable_s / 3600,
        "unanalysable_share": 1 - analysis.analysable_s / analysis.duration_s,
        "analysable": [{"start_s": a, "end_s": b} for a, b in analysis.beats.stretches_s.tolist()],
        "beats": len(analysis.beats),
        "flagged_beats": int(flagged.sum()),
        "mean_heart_rate_bpm": 60 / float(rr_s.mean()),
        "profile": profile(analysis.beats, analysis.probability, analysis.decided).as_json(),
        "model": dict(analysis.model),
        "preprocessing_sha256": Preprocessing().digest(),
        "beat_code_sha256": beat_code_sha256(),
        "af_burden": analysis.burden,
        "af_s": float(durations_s(analysis.runs).sum()),
        "longest_af_s": float(durations_s(analysis.runs).max(initial=0)),
        "episodes_of_30_s": len(long),
        "episodes": [{"start_s": a, "end_s": b} for a, b in analysis.runs.tolist()],
    }


def episode_rows(analysis: Analysis) -> str:
    """The episodes as CSV: times, beats, mean P(AF) and heart rate, share of flagged beats.

    An episode of one beat without an interval after it has no heart rate.
    """
    lines = ["start_s,end_s,duration_s,beats,mean_p_af,mean_heart_rate_bpm,flagged_share"]
    flagged = (analysis.beats.quality & BAD) != 0
    for start, end in analysis.runs.tolist():
        low, high = np.searchsorted(analysis.beats.time_s, (start, end))
        inside = slice(low, max(high, low + 1))
        rr_s = analysis.beats.rr_next_s[inside]
        rr_s = rr_s[np.isfinite(rr_s)]
        rate = f"{60 / float(rr_s.mean()):.1f}" if len(rr_s) else ""
        share, p_af = float(flagged[inside].mean()), float(analysis.probability[inside].mean())
        times = f"{start:.3f},{end:.3f},{end - start:.3f},{high - low}"
        lines.append(f"{times},{p_af:.3f},{rate},{share:.3f}")
    return "\n".join(lines) + "\n"


def files_of(analysis: Analysis) -> dict[str, bytes]:
    """Every file that an analysis leaves, by name."""
    name, figures = analysis.record.name, summary(analysis)
    page = page_of(analysis, figures)
    pdf = draw_pdf(page)
    return {
        f"{name}.json": (json.dumps(figures, indent=1, sort_keys=True) + "\n").encode(),
        f"{name}.csv": episode_rows(analysis).encode(),
        f"{name}.haf": rhythm_annotations(analysis.runs, analysis.beats.stretches_s),
        f"{name}.html": draw_html(page).encode(),
        **({f"{name}.pdf": pdf} if pdf else {}),
    }


def page_of(analysis: Analysis, figures: Mapping[str, Any]) -> Page:
    """What the report shows of an analysis."""
    model = analysis.model
    return Page(
        record=analysis.record.name,
        lead=str(analysis.record.lead),
        duration_s=analysis.duration_s,
        fs_hz=analysis.record.fs_hz,
        stretches_s=analysis.beats.stretches_s,
        time_s=analysis.beats.time_s,
        rr_s=analysis.beats.rr_prev_s,
        rr_next_s=analysis.beats.rr_next_s,
        flagged=(analysis.beats.quality & BAD) != 0,
        decided=analysis.decided,
        probability=analysis.probability,
        runs=analysis.runs,
        figures=figures,
        read=partial(read_lead, analysis.record),
        start=getattr(analysis.record, "start", None),
        registered=str(model.get("registered") or ""),
        reason=str(model.get("reason") or ""),
        network_figures=tuple(model.get("figures") or ()),
    )


def write_files(out: Path, files: Mapping[str, bytes]) -> None:
    """Write all of the files, or none."""
    with ExitStack() as stack:
        for name, data in files.items():
            stack.enter_context(whole(out / name)).write_bytes(data)
