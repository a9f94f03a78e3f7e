"""What a user says of a data set, asked or by options, in the place of what was proposed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from storage.recordings.survey import Survey
    from tasks.proposals.proposal import Proposal

#: What must be told where the folder cannot, with its question on a terminal.
QUESTIONS = {
    "unmarked": "Rhythm of records without a mark (N, AFIB, or error to leave them out)",
    "leads": "Leads in order of preference, with commas",
}


@dataclass(frozen=True)
class Said:
    """What the user said of a data set; None where nothing."""

    leads: list[str] | None
    beats: list[str] | None
    rhythm: str | None
    rhythms: dict[str, str]
    af: list[str] | None
    exclude: list[str]
    unmarked: str | None
    before_first: str | None
    subject_pattern: str | None
    subjects_csv: Path | None
    subjects_from_comments: str | None
    one_each: bool
    labels: dict[str, str]


def with_table(found: Survey, labels_csv: Path | None) -> Survey:
    """The survey with no other CSV of labels than the one that was named."""
    if labels_csv is None:
        return found
    path = labels_csv.absolute()
    tables = tuple(table for table in found.tables if found.folder / table.file == path)
    if not tables:
        listed = ", ".join(table.file for table in found.tables) or "none"
        raise ValueError(
            f"--labels-csv {labels_csv}: found no such CSV in the folder that names its records; "
            f"there are: {listed}"
        )
    return replace(found, tables=tables)


def still_open(proposal: Proposal, said: Said) -> dict[str, str]:
    """The doubts that nothing said has settled."""
    from tasks.proposals.record_labels import has_label

    settled = {
        "subjects": said.one_each
        or any((said.subject_pattern, said.subjects_csv, said.subjects_from_comments)),
        "unmarked": said.unmarked is not None
        or all(has_label(name, {"paths": said.labels}, None) for name in proposal.silent),
        "labels": not unknown_labels(proposal, said),
        "labels_csv": False,
        "leads": said.leads is not None,
        "rhythms": True,  # an unknown code is left out, and told
    }
    return {key: text for key, text in proposal.doubts.items() if not settled[key]}


def unknown_labels(proposal: Proposal, said: Said) -> list[str]:
    """The labels of whole records that nobody has said the meaning of."""
    values = proposal.values
    paths = values.get("labels", {}).get("paths", {})
    replaced = {label for pattern, label in paths.items() if pattern in said.labels}
    known = {*said.rhythms, *said.exclude, *replaced}
    meaning = values["rhythms"]["map"]
    return [label for label in proposal.labels if not meaning[label] and label not in known]


def asked(proposal: Proposal, said: Said) -> Said:
    """Ask for what is open, and whether the proposed leads and rhythms are right."""
    values = proposal.values
    if said.leads is None:
        default = ",".join(values["leads"]["prefer"])
        said = replace(said, leads=_words(typer.prompt("Leads", default=default, err=True)))
    missing = still_open(proposal, said)
    if "unmarked" in missing:
        said = replace(said, unmarked=typer.prompt(QUESTIONS["unmarked"], err=True))
    for label in unknown_labels(proposal, said):
        question = f"Rhythm that the label {label} stands for (AFIB, N, ...; Enter for none)"
        answer = typer.prompt(question, default="", show_default=False, err=True)
        said = replace(said, rhythms={**said.rhythms, label: answer})
    if said.af is None:
        names = sorted({name for name in values["rhythms"]["map"].values() if name})
        default = ",".join(values["rhythms"]["af"])
        question = f"Rhythms that are AF, of {', '.join(names)}"
        said = replace(said, af=_words(typer.prompt(question, default=default, err=True)))
    if "subjects" in missing:
        if typer.confirm("Is every record another patient's?", default=False, err=True):
            return replace(said, one_each=True)
        question = "Pattern of names with (?P<subject>...), or a CSV of record,subject"
        answer = typer.prompt(question, default=values["subjects"].get("pattern"), err=True)
        if answer.endswith(".csv"):
            return replace(said, subjects_csv=Path(answer))
        return replace(said, subject_pattern=answer)
    return said


def with_answers(proposal: Proposal, said: Said, found: Survey) -> dict[str, Any]:
    """The proposal with what was said in its place."""
    from tasks.proposals.record_labels import rhythm_of

    values = proposal.values
    rhythms = {**values["rhythms"], "map": {**values["rhythms"]["map"], **said.rhythms}}
    unknown = [code for code in said.exclude if code not in rhythms["map"]]
    if unknown:
        known = ", ".join(rhythms["map"])
        raise ValueError(f"--exclude {unknown[0]}: found no such rhythm code; there are {known}")
    rhythms["map"] |= dict.fromkeys(said.exclude, "")
    for label in said.labels.values():
        rhythms["map"].setdefault(label, rhythm_of(label) or label)
    labels = dict(values.get("labels", {}))
    if said.labels:
        labels["paths"] = {**labels.get("paths", {}), **said.labels}
    told = {"af": said.af, "unmarked": said.unmarked, "before_first": said.before_first}
    rhythms |= {key: value for key, value in told.items() if value is not None}
    if rhythms.get("unmarked", "error") != "error":
        rhythms["map"].setdefault(rhythms["unmarked"], rhythms["unmarked"])
    annotations = {**values["annotations"]}
    annotations |= {"beats": said.beats} if said.beats else {}
    annotations |= {"rhythm": said.rhythm} if said.rhythm else {}
    return {
        "records": values["records"],
        "annotations": annotations,
        "leads": {"prefer": said.leads} if said.leads else values["leads"],
        "labels": labels,
        "rhythms": rhythms,
        "subjects": _subjects(proposal, said, found),
    }


def _subjects(proposal: Proposal, said: Said, found: Survey) -> Mapping[str, Any]:
    names = [one.name for one in found.records]
    if said.subject_pattern:
        return {"pattern": said.subject_pattern}
    if said.subjects_csv:
        return {"map": _from_csv(said.subjects_csv, names)}
    if said.subjects_from_comments:
        comments = {one.name: one.header.comments for one in found.records if one.header}
        return _numbered_anew(_from_comments(said.subjects_from_comments, comments))
    if proposal.patients:  # one who says that each is another's keeps a patient's together too
        return _numbered_anew(proposal.patients)
    if said.one_each:
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
    _all_told(path.name, {name: rows.get(name, "") for name in names})
    return {name: rows[name] for name in names}


def _from_comments(pattern: str, comments: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Record to the patient's own number, from the headers' comments."""
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--subjects-from-comments {pattern!r}: {error}") from error
    if wanted.groups != 1:
        raise ValueError(f"--subjects-from-comments {pattern!r}: needs exactly one group")
    told = {
        name: next((found[1] for line in lines if (found := wanted.search(line))), "")
        for name, lines in comments.items()
    }
    _all_told(f"the comments, by {pattern!r}", told)
    return told


def _all_told(source: str, told: Mapping[str, str]) -> None:
    without = [name for name, subject in told.items() if not subject]
    if without:
        raise ValueError(
            f"{source}: found no subject of {len(without)} records ({', '.join(without[:3])}); "
            "expected one for every record"
        )


def pair(text: str, option: str, expected: str) -> tuple[str, str]:
    """Split "LEFT=RIGHT" at its last "="; misuse of the option where it is not that."""
    left, equals, right = text.rpartition("=")
    if not (left and equals):
        raise ValueError(f"{option} {text!r}: expected {expected}")
    return left, right


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
