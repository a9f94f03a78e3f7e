"""`holter data add`: from a folder of recordings to a data set that every command knows by name."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from flows.cli.answer import TEXT, Format, answer
from flows.cli.data_sets.commands import check_of, check_records, show_check
from flows.cli.options import SOME_RECORDS_FAILED
from flows.reports.shown import say, show_table
from flows.services.progress import Progress, console
from storage.errors import SpecError

if TYPE_CHECKING:
    from flows.cli.answer import data_kinds
    from flows.cli.data_sets.add_answers import AddSettings
    from storage.datasets.dataset import DatasetSpec
    from storage.recordings.check import RecordCheck
    from tasks.proposals.proposal import Proposal

#: Names of a list that a line tells.
MOST_NAMES = 8


def add(settings: AddSettings, output: Format = "text") -> None:
    """Look at a folder, propose how to read it, check it, write its TOML and draw ten beats each.

    Every proposal can be replaced by its option. What a folder cannot tell, such as whose each
    record is, must be said. Where no record can be used, no TOML is written.
    """
    from flows.cli.data_sets.add_answers import (
        ask_open_points,
        still_open,
        with_answers,
        with_table,
    )
    from storage.datasets.dataset import user_folders
    from storage.files import check_writable
    from storage.recordings.survey import survey
    from tasks.proposals.proposal import propose

    answers, folder = settings, settings.folder.absolute()
    to = check_writable(
        answers.to.absolute() if answers.to else user_folders()[0], "folder of the TOML"
    )
    with Progress(f"Looking at {folder.name}", 0) as progress:
        folder_survey = survey(
            folder, answers.form, lambda record, total: progress.step(record, total=total)
        )
    folder_survey = with_table(folder_survey, answers.labels_csv)
    proposal = propose(folder_survey)
    name, title, licence = answers.name, answers.title, answers.licence
    parts = _parts(proposal)
    if output == TEXT:
        _show_proposal(parts, proposal)
    if sys.stdin.isatty() if answers.ask is None else answers.ask:
        answers = ask_open_points(proposal, answers)
        name = name or typer.prompt("Name", default=_plain(folder.name), err=True)
        title = title or typer.prompt("Title", default=name, err=True)
        licence = licence or typer.prompt(
            "Licence", default=folder_survey.licence or None, err=True
        )
    if answers.one_record_one_subject and "pattern" in proposal.values["subjects"]:
        console.print(
            "[yellow]note[/yellow]    by their names, records belong together: "
            f"{escape(proposal.evidence['subjects'])}; as you say, each is taken as another one's"
        )
    licence = licence or folder_survey.licence
    open_points = still_open(proposal, answers)
    if not licence:
        open_points["licence"] = "under which licence the records may be used: --licence TEXT"
    if open_points:
        lines = "\n".join(f"  - {text}" for text in open_points.values())
        raise ValueError(f"the folder does not tell:\n{lines}")
    name = name or _plain(folder.name)
    header = {
        "name": name,
        "title": title or name,
        "version": answers.version or datetime.date.today().isoformat(),
        "licence": licence,
        "citation": answers.citation,
        "source": {"folder": str(folder)},
    }
    values = with_answers(proposal, answers, folder_survey)
    spec = _spec(header, values)
    if not _has_signals(spec, folder):
        records = spec.records.model_copy(update={"signal": False})
        spec = spec.model_copy(update={"records": records})
    path = to / f"{name}.toml"
    _refuse_duplicate(name, path, overwrite=answers.overwrite)
    changes = _changes(proposal.values, values)
    if changes and output == TEXT:
        rows = [(change.entry, change.proposal, change.value) for change in changes]
        say()
        show_table(("changed by you", "proposed", "changed to"), rows)
    addition = _write(spec, folder, path)
    value = replace(addition, proposal=parts, notes=[*proposal.notes], changes=changes)
    answer(value, output, lambda: _show_addition(value, by_name=to in user_folders()))
    if value.toml is None:
        raise SpecError(
            f"data set {name}: found no record of {value.check.problems} that can be used; "
            f"expected one at least. {path} is not written"
        )
    if value.check.problems:
        raise typer.Exit(SOME_RECORDS_FAILED)


def _write(spec: DatasetSpec, folder: Path, path: Path) -> data_kinds.DataAddition:
    """Check the records; where one can be used, write the TOML and draw the beats."""
    from flows.cli.answer import data_kinds
    from storage.datasets.dataset_write import write_spec

    checks = check_records(spec, folder, signal=spec.records.signal)
    usable = [check for check in checks if check.problem is None]
    picture = None
    if usable:
        write_spec(path, spec)
        picture = _draw(spec, folder, checks, path)
    waveforms = any(check.lead for check in usable)
    follow = f"retrain {spec.name}" if waveforms else f"train {spec.name} --model rhythm"
    return data_kinds.DataAddition(
        data_set=spec.name,
        proposal=[],
        notes=[],
        changes=[],
        check=check_of(spec, folder, checks),
        toml=str(path) if usable else None,
        picture=str(picture) if picture else None,
        commands=[f"holter ingest {spec.name}", f"holter {follow}"] if usable else [],
    )


def _draw(
    spec: DatasetSpec, folder: Path, checks: Sequence[RecordCheck], path: Path
) -> Path | None:
    """Draw ten beats of each rhythm beside the TOML."""
    from flows.ingest.beats_picture import draw_beats

    with Progress("Drawing beats", 0) as progress:
        return draw_beats(
            spec,
            folder,
            checks,
            path.with_suffix(".png"),
            lambda record, total: progress.step(record, total=total),
        )


def _show_addition(value: data_kinds.DataAddition, *, by_name: bool) -> None:
    """What was found of the records, what was written, and what comes next."""
    say()
    show_check(value.check)
    if value.toml is None:
        return
    say()
    say(f"Wrote   {value.toml}")
    if not by_name:
        say(f"It is known by name where HOLTER_DATASETS holds {Path(value.toml).parent}")
    if value.picture:
        say(f"Picture {value.picture}")
        say("Look at it: are beats whole, R peaks at the line, and AF without P waves?")
    else:
        say("No picture: no record has a signal.")
    if value.check.problems:
        say(f"A record that should stay out goes into [records] exclude of {value.toml}")
    for word, command in zip(("Next", ""), value.commands, strict=True):
        say(f"{word:<8}{command}")


def _has_signals(spec: DatasetSpec, folder: Path) -> bool:
    """Whether the folder holds any signal; otherwise annotations alone are checked."""
    from storage.datasets.dataset import record_names

    return any(_opens_with_signal(spec, folder, name) for name in record_names(spec, folder))


def _opens_with_signal(spec: DatasetSpec, folder: Path, name: str) -> bool:
    from storage.errors import MissingFile, RecordError
    from storage.recordings.records import open_record

    try:
        return open_record(spec, folder, name).lead is not None
    except MissingFile:
        return False
    except RecordError:
        return True  # there, and for the check to tell what is wrong with it


def _parts(proposal: Proposal) -> list[data_kinds.Proposal]:
    """What is proposed for each part of the TOML, and what told it."""
    from flows.cli.answer import data_kinds

    values = proposal.values
    rhythms = values["rhythms"]
    af = set(rhythms["af"])
    meaning: dict[str, list[str]] = {"AF": [], "not AF": [], "no label": []}
    for code, mapped in rhythms["map"].items():
        words = code if code == mapped or not mapped else f"{code} as {mapped}"
        meaning["AF" if mapped in af else "not AF" if mapped else "no label"].append(words)
    subjects = values["subjects"]
    mapped_records = len(subjects.get("map", {}))
    rows = {
        "records": ", ".join(f"{k} {v}" for k, v in values["records"].items() if k != "names"),
        "leads": ", then ".join(values["leads"]["prefer"]),
        "beats": ", then ".join(values["annotations"]["beats"]),
        "rhythms": "; ".join(f"{k}: {', '.join(v)}" for k, v in meaning.items() if v),
        "labels": _labels_line(values.get("labels", {})),
        "subjects": subjects.get("pattern") or f"{mapped_records} mapped by name"
        if mapped_records or "pattern" in subjects
        else "not told",
    }
    return [
        data_kinds.Proposal(part, value, proposal.evidence[part]) for part, value in rows.items()
    ]


def _show_proposal(parts: Sequence[data_kinds.Proposal], proposal: Proposal) -> None:
    """The proposal as a table, and what it leaves open."""
    show_table(("part", "proposed", "found"), [(p.part, p.value, p.evidence) for p in parts])
    for note in proposal.notes:
        say(f"note    {note}", "dim")
    for doubt in proposal.doubts.values():
        say(f"open    {doubt}", "yellow")


def _changes(proposal: Mapping[str, Any], values: Mapping[str, Any]) -> list[data_kinds.TomlChange]:
    """The entries of the TOML that are not as they were proposed."""
    from flows.cli.answer import data_kinds

    before, after = _entries(proposal), _entries(values)
    return [
        data_kinds.TomlChange(entry, before.get(entry, "none"), after.get(entry, "none"))
        for entry in dict.fromkeys([*before, *after])
        if before.get(entry) != after.get(entry)
    ]


def _entries(values: Mapping[str, Any]) -> dict[str, str]:
    """Each entry of a TOML's tables, in words; a map of subjects is one."""
    entries = {}
    for table, fields in values.items():
        for name, value in fields.items():
            if not isinstance(value, Mapping):
                entries[f"{table}.{name}"] = _value_text(value)
            elif table == "subjects":
                subjects = len(set(map(str, value.values())))
                words = f"{len(value)} entries, {subjects} different"
                entries |= {f"{table}.{name}": words} if value else {}
            else:
                texts = {f"{table}.{name}.{key}": _value_text(part) for key, part in value.items()}
                entries |= texts
    return entries


def _value_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value[:MOST_NAMES])) + ", ..." * (len(value) > MOST_NAMES)
    return str(value) if value != "" else "no label"


def _labels_line(labels: Mapping[str, Any]) -> str:
    """The proposed labels of whole records in one line."""
    columns = labels.get("columns", {})
    places = [f"{name} {place}" for name, place in columns.items()] or [*labels.get("paths", {})]
    return " ".join([labels.get("file", ""), ", ".join(places)]).strip() or "none"


def _spec(header: Mapping[str, Any], values: Mapping[str, Any]) -> DatasetSpec:
    from pydantic import ValidationError

    from storage.datasets.dataset import DatasetSpec

    try:
        return DatasetSpec.model_validate({**header, **values})
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ValueError("; ".join(problems)) from error


def _refuse_duplicate(name: str, path: Path, *, overwrite: bool) -> None:
    from storage.datasets.dataset import available_specs

    existing = available_specs().get(name) or (path if path.exists() else None)
    if existing and not overwrite:
        raise ValueError(f"a data set {name} is there already ({existing}): --name, or --replace")


def _plain(text: str) -> str:
    """A folder's name as a data set may be called."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_") or "dataset"
