"""`holter data add`: from a folder of recordings to a data set that every command knows by name."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli.options import SOME_RECORDS_FAILED
from flows.services.progress import Progress, console

if TYPE_CHECKING:
    from flows.cli.data_sets.add_answers import AddSettings
    from storage.datasets.dataset import DatasetSpec
    from tasks.proposals.proposal import Proposal


def add(settings: AddSettings) -> None:
    """Look at a folder, propose how to read it, write its TOML, check it and draw ten beats each.

    Every proposal can be replaced by its option. What a folder cannot tell, such as whose each
    record is, must be said.
    """
    from flows.cli.data_sets.add_answers import (
        ask_open_points,
        still_open,
        with_answers,
        with_table,
    )
    from storage.datasets.dataset import user_folders
    from storage.datasets.dataset_write import write_spec
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
    _show(proposal)
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
    spec = _spec(header, with_answers(proposal, answers, folder_survey))
    if not _has_signals(spec, folder):
        records = spec.records.model_copy(update={"signal": False})
        spec = spec.model_copy(update={"records": records})
    path = to / f"{name}.toml"
    _refuse_duplicate(name, path, overwrite=answers.overwrite)
    write_spec(path, spec)
    console.print(f"Wrote   {escape(str(path))}", soft_wrap=True)
    if to not in user_folders():
        console.print(f"It is known by name where HOLTER_DATASETS holds {escape(str(to))}")
    _look(spec, folder, path)


def _look(spec: DatasetSpec, folder: Path, path: Path) -> None:
    """Check every record, draw the beats, and say what comes next."""
    from flows.cli.data_sets.commands import check_records
    from flows.ingest.beats_picture import draw_beats

    checks = check_records(spec, folder, signal=spec.records.signal)
    with Progress("Drawing beats", 0) as progress:
        picture = draw_beats(
            spec,
            folder,
            checks,
            path.with_suffix(".png"),
            lambda record, total: progress.step(record, total=total),
        )
    console.print(
        f"Picture {escape(str(picture))}" if picture else "No picture: no record has a signal.",
        soft_wrap=True,
    )
    if picture:
        console.print("Look at it: are beats whole, R peaks at the line, and AF without P waves?")
    console.print(f"Next    holter ingest {spec.name}")
    console.print(
        f"        holter retrain {spec.name}"
        if any(check.lead for check in checks)
        else f"        holter train {spec.name} --model rhythm",
        soft_wrap=True,
    )
    if any(check.problem for check in checks):
        console.print(
            f"A record that should stay out goes into [records] exclude of {path}", markup=False
        )
        raise typer.Exit(SOME_RECORDS_FAILED)


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


def _show(proposal: Proposal) -> None:
    """The proposal as a table: what is taken, and what told it."""
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
    table = Table("", "proposed", "found")
    for key, value in rows.items():
        table.add_row(key, escape(value), escape(proposal.evidence[key]))
    console.print(table)
    for note in proposal.notes:
        console.print(f"[dim]note[/dim]    {escape(note)}", soft_wrap=True)
    for doubt in proposal.doubts.values():
        console.print(f"[yellow]open[/yellow]    {escape(doubt)}", soft_wrap=True)


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
