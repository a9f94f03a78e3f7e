"""Compare two model versions: data, parameters, code, figures on shared patients, devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.audit.chain import SIDES
from storage.audit.versions import VersionRecord, check_unedited, model_bytes, testset_of
from storage.errors import SplitError
from storage.registry.models import ModelVersion
from storage.registry.tags import (
    ACCELERATOR_TAG,
    BEAT_CODE_TAG,
    ENVIRONMENT_TAG,
    GIT_CHANGES_TAG,
    GIT_COMMIT_TAG,
    GIT_DIRTY_TAG,
    PREPROCESSING_TAG,
    PYTHON_TAG,
    TENSORFLOW_THREADS_TAG,
    THRESHOLD_TAG,
)
from storage.tables.beats_manifest import Entry, Manifest, review_words
from storage.tables.testset import TestSet
from tasks.pages.decision import (
    margin_words,
    risk_words,
    share_words,
    smoothing_words,
    threshold_words,
)
from tasks.pages.document import Block, Heading, Picture, Summary, Table, Tile, Words
from tasks.pages.figures import intervals
from tasks.pages.numbers import label_of, text_of
from tasks.runtimes.inference import answers
from tasks.runtimes.litert import LiteRT
from tasks.scores.bootstrap import Interval
from tasks.scores.compare import PairedBeats, by_patient, figures, pair
from tasks.scores.rule import rule_of_tags

#: Tags of a training that say by which code and in which environment it ran.
CODE = {
    GIT_COMMIT_TAG: "commit",
    GIT_DIRTY_TAG: "differs from it",
    GIT_CHANGES_TAG: "digest of what differs",
    BEAT_CODE_TAG: "code of the beat tables",
    PREPROCESSING_TAG: "preprocessing",
    ENVIRONMENT_TAG: "environment lock",
    PYTHON_TAG: "Python",
    TENSORFLOW_THREADS_TAG: "threads of TensorFlow",
    ACCELERATOR_TAG: "GPU of TensorFlow",
}
#: Figures of a device's report.
DEVICE = ("f1", "latency_p99_ms", "energy_j_per_24_h", "peak_memory_mb")


def answers_of(model: ModelVersion) -> tuple[TestSet, NDArray[np.float32]]:
    """The version's test set, and P(AF) of its registered LiteRT file, of the labels' shape."""
    testset = testset_of(model)
    network = LiteRT(model_bytes(model))
    return testset, answers(network, testset.inputs)


def decisions_of(model: ModelVersion) -> pd.DataFrame:
    """What the registered LiteRT file decides of its test set, at its own threshold.

    A row a beat, as `tasks.scores.compare` says.
    Decisions are not smoothed: a device's report and the training's figures are not either.
    """
    return decisions_frame(*answers_of(model), threshold_of(model))


def threshold_of(model: ModelVersion) -> float:
    """From which probability on a beat is decided AF."""
    return float(model.tags.get(THRESHOLD_TAG, "0.5"))


def decisions_frame(
    testset: TestSet, probability: NDArray[np.float32], threshold: float
) -> pd.DataFrame:
    """Decisions of the beats that count, a row a beat."""
    mask = testset.label >= 0
    beats = 1 if mask.ndim == 1 else mask.shape[1]
    flat = mask.ravel()
    return pd.DataFrame(
        {
            "record": np.repeat(testset.record, beats)[flat],
            "subject": np.repeat(testset.subject, beats)[flat],
            "sample": testset.sample.ravel()[flat],
            "label": testset.label.ravel()[flat],
            "decided": probability.ravel()[flat] >= threshold,
        }
    )


def paired_decisions(
    before: pd.DataFrame, after: pd.DataFrame, names: tuple[str, str]
) -> PairedBeats:
    """The beats of both test sets.

    Raises
    ------
    SplitError
        The test sets share no patient, so nothing can be said of one model against the other.
    """
    paired = pair(before, after)
    if not paired.patients:
        people = " and ".join(
            f"{name} was tested on {', '.join(np.unique(decisions['subject'])[:4])} ..."
            for name, decisions in zip(names, (before, after), strict=True)
        )
        raise SplitError(
            f"the test sets of {names[0]} and {names[1]} share no patient: {people}; expected the "
            "same split (the same data set and seed)"
        )
    return paired


@dataclass(frozen=True)
class Comparison:
    """Two versions side by side: title, the report's blocks, and the paired figures."""

    title: str
    blocks: tuple[Block, ...]
    paired: PairedBeats


