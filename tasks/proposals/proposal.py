"""Proposal: from what lies in a folder to how it is read as a data set, and what is in doubt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage.datasets.labels import DETECT
from storage.formats.lead_names import anywhere, plain, rank, usable
from storage.recordings.survey import LISTING, LabelFile, RecordSurvey, Survey
from tasks.proposals.record_labels import (
    AF,
    RHYTHMS,
    has_label,
    is_label,
    label_codes,
    propose_labels,
    rhythm_of,
)
from tasks.proposals.record_names import (
    Folders,
    apart,
    begins_with_date,
    by_pattern,
    label_level,
    name_pattern,
    patient_folders,
)

#: Annotators that people corrected come first, then those of programs.
CORRECTED = ["qrsc", "atr", "ari", "man", "ann"]
#: What a header's comment says of a record that has no rhythm mark: the first that fits.
DIAGNOSES = [
    (re.compile(r"(non|no|without)[ -]?(atrial fib|af\b)", re.I), "N"),
    (re.compile(r"(normal )?sinus rhythm|^normal$", re.I), "N"),
    (re.compile(r"^(persistent |permanent )?(atrial fibrillation|af)$", re.I), AF),
]
_COMMENT = re.compile(r"\b(?:subject|patient)(?:[ _-]?(?:id|no|number))?\s*[:=#]\s*(\S+)", re.I)
#: A first rhythm mark within so many samples of the start holds from the start.
SOON_SAMPLES = 2500


@dataclass(frozen=True)
class Proposal:
    """How a data set would be read.

    Attributes
    ----------
    values : dict
        The parts of a data set's TOML that a folder can tell;
        `storage.datasets.dataset.DatasetSpec`.
    evidence : dict of str to str
        What each part was told by, in words.
    doubts : dict of str to str
        What the folder cannot tell, by the thing that must be said: "subjects", "unmarked",
        "labels", "labels_csv", "rhythms", "leads".
    labels : tuple of str
        Labels of whole records.
    silent : tuple of str
        Records whose rhythm neither a mark, a label nor a comment tells.
    notes : tuple of str
        What a user should know, and need not answer.
    patients : dict of str to str
        Record to the patient's own number, where the headers tell whose each is; it is written
        nowhere.
    """

    values: dict[str, Any]
    evidence: dict[str, str]
    doubts: dict[str, str]
    labels: tuple[str, ...]
    silent: tuple[str, ...]
    notes: tuple[str, ...]
    patients: dict[str, str] = field(default_factory=dict, repr=False)


def propose(survey: Survey) -> Proposal:
    """Propose records, annotators, leads, rhythms and subjects of a surveyed folder."""
    readable = [record for record in survey.records if record.header is not None]
    doubts: dict[str, str] = {}
    notes = [record.problem or "" for record in survey.records if record.header is None]
    notes += [f"{n} {suffix} files are left aside" for suffix, n in survey.other_formats.items()]
    beats, beats_evidence = propose_beats(readable)
    rhythm = rhythm_annotator(readable)
    bare = _without_marks(readable, rhythm)
    labels_at = label_level([record.name for record in readable], is_label)
    labels, table = propose_labels(
        [record.name for record in bare], survey.tables, labels_at, doubts, notes
    )
    codes = label_codes(labels, table)
    rhythms, rhythms_evidence = propose_rhythms(readable, rhythm, codes, doubts, notes)
    silent = tuple(
        record.name
        for record in bare
        if not has_label(record.name, labels, table)
        and not any(line in rhythms.get("from_comments", {}) for line in _comments(record))
    )
    if silent:
        doubts["unmarked"] = (
            f"the rhythm of the {len(silent)} records without a mark ({', '.join(silent[:3])}"
            f"{', ...' if len(silent) > 3 else ''}): --unmarked N, --unmarked {AF}, "
            "--label 'FOLDER/*=N', or --unmarked error to leave them out"
        )
    leads, leads_evidence = propose_leads(readable, doubts)
    subjects, subjects_evidence = propose_subjects(readable, doubts, table, labels_at)
    records: dict[str, Any] = {"format": survey.format, **_selection(survey, notes)}
    annotations = {"beats": beats, **({"rhythm": rhythm} if rhythm else {})}
    return Proposal(
        values={
            "records": records,
            "annotations": annotations,
            "leads": {"prefer": leads},
            "rhythms": rhythms,
            "subjects": subjects,
            **({"labels": labels} if labels else {}),
        },
        evidence={
            "records": f"{len(survey.records)} {survey.format} records"
            + (f", {survey.parts} parts of them not counted" if survey.parts else ""),
            "beats": beats_evidence,
            "rhythms": rhythms_evidence,
            "labels": ", ".join(codes),
            "leads": leads_evidence,
            "subjects": subjects_evidence,
        },
        doubts=doubts,
        labels=tuple(codes),
        silent=silent,
        notes=tuple(notes),
        patients=patients_of(readable),
    )


def _selection(survey: Survey, notes: list[str]) -> dict[str, Any]:
    """The list file where it lists them all; names where parts lie between; else every file."""
    names = [record.name for record in survey.records]
    if survey.has_list:
        return {"file": LISTING}
    if survey.parts:
        notes.append("records are listed by name, as parts lie between: later ones are not seen")
        return {"names": names}
    return {"pattern": "**/*"}


def _covering(
    options: Sequence[str], holders: Mapping[str, set[str]], records: set[str]
) -> list[str]:
    """The options, in order, each of which serves a record that no earlier one does."""
    cover, left = [], set(records)
    for option in options:
        if left & holders[option]:
            cover.append(option)
            left -= holders[option]
    return cover


def _counts(holders: Mapping[str, set[str]], order: Iterable[str]) -> str:
    return ", ".join(f"{name} ({len(holders[name])} records)" for name in order)


def propose_beats(records: Sequence[RecordSurvey]) -> tuple[list[str], str]:
    """Annotators of beats in order of preference; "detect" last where a record has none."""
    holders: dict[str, set[str]] = {}
    for record in records:
        for name, annotator in record.annotators.items():
            if annotator.beats >= 3:
                holders.setdefault(name, set()).add(record.name)

    def rank(name: str) -> tuple[int, int, str]:
        place = CORRECTED.index(name) if name in CORRECTED else len(CORRECTED)
        return place, -len(holders[name]), name

    names = {record.name for record in records}
    annotators = _covering(sorted(holders, key=rank), holders, names)
    evidence = _counts(holders, sorted(holders, key=rank))
    if names - set().union(*holders.values(), set()):
        annotators.append(DETECT)
        evidence = f"{evidence or 'none annotated'}; the others are detected"
    return annotators, evidence


def rhythm_annotator(records: Sequence[RecordSurvey]) -> str | None:
    """The annotator that marks rhythms in the most records; None where nothing does."""
    uses = Counter(name for record in records for name, a in record.annotators.items() if a.rhythms)
    return max(uses, key=lambda name: (uses[name], name in CORRECTED)) if uses else None


def propose_rhythms(
    records: Sequence[RecordSurvey],
    annotator: str | None,
    labels: Sequence[str],
    doubts: dict[str, str],
    notes: list[str],
) -> tuple[dict[str, Any], str]:
    """What every rhythm code means, and every label of a whole record."""
    codes = Counter[str]()
    for record in records:
        if annotator in record.annotators:
            codes.update(record.annotators[annotator].rhythms)
    unknown = sorted(set(codes) - set(RHYTHMS))
    if unknown:
        doubts["rhythms"] = (
            f"what the rhythm codes {', '.join(unknown)} are: left out (--rhythm CODE=NAME)"
        )
    meaning = {code: RHYTHMS.get(code, "") for code in sorted(codes)}
    meaning |= {label: rhythm_of(label) for label in labels if label not in meaning}
    unknown = [label for label in labels if not meaning[label]]
    if unknown:
        doubts["labels"] = (
            f"what the labels {', '.join(unknown)} of whole records are: --rhythm LABEL=NAME for "
            "each, or --exclude LABEL where it tells no rhythm"
        )
    out: dict[str, Any] = {"af": [AF], "map": meaning}
    if AF not in out["map"].values():
        out["map"][AF] = AF
    if "AFL" in out["map"].values():
        notes.append("atrial flutter (AFL) counts as not AF; --exclude AFL leaves it unlabelled")
    marks = [mark for record in records if (mark := record.annotators.get(annotator or ""))]
    firsts = [mark.first for mark in marks if mark.first]
    late = [code for at, code in firsts if at > SOON_SAMPLES]
    if late and all(RHYTHMS.get(code) == AF for code in late) and "N" in out["map"].values():
        out["before_first"] = "N"
        notes.append(
            f"{len(late)} records begin without a mark and their first one is AF: "
            "before it the rhythm is taken as N (--before-first)"
        )
    bare = _without_marks(records, annotator)
    diagnoses = {line: _diagnosis(line) for record in bare for line in _comments(record)}
    out["from_comments"] = {line: name for line, name in diagnoses.items() if name}
    if with_ends := sum(mark.ends > 0 for mark in marks):
        notes.append(
            f"in {with_ends} records a mark ) ends a rhythm: what follows has no label "
            "([rhythms] outside in the TOML)"
        )
    evidence = ", ".join(f"{code} ({n})" for code, n in codes.most_common())
    return {key: value for key, value in out.items() if value}, evidence or "no rhythm marks"


def _without_marks(records: Sequence[RecordSurvey], annotator: str | None) -> list[RecordSurvey]:
    """The records in which that annotator marks no rhythm."""
    marks = [record.annotators.get(annotator or "") for record in records]
    return [
        record for record, mark in zip(records, marks, strict=True) if not (mark and mark.rhythms)
    ]


def _comments(record: RecordSurvey) -> tuple[str, ...]:
    return record.header.comments if record.header else ()


def _diagnosis(line: str) -> str:
    return next((name for words, name in DIAGNOSES if words.search(line)), "")


def propose_leads(records: Sequence[RecordSurvey], doubts: dict[str, str]) -> tuple[list[str], str]:
    """Leads in order of preference, no more than it takes for every record to have one."""
    holders: dict[str, set[str]] = {}
    places: dict[str, int] = {}
    spelled: dict[str, set[str]] = {}
    for record in records:
        signals = record.header.leads if record.header else ()
        for place, number in enumerate(usable(signals)):
            name = signals[number][0]
            if rank(name) is not None:
                lead = anywhere(name)
                holders.setdefault(lead, set()).add(record.name)
                spelled.setdefault(lead, set()).add(name)
                places[lead] = min(place, places.get(lead, place))
    names = {record.name for record in records if record.header and record.header.leads}

    def order(lead: str) -> tuple[int, bool, int, int, str]:
        variant = lead.upper() != plain(lead)
        return rank(lead) or 0, variant, -len(holders[lead]), places[lead], lead

    ordered = sorted(holders, key=order)
    leads = [
        spelled[lead].pop() if len(spelled[lead]) == 1 else lead
        for lead in _covering(ordered, holders, names)
    ]
    without = sorted(names - set().union(*holders.values(), set()))
    if without:
        doubts["leads"] = f"which lead of {', '.join(without[:3])} is an ECG in volts: --lead NAME"
    if not names:
        leads = ["ECG1"]
        return leads, "no record has a signal: annotations alone"
    return leads, _counts(holders, ordered[:8])


def propose_subjects(
    records: Sequence[RecordSurvey],
    doubts: dict[str, str],
    table: LabelFile | None = None,
    labels_at: int | None = None,
) -> tuple[dict[str, Any], str]:
    """Whose each record is: by the headers' word, a CSV, names, folders, or in doubt."""
    names = [record.name for record in records]
    if patients := patients_of(records):
        return {"map": pseudonyms(patients)}, (
            f"{len(set(patients.values()))} patients by the headers (numbered anew: of their own "
            "numbers keyed digests are kept)"
        )
    if table is not None and table.subjects:
        return {}, f"{table.subjects} patients by {table.file}"
    pattern = name_pattern([name.rpartition("/")[2] for name in names])
    folders = patient_folders(names, labels_at)
    if pattern is not None:
        subjects = by_pattern(pattern, names)
        evidence = f"{len(set(subjects.values()))} patients by the records' names"
        if doubt := _doubt_of_names(names, subjects, folders):
            doubts["subjects"] = (
                f"whether {pattern} tells the patient: {doubt} "
                "(--subject-pattern, or --one-record-one-subject)"
            )
        return {"pattern": pattern}, evidence
    if folders is not None:
        if not folders.certain:
            doubts["subjects"] = (
                f"whether each folder ({_largest(folders.records)}) is one patient: "
                f"--subject-pattern '{folders.pattern}' where it is, else another one, "
                "--subjects-csv FILE, or --one-record-one-subject"
            )
        return {"pattern": folders.pattern}, f"{len(folders.records)} folders, one a patient"
    twins = same_comments(records)
    doubts["subjects"] = (
        f"whose each record is: names and headers do not tell{_in_folders(names)}. "
        "--subject-pattern REGEX, "
        "--subjects-from-comments REGEX, --subjects-csv FILE, or --one-record-one-subject"
    )
    if twins:
        evidence = ", ".join(f"{record} as {first}" for record, first in twins.items())
        return {"map": twins}, f"headers that begin with the very same words: {evidence}"
    return {}, "nothing tells"


