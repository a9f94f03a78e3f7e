"""What a user says of a data set, asked or by options, in the place of what was proposed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BeforeValidator

from flows.settings import Settings, setting

if TYPE_CHECKING:
    from storage.recordings.survey import Survey
    from tasks.proposals.proposal import Proposal

#: What must be told where the folder cannot, with its question on a terminal.
QUESTIONS = {
    "unmarked": "Rhythm of records without a mark (N, AFIB, or error to leave them out)",
    "leads": "Leads in order of preference, with commas",
}


def pairs(option: str, expected: str) -> BeforeValidator:
    """The mark of a mapping that an option tells by one "LEFT=RIGHT" after another."""

    def split(value: Any) -> Any:
        if isinstance(value, Mapping):
            return value
        parted = [text.rpartition("=") for text in value]
        for text, (left, equals, _) in zip(value, parted, strict=True):
            if not (left and equals):
                raise ValueError(f"{option} {text!r}: expected {expected}")
        return {left: right for left, _, right in parted}

    return BeforeValidator(split)


class AddSettings(Settings):
    """What the user says of a data set; None where nothing."""

    folder: Path = setting(..., "Folder of the recordings: WFDB, EDF, ISHNE or DICOM.")
    name: str | None = setting(None, "Name of the data set; the folder's where not given.")
    title: str | None = setting(None, "What it is, in words.")
    version: str | None = setting(None, "Its version; today where not given.")
    licence: str | None = setting(None, "Under which licence, or agreement, it may be used.")
    citation: str = setting("none", "How to cite it.")
    form: str | None = setting(None, "wfdb, edf, ishne or dicom; the most where not given.")
    lead: list[str] | None = setting(None, "Lead to read, by name; repeat in order of preference.")
    beats: list[str] | None = setting(
        None, "Annotator of beats, or detect; repeat in order of preference."
    )
    rhythm_annotator: str | None = setting(None, "Annotator of rhythms: atr, csv, rhythm.csv, ...")
    rhythm: Annotated[dict[str, str], pairs("--rhythm", "CODE=NAME, as in SR=N")] = setting(
        {}, "CODE=NAME: what a rhythm code means; repeatable."
    )
    af: list[str] | None = setting(None, "Rhythm that counts as AF, by NAME; repeatable.")
    exclude: list[str] = setting([], "Rhythm code whose beats get no label; repeatable.")
    unmarked: str | None = setting(None, "Rhythm of a record without a mark, or error.")
    before_first: str | None = setting(None, "Rhythm before a record's first mark.")
    labels_csv: Path | None = setting(None, "CSV of the folder that labels whole records.")
    label: Annotated[dict[str, str], pairs("--label", "PATTERN=LABEL, as in 'af/*=AFIB'")] = (
        setting({}, "PATTERN=LABEL: label of records by path, as 'af/*=AFIB'; repeatable.")
    )
    subject_pattern: str | None = setting(
        None, "Regular expression of names, with (?P<subject>...)."
    )
    subjects_csv: Path | None = setting(None, "CSV with the columns record and subject.")
    subjects_from_comments: str | None = setting(
        None, "Regular expression of header comments, with one group."
    )
    one_record_one_subject: bool = setting(False, "Every record is another patient's.")
    to: Path | None = setting(None, "Folder for the TOML; else your own (HOLTER_DATASETS).")
    overwrite: bool = setting(False, "Replace a data set of the same name.")
    ask: bool | None = setting(None, "Ask what is open; on a terminal it does.")

    def but(self, **values: Any) -> AddSettings:
        """The same with other values."""
        return self.model_copy(update=values)


def with_table(survey: Survey, labels_csv: Path | None) -> Survey:
    """The survey with no other CSV of labels than the one that was named."""
    if labels_csv is None:
        return survey
    path = labels_csv.absolute()
    tables = tuple(table for table in survey.tables if survey.folder / table.file == path)
    if not tables:
        names = ", ".join(table.file for table in survey.tables) or "none"
        raise ValueError(
            f"--labels-csv {labels_csv}: found no such CSV in the folder that names its records; "
            f"there are: {names}"
        )
    return replace(survey, tables=tables)


def still_open(proposal: Proposal, settings: AddSettings) -> dict[str, str]:
    """The doubts that nothing said has settled."""
    from tasks.proposals.record_labels import has_label

    settled = {
        "subjects": settings.one_record_one_subject
        or any((settings.subject_pattern, settings.subjects_csv, settings.subjects_from_comments)),
        "unmarked": settings.unmarked is not None
        or all(has_label(name, {"paths": settings.label}, None) for name in proposal.silent),
        "labels": not unknown_labels(proposal, settings),
        "labels_csv": False,
        "leads": settings.lead is not None,
        "rhythms": True,  # an unknown code is left out, and told
    }
    return {key: text for key, text in proposal.doubts.items() if not settled[key]}


def unknown_labels(proposal: Proposal, settings: AddSettings) -> list[str]:
    """The labels of whole records that nobody has said the meaning of."""
    values = proposal.values
    paths = values.get("labels", {}).get("paths", {})
    replaced = {label for pattern, label in paths.items() if pattern in settings.label}
    settled = {*settings.rhythm, *settings.exclude, *replaced}
    meaning = values["rhythms"]["map"]
    return [label for label in proposal.labels if not meaning[label] and label not in settled]


def ask_open_points(proposal: Proposal, settings: AddSettings) -> AddSettings:
    """Ask for what is open, and whether the proposed leads and rhythms are right."""
    values = proposal.values
    if settings.lead is None:
        default = ",".join(values["leads"]["prefer"])
        settings = settings.but(lead=_words(typer.prompt("Leads", default=default, err=True)))
    missing = still_open(proposal, settings)
    if "unmarked" in missing:
        settings = settings.but(unmarked=typer.prompt(QUESTIONS["unmarked"], err=True))
    for label in unknown_labels(proposal, settings):
        question = f"Rhythm that the label {label} stands for (AFIB, N, ...; Enter for none)"
        answer = typer.prompt(question, default="", show_default=False, err=True)
        settings = settings.but(rhythm={**settings.rhythm, label: answer})
    if settings.af is None:
        names = sorted({name for name in values["rhythms"]["map"].values() if name})
        default = ",".join(values["rhythms"]["af"])
        question = f"Rhythms that are AF, of {', '.join(names)}"
        settings = settings.but(af=_words(typer.prompt(question, default=default, err=True)))
    if "subjects" in missing:
        if typer.confirm("Is every record another patient's?", default=False, err=True):
            return settings.but(one_record_one_subject=True)
        question = "Pattern of names with (?P<subject>...), or a CSV of record,subject"
        answer = typer.prompt(question, default=values["subjects"].get("pattern"), err=True)
        if answer.endswith(".csv"):
            return settings.but(subjects_csv=Path(answer))
        return settings.but(subject_pattern=answer)
    return settings


def with_answers(proposal: Proposal, settings: AddSettings, survey: Survey) -> dict[str, Any]:
    """The proposal with what was said in its place."""
    from tasks.proposals.record_labels import rhythm_of

    values = proposal.values
    rhythms = {**values["rhythms"], "map": {**values["rhythms"]["map"], **settings.rhythm}}
    unknown = [code for code in settings.exclude if code not in rhythms["map"]]
    if unknown:
        codes = ", ".join(rhythms["map"])
        raise ValueError(f"--exclude {unknown[0]}: found no such rhythm code; there are {codes}")
    rhythms["map"] |= dict.fromkeys(settings.exclude, "")
    for label in settings.label.values():
        rhythms["map"].setdefault(label, rhythm_of(label) or label)
    labels = dict(values.get("labels", {}))
    if settings.label:
        labels["paths"] = {**labels.get("paths", {}), **settings.label}
    overrides = {
        "af": settings.af,
        "unmarked": settings.unmarked,
        "before_first": settings.before_first,
    }
    rhythms |= {key: value for key, value in overrides.items() if value is not None}
    if rhythms.get("unmarked", "error") != "error":
        rhythms["map"].setdefault(rhythms["unmarked"], rhythms["unmarked"])
    annotations = {**values["annotations"]}
    annotations |= {"beats": settings.beats} if settings.beats else {}
    annotations |= {"rhythm": settings.rhythm_annotator} if settings.rhythm_annotator else {}
    return {
        "records": values["records"],
        "annotations": annotations,
        "leads": {"prefer": settings.lead} if settings.lead else values["leads"],
        "labels": labels,
        "rhythms": rhythms,
        "subjects": _subjects(proposal, settings, survey),
    }


def _subjects(proposal: Proposal, settings: AddSettings, survey: Survey) -> Mapping[str, Any]:
    names = [record.name for record in survey.records]
    if settings.subject_pattern:
        return {"pattern": settings.subject_pattern}
    if settings.subjects_csv:
        return {"map": _from_csv(settings.subjects_csv, names)}
    if settings.subjects_from_comments:
        comments = {
            record.name: record.header.comments for record in survey.records if record.header
        }
        return _numbered_anew(_from_comments(settings.subjects_from_comments, comments))
    if proposal.patients:  # one who says that each is another's keeps a patient's together too
        return _numbered_anew(proposal.patients)
    if settings.one_record_one_subject:
        return {"map": proposal.values["subjects"].get("map", {})}
    subjects: Mapping[str, Any] = proposal.values["subjects"]
    return subjects


def _numbered_anew(patients: Mapping[str, str]) -> dict[str, Any]:
    """Subjects of records whose patients' numbers are known: our own, and digests of theirs."""
    from storage.datasets.patients import number_digests
    from tasks.proposals.proposal import pseudonyms

    subjects = pseudonyms(patients)
    numbers = {patients[record]: subject for record, subject in subjects.items()}
    return {"map": subjects, "numbers": number_digests(numbers)}