def compare(before: VersionRecord, after: VersionRecord) -> Comparison:
    """Compare two versions, the older first.

    Raises
    ------
    ValueError
        They are the same version.
    SplitError
        Their test sets share no patient.
    RegistryError
        A model's file or test set is not there or was changed, or MLflow has other figures or
        parameters of a version than were signed.
    """
    first, second = (decisions_of(check_unedited(version).model) for version in (before, after))
    if before.model.reference == after.model.reference:
        raise ValueError(f"found {before.model.reference} twice; expected two versions to compare")
    names = (before.model.reference, after.model.reference)
    paired = paired_decisions(first, second, names)
    blocks = [
        *_figures(first, second, paired, names),
        Heading("Devices"),
        _devices((before, after)),
        *_data(before, after),
        Heading("How they decide"),
        _changes(rule_facts(before.model), rule_facts(after.model), names),
        Heading("Parameters"),
        _changes(before.params, after.params, names),
        Heading("Code and environment"),
        _changes(_code(before), _code(after), names),
        Heading("Exported files"),
        _changes(before.files, after.files, names),
    ]
    return Comparison(f"{names[0]} and {names[1]}", tuple(blocks), paired)


def rule_facts(model: ModelVersion) -> dict[str, str]:
    """How a version's answers become what is told, by name."""
    rule = rule_of_tags(model.tags)
    facts = {"decision": f"{threshold_words(rule)}, {smoothing_words(rule.change)}"}
    facts["cannot tell"] = margin_words(rule) if rule.margin else "never"
    facts["risk"] = risk_words(rule.risk) if rule.risk else "not measured"
    facts["share of AF"] = share_words(rule) if rule.scalings else "not assumed"
    return facts


def _code(version: VersionRecord) -> dict[str, str]:
    return {label: version.tags.get(tag, "") for tag, label in CODE.items()}


def _changes(before: Mapping[str, str], after: Mapping[str, str], names: tuple[str, str]) -> Block:
    """What differs; all that does not is counted in a sentence."""
    keys = dict.fromkeys([*before, *after])
    rows = [
        (key, *(_short(side.get(key, "-")) for side in (before, after)))
        for key in keys
        if before.get(key) != after.get(key)
    ]
    if not rows:
        return Words(f"The same: {', '.join(keys)}.")
    return Table(("", *names), rows)


def _short(value: str) -> str:
    """A digest's first twelve digits; anything else as it is."""
    digest = len(value) in (40, 64) and not value.strip("0123456789abcdef")
    return value[:12] if digest else value or "-"


def _data(before: VersionRecord, after: VersionRecord) -> list[Block]:
    first, second = ({m.dataset: m for m in version.manifests} for version in (before, after))
    rows: list[tuple[str, ...]] = []
    for name in dict.fromkeys([*first, *second]):
        rows += _records(name, first.get(name), second.get(name), before, after)
    blocks: list[Block] = [Heading("Data")]
    digests = [" ".join(m.digest()[:12] for m in v.manifests) for v in (before, after)]
    blocks.append(Words(f"Data sets' digests: {digests[0]} before, {digests[1]} after."))
    reviews = [review_words(e for m in v.manifests for e in m.entries) for v in (before, after)]
    if any(reviews):
        earlier, now = (text or "no decision of a reviewer" for text in reviews)
        blocks.append(Words(f"Labels reviewed: {earlier} before, {now} after."))
    columns = ("record", "subject", "change", "side before", "side after")
    blocks.append(Table(columns, rows) if rows else Words("Every record is as it was."))
    return blocks


def _records(
    name: str,
    before: Manifest | None,
    after: Manifest | None,
    first: VersionRecord,
    second: VersionRecord,
) -> Iterable[tuple[str, ...]]:
    """A row a record that came, went, changed its table, or moved to another side."""
    old, new = (_entries(manifest) for manifest in (before, after))
    for record in sorted({*old, *new}):
        earlier, now = old.get(record), new.get(record)
        entry = now or earlier
        if entry is None:
            continue
        person = f"{name}/{entry.subject}"
        sides = [_side(v, person) if e else "-" for v, e in ((first, earlier), (second, now))]
        change = _change(earlier, now)
        if change or sides[0] != sides[1]:
            yield f"{name}/{record}", entry.subject, change or "the same table", *sides


def _change(earlier: Entry | None, now: Entry | None) -> str:
    if earlier is None or now is None:
        return "added" if now else "removed"
    if earlier.sha256 == now.sha256:
        return ""
    decisions = [sum(entry.review.values()) for entry in (earlier, now)]
    more = f", decisions {decisions[0]} -> {decisions[1]}" if decisions[0] != decisions[1] else ""
    return f"table {earlier.sha256[:12]} -> {now.sha256[:12]}{more}"


