"""`holter analyse`, `holter-edge analyse`: a recording becomes AF episodes, burden and pages.

The code from record to beats is the server's (`tasks.signal.beats`), so the beats are the server's,
bit for bit, and so are the network's answers on one kind of machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.audit.provenance import beat_code_sha256
from storage.errors import ModelError, PlaceError
from storage.files import sha256_file, whole
from storage.recordings.records import Record, open_alone, read_lead
from storage.registry.boxed import BOXED, boxed_release
from storage.registry.model_files import LITERT
from storage.tables.beats import BAD, BeatTable, join_tables
from tasks.analysis.choice import usual_network
from tasks.analysis.episode_table import episode_table
from tasks.analysis.page.facts import CLINICAL_S, Page
from tasks.analysis.page.to_html import draw_html
from tasks.analysis.page.to_pdf import draw_pdf
from tasks.analysis.reliability import reliability
from tasks.analysis.words import percent
from tasks.features.fused import fused_record, tables_with_shapes
from tasks.networks.sequence import reads_records, reads_shapes
from tasks.runtimes.inference import of_record, probabilities
from tasks.runtimes.releases import self_test
from tasks.runtimes.runtimes import Network, open_runtime, usual
from tasks.scores.drift import profile
from tasks.scores.episodes import Intervals, durations_s, episodes, lasting, rhythm_annotations
from tasks.scores.smoothing import UNSMOOTHED, decide
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing

#: The shortest ECG on which AF is diagnosed, a standard one of twelve leads (the same source).
LEAST_S = 10.0
#: With more beats of poor signal, what was found is of the noise; with fewer, they are a caveat. Of
#: 367 readable recordings (MITDB, CPSC2021, CinC 2017) none has more than 0.28; noise has 0.45.
MOST_BAD, MUCH_BAD = 0.35, 0.2
#: Where a release is from that nobody named.
OF_THE_BOX = "from the box, as no release is named or installed"
#: Networks read the beats around each: in a shorter recording they miss most of the AF.
SHORT_S, SHORT_STRIPS = 120.0, "cinc2017"
#: Less of a recording than this share is no picture of it.
LEAST_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Release:
    """A model's folder, checked: its manifest, and in words where it is from and why it decides."""

    folder: Path
    manifest: Mapping[str, Any]
    origin: str = "named by its user"
    reason: str = ""


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
        Name, digest and threshold of what decided, its registered version, where it is from and
        why it was chosen.
    figures : sequence of mapping
        What it reached on data sets, as its manifest has it; empty where it has none.
    """

    record: Record
    beats: BeatTable
    probability: NDArray[np.float32]
    decided: NDArray[np.bool_]
    runs: Intervals
    model: Mapping[str, Any]
    figures: Sequence[Mapping[str, Any]] = ()

    @property
    def duration_s(self) -> float:
        """Length of the record."""
        return self.record.n_samples / self.record.fs_hz

    @property
    def analysable_s(self) -> float:
        """Seconds of it that can be analysed."""
        return float(durations_s(self.beats.stretches_s).sum())

    @property
    def af_s(self) -> float:
        """Seconds in AF."""
        return float(durations_s(self.runs).sum())

    @property
    def doubt(self) -> str:
        """Why nothing can be told of the record's rhythm; "" where something can."""
        if self.analysable_s < LEAST_S:
            return (
                f"found {self.analysable_s:.1f} s that can be analysed; "
                f"expected at least {LEAST_S:g} s"
            )
        if (share := bad_share(self.beats)) > MOST_BAD:
            return (
                f"found a poor signal at {100 * share:.0f} % of {len(self.beats):,} beats; "
                f"expected at most {100 * MOST_BAD:.0f} %"
            )
        return ""

    @property
    def burden(self) -> float | None:
        """Share of the analysable time in AF; None where nothing can be told."""
        return None if self.doubt else self.af_s / self.analysable_s

    @property
    def _found_in_strips(self) -> str:
        """The network's own sensitivity in short strips, in words; "" where it is not known."""
        for row in reliability(self.figures, None):
            if row["dataset"] == SHORT_STRIPS and row["sensitivity"] is not None:
                share = percent(row["sensitivity"])
                return f"; of that in {SHORT_STRIPS}'s strips of a minute it finds {share}"
        return ""

    @property
    def caveats(self) -> list[str]:
        """What a reader of the burden must know, in sentences."""
        share, bad = self.analysable_s / self.duration_s, bad_share(self.beats)
        facts = (
            (
                self.analysable_s < CLINICAL_S,
                f"Only {self.analysable_s:.0f} s were analysed: clinical AF lasts "
                f"{CLINICAL_S:g} s or more.",
            ),
            (
                self.analysable_s < SHORT_S,
                f"The recording is short, and the network leans on the beats around: it may miss "
                f"AF{self._found_in_strips}.",
            ),
            (share < LEAST_SHARE, f"Only {percent(share)} of the recording could be analysed."),
            (bad > MUCH_BAD, f"The signal is poor at {100 * bad:.0f} % of the beats."),
        )
        return [words for holds, words in facts if holds]


def bad_share(beats: BeatTable) -> float:
    """Share of the beats whose signal is poor; 0 where there are none."""
    return float(np.mean((beats.quality & BAD) != 0)) if len(beats) else 0.0


def analyse(
    path: Path,
    release: Path,
    manifest: Mapping[str, Any],
    leads: Sequence[str] = (),
    least_beats: int = 1,
    runtime: str | None = None,
) -> Analysis:
    """Find a record's beats and decide each by a release, checked, in a folder; as `analyse_by`."""
    return analyse_by(path, Release(release, manifest), leads, least_beats, runtime)


