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
from tasks.features.fused import fused_record, shaped
from tasks.networks.sequence import reads_records, reads_shapes
from tasks.pages.page import Page, Strip, draw
from tasks.runtimes.inference import of_record, probabilities
from tasks.runtimes.runtimes import Network, open_runtime, usual
from tasks.scores.drift import profile
from tasks.scores.episodes import Intervals, durations_s, episodes, lasting, rhythm_annotations
from tasks.scores.smoothing import UNSMOOTHED, decide
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing

#: Episodes of AF that count clinically last so long (Hindricks et al. 2021,
#: doi:10.1093/eurheartj/ehaa612).
CLINICAL_S = 30.0
STRIP_S = 10.0


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
        beats, shapes = zip(*shaped(tables), strict=True)
        table = join_tables(beats)
        record = fused_record(table, shape=np.concatenate(shapes))
        del shapes  # 40 MB of a day
        return table, of_record(network, name, record)
    if reads_records(name):
        table = join_tables([replace(one, waveform=None) for one in tables])
        return table, probabilities(network, name, table)[0]
    answered = [
        (replace(one, waveform=None), probabilities(network, name, one)[0]) for one in tables
    ]
    return join_tables([one for one, _ in answered]), np.concatenate(
        [found for _, found in answered]
    )


def summary(found: Analysis) -> dict[str, Any]:
    """The figures of an analysis, as they go into its JSON file."""
    rr_s = found.beats.rr_prev_s[np.isfinite(found.beats.rr_prev_s)]
    long = lasting(found.runs, CLINICAL_S)
    flagged = (found.beats.quality & BAD) != 0
    return {
        "record": found.record.name,
        "files_sha256": dict(found.record.digests),
        "lead": found.record.lead,
        "warnings": list(found.record.warnings),
        "fs_hz": found.record.fs_hz,
        "hours": found.duration_s / 3600,
        "analysable_hours": found.analysable_s / 3600,
        "unanalysable_share": 1 - found.analysable_s / found.duration_s,
        "analysable": [{"start_s": a, "end_s": b} for a, b in found.beats.stretches_s.tolist()],
        "beats": len(found.beats),
        "flagged_beats": int(flagged.sum()),
        "mean_heart_rate_bpm": 60 / float(rr_s.mean()),
        "profile": profile(found.beats, found.probability, found.decided).as_json(),
        "model": dict(found.model),
        "preprocessing_sha256": Preprocessing().digest(),
        "beat_code_sha256": beat_code_sha256(),
        "af_burden": found.burden,
        "af_s": float(durations_s(found.runs).sum()),
        "longest_af_s": float(durations_s(found.runs).max(initial=0)),
        "episodes_of_30_s": len(long),
        "episodes": [{"start_s": a, "end_s": b} for a, b in found.runs.tolist()],
    }


def episode_rows(found: Analysis) -> str:
    """The episodes as CSV: times, beats, mean P(AF) and heart rate, share of flagged beats.

    An episode of one beat without an interval after it has no heart rate.
    """
    lines = ["start_s,end_s,duration_s,beats,mean_p_af,mean_heart_rate_bpm,flagged_share"]
    flagged = (found.beats.quality & BAD) != 0
    for start, end in found.runs.tolist():
        low, high = np.searchsorted(found.beats.time_s, (start, end))
        inside = slice(low, max(high, low + 1))
        rr_s = found.beats.rr_next_s[inside]
        rr_s = rr_s[np.isfinite(rr_s)]
        rate = f"{60 / float(rr_s.mean()):.1f}" if len(rr_s) else ""
        share, p_af = float(flagged[inside].mean()), float(found.probability[inside].mean())
        times = f"{start:.3f},{end:.3f},{end - start:.3f},{high - low}"
        lines.append(f"{times},{p_af:.3f},{rate},{share:.3f}")
    return "\n".join(lines) + "\n"


def strips(found: Analysis) -> list[Strip]:
    """The signal at the first and longest episode, or where P(AF) is highest; and a calm one."""
    wanted: dict[float, str] = {}
    long = lasting(found.runs, CLINICAL_S)
    if len(long):
        first, longest = long[0], long[int(durations_s(long).argmax())]
        wanted[longest[0] - STRIP_S / 2] = "onset of the longest episode"
        if first[0] != longest[0]:
            wanted[first[0] - STRIP_S / 2] = "onset of the first episode of 30 s or more"
        wanted[longest.mean() - STRIP_S / 2] = "middle of the longest episode"
    else:
        at = found.beats.time_s[int(found.probability.argmax())]
        wanted[float(at) - STRIP_S / 2] = "no episode of 30 s; here P(AF) is highest"
    quiet = _steadiest(found)
    if quiet is not None:
        wanted[quiet] = "not AF, for comparison"
    record, out = found.record, []
    for start_s, what in wanted.items():
        start = int(max(min(start_s, found.duration_s - STRIP_S), 0) * record.fs_hz)
        stop = min(start + round(STRIP_S * record.fs_hz), record.n_samples)
        out.append(Strip(what, start / record.fs_hz, record.fs_hz, read_lead(record, start, stop)))
    return out


def _steadiest(found: Analysis) -> float | None:
    """Where ten seconds of one stretch hold no AF and no flagged beat, with the lowest P(AF)."""
    span = 16
    if len(found.beats) < span:
        return None
    bad = found.decided | ((found.beats.quality & BAD) != 0) | found.beats.begins
    cost = np.convolve(found.probability + bad, np.ones(span), "valid")
    at = int(cost.argmin())
    return None if cost[at] >= 1 else float(found.beats.time_s[at])


def files_of(found: Analysis) -> dict[str, bytes]:
    """Every file that an analysis leaves, by name."""
    name, figures = found.record.name, summary(found)
    page = Page(
        record=name,
        lead=str(found.record.lead),
        duration_s=found.duration_s,
        stretches_s=found.beats.stretches_s,
        time_s=found.beats.time_s,
        rr_s=found.beats.rr_prev_s,
        flagged=(found.beats.quality & BAD) != 0,
        decided=found.decided,
        probability=found.probability,
        runs=found.runs,
        figures=figures,
        strips=strips(found),
    )
    return {
        f"{name}.json": (json.dumps(figures, indent=1, sort_keys=True) + "\n").encode(),
        f"{name}.csv": episode_rows(found).encode(),
        f"{name}.haf": rhythm_annotations(found.runs, found.beats.stretches_s),
        f"{name}.svg": draw(page).encode(),
    }


def write_files(out: Path, files: Mapping[str, bytes]) -> None:
    """Write all of the files, or none."""
    with ExitStack() as stack:
        for name, data in files.items():
            stack.enter_context(whole(out / name)).write_bytes(data)
