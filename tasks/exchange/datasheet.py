"""A datasheet of a data set: what TOML and beat tables know, and what its owner is to write.

The questions are those of Gebru et al. 2021, "Datasheets for Datasets", doi:10.1145/3458723, in
words of ours; some are one here. An answer is made of recorded facts alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storage.datasets.dataset import DatasetSpec
from storage.tables.beats_manifest import Entry, Manifest
from tasks.exchange.croissant import annotation_facts, limitation_facts, missing_facts
from tasks.pages.document import Block, Heading, Summary, Table, Tile, Words

#: What stands where no record of this project holds an answer.
OWNER = "The owner's to write."
TOML, TABLES, NOBODY = "data set's TOML", "beat tables", "owner"
UNMEASURED = "Not measured here: holter ingest {name} makes the beat tables."


@dataclass(frozen=True)
class Facts:
    """What is known of a data set: its TOML, and its beat tables where they were made."""

    spec: DatasetSpec
    manifest: Manifest | None

    @property
    def entries(self) -> Sequence[Entry]:
        """The records that have a table."""
        return self.manifest.entries if self.manifest else ()


@dataclass(frozen=True)
class Question:
    """A question of a section, and how it is answered: where the facts are, and what they say."""

    section: str
    text: str
    place: str = NOBODY
    answer: Callable[[Facts], str] = lambda _: ""


def _instances(facts: Facts) -> str:
    counts = f"{len(facts.entries)} records, {_beats(facts):,} beats, {_hours(facts):.1f} h"
    return f"Each instance is an ECG recording, each beat a row of its table. Here: {counts}."


def _beats(facts: Facts) -> int:
    return sum(entry.beats for entry in facts.entries)


def _hours(facts: Facts) -> float:
    return sum(entry.hours for entry in facts.entries)


def _subjects(facts: Facts) -> int:
    return len({entry.subject for entry in facts.entries})


def _labels(facts: Facts) -> str:
    af = sum(entry.af_beats for entry in facts.entries)
    unknown = sum(entry.unknown_beats for entry in facts.entries)
    not_af = _beats(facts) - af - unknown
    return f"{af:,} beats are labelled AF, {not_af:,} not AF, {unknown:,} have no label."


def _data(facts: Facts) -> str:
    leads = Counter(entry.lead or "none" for entry in facts.entries)
    words = ", ".join(f"{lead} of {count}" for lead, count in leads.most_common())
    return f"One lead of each record was read: {words}."


def _relations(facts: Facts) -> str:
    return f"{len(facts.entries)} records are of {_subjects(facts)} subjects."


def _noise(facts: Facts) -> str:
    flagged = sum(entry.flagged_beats for entry in facts.entries)
    copies = facts.manifest.duplicates if facts.manifest else {}
    text = f"{flagged:,} beats carry a flag of quality. "
    if copies:
        names = "; ".join(f"{name} is {', '.join(same)}" for name, same in copies.items())
        return f"{text}The same recording by two names: {names}."
    return f"{text}The ingest found no recording under two names."


def _missing(facts: Facts) -> str:
    if facts.manifest is None:
        return ""
    reasons = [f"{name}: {reason}" for name, reason in facts.manifest.excluded.items()]
    return " ".join([missing_facts(facts.manifest), *(["; ".join(reasons) + "."] * bool(reasons))])


def _preprocessing(facts: Facts) -> str:
    if facts.manifest is None:
        return ""
    settings = sorted(facts.manifest.preprocessing.items())
    words = ", ".join(f"{name} {value}" for name, value in settings)
    return f"Beats are cut by {words}; code of SHA-256 {facts.manifest.code_sha256 or 'unknown'}."


def _raw(facts: Facts) -> str:
    files = {file for entry in facts.entries for file in entry.files}
    origin = facts.manifest.origin if facts.manifest else ""
    return f"{len(files)} source files with their SHA-256, read from {origin}." if files else ""


def _labelling(facts: Facts) -> str:
    sources = Counter(entry.label_source or "not told" for entry in facts.entries)
    words = ", ".join(f"{source} ({count} records)" for source, count in sources.most_common())
    rules = " ".join(annotation_facts(facts.spec))
    return f"{rules} What told the rhythm: {words}." if words else rules


def _subject_rule(facts: Facts) -> str:
    subjects = facts.spec.subjects
    ways = {
        "a table of the TOML": subjects.map,
        "a pattern of records' names": subjects.pattern,
        "keyed digests of patients' numbers": subjects.numbers,
        "a column of the CSV of labels": "subject" in facts.spec.labels.columns,
    }
    rules = [way for way, value in ways.items() if value]
    return f"Subjects are told by {', '.join(rules)}." if rules else ""


QUESTIONS = (
    Question("Motivation", "For what purpose was it created?"),
    Question("Motivation", "Who created it, and who paid for it?"),
    Question("Composition", "What are its instances, and how many?", TABLES, _instances),
    Question("Composition", "What does each instance hold?", TABLES, _data),
    Question("Composition", "Is it a sample of a larger set, and how was that drawn?"),
    Question("Composition", "Is there a label, and how often each?", TABLES, _labels),
    Question("Composition", "Is anything missing?", TABLES, _missing),
    Question("Composition", "How do instances belong together?", TABLES, _relations),
    Question("Composition", "How is it told which records are of one person?", TOML, _subject_rule),
    Question("Composition", "Are there errors, noise or copies?", TABLES, _noise),
    Question("Composition", "Does it stand alone, or does it need what lies elsewhere?"),
    Question("Composition", "Does it hold confidential or sensitive data of people?"),
    Question("Composition", "Which groups of people are in it: age, sex, illness?"),
    Question(
        "Collection",
        "What is told of how it was collected?",
        TOML,
        lambda facts: " ".join(facts.spec.notes.split()),
    ),
    Question("Collection", "Over what time, by whom, with which devices?"),
    Question("Collection", "Did an ethics board approve, and did the people consent?"),
    Question("Collection", "Can consent be withdrawn, and how?"),
    Question("Preprocessing", "How was it labelled?", TOML, _labelling),
    Question("Preprocessing", "How was it prepared?", TABLES, _preprocessing),
    Question("Preprocessing", "Where is the raw data?", TABLES, _raw),
    Question("Uses", "What has it been used for, and what else could it be?"),
    Question(
        "Uses",
        "What must it not be used for?",
        TOML,
        lambda facts: " ".join(limitation_facts(facts.spec)),
    ),
    Question("Distribution", "Under which licence?", TOML, lambda facts: facts.spec.licence),
    Question("Distribution", "Where is it told of?", TOML, lambda facts: facts.spec.homepage),
    Question("Distribution", "How is it cited?", TOML, lambda facts: facts.spec.citation),
    Question("Distribution", "Do third parties or laws restrict it?"),
    Question("Maintenance", "Which version is it?", TOML, lambda facts: facts.spec.version),
    Question("Maintenance", "Who keeps it, and how are errors told?"),
    Question("Maintenance", "Will it be updated, and are old versions kept?"),
)


def datasheet(facts: Facts) -> tuple[str, list[Block]]:
    """The title and the blocks of a data set's datasheet."""
    spec, rows = facts.spec, [(question, _answer(question, facts)) for question in QUESTIONS]
    open_count = sum(place == NOBODY for _, (_, place) in rows)
    blocks: list[Block] = [
        Summary(
            f"{len(rows) - open_count} of {len(rows)} questions are answered by recorded facts; "
            f"{open_count} are the owner's to write.",
            _tiles(facts),
        )
    ]
    if spec.source.simulated:
        blocks.append(Words("SIMULATED: these recordings say nothing about people.", caveat=True))
    if facts.manifest is None:
        blocks.append(Words(UNMEASURED.format(name=spec.name), caveat=True))
    for section in dict.fromkeys(question.section for question in QUESTIONS):
        cells = [(q.text, *answer) for q, answer in rows if q.section == section]
        blocks += [Heading(section), Table(("asked", "answer", "from"), cells)]
    if facts.manifest:
        blocks += [Heading("Records"), _records(facts)]
    return f"Datasheet: {spec.title}", blocks


