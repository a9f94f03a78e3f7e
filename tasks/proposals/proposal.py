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
    found : dict of str to str
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
    found: dict[str, str]
    doubts: dict[str, str]
    labels: tuple[str, ...]
    silent: tuple[str, ...]
    notes: tuple[str, ...]
    patients: dict[str, str] = field(default_factory=dict, repr=False)


def propose(survey: Survey) -> Proposal:
    """Propose records, annotators, leads, rhythms and subjects of a surveyed folder."""
    readable = [one for one in survey.records if one.header is not None]
    doubts: dict[str, str] = {}
    notes = [one.problem or "" for one in survey.records if one.header is None]
    notes += [f"{n} {suffix} files are left aside" for suffix, n in survey.other_formats.items()]
    beats, beats_found = propose_beats(readable)
    rhythm = rhythm_annotator(readable)
    bare = [one for one in readable if not one.annotators.get(rhythm or "", _NOTHING).rhythms]
    labels_at = label_level([one.name for one in readable], is_label)
    labels, table = propose_labels(
        [one.name for one in bare], survey.tables, labels_at, doubts, notes
    )
    codes = label_codes(labels, table)
    rhythms, rhythms_found = propose_rhythms(readable, rhythm, codes, doubts, notes)
    silent = tuple(
        one.name
        for one in bare
        if not has_label(one.name, labels, table)
        and not any(line in rhythms.get("from_comments", {}) for line in _comments(one))
    )
    if silent:
        doubts["unmarked"] = (
            f"the rhythm of the {len(silent)} records without a mark ({', '.join(silent[:3])}"
            f"{', ...' if len(silent) > 3 else ''}): --unmarked N, --unmarked {AF}, "
            "--label 'FOLDER/*=N', or --unmarked error to leave them out"
        )
    leads, leads_found = propose_leads(readable, doubts)
    subjects, subjects_found = propose_subjects(readable, doubts, table, labels_at)
    records: dict[str, Any] = {"format": survey.format, **_which(survey, notes)}
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
        found={
            "records": f"{len(survey.records)} {survey.format} records"
            + (f", {survey.parts} parts of them not counted" if survey.parts else ""),
            "beats": beats_found,
            "rhythms": rhythms_found,
            "labels": ", ".join(codes),
            "leads": leads_found,
            "subjects": subjects_found,
        },
        doubts=doubts,
        labels=tuple(codes),
        silent=silent,
        notes=tuple(notes),
        patients=patients_of(readable),
    )


def _which(survey: Survey, notes: list[str]) -> dict[str, Any]:
    """The list file where it lists them all; names where parts lie between; else every file."""
    names = [one.name for one in survey.records]
    if survey.has_list:
        return {"file": LISTING}
    if survey.parts:
        notes.append("records are listed by name, as parts lie between: later ones are not seen")
        return {"names": names}
    return {"pattern": "**/*"}


def _covering(
    options: Sequence[str], holders: Mapping[str, set[str]], every: set[str]
) -> list[str]:
    """The options, in order, each of which serves a record that no earlier one does."""
    chosen, left = [], set(every)
    for option in options:
        if left & holders[option]:
            chosen.append(option)
            left -= holders[option]
    return chosen


def _counts(holders: Mapping[str, set[str]], order: Iterable[str]) -> str:
    return ", ".join(f"{name} ({len(holders[name])} records)" for name in order)


def propose_beats(records: Sequence[RecordSurvey]) -> tuple[list[str], str]:
    """Annotators of beats in order of preference; "detect" last where a record has none."""
    holders: dict[str, set[str]] = {}
    for one in records:
        for name, annotator in one.annotators.items():
            if annotator.beats >= 3:
                holders.setdefault(name, set()).add(one.name)

    def rank(name: str) -> tuple[int, int, str]:
        place = CORRECTED.index(name) if name in CORRECTED else len(CORRECTED)
        return place, -len(holders[name]), name

    every = {one.name for one in records}
    chosen = _covering(sorted(holders, key=rank), holders, every)
    told = _counts(holders, sorted(holders, key=rank))
    if every - set().union(*holders.values(), set()):
        chosen.append(DETECT)
        told = f"{told or 'none annotated'}; the others are detected"
    return chosen, told


def rhythm_annotator(records: Sequence[RecordSurvey]) -> str | None:
    """The annotator that marks rhythms in the most records; None where nothing does."""
    marked = Counter(name for one in records for name, a in one.annotators.items() if a.rhythms)
    return max(marked, key=lambda name: (marked[name], name in CORRECTED)) if marked else None


