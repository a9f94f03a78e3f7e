"""The card of a release that leaves the registry: what it is, without what differs by the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.reports.card_sections import (
    Facts,
    annotators,
    data,
    inputs_and_outputs,
    licences,
    sides,
    subgroups,
    training,
)
from flows.reports.compare import answers_of, decisions_frame, threshold_of
from storage.audit.versions import VersionRecord, check_unedited
from tasks.learning.rhythm_training import RhythmConfig
from tasks.pages.document import Block, Heading, Summary, Table, Words, to_markdown
from tasks.pages.numbers import label_of, text_of
from tasks.scores.rule import rule_of

RATES = ("sensitivity", "specificity", "ppv", "f1")
RESEARCH = (
    "For research. It is no medical device: no authority has cleared it, and no decision about a "
    "person may rest on it without a physician's own reading of the ECG."
)
#: What each network of the box reads.
READS = {
    "rhythm": "RR intervals alone, 127 beats to each side of the one that is decided.",
    "rhythm_tiny": "RR intervals alone, 63 beats to each side of the one that is decided.",
    "rhythm_causal": "RR intervals alone, 254 beats before the one that is decided: it can answer "
    "while a recording goes on.",
    "fused_cues": "RR intervals, and six numbers a beat that compare its QRS and the time before "
    "it with the patient's own usual beat, 127 beats to each side.",
}
#: What is to be known of a data set's figures.
CAVEATS = {
    "nsrdb": "nobody has AF in it, so there is a specificity alone.",
    "cinc2017": "a label is of a whole strip of 9 to 61 s, and each of its beats counts under it, "
    "though AF may fill a part of the strip alone. Each strip counts as a patient.",
    "ltafdb": "it has 84 records in all, of which these were there; rhythm marks near a change "
    "are rough.",
    "cpsc2021": "it is far larger than the sample that was there.",
}
MEANING = (
    "A beat is decided AF or not. Sensitivity is the share of beats in AF that are decided so, "
    "specificity the share of the other beats that are not. PPV is the share of beats decided AF "
    "that are in AF, at the data set's own share of AF: where AF is rarer, it is lower. "
    "In brackets stand 95 % intervals over patients, drawn 2,000 times; one whose ends are alike "
    "rests on a single patient, and says nothing. Atrial flutter counts as not AF. Threshold and "
    "smoothing were fixed on training and validation patients."
)
#: A network that finds fewer of the beats in AF is said to miss many.
LEAST_SENSITIVITY = 0.9
LIMITS = (
    "It knows AF and not AF alone. Flutter, frequent ectopy, block and paced rhythm may be taken "
    "for AF{untold}.",
    "An AF episode of a few beats is missed or told too late: decisions lean on the beats around.",
    "{strips}",
    "Age, sex and origin of the patients are not recorded: nothing is known of these groups.",
    "The intervals are of one split and one seed. Another recorder, lead or population may give "
    "other figures.",
)


#: What a release's limits say of strips: one that is calibrated by length, and one that is not.
CALIBRATED = (
    "In strips of seconds P(AF) is calibrated for the few beats there are, and less can be told: "
    "see its figures there."
)
NOT_CALIBRATED = (
    "It is not for strips of seconds, where there are few beats around: see its figures there."
)


def limits_of(manifest: Mapping[str, Any]) -> list[str]:
    """The limits of every release, as far as they are this one's."""
    rule = rule_of(manifest)
    untold = ", where the margin does not leave them untold" if rule.margin else ""
    strips = CALIBRATED if rule.scalings else NOT_CALIBRATED
    return [text.format(untold=untold, strips=strips) for text in LIMITS]


def release_card(version: VersionRecord, manifest: Mapping[str, Any]) -> str:
    """A release's card in Markdown; the same release gives the same bytes.

    Parameters
    ----------
    version : VersionRecord
        The version that is released.
    manifest : mapping
        The release's manifest: `name`, `trained_on` and `figures` as `storage/releases` has them.

    Raises
    ------
    DigestMismatch
        MLflow has other figures or parameters of its runs than were signed.
    """
    testset, probability = answers_of(check_unedited(version).model)
    decisions = decisions_frame(testset, probability, threshold_of(version.model))
    facts = Facts(version, testset, probability, decisions)
    name, figures = str(manifest["name"]), manifest["figures"]
    usual = RhythmConfig().epochs
    short = f"It was trained for {manifest['epochs']} epochs; the usual ones are {usual}."
    notes = [
        Words(f"{row['title']}: {CAVEATS[row['dataset']]}")
        for row in figures
        if row["dataset"] in CAVEATS
    ]
    sections: dict[str, list[Block]] = {
        "What it reads": [Words(READS[name]), *inputs_and_outputs(facts)],
        "Figures": [figures_table(figures), Words(MEANING), *notes],
        "Limits": [
            Table(("limit",), [(text,) for text in (*weaknesses(figures), *limits_of(manifest))])
        ],
        "Subgroups of the test side": subgroups(facts),
        "Learnt from": [learnt_table(manifest["trained_on"]), *data(facts)[1:]],
        "Annotations": annotators(facts),
        "Sides of the split": sides(facts),
        "Training": [*([] if manifest["epochs"] == usual else [Words(short)]), *training(facts)],
        "Licences and attribution": licences(facts),
    }
    blocks: list[Block] = [Summary(RESEARCH)]
    for heading, section in sections.items():
        blocks += [Heading(heading), *section]
    return to_markdown(f"{name}, sealed as {manifest['registered']}", blocks)


def weaknesses(figures: list[dict[str, Any]]) -> list[str]:
    """Each data set of whose beats in AF a network misses many, in a sentence."""
    return [
        f"It misses {1 - row['sensitivity']:.0%} of the beats in AF of {row['title']}."
        for row in figures
        if row["sensitivity"] is not None and row["sensitivity"] < LEAST_SENSITIVITY
    ]


def figures_table(figures: list[dict[str, Any]]) -> Table:
    """A row a data set: whether it was learnt from, how much it is, and the rates of its beats."""
    columns = ("data set", "to the network", "patients", "beats", "in AF", *map(label_of, RATES))
    rows = [
        (
            row["title"],
            relation(row),
            text_of(row["subjects"]),
            text_of(row["beats"]),
            f"{row['prevalence']:.1%}",
            *(rate_text(row, rate) for rate in RATES),
        )
        for row in figures
    ]
    return Table(columns, rows)


def relation(row: Mapping[str, Any]) -> str:
    """What a data set of a row of figures is to the network, and which beats it was given."""
    side = "test patients, others learnt from" if row["side"] == "test" else "never seen"
    beats = "found in the signal" if row["signal"] else "as annotated, no signal"
    return f"{side}; beats {beats}"


def rate_text(row: Mapping[str, Any], rate: str) -> str:
    """A rate with its interval; a dash where there is nothing to compute it from."""
    value = row[rate]
    if value is None:
        return "-"
    bounds = (row["interval"] or {}).get(rate)
    if not bounds:
        return f"{value:.4f}"
    return f"{value:.4f} ({bounds[0]:.4f} to {bounds[1]:.4f})"


def learnt_table(rows: list[dict[str, Any]]) -> Table:
    """A row a data set: how much of it trained and validated the network."""
    columns = ("data set", "version", "licence", "patients", "records", "hours", "beats")
    return Table(
        columns,
        [
            (
                row["title"],
                row["version"],
                row["licence"],
                text_of(row["subjects"]),
                text_of(row["records"]),
                f"{row['hours']:,.1f}",
                text_of(row["beats"]),
            )
            for row in rows
        ],
    )