def patients_of(records: Sequence[RecordSurvey]) -> dict[str, str]:
    """Record to the patient's own number; none where a header has none, or all have the same."""
    ids = {record.name: _patient(record) for record in records}
    # One number in all headers is the recorder's.
    return ids if all(ids.values()) and len(set(ids.values())) > 1 else {}


def _doubt_of_names(
    names: Sequence[str], subjects: Mapping[str, str], folders: Folders | None
) -> str:
    """Why the records' names may not tell whose they are; "" where nothing speaks against it."""
    patients = set(subjects.values())
    if len(subjects) < len(names):
        return f"it fits {len(subjects)} of {len(names)} names"
    if len(patients) == len(names):
        return "every record has another one"
    if len(patients) == 1:
        return f"every record is of {next(iter(patients))}"
    if begins_with_date(names):
        return "names begin with a date"
    if twice := apart(subjects):
        return f"{twice[0]} lies in more than one folder"
    if folders is not None and folders.certain and len(folders.records) != len(patients):
        return f"it tells {len(patients)}, where there are {len(folders.records)} folders"
    return ""


def _in_folders(names: Sequence[str]) -> str:
    """The outermost folders, which are labels or groups of people where they reach this far."""
    folders = Counter(name.partition("/")[0] for name in names if "/" in name)
    return f", nor do the folders ({_largest(folders)})" if folders else ""


