"""Evaluate: a registered network on whole data sets, at every level, as one HTML report."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.ingest.failures import telling
from flows.ingest.flow import Ingested, ingest_each
from flows.ingest.folders import data_sets, resolved
from flows.parameters import Folders, LeastBeats, Signals
from flows.reports.compare import change_of
from flows.services.alive import WATCHED
from flows.services.progress import Progress
from flows.train.teacher import learnt_recordings, teachers_of
from flows.train.training_run import log_dataset, work_folder
from storage.audit import ledger, outcomes
from storage.audit.chain import resolve_model
from storage.audit.provenance import git_state
from storage.audit.versions import recorded
from storage.errors import DigestMismatch, NotInRegistry, SignatureError, SplitError, TableError
from storage.files import sha256_file, sha256_folder, write_bytes
from storage.places import Place
from storage.registry import mlflow_rest, tracking
from storage.registry.evaluations import OUTCOME
from storage.registry.model_files import LITERT, RegisteredModel
from storage.tables.beats import read_beats
from storage.tables.beats_manifest import Manifest
from storage.tables.content import copies, recordings, without_prints
from tasks.learning.splits import MOST_PAIRS
from tasks.networks.sequence import reads_records, reads_waveforms
from tasks.pages import report
from tasks.pages.markup import inline
from tasks.runtimes.inference import probabilities
from tasks.runtimes.litert import LiteRT
from tasks.scores.calibration import calibration, threshold_table
from tasks.scores.cpsc2021_score import score_decisions
from tasks.scores.episodes import episodes, rhythm_annotations
from tasks.scores.evaluation import FLUTTER, Scored, per_patient, per_rhythm, per_stratum, summary
from tasks.scores.metrics import roc_points
from tasks.scores.smoothing import UNSMOOTHED, decide
from tasks.signal.preprocessing import Policy

#: Challenges' own scores, by data set: the mean over its records.
CHALLENGE_SCORES = {"cpsc2021": score_decisions}
#: What the report says of its rules.
RULES = (
    "What cannot be analysed is no time, and parts episodes and intervals. "
    "Beats whose rhythm is unknown count nowhere. Atrial flutter counts as not AF; the columns "
    "'without AFL' leave its beats out. Episodes are compared by the rules of ANSI/AAMI EC57 "
    "(WFDB epicmp): an episode of 30 s or more is found, or right, if one of any length overlaps "
    "it on the other side; durations count every episode; PPV leaves true flutter out, the burden"
    " does not. The first five minutes count. A segment of 30 s is AF where half of it "
    "is; one counts where half of it can be analysed. "
    "Intervals are 95 %, by drawing patients 2,000 times. Calibration uses 15 bins of equal "
    "width."
)


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation made: its run, its figures by data set, the report, and of what."""

    run_id: str
    figures: dict[str, dict[str, float]]
    report: Path
    ingested: Sequence[Ingested] = ()


@flow(name="evaluate", flow_run_name="evaluate-{model}", **WATCHED)
def evaluate(
    model: str,
    datasets: list[str],
    data: Folders = None,
    policy: Policy = "consensus",
    signal: Signals = None,
    least_beats: LeastBeats = 1,
) -> Evaluated:
    """Score a registered network on data sets; figures, tables and the report go to MLflow.

    Parameters
    ----------
    model : str
        NAME@alias, NAME/version or NAME.
    datasets, data : list of str, list of Path, optional
        Data sets, and the folder of each, else those of the TOMLs.
    policy : {"consensus", "reference", "detected"}
        Which beats the tables hold where beats are annotated.
    signal : bool or list of bool, optional
        False reads annotations alone, for rhythm networks; as `flows.ingest.folders.data_sets`.
    least_beats : int
        Runs of fewer equal decisions become what surrounds them.

    Raises
    ------
    ValueError
        A data set is named twice, or there is not one folder for each.
    SplitError
        The version learnt from a recording of them that has another name there.
    """
    sets = resolved(data_sets(datasets, data=data, signal=signal))
    version = resolve_model(model)
    single = not reads_records(version.name.removeprefix("holter-"))
    if single and not all(one.signal for one in sets):
        raise ValueError(f"{version.reference} reads waveforms: it needs the signal")
    ingested = ingest_each(sets, policy)
    notes = known_records(version.reference, [made.manifest for made in ingested])
    run_id = tracking.start_run(
        experiment=f"evaluate/{version.name}",
        run_name=f"{version.reference} on {'+'.join(datasets)}",
        params={"model": version.reference, "least_beats": least_beats},
        tags={
            **git_state(),
            "holter.kind": "evaluation",
            "holter.model": version.name,
            "holter.version": str(version.version),
            "mlflow.note.content": (
                f"[{inline(version.reference)}]({tracking.model_page(version)}). "
                f"[Its training]({tracking.run_page(version.run_id)})."
            ),
            "holter.model_run_id": version.run_id,
            "holter.threshold": version.tags["holter.threshold"],
            **{
                f"holter.dataset_sha256.{m.manifest.dataset}": m.manifest.digest() for m in ingested
            },
        },
    )
    try:
        for made in ingested:
            log_dataset(run_id, made.path, made.manifest, "evaluation", {})
        scored = [s for made in ingested for s in score_dataset(version, made, least_beats)]
        tables = {
            (made.manifest.dataset, entry.record): made.path.parent / entry.file
            for made in ingested
            for entry in made.manifest.entries
        }
        done = write_up(version, scored, tables, notes, run_id)
        ledger.append(
            version.name,
            version.version,
            ledger.EVALUATED,
            f"on {', '.join(made.manifest.dataset for made in ingested)}",
            run_id=run_id,
            datasets=" ".join(made.manifest.digest() for made in ingested),
            report=sha256_folder(done.report.parent),
            **{outcomes.DETAIL: sha256_file(done.report.parent / OUTCOME)},
        )
    except BaseException as error:
        tracking.finish_run(run_id, "FAILED", f"{type(error).__name__}: {error}")
        raise
    tracking.finish_run(run_id, "FINISHED")
    return telling(replace(done, ingested=ingested), ingested)


