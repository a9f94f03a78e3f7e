"""Drift: recordings that came back are held against those that a version learnt from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import flow
from prefect.events import emit_event

from flows.ingest.failures import telling
from flows.ingest.flow import IngestResult, ingest_data_sets
from flows.ingest.folders import data_sets, resolve_folders
from flows.parameters import Analyses, Bounds, Folders, NewDataSets, Signals, Version
from flows.reports.shown import FORMS, write
from flows.reports.version_page import renew_or_tell
from flows.services import events
from flows.services.alive import WATCHED
from flows.services.progress import Progress
from flows.train.training_run import work_folder
from storage.audit.provenance import git_state
from storage.audit.versions import VersionRecord, model_bytes, read_version
from storage.errors import TableError
from storage.files import home, read_json, sha256_file, write_json
from storage.places import Place, beats_place
from storage.registry import tracking
from storage.registry.experiments import DRIFT as DRIFT_EXPERIMENT
from storage.registry.policy import DRIFT, read_checks
from storage.registry.tags import DRIFT_FOLDER, DRIFTED_TAG, KIND_TAG, MODEL_TAG, VERSION_TAG
from storage.tables.beats import read_beats
from storage.tables.beats_manifest import Manifest, known_entries, manifest_places, read_manifest
from tasks.networks.sequence import reads_waveforms
from tasks.pages.document import Block, Heading, Picture, Summary, Table, Tile
from tasks.pages.figures import shares
from tasks.pages.numbers import name_of, text_of
from tasks.runtimes.inference import probabilities
from tasks.runtimes.litert import LiteRT
from tasks.scores.drift import BINS, Profile, profile, read_profile, together
from tasks.scores.drift import drift as figures_of
from tasks.scores.promotion import PASSED, Verdict, judge, unmet
from tasks.scores.rule import judge as judge_beats
from tasks.scores.rule import rule_of_tags

WITHIN = "within bounds"


@dataclass(frozen=True)
class DriftResult:
    """What came of it: the verdicts, whether any bound is passed, the report, its run, the data."""

    title: str
    verdicts: tuple[Verdict, ...]
    drifted: bool
    blocks: tuple[Block, ...]
    run_id: str
    ingested: Sequence[IngestResult] = ()


@flow(name="drift", flow_run_name="drift-{model}", **WATCHED)
def drift(
    model: Version,
    thresholds: Bounds = DRIFT,
    datasets: NewDataSets = [],  # noqa: B006 - never changed; Prefect's form wants a list
    data: Folders = None,
    analyses: Analyses = [],  # noqa: B006 - likewise
    signal: Signals = None,
) -> DriftResult:
    """Hold data sets, or devices' analyses, against the training of a version.

    The reference is what the version decides of its own training side, made once. The report and
    its figures go to MLflow; an event `holter.drift.passed` or `holter.drift.found` to Prefect, on
    which an automation may act.

    Parameters
    ----------
    model : str
        NAME@alias, NAME/version or NAME.
    thresholds : Path
        The bounds, a TOML.
    datasets, data : list of str, list of Path, optional
        Data sets, and the folder of each, else those of the TOMLs; their rhythms need not be known.
    analyses : list of Path
        JSON files of `holter-edge analyse`.
    signal : bool or list of bool, optional
        As `flows.ingest.folders.data_sets`.

    Raises
    ------
    ValueError
        Neither a data set nor an analysis is given.
    TableError
        The beat tables of the training are not here any more, or an analysis has no profile.
    """
    checks = read_checks(thresholds)
    if not datasets and not analyses:
        raise ValueError("give a data set, or analyses of devices")
    version = read_version(model)
    sets = resolve_folders(data_sets(datasets, data=data, signal=signal))
    sources = [analysis_of(path, version) for path in analyses]
    ingested = ingest_data_sets(sets, "consensus")
    sources += [
        p for result in ingested for p in profiles_of(version, result.manifest, result.path)
    ]
    new, reference = together(sources), reference_of(version)
    verdicts = judge(checks, figures_of(reference, new))
    beyond = unmet(verdicts)
    title = f"Drift of {version.model.reference}: {', '.join([*datasets, *map(str, analyses)])}"
    blocks = tuple(report(reference, new, verdicts))
    run_id = log(version, title, blocks, verdicts)
    renew_or_tell(version.model.name, version.model.version)
    emit_event(
        event=f"{events.DRIFT}.{'found' if beyond else PASSED}",
        resource=events.resource_of(version.model),
        payload={
            "run_id": run_id,
            "page": tracking.run_page(run_id),
            "beyond": beyond,
            **{verdict.figure: verdict.found for verdict in verdicts},
        },
    )
    return telling(DriftResult(title, verdicts, bool(beyond), blocks, run_id, ingested), ingested)


def reference_of(version: VersionRecord) -> Profile:
    """The profile of the version's training side; kept by the version's sealed chain.

    Raises
    ------
    TableError
        The beat tables that it was trained on are not those that are here.
    """
    path = home() / "profiles" / f"{version.chain_sha256}.json"
    if path.is_file():
        return read_profile(read_json(path), str(path))
    profiles: list[Profile] = []
    for manifest in version.manifests:
        place = place_of(manifest, version.model.reference)
        profiles += profiles_of(version, manifest, place, version.split["train"]["subjects"])
    reference = together(profiles)
    write_json(path, reference.as_json())
    return reference


def place_of(manifest: Manifest, reference: str) -> Place:
    """The manifest of the beat tables that a version was trained on, where they are still here.

    Raises
    ------
    TableError
        Those that are here are others.
    """
    paths = manifest_places(beats_place(), manifest)
    for path in paths:
        if known_entries(path) and read_manifest(path).digest() == manifest.digest():
            return path
    raise TableError(
        f"manifest {paths[-1]}: found other beat tables, or none; expected those that {reference} "
        f"was trained on, of digest {manifest.digest()[:12]}"
    )


def profiles_of(
    version: VersionRecord, manifest: Manifest, place: Place, people: Iterable[str] | None = None
) -> Iterator[Profile]:
    """The profile of each record; of some people's, where they are given."""
    subjects = None if people is None else set(people)
    network = LiteRT(model_bytes(version.model))
    name = version.model.network
    rule = rule_of_tags(version.model.tags)
    entries = [
        entry
        for entry in manifest.entries
        if subjects is None or f"{manifest.dataset}/{entry.subject}" in subjects
    ]
    with Progress(f"Scoring {manifest.dataset}", len(entries)) as progress:
        for entry in entries:
            path = place.parent / entry.file
            if sha256_file(path) != entry.sha256:
                raise TableError(f"beat table {path}: found altered bytes; expected {entry.sha256}")
            table = read_beats(path, waveform=reads_waveforms(name))
            answers, mask = probabilities(network, name, table)
            told = judge_beats(rule, table, answers, mask=mask)
            yield profile(table.take(mask), told.probability[mask], told.decided[mask])
            progress.step(entry.record)