def analyse_by(
    path: Path,
    release: Release | None,
    leads: Sequence[str] = (),
    least_beats: int = 1,
    runtime: str | None = None,
) -> Analysis:
    """Find a record's beats and decide each.

    Parameters
    ----------
    path : Path
        As `storage.recordings.records.open_alone`.
    release : Release or None
        What decides; the usual network of the box where none is given
        (`tasks.analysis.choice.usual_network`).
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
    release = release or _of_the_box(runtime)
    network = open_runtime(release.folder, release.manifest, runtime)
    name, threshold, change = _decision_rule(release.manifest)  # before any work
    record = open_alone(path, leads)
    tables, _, _ = beat_tables(record, partial(read_lead, record), Preprocessing())
    table, probability = decided_beats(network, name, tables)
    decided = decide(probability, threshold, change, least_beats, table.begins)
    runs = episodes(decided, table.time_s, table.stretches_s)
    model = {"name": name, "threshold": threshold, "smoothing_change": change}
    sha256, ran = sha256_file(release.folder / LITERT), runtime or usual(release.manifest)
    model |= {"sha256": sha256, "runtime": ran}
    model |= {"registered": release.manifest.get("registered")}
    model |= {"origin": release.origin, "reason": release.reason}
    figures = release.manifest.get("figures", ())
    return Analysis(record, table, probability, decided, runs, model, figures)


def _decision_rule(manifest: Mapping[str, Any]) -> tuple[str, float, float]:
    """Network, threshold and smoothing of a manifest."""
    try:
        change = float(manifest.get("smoothing_change", UNSMOOTHED))
        return str(manifest["name"]), float(manifest["threshold"]), change
    except (KeyError, ValueError) as error:
        raise ModelError("release: its manifest names no network and threshold") from error


def _of_the_box(runtime: str | None) -> Release:
    """The usual release of the box, and why it was chosen."""
    name, reason = usual_network(BOXED)
    return replace(from_the_box(name, runtime), origin=OF_THE_BOX, reason=reason)


@cache
def from_the_box(name: str, runtime: str | None = None) -> Release:
    """A release of the box, its digests checked, and its golden beats answered on this machine.

    Raises
    ------
    ModelError, DigestMismatch, DeviceError
        There is none of this name; a file is not what the code trusts; it does not answer here as
        it did where it was made.
    """
    folder, manifest = boxed_release(name)
    self_test(folder, runtime)
    return Release(folder, manifest, "from the box, named by --model")


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
    """The figures of an analysis, as they go into its JSON file.

    `af_burden` is None, and `cannot_tell` says why, where nothing can be told of the rhythm.
    """
    rr_s = analysis.beats.rr_prev_s[np.isfinite(analysis.beats.rr_prev_s)]
    long = lasting(analysis.runs, CLINICAL_S)
    flagged = (analysis.beats.quality & BAD) != 0
    start = analysis.record.start
    return {
        "record": analysis.record.name,
        "start": start.isoformat() if start else None,
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
        "mean_heart_rate_bpm": 60 / float(rr_s.mean(dtype=np.float64)) if len(rr_s) else None,
        "profile": profile(analysis.beats, analysis.probability, analysis.decided).as_json(),
        "model": dict(analysis.model),
        "reliability": reliability(analysis.figures, analysis.burden),
        "preprocessing_sha256": Preprocessing().digest(),
        "beat_code_sha256": beat_code_sha256(),
        "cannot_tell": analysis.doubt or None,
        "caveats": analysis.caveats,
        "af_burden": analysis.burden,
        "af_s": analysis.af_s,
        "longest_af_s": float(durations_s(analysis.runs).max(initial=0)),
        "episodes_of_30_s": len(long),
        "episodes": [{"start_s": a, "end_s": b} for a, b in analysis.runs.tolist()],
    }


def files_of(analysis: Analysis, name: str | None = None) -> dict[str, bytes]:
    """Every file that an analysis leaves, by name: the record's, or another one for its files."""
    name, figures = name or analysis.record.name, summary(analysis)
    page = page_of(analysis, figures)
    pdf = draw_pdf(page)
    return {
        f"{name}.json": (json.dumps(figures, indent=1, sort_keys=True) + "\n").encode(),
        f"{name}.csv": episode_table(
            analysis.beats, analysis.probability, analysis.runs, analysis.record.start
        ).encode(),
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
        start=analysis.record.start,
        registered=str(model.get("registered") or ""),
        reason=str(model.get("reason") or ""),
        network_figures=figures["reliability"],
        cannot_tell=analysis.doubt,
        caveats=analysis.caveats,
    )


def write_files(out: Path, files: Mapping[str, bytes]) -> None:
    """Write all of the files, or none; those of an earlier analysis are replaced.

    Raises
    ------
    PlaceError
        A file of one of these names is there that no analysis wrote, such as the annotations of the
        recording; nothing is written.
    """
    present = [name for name in files if (out / name).exists()]
    if present and not any(_is_analysis(out / name) for name in present if name.endswith(".json")):
        raise PlaceError(
            f"file {out / present[0]}: found one that no analysis wrote; "
            "expected another folder for the files (--out)"
        )
    with ExitStack() as stack:
        for name, data in files.items():
            stack.enter_context(whole(out / name)).write_bytes(data)


def _is_analysis(path: Path) -> bool:
    """Whether a JSON file is an analysis's."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "af_burden" in document and "beat_code_sha256" in document