def propose_rhythms(
    records: Sequence[RecordSurvey],
    annotator: str | None,
    labels: Sequence[str],
    doubts: dict[str, str],
    notes: list[str],
) -> tuple[dict[str, Any], str]:
    """What every rhythm code means, and every label of a whole record."""
    found = Counter[str]()
    for one in records:
        if annotator in one.annotators:
            found.update(one.annotators[annotator].rhythms)
    unknown = sorted(set(found) - set(RHYTHMS))
    if unknown:
        doubts["rhythms"] = (
            f"what the rhythm codes {', '.join(unknown)} are: left out (--rhythm CODE=NAME)"
        )
    meaning = {code: RHYTHMS.get(code, "") for code in sorted(found)}
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
    firsts = [a.first for one in records if (a := one.annotators.get(annotator or "")) and a.first]
    late = [code for at, code in firsts if at > SOON_SAMPLES]
    if late and all(RHYTHMS.get(code) == AF for code in late) and "N" in out["map"].values():
        out["before_first"] = "N"
        notes.append(
            f"{len(late)} records begin without a mark and their first one is AF: "
            "before it the rhythm is taken as N (--before-first)"
        )
    bare = [one for one in records if not one.annotators.get(annotator or "", _NOTHING).rhythms]
    diagnoses = {line: _diagnosis(line) for one in bare for line in _comments(one)}
    out["from_comments"] = {line: name for line, name in diagnoses.items() if name}
    if ended := sum(a.ends > 0 for one in records if (a := one.annotators.get(annotator or ""))):
        notes.append(
            f"in {ended} records a mark ) ends a rhythm: what follows has no label "
            "([rhythms] outside in the TOML)"
        )
    told = ", ".join(f"{code} ({n})" for code, n in found.most_common())
    return {key: value for key, value in out.items() if value}, told or "no rhythm marks"


class _Nothing:
    rhythms: Mapping[str, int] = {}


_NOTHING = _Nothing()


def _comments(one: RecordSurvey) -> tuple[str, ...]:
    return one.header.comments if one.header else ()


def _diagnosis(line: str) -> str:
    return next((name for words, name in DIAGNOSES if words.search(line)), "")


def propose_leads(records: Sequence[RecordSurvey], doubts: dict[str, str]) -> tuple[list[str], str]:
    """Leads in order of preference, no more than it takes for every record to have one."""
    holders: dict[str, set[str]] = {}
    places: dict[str, int] = {}
    spelled: dict[str, set[str]] = {}
    for one in records:
        signals = one.header.leads if one.header else ()
        for place, number in enumerate(usable(signals)):
            name = signals[number][0]
            if rank(name) is not None:
                lead = anywhere(name)
                holders.setdefault(lead, set()).add(one.name)
                spelled.setdefault(lead, set()).add(name)
                places[lead] = min(place, places.get(lead, place))
    every = {one.name for one in records if one.header and one.header.leads}

    def order(lead: str) -> tuple[int, bool, int, int, str]:
        other = lead.upper() != plain(lead)
        return rank(lead) or 0, other, -len(holders[lead]), places[lead], lead

    ordered = sorted(holders, key=order)
    chosen = [
        spelled[lead].pop() if len(spelled[lead]) == 1 else lead
        for lead in _covering(ordered, holders, every)
    ]
    without = sorted(every - set().union(*holders.values(), set()))
    if without:
        doubts["leads"] = f"which lead of {', '.join(without[:3])} is an ECG in volts: --lead NAME"
    if not every:
        chosen = ["ECG1"]
        return chosen, "no record has a signal: annotations alone"
    return chosen, _counts(holders, ordered[:8])


def propose_subjects(
    records: Sequence[RecordSurvey],
    doubts: dict[str, str],
    table: LabelFile | None = None,
    labels_at: int | None = None,
) -> tuple[dict[str, Any], str]:
    """Whose each record is: by the headers' word, a CSV, names, folders, or in doubt."""
    names = [one.name for one in records]
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
        told = f"{len(set(subjects.values()))} patients by the records' names"
        if doubt := _doubt_of_names(names, subjects, folders):
            doubts["subjects"] = (
                f"whether {pattern} tells the patient: {doubt} "
                "(--subject-pattern, or --one-record-one-subject)"
            )
        return {"pattern": pattern}, told
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
        told = ", ".join(f"{record} as {first}" for record, first in twins.items())
        return {"map": twins}, f"headers that begin with the very same words: {told}"
    return {}, "nothing tells"


def patients_of(records: Sequence[RecordSurvey]) -> dict[str, str]:
    """Record to the patient's own number; none where a header has none, or all have the same."""
    ids = {one.name: _patient(one) for one in records}
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
    listed = ", ".join(f"{folder}: {records[folder]} records" for folder in first)
    return listed + (", ..." if len(records) > len(first) else "")


def _patient(one: RecordSurvey) -> str:
    if one.header is None:
        return ""
    said = [found[1] for line in one.header.comments if (found := _COMMENT.search(line))]
    return one.header.patient or (said[0] if said else "")


def pseudonyms(patients: Mapping[str, str]) -> dict[str, str]:
    """Record to subject, the patients' own numbers replaced by p0001, p0002, ... in order."""
    order = {patient: f"p{n:04d}" for n, patient in enumerate(dict.fromkeys(patients.values()), 1)}
    return {record: order[patient] for record, patient in patients.items()}


def same_comments(records: Sequence[RecordSurvey]) -> dict[str, str]:
    """Records whose first comment equals an earlier one's, where that is rare: one patient's.

    It holds age, sex and numbers in many data sets (mitdb: 201 and 202 are one patient).
    """
    said = {
        one.name: one.header.comments[0] for one in records if one.header and one.header.comments
    }
    first: dict[str, str] = {}
    twins = {
        name: first[words] for name, words in said.items() if first.setdefault(words, name) != name
    }
    return twins if len(twins) <= len(said) // 10 else {}