def analysis_of(path: Path, version: VersionRecord) -> Profile:
    """The profile in a device's analysis, which this version's file must have made.

    Raises
    ------
    TableError
        It cannot be read, has no profile, or is of another model.
    """
    try:
        analysis = read_json(path)
        by = analysis["model"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(f"analysis {path}: cannot be read: {error}") from error
    expected = version.files["model.tflite"]
    if by != expected:
        raise TableError(
            f"analysis {path}: found one by model {by[:12]}; expected {version.model.reference}, "
            f"{expected[:12]}"
        )
    return read_profile(analysis.get("profile"), f"analysis {path}")


def report(reference: Profile, new: Profile, verdicts: Sequence[Verdict]) -> Iterator[Block]:
    """The report's blocks: the answer, the distributions, each figure with its bound."""
    beyond = unmet(verdicts)
    yield Summary(
        f"Beyond its bound: {'; '.join(beyond)}." if beyond else "Everything is within bounds.",
        [Tile(name_of(v.figure), _value(v), f"{v.state}: {v.asked}") for v in verdicts],
        "bad" if beyond else "good",
    )
    shows = "Share of the beats, training (blue) and new (orange)"
    sides = [{name: side.shares(name) for name in BINS} for side in (reference, new)]
    yield Picture("drift.png", shares(BINS, sides[0], sides[1], shows), shows)
    yield Heading("Figures")
    yield Table(
        ("figure", "bound", "found", "", "training and new"),
        [(v.title, v.asked, _value(v), v.state, v.note) for v in verdicts],
    )
    yield Heading("Recordings")
    rows = [
        (name, f"{side.records:,}", f"{side.beats:,}", f"{side.af_beats:,}", f"{side.bad_beats:,}")
        for name, side in (("training", reference), ("new", new))
    ]
    yield Table(("", "records", "beats", "decided AF", "poor signal"), rows)


def _value(verdict: Verdict) -> str:
    """What was found, in the figure's form."""
    return verdict.found if verdict.found == "-" else text_of(float(verdict.found), verdict.figure)


def log(
    version: VersionRecord, title: str, blocks: Sequence[Block], verdicts: Sequence[Verdict]
) -> str:
    """A run in `drift/MODEL` with the figures and the report."""
    name, beyond = version.model.name, unmet(verdicts)
    run_id = tracking.start_run(
        f"{DRIFT_EXPERIMENT}{name}",
        title[:200],
        {"model": version.model.reference},
        {
            **git_state(),
            KIND_TAG: "drift",
            MODEL_TAG: name,
            VERSION_TAG: str(version.model.version),
            DRIFTED_TAG: f"beyond its bound: {'; '.join(beyond)}" if beyond else WITHIN,
        },
    )
    figures = {verdict.figure: float(verdict.found) for verdict in verdicts if verdict.found != "-"}
    tracking.log_metrics(run_id, figures)
    folder = work_folder(run_id) / "drift"
    for form in FORMS:
        write(title, blocks, folder / f"report{form}")
    tracking.log_folder(run_id, folder, DRIFT_FOLDER)
    tracking.finish_run(run_id, "FINISHED")
    return run_id
