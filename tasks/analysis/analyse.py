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
from storage.recordings.records import open_alone, read_lead
from storage.registry.boxed import BOXED, boxed_release
from storage.registry.model_files import LITERT
from storage.tables.beats import BAD, BeatTable, join_tables
from tasks.analysis.choice import usual_network
from tasks.analysis.episode_table import episode_table
from tasks.analysis.finding import Analysis
from tasks.analysis.page.facts import CLINICAL_S, Page
from tasks.analysis.page.to_html import draw_html
from tasks.analysis.page.to_pdf import draw_pdf
from tasks.analysis.reliability import reliability
from tasks.analysis.words import state_of
from tasks.features.fused import fused_record, tables_with_shapes
from tasks.networks.sequence import reads_records, reads_shapes
from tasks.pages.decision import decision_words
from tasks.runtimes.inference import of_record, probabilities
from tasks.runtimes.releases import self_test
from tasks.runtimes.runtimes import Network, open_runtime, usual
from tasks.scores.drift import profile
from tasks.scores.episodes import Intervals, durations_s, episodes, lasting, rhythm_annotations
from tasks.scores.rule import STRIP_S, Rule, judge, rule_of, usual_share
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing

#: Where a release is from that nobody named.
OF_THE_BOX = "from the box, as no release is named or installed"


@dataclass(frozen=True, eq=False)
class Release:
    """A model's folder, checked: its manifest, and in words where it is from and why it decides."""

    folder: Path
    manifest: Mapping[str, Any]
    origin: str = "named by its user"
    reason: str = ""


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
    af_share: float | None = None,
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
    af_share : float, optional
        How common AF is among those who are asked (`tasks.scores.rule.judge`).

    Raises
    ------
    RecordError, ModelError
        The record cannot be used; the network reads what a record's beats do not give; a share of
        AF is stated for a release that is not calibrated.
    """
    release = release or _of_the_box(runtime)
    network = open_runtime(release.folder, release.manifest, runtime)
    name, rule = _decision_rule(release.manifest, af_share)  # before any work
    record = open_alone(path, leads)
    tables, _, _ = beat_tables(record, partial(read_lead, record), Preprocessing())
    table, answers, mask = decided_beats(network, name, tables)
    told = partial(judge, rule, table, answers, least_beats=least_beats, mask=mask)
    judgement = told(af_share=af_share)
    usual_judgement = judgement if af_share is None else told()
    ran = runtime or usual(release.manifest)
    return Analysis(
        record=record,
        beats=table,
        judgement=judgement,
        runs=episodes(judgement.decided, table.time_s, table.stretches_s),
        model={
            "name": name,
            **_rule_facts(rule, table, af_share),
            "sha256": sha256_file(release.folder / LITERT),
            "runtime": ran,
            "registered": release.manifest.get("registered"),
            "origin": release.origin,
            "reason": release.reason,
        },
        profile=profile(table, usual_judgement.probability, usual_judgement.decided),
        figures=release.manifest.get("figures", ()),
    )


def _decision_rule(manifest: Mapping[str, Any], af_share: float | None) -> tuple[str, Rule]:
    """Network and rule of a manifest, which a stated share of AF has an effect on."""
    name, rule = manifest.get("name"), rule_of(manifest)
    if not isinstance(name, str):
        raise ModelError("release: its manifest names no network")
    if af_share is not None and not rule.scalings:
        raise ModelError(
            f"{name}: found a release that is not calibrated, so --af-share has no effect; "
            "expected one with a certainty in its manifest"
        )
    return name, rule


def _rule_facts(rule: Rule, table: BeatTable, stated: float | None) -> dict[str, Any]:
    """How the beats were decided, and how common AF was taken to be, and why."""
    share, reason = None, "the release is not calibrated: no share of AF is assumed"
    if rule.scalings and stated is not None:
        share, reason = stated, "stated by --af-share"
    elif rule.scalings and (share := usual_share(table)) is not None:
        reason = f"as among people who send strips: less than {STRIP_S:g} s can be analysed"
    elif rule.scalings:
        share, reason = rule.af_share, "as in the records that the release was calibrated on"
    low, high = rule.limits
    return {
        "threshold": rule.calibrated_threshold,
        "smoothing_change": rule.change,
        "untold_from": low,
        "untold_to": high,
        "af_share": share,
        "af_share_reason": reason,
        "decision": decision_words(rule),
    }


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
) -> tuple[BeatTable, NDArray[np.float32], NDArray[np.bool_]]:
    """A record's beats, the network's P(AF) of each and where it could answer.

    No waveform is kept longer than it is needed.
    """
    if reads_shapes(name):
        beats, shapes = zip(*tables_with_shapes(tables), strict=True)
        table = join_tables(beats)
        record = fused_record(table, shape=np.concatenate(shapes))
        del shapes  # 40 MB of a day
        return table, of_record(network, name, record), np.ones(len(table), bool)
    if reads_records(name):
        table = join_tables([replace(part, waveform=None) for part in tables])
        return table, *probabilities(network, name, table)
    parts = [(replace(part, waveform=None), *probabilities(network, name, part)) for part in tables]
    beats, p_af, mask = zip(*parts, strict=True)
    return join_tables(beats), np.concatenate(p_af), np.concatenate(mask)


def summary(analysis: Analysis) -> dict[str, Any]:
    """The figures of an analysis, as they go into its JSON file.

    `af_burden` is None, and `cannot_tell` says why, where nothing can be told of the rhythm.
    """
    low, high = analysis.limits
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
        "analysable": _spans(analysis.beats.stretches_s),
        "beats": len(analysis.beats),
        "flagged_beats": int(flagged.sum()),
        "mean_heart_rate_bpm": 60 / float(rr_s.mean(dtype=np.float64)) if len(rr_s) else None,
        "profile": analysis.profile.as_json(),
        "model": dict(analysis.model),
        "reliability": reliability(analysis.figures, analysis.burden),
        "preprocessing_sha256": Preprocessing().digest(),
        "beat_code_sha256": beat_code_sha256(),
        "cannot_tell": analysis.doubt or None,
        "caveats": analysis.caveats,
        "cannot_tell_s": analysis.untold_s,
        "cannot_tell_stretches": _spans(lasting(analysis.untold, CLINICAL_S)),
        "af_burden": analysis.burden,
        "af_burden_low": low,
        "af_burden_high": high,
        "af_s": analysis.af_s,
        "longest_af_s": float(durations_s(analysis.runs).max(initial=0)),
        "episodes_of_30_s": len(long),
        "episodes": [
            {**span, "told": told, "state": state_of(told)}
            for span, told in zip(_spans(analysis.runs), analysis.told_shares.tolist(), strict=True)
        ],
    }


def _spans(intervals: Intervals) -> list[dict[str, float]]:
    return [{"start_s": start, "end_s": end} for start, end in intervals.tolist()]


def files_of(analysis: Analysis, name: str | None = None) -> dict[str, bytes]:
    """Every file that an analysis leaves, by name: the record's, or another one for its files."""
    name, figures = name or analysis.record.name, summary(analysis)
    page, start = page_of(analysis, figures), analysis.record.start
    pdf = draw_pdf(page)
    return {
        f"{name}.json": (json.dumps(figures, indent=1, sort_keys=True) + "\n").encode(),
        f"{name}.csv": episode_table(
            analysis.beats, analysis.probability, analysis.runs, analysis.told_shares, start
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
        sure=analysis.judgement.sure,
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
        look=analysis.look,
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