def known_records(reference: str, manifests: Sequence[Manifest]) -> list[str]:
    """What the report is to say of records that a version learnt from.

    Raises
    ------
    SplitError
        It learnt from some under another name: the figures would seem to be of new patients.
    """
    try:
        version = recorded(reference)
        learnt = learnt_recordings(version)
        behind = [data for source in (version, *teachers_of(version)) for data in source.manifests]
    except (NotInRegistry, SignatureError, DigestMismatch) as error:
        return [f"Whether it learnt from these records cannot be told: {error}."]
    names = {recording.name for recording in learnt}
    fresh, notes = [], []
    for manifest in manifests:
        new = [recording for recording in recordings(manifest) if recording.name not in names]
        if known := len(manifest.entries) - len(new):
            notes.append(
                f"It was trained or validated on {known} of the {len(manifest.entries)} records of "
                f"{manifest.dataset}: the figures of these are not of new patients."
            )
        fresh += new
    if pairs := copies(fresh, learnt):
        copied = "; ".join(f"{mine.name} as {theirs.name}" for mine, theirs in pairs[:MOST_PAIRS])
        more = f"; and {len(pairs) - MOST_PAIRS} more" if len(pairs) > MOST_PAIRS else ""
        raise SplitError(
            f"{reference} was trained or validated on the same recordings under another name: "
            f"{copied}{more}; expected recordings that it does not know ([records] exclude)"
        )
    if unknown := without_prints([*behind, *manifests]):
        notes.append(
            "Whether it learnt from a record under another name cannot be told of all: tables of "
            f"{', '.join(dict.fromkeys(unknown))} have no prints of their recordings."
        )
    return notes


@task(cache_policy=NO_CACHE, persist_result=False)
def score_dataset(version: RegisteredModel, made: Ingested, least_beats: int) -> list[Scored]:
    """Decide every beat of a data set by the registered LiteRT file."""
    folder = work_folder(version.run_id)
    digest = version.tags[f"holter.sha256.{LITERT}"]
    file = mlflow_rest.fetch_model_file(
        version.name, version.version, LITERT, digest, folder / "fetched"
    )
    network = LiteRT(file.read_bytes())
    name = version.name.removeprefix("holter-")
    threshold = float(version.tags["holter.threshold"])
    change = change_of(version)
    out = []
    with Progress(f"Scoring {made.manifest.dataset}", len(made.manifest.entries)) as progress:
        for entry in made.manifest.entries:
            path = made.path.parent / entry.file
            if sha256_file(path) != entry.sha256:
                raise TableError(f"beat table {path}: found altered bytes; expected {entry.sha256}")
            table = read_beats(path, waveform=reads_waveforms(name))
            probability, known = probabilities(network, name, table)
            out.append(
                Scored(
                    dataset=table.dataset,
                    record=table.record,
                    subject=table.subject,
                    time_s=table.time_s,
                    stretches_s=table.stretches_s,
                    label=np.where(known, table.label, np.int8(-1)),
                    rhythm=table.rhythm,
                    symbol=table.symbol,
                    quality=table.quality,
                    probability=probability,
                    decided=decide(probability, threshold, change, least_beats, table.begins),
                )
            )
            progress.step(table.record)
    return out


