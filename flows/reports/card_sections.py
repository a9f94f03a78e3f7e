"""The sections of a model card: each holds what is recorded, or is empty."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.reports.compare import CODE, DEVICE, threshold_of
from flows.services.ports import review_page
from storage.audit.chain import SIDES
from storage.audit.ledger_entry import ALIAS, APPROVED, ROLLED_BACK, deed
from storage.audit.versions import VersionRecord
from storage.registry.tags import GIT_DIRTY_TAG, TEACHER_SHA256_TAG, TEACHER_TAG, UNSEEN_PARAM
from storage.tables.beats_manifest import review_words, rhythm_words
from storage.tables.frames import records_frame
from storage.tables.testset import TestSet
from tasks.pages.decision import decision_words
from tasks.pages.document import Block, Link, Picture, Table, Words
from tasks.pages.figures import RhythmBeats, beats_by_rhythm, curves
from tasks.pages.numbers import label_of, text_of, with_bounds
from tasks.pages.simulations import simulated_records, simulations
from tasks.scores.bootstrap import RATES
from tasks.scores.compare import by_patient, figures
from tasks.scores.rule import rule_of_tags

#: Beats of a row of the gallery, and patients of the table beside it.
MOST_MISTAKES, MOST_PATIENTS = 8, 8
#: The rates of a group of patients, and the figure of the patient with most mistakes.
BY_GROUP, WORST = ("sensitivity", "specificity"), "worst_patient_accuracy"
Section = list[Block]
#: What a data set is to a version that learnt from it: with its patients scored, and without.
TRAINED = ("trained on it", "trained on other patients of it")
#: Records that are not in the tables: the column's heading, and what is said where there is none.
LOST = {
    "failures": ("record that could not be used", "Every record could be used."),
    "excluded": ("record left out by the data set's TOML", "No record is left out by the TOML."),
}


@dataclass(frozen=True, eq=False)
class Facts:
    """A version, and what it answers on its test set."""

    version: VersionRecord
    testset: TestSet
    probability: NDArray[np.float32]
    decisions: pd.DataFrame

    @property
    def patients(self) -> pd.DataFrame:
        """tp, fp, fn, tn of every test patient."""
        return by_patient(self.decisions)


def declared_use(facts: Facts) -> Section:
    """The use that approvals declared, and the roll-backs from it and to it."""
    rows = [
        (e.details["alias"], e.details.get("use", ""), deed(e), e.who, e.time_utc, e.reason)
        for e in facts.version.entries
        if ("use" in e.details and e.action != ALIAS) or ROLLED_BACK in e.details
    ]
    return [Table(("alias", "use", "decision", "who", "when", "why"), rows)] if rows else []


def inputs_and_outputs(facts: Facts) -> Section:
    """Shapes and threshold."""
    shapes = "; ".join(f"{k} {tuple(x.shape[1:])}" for k, x in facts.testset.inputs.items())
    return [
        Words(
            f"Input: {shapes}, float32, a row each. Output: probabilities of AF; a beat is decided "
            f"AF from {threshold_of(facts.version.model):g} on."
        ),
        *decision(facts),
    ]


def decision(facts: Facts) -> Section:
    """How answers become what is told of a whole record, where the version has a margin."""
    rule = rule_of_tags(facts.version.model.tags)
    return [Words(text) for text in decision_words(rule)] if rule.margin else []


def data(facts: Facts) -> Section:
    """Each data set it learnt from."""
    columns = ("data set", "version", "records", "subjects", "hours", "beats", "AF beats")
    rows = []
    for m in facts.version.manifests:
        of = records_frame([m])
        rows.append(
            (
                f"{m.title}{' (SIMULATED)' if m.simulated else ''}",
                m.version,
                str(len(of)),
                str(of.subject.nunique()),
                f"{of.hours.sum():,.1f}",
                f"{of.beats.sum():,}",
                f"{of.af_beats.sum() / max(of.beats.sum(), 1):.1%}",
            )
        )
    out: Section = [Table(columns, rows)]
    for kind, (head, words) in LOST.items():
        lost = [
            (f"{m.dataset}/{record}", reason)
            for m in facts.version.manifests
            for record, reason in getattr(m, kind).items()
        ]
        out.append(Table((head, "why"), lost) if lost else Words(words))
    return out


def demographics(_: Facts) -> Section:
    """Age, sex and origin: no manifest holds them."""
    return []


def annotators(facts: Facts) -> Section:
    """Which annotators gave beats and rhythm, and how far reviewers corrected them."""
    reviews = {
        m.dataset: text for m in facts.version.manifests if (text := review_words(m.entries))
    }
    rows = [
        (
            m.dataset,
            " | ".join(annotations.get("beats", ())) or "-",
            rhythm_words(m.spec) if "rhythm" in annotations else "-",
            *[reviews.get(m.dataset, "none")] * bool(reviews),
        )
        for m in facts.version.manifests
        for annotations in [m.spec.get("annotations", {})]
        if annotations
    ]
    columns = ("data set", "beats", "rhythm", *["decisions of reviewers"] * bool(reviews))
    return [Table(columns, rows)] if rows else []


def sides(facts: Facts) -> Section:
    """Subjects and beats of each side."""
    split = facts.version.split
    rows = [
        (
            side,
            str(len(split[side]["subjects"])),
            f"{split[side]['beats']:,}",
            f"{split[side]['af_beats'] / max(split[side]['beats'], 1):.1%}",
        )
        for side in SIDES
    ]
    shared = set(split["train"]["subjects"]) & set(split["test"]["subjects"])
    return [
        Words(
            f"Paradigm {split['paradigm']}, seed {split['seed']}. {len(shared)} subjects are in "
            "training and test."
        ),
        Table(("side", "subjects", "beats", "AF beats"), rows),
    ]


def training(facts: Facts) -> Section:
    """Parameters of the training, and who taught."""
    tags = facts.version.tags
    teaching = [
        Words(
            f"It learnt from the answers of {tags[TEACHER_TAG]} too (weights SHA-256 "
            f"{tags[TEACHER_SHA256_TAG]}): that version's data is behind it as well. Nobody whom "
            "it or a teacher of its own was trained or validated on is among the test patients."
        )
        for _ in tags.keys() & {TEACHER_TAG}
    ]
    texts = simulations(facts.version.params, [asdict(m) for m in facts.version.manifests])
    simulated = [Words(f"SIMULATED: {'; '.join(texts)}.")] if texts else []
    return [
        *teaching,
        *simulated,
        Table(("parameter", "value"), sorted(facts.version.params.items())),
    ]


def test_figures(facts: Facts) -> Section:
    """Curves and rates on the test set, with intervals."""
    rates = figures(facts.patients)
    labelled = facts.testset.label >= 0
    shows = "Own test set: ROC, precision over recall, calibration"
    png = curves(facts.testset.label[labelled], facts.probability[labelled], shows)
    rows = [(label_of(name), with_bounds(rates, name)) for name in (*RATES, WORST)]
    return [
        Picture("curves.png", png, shows),
        Table(("figure", "value (95 % interval)"), rows),
        Words(
            f"Its own test set: {rates['patients']:.0f} patients, {rates['beats']:,.0f} beats, the "
            "exported file, decisions not smoothed; 95 % intervals over patients drawn 2,000 times."
        ),
    ]


#: Groups of patients by what their beats are.
GROUPS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "AF and other rhythm": lambda c: (c.tp + c.fn > 0) & (c.fp + c.tn > 0),
    "AF throughout": lambda c: c.fp + c.tn == 0,
    "no AF": lambda c: c.tp + c.fn == 0,
}


def subgroups(facts: Facts) -> Section:
    """Rates of groups of test patients."""
    rows = []
    for name, selection in GROUPS.items():
        patients = facts.patients[selection]
        if len(patients):
            rates = figures(patients)
            cells = [with_bounds(rates, rate) for rate in BY_GROUP]
            rows.append((name, str(len(patients)), f"{rates['beats']:,.0f}", *cells))
    return [Table(("test patients with", "patients", "beats", *map(label_of, BY_GROUP)), rows)]


#: What an evaluation says of what is told; one from before a margin has neither.
COVERAGE = ("coverage", "sure_accuracy")


def other_data(facts: Facts) -> Section:
    """The newest evaluation on each data set."""
    rows: dict[str, tuple[str, ...]] = {}
    own = {m.dataset for m in facts.version.manifests}
    for state in facts.version.evaluations:
        names = [k.removesuffix("_beat_accuracy") for k in state.metrics if "_beat_accuracy" in k]
        for name in (n for n in names if not n.endswith(("_low", "_high"))):
            part = {
                key.removeprefix(f"{name}_beat_"): value
                for key, value in state.metrics.items()
                if key.startswith(f"{name}_beat_")
            }
            rates = [with_bounds(part, r) if r in part else "undefined" for r in RATES]
            of_all = {key.removeprefix(f"{name}_"): v for key, v in state.metrics.items()}
            part |= {key: v for key, v in of_all.items() if key.startswith(COVERAGE)}
            rates += [with_bounds(part, key) for key in COVERAGE]
            patients = text_of(state.metrics.get(f"{name}_patients"), "patients")
            relation = "new" if name not in own else TRAINED[UNSEEN_PARAM in state.params]
            rows.setdefault(name, (name, relation, patients, *rates))
    columns = ("data set", "to the model", "patients", *map(label_of, (*RATES, *COVERAGE)))
    return [Table(columns, list(rows.values()))] if rows else []


def devices(facts: Facts) -> Section:
    """The newest report of each device."""
    rows = [
        (report.device, *(text_of(report.metrics.get(name), name) for name in DEVICE))
        for report in facts.version.reports
    ]
    return [Table(("device", *map(label_of, DEVICE)), rows)] if rows else []


#: What is said where a fact holds; no more is claimed.
LIMITS: dict[str, Callable[[Facts], bool]] = {
    "Parts of its record are deleted in MLflow (see Provenance): they may be lost for good.": (
        lambda f: bool(f.version.deleted)
    ),
    "Of some evaluations nobody signed the figures (see Provenance): they are not told here.": (
        lambda f: bool(f.version.unsigned)
    ),
    "The recordings are simulated: the figures say nothing about people.": lambda f: any(
        m.simulated for m in f.version.manifests
    ),
    "Its training drew simulated records beside the recordings (see Training).": lambda f: (
        simulated_records(f.version.params) > 0
    ),
    "Patients of the test set are in training too: the figures say little of new patients.": (
        lambda f: f.version.split["paradigm"] == "intrapatient"
    ),
    "Fewer than 20 patients were tested: the intervals are wide and unsure.": lambda f: (
        len(f.patients) < 20
    ),
    "It was evaluated on no data set but its own.": lambda f: not other_data(f),
    "No device has reported on it.": lambda f: not f.version.reports,
    "Age, sex and origin of the patients are not recorded: nothing is known of these groups.": (
        lambda f: not demographics(f)
    ),
    "The code differed from its commit.": lambda f: f.version.tags.get(GIT_DIRTY_TAG) == "true",
    "Records could not be used, and may not be like the others.": lambda f: any(
        m.failures for m in f.version.manifests
    ),
    "Nobody has approved it for a use.": lambda f: (
        not any(e.action == APPROVED and "use" in e.details for e in f.version.entries)
    ),
}


def limits(facts: Facts) -> Section:
    """What follows from the facts."""
    rows = [(text,) for text, holds in LIMITS.items() if holds(facts)]
    return [Table(("by what is recorded",), rows)] if rows else []


def mistakes(facts: Facts) -> Section:
    """The patients with most mistakes, and the surest of the wrong beats."""
    patients = facts.patients
    counts = pd.DataFrame(
        {"beats": patients.sum(axis=1), "wrongly AF": patients.fp, "AF missed": patients.fn}
    ).assign(mistakes=patients.fp + patients.fn)
    most = counts.sort_values("mistakes", ascending=False, kind="stable").head(MOST_PATIENTS)
    rows = list(most.map("{:,.0f}".format).itertuples(name=None))
    table = Table(("patient", *most.columns), rows)
    return [*_gallery(facts), table, *_looks(facts, list(most.index))]


def _looks(facts: Facts, people: Sequence[str]) -> Section:
    """Where the review page shows the surest wrong beat of each of these patients."""
    label, p = facts.testset.label, facts.probability
    wrong = (label >= 0) & ((p >= threshold_of(facts.version.model)) != (label == 1))
    surety = np.where(wrong, np.abs(p - (label == 1)), -1).reshape(len(label), -1)
    links: Section = []
    for person in people:
        own = np.where((facts.testset.subject == person)[:, None], surety, -1)
        row, beat = np.unravel_index(np.argmax(own), own.shape)
        if own[row, beat] >= 0:
            dataset, _, record = str(facts.testset.record[row]).partition("/")
            sample = int(facts.testset.sample.reshape(own.shape)[row, beat])
            page = review_page(dataset, record, sample=sample)
            links.append(Link(f"{person}: its surest wrong beat, in the review page", page))
    return links


def _gallery(facts: Facts) -> Section:
    """The wrong beats that the network was surest of, where it reads single beats."""
    if "waveform" not in facts.testset.inputs:
        return [Words("It reads no single beats: the longest mistakes are in `holter evaluate`.")]
    label, p = facts.testset.label, facts.probability
    threshold = threshold_of(facts.version.model)
    kinds = {
        ("wrongly AF", "not AF"): (np.flatnonzero((label == 0) & (p >= threshold)), -p),
        ("AF missed", "AF"): (np.flatnonzero((label == 1) & (p < threshold)), p),
    }
    panels = []
    for (name, truth), (rows, order) in kinds.items():
        indices = rows[np.argsort(order[rows], kind="stable")[:MOST_MISTAKES]]
        if len(indices):
            waveform = [
                facts.testset.inputs["waveform"][i : i + 1][0, :, 0] for i in indices.tolist()
            ]
            place = [f"{facts.testset.record[i]} P {p[i]:.2f}" for i in indices.tolist()]
            panels.append(RhythmBeats(name, truth, np.stack(waveform), place))
    if not panels:
        return [Words("No beat of the test set was decided wrongly.")]
    shows = "Beats decided wrongly of which the network was surest; R peak at the line"
    return [Picture("mistakes.png", beats_by_rhythm(panels, shows), shows)]


def provenance(facts: Facts) -> Section:
    """The sealed chain, the code and the environment."""
    version = facts.version
    rows = [
        ("model", version.model.reference),
        ("sealed chain, SHA-256", version.chain_sha256),
        ("sealed", version.time_utc),
        ("training run", version.model.run_id),
        *((label, version.tags[tag]) for tag, label in CODE.items() if version.tags.get(tag)),
    ]
    lost = {"deleted in MLflow": version.deleted, "figures not signed": version.unsigned}
    lacking = [Table((head,), [(text,) for text in texts]) for head, texts in lost.items() if texts]
    return [Table(("", "recorded"), rows), *lacking]


def files(facts: Facts) -> Section:
    """Digests of the model's files."""
    return [Table(("file", "SHA-256"), sorted(facts.version.files.items()))]


def licences(facts: Facts) -> Section:
    """Each data set's licence and how it is to be cited."""
    rows = [(m.title, m.licence, m.citation) for m in facts.version.manifests]
    return [Table(("data set", "licence", "to be cited as"), rows)]


SECTIONS: Mapping[str, Callable[[Facts], Section]] = {
    "Declared use": declared_use,
    "Limits": limits,
    "Figures": test_figures,
    "Subgroups": subgroups,
    "Other data sets": other_data,
    "Patients with most mistakes": mistakes,
    "Devices": devices,
    "Inputs and outputs": inputs_and_outputs,
    "Data": data,
    "Demographics": demographics,
    "Annotations": annotators,
    "Sides of the split": sides,
    "Training": training,
    "Licences": licences,
    "Provenance": provenance,
    "Files": files,
}