def _entries(manifest: Manifest | None) -> dict[str, Entry]:
    return {entry.record: entry for entry in manifest.entries} if manifest else {}


def _side(version: VersionRecord, person: str) -> str:
    return "+".join(s for s in SIDES if person in version.split[s]["subjects"]) or "none"


def _figures(
    first: pd.DataFrame, second: pd.DataFrame, paired: PairedBeats, names: tuple[str, str]
) -> list[Block]:
    whole = [figures(by_patient(decisions)) for decisions in (first, second)]
    gains = paired.differences()
    rates = [
        (label_of(name), *(text_of(side[name], name) for side in whole), _gain(gain))
        for name, gain in gains.items()
    ]
    accuracy = [(c[:, 0] + c[:, 3]) / c.sum(1) for c in (paired.before, paired.after)]
    patients = pd.DataFrame(
        {
            "beats": paired.before.sum(1),
            **{f"accuracy {name}": of for name, of in zip(names, accuracy, strict=True)},
            "difference": np.round(accuracy[1] - accuracy[0], 4),
        },
        index=pd.Index(paired.patients, name="patient"),
    ).sort_values("difference", kind="stable")
    forms = ["{:,.0f}", "{:.4f}", "{:.4f}", "{:+.4f}"]
    columns = [patients[name].map(form.format) for name, form in zip(patients, forms, strict=True)]
    shows = f"What {names[1]} gains on {names[0]}, 95 % intervals over patients drawn in pairs"
    bars = [(label_of(name), gain) for name, gain in gains.items()]
    counts = " and ".join(f"{side['patients']:.0f}" for side in whole)
    return [
        _summary(paired, gains, names),
        Picture("gains.png", intervals(bars, shows), shows),
        Heading("Figures at beat level"),
        Table(("rate", *names, "difference on shared patients"), rates),
        Words(
            f"Each version on its own test set ({counts} patients); the difference on the "
            f"{paired.before.sum():,.0f} beats of {len(paired.patients)} patients that both were "
            "tested on, with its 95 % interval over patients drawn in pairs 2,000 times. "
            f"{paired.relabelled:,} beats are left out for their label changed."
        ),
        Heading("Patients that both were tested on"),
        Table(("patient", *patients.columns), list(zip(patients.index, *columns, strict=True))),
    ]


def _summary(paired: PairedBeats, gains: Mapping[str, Interval], names: tuple[str, str]) -> Summary:
    """Whether F1 rose or fell by more than chance over patients explains."""
    f1 = gains["f1"]
    state: Literal["good", "bad", "plain"] = (
        "good" if f1.low > 0 else "bad" if f1.high < 0 else "plain"
    )
    text = {
        "good": f"{names[1]} has the higher F1 on patients of both test sets",
        "bad": f"{names[1]} has the lower F1 on patients of both test sets",
        "plain": "The F1 of the two cannot be told apart on patients of both test sets",
    }[state]
    tiles = [Tile(f"{label_of(name)}, difference", *_parts(gain)) for name, gain in gains.items()]
    return Summary(text, [*tiles, Tile("Shared patients", f"{len(paired.patients):,}")], state)


def _parts(gain: Interval) -> tuple[str, str]:
    """A difference, and its interval."""
    if np.isnan(gain.low):
        return f"{gain.value:+.4f}", "no interval"
    return f"{gain.value:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}"


def _gain(gain: Interval) -> str:
    return "{} ({})".format(*_parts(gain))


def reports_frame(versions: Iterable[VersionRecord]) -> pd.DataFrame:
    """Devices' reports on versions, a row a report, by device and model.

    Returns
    -------
    DataFrame
        `device`, `model`, and each figure of `DEVICE`, NaN where a report lacks it.
    """
    rows = [
        {"device": report.device, "model": version.model.reference, **report.metrics}
        for version in versions
        for report in version.reports
    ]
    frame = pd.DataFrame(rows, columns=["device", "model", *DEVICE])
    return frame.sort_values(["device", "model"], kind="stable", ignore_index=True)


def _devices(versions: tuple[VersionRecord, VersionRecord]) -> Block:
    frame = reports_frame(versions)
    if frame.empty:
        return Words("No device has reported on either.")
    texts = frame.assign(**{name: [text_of(v, name) for v in frame[name]] for name in DEVICE})
    rows = list(texts.itertuples(index=False, name=None))
    return Table(("device", "model", *map(label_of, DEVICE)), rows)