@task(cache_policy=NO_CACHE, persist_result=False)
def write_up(
    version: RegisteredModel,
    scored: Sequence[Scored],
    files: Mapping[tuple[str, str], Place],
    notes: Sequence[str],
    run_id: str,
) -> Evaluated:
    """Write tables, annotations and the report, with notes; log them and the figures."""
    folder = work_folder(run_id) / "evaluation"
    datasets = list(dict.fromkeys(s.dataset for s in scored))
    figures: dict[str, dict[str, float]] = {}
    decision = f"threshold {version.tags['holter.threshold']}, {smoothed(version)}"
    parts = [report.paragraph(f"{version.reference}, {decision}. {RULES}")]
    parts += [report.paragraph(note) for note in notes]
    for dataset in datasets:
        mine = [s for s in scored if s.dataset == dataset]
        figures[dataset] = summary(mine)
        if score := CHALLENGE_SCORES.get(dataset):
            points = [
                score(s.time_s, s.rhythm, s.decided, s.stretches_s) for s in mine if len(s.time_s)
            ]
            figures[dataset]["challenge_score"] = float(np.mean(points))
        if any((s.rhythm == FLUTTER).any() for s in mine):
            figures[f"{dataset} without AFL"] = summary([s.without([FLUTTER]) for s in mine])
    parts += [report.heading("Figures"), report.table(wide(figures))]
    for dataset in datasets:
        mine = [s for s in scored if s.dataset == dataset]
        tables = {
            "per_patient": per_patient(mine),
            "per_rhythm": per_rhythm(mine),
            "per_stratum": per_stratum(mine),
        }
        tables["thresholds"] = [dict(row) for row in threshold_table(*pooled(mine))]
        for name, rows in tables.items():
            write_bytes(folder / f"{dataset}_{name}.csv", as_csv(rows))
            parts += [report.heading(f"{dataset}: {name.replace('_', ' ')}"), report.table(rows)]
        parts += curves(mine)
        worst = report.worst_mistakes(mine)
        parts += [report.heading(f"{dataset}: the longest mistakes")]
        for mistake in worst:
            beats = read_beats(files[dataset, mistake.scored.record])
            parts += [report.tachogram(mistake), report.ecg_strip(mistake, beats)]
        parts += [] if worst else [report.paragraph("None.")]
        for record in mine:
            runs = episodes(record.decided, record.time_s, record.stretches_s)
            path = folder / "annotations" / dataset / f"{record.record}.haf"
            write_bytes(path, rhythm_annotations(runs, record.stretches_s))
    path = folder / "report.html"
    write_bytes(path, report.page(f"{version.reference}: evaluation", parts).encode())
    for dataset in datasets:
        clean = {f"{dataset}_{k}": v for k, v in figures[dataset].items() if np.isfinite(v)}
        tracking.log_metrics(run_id, clean)
    outcomes.write_outcome(run_id, folder)
    tracking.log_folder(run_id, folder, outcomes.FOLDER)
    return Evaluated(run_id, figures, path)


def smoothed(version: RegisteredModel) -> str:
    """How decisions are made of probabilities, in words."""
    change = change_of(version)
    if change == UNSMOOTHED:
        return "not smoothed"
    return f"smoothed by a two-state Viterbi path, probability of a change {change:g}"


def pooled(scored: Sequence[Scored]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Label and probability of all beats with a known rhythm."""
    label = np.concatenate([s.label for s in scored])
    probability = np.concatenate([s.probability for s in scored])
    return label[label >= 0], probability[label >= 0]


def curves(scored: Sequence[Scored]) -> list[str]:
    """ROC, precision over recall, and calibration."""
    label, probability = pooled(scored)
    false, true, _ = roc_points(label, probability)
    af, other = np.count_nonzero(label == 1), np.count_nonzero(label == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = true * af / (true * af + false * other)
    return [
        report.curve(false, true, "ROC", ("1 - specificity", "sensitivity"), diagonal=True),
        report.curve(true, precision, "Precision and recall", ("sensitivity", "PPV")),
        report.calibration_curve(calibration(label, probability)),
    ]


def wide(figures: Mapping[str, Mapping[str, float]]) -> list[dict[str, object]]:
    """A row a figure, a column a data set; bounds stand with their value."""
    rows: list[dict[str, object]] = []
    for name in dict.fromkeys(name for values in figures.values() for name in values):
        if name.endswith(("_low", "_high")):
            continue
        row: dict[str, object] = {"figure": name}
        for dataset, values in figures.items():
            text = report.said(values.get(name, float("nan")))
            if f"{name}_low" in values and np.isfinite(values[f"{name}_low"]):
                text += f" ({values[f'{name}_low']:.4f}-{values[f'{name}_high']:.4f})"
            row[dataset] = text
        rows.append(row)
    return rows


def as_csv(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Rows that share their keys, as CSV."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue().encode()