def _from_csv(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Record to subject from a CSV; every record must be in it."""
    from storage.datasets.labels import plain_name, read_rows

    try:
        header, *table = read_rows(path)
        record, subject = (header.index(column) for column in ("record", "subject"))
        rows = {plain_name(row[record]): row[subject] for row in table}
    except (OSError, ValueError, IndexError) as error:
        raise ValueError(
            f"{path}: found {type(error).__name__} {error}; expected a CSV with the columns "
            "record and subject"
        ) from error
    _require_subjects(path.name, {name: rows.get(name, "") for name in names})
    return {name: rows[name] for name in names}


def _from_comments(pattern: str, comments: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Record to the patient's own number, from the headers' comments."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--subjects-from-comments {pattern!r}: {error}") from error
    if expression.groups != 1:
        raise ValueError(f"--subjects-from-comments {pattern!r}: needs exactly one group")
    subjects = {
        name: next((match[1] for line in lines if (match := expression.search(line))), "")
        for name, lines in comments.items()
    }
    _require_subjects(f"the comments, by {pattern!r}", subjects)
    return subjects


def _require_subjects(source: str, subjects: Mapping[str, str]) -> None:
    without = [name for name, subject in subjects.items() if not subject]
    if without:
        raise ValueError(
            f"{source}: found no subject of {len(without)} records ({', '.join(without[:3])}); "
            "expected one for every record"
        )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