def _largest(records: Mapping[str, int]) -> str:
    first = sorted(records, key=lambda folder: -records[folder])[:3]
    text = ", ".join(f"{folder}: {records[folder]} records" for folder in first)
    return text + (", ..." if len(records) > len(first) else "")


def _patient(record: RecordSurvey) -> str:
    if record.header is None:
        return ""
    numbers = [match[1] for line in record.header.comments if (match := _COMMENT.search(line))]
    return record.header.patient or (numbers[0] if numbers else "")


def pseudonyms(patients: Mapping[str, str]) -> dict[str, str]:
    """Record to subject, the patients' own numbers replaced by p0001, p0002, ... in order."""
    order = {patient: f"p{n:04d}" for n, patient in enumerate(dict.fromkeys(patients.values()), 1)}
    return {record: order[patient] for record, patient in patients.items()}


def same_comments(records: Sequence[RecordSurvey]) -> dict[str, str]:
    """Records whose first comment equals an earlier one's, where that is rare: one patient's.

    It holds age, sex and numbers in many data sets (mitdb: 201 and 202 are one patient).
    """
    texts = {record.name: comments[0] for record in records if (comments := _comments(record))}
    first: dict[str, str] = {}
    twins = {
        name: first[words] for name, words in texts.items() if first.setdefault(words, name) != name
    }
    return twins if len(twins) <= len(texts) // 10 else {}