def _answer(question: Question, facts: Facts) -> tuple[str, str]:
    """The answer and where it is from; an answer without a fact is the owner's."""
    if question.place == TABLES and not facts.entries:
        return UNMEASURED.format(name=facts.spec.name), TABLES
    text = question.answer(facts)
    return (text, question.place) if text else (OWNER, NOBODY)


def _tiles(facts: Facts) -> list[Tile]:
    if not facts.entries:
        return []
    af = sum(entry.af_beats for entry in facts.entries)
    share = f"{100 * af / _beats(facts):.1f} %" if _beats(facts) else "undefined"
    return [
        Tile("Records", f"{len(facts.entries)}", "that have beat tables here"),
        Tile("Subjects", f"{_subjects(facts)}"),
        Tile("Hours", f"{_hours(facts):.1f}"),
        Tile("AF beats", share, f"of {_beats(facts):,}"),
    ]


#: Records of which the table shows a row each; of more it says how many there are.
MOST_ROWS = 500


def _records(facts: Facts) -> Block:
    rows = [
        (
            entry.record,
            entry.subject,
            entry.lead or "",
            f"{entry.hours:.2f}",
            f"{entry.beats:,}",
            f"{entry.af_beats:,}",
        )
        for entry in facts.entries[:MOST_ROWS]
    ]
    return Table(("record", "subject", "lead", "h", "beats", "AF beats"), rows)
