"""`holter backup`, `restore` and `gc`: copies of the state folder, and what of it may go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import Format, answer
from flows.cli.options import number, quiet, serving
from flows.reports.shown import say
from flows.services.progress import console
from storage.files import home
from storage.registry.answers import plain

if TYPE_CHECKING:
    from flows.cli.answer import upkeep_kinds
    from flows.upkeep.backup import Backup
    from flows.upkeep.cleaning import Item
    from flows.upkeep.restore import RestoreResult
    from flows.upkeep.retention import Holdings

Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


def show_lines(lines: Iterable[str]) -> Callable[[], None]:
    """What writes the lines of an answer; what a terminal would obey in them is not written."""

    def show() -> None:
        for line in lines:
            say(plain(line))

    return show


def size(count: int) -> str:
    """A number of bytes in words."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} bytes"


def confirm(lines: Sequence[str], question: str, *, yes: bool) -> None:
    """Go on as told by --yes; else show what would go, and ask at a terminal.

    Raises
    ------
    ValueError
        There is no terminal to ask at.
    typer.Exit
        The answer is no.
    """
    if yes:
        return
    console.print("\n".join(map(plain, lines)), markup=False, soft_wrap=True)
    if not sys.stdin.isatty():
        raise ValueError(f"{question} found no terminal to ask at; expected --yes")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def backup(
    file: Annotated[Path, typer.Argument(help="File to write, outside the state folder.")],
    keys: Annotated[
        Path | None,
        typer.Option("--keys", help="Also copy the keys, into this file of their own (mode 600)."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
    output: Format = "text",
) -> None:
    """Copy the state folder into one file, while servers and flows go on; without its keys."""
    from flows.upkeep.backup import back_up

    with console.status("Copying ...") as status:
        result = back_up(
            file.absolute(),
            keys.absolute() if keys else None,
            overwrite=overwrite,
            tell=lambda name: status.update(f"Copying {name}"),
        )
    answer(result, output, show_lines(_backup_lines(result)))


def _backup_lines(result: Backup) -> list[str]:
    count = sum(folder["files"] for folder in result.folders.values())
    lines = [f"Backup   {result.file}: {size(result.bytes)}, {count} files"]
    lines += [f"Keys     {result.keys_file}: keep it apart from the backup"] * bool(
        result.keys_file
    )
    lines += [f"State    of {home()}; databases as at {result.time_utc}"]
    width = max(map(len, result.folders), default=0)
    lines += [
        f"  {name:<{width}}  {folder['files']:>6} files  {size(folder['bytes']):>10}"
        for name, folder in result.folders.items()
    ]
    lines += [f"Ran meanwhile: {name}; a restore has its run closed" for name in result.running]
    lines += [f"Was changing: {name}; the next ingest makes it whole" for name in result.unsettled]
    lines += [f"Not in it: {text}" for text in result.left_out]
    words = f" --keys {result.keys_file}" if result.keys_file else ""
    return [*lines, f"Put it back: holter restore {result.file}{words}"]


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `holter backup` wrote.")],
    keys: Annotated[
        Path | None, typer.Option("--keys", help="The file of its keys; else those that are here.")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Put a state folder that holds files aside, and go on."),
    ] = False,
    any_key: Annotated[
        bool, typer.Option("--any-key", help="Take a backup that no key known here signed.")
    ] = False,
    output: Format = "text",
) -> None:
    """Put a backup in the place of the state folder: checked first, whole or not at all."""
    from flows.upkeep.restore import restore as work

    with console.status("Checking ...") as status:
        result = work(
            file.absolute(),
            keys.absolute() if keys else None,
            replace=replace,
            any_key=any_key,
            tell=lambda name: status.update(f"Checking {name}"),
        )
    answer(result, output, show_lines(_restore_lines(result)))


def _restore_lines(result: RestoreResult) -> list[str]:
    lines = [
        f"Restored {result.folder}: {result.files} files, {size(result.bytes)}; all digests hold",
        f"As at    {result.time_utc}",
    ]
    if result.earlier:
        lines.append(f"Aside    {result.earlier}: the state folder as it was")
    if result.keys:
        lines.append(f"Keys     {result.keys}")
    else:
        lines.append(
            "Keys     none: what was sealed is not trusted here, and a new key signs. Bring its "
            "keys/release.key"
        )
    if result.key:
        trust = "known here" if result.trusted else "not known here"
        lines.append(f"Signed   by key {result.key}, {trust}")
    else:
        lines.append("Signed   by nobody: its digests show damage, and no forgery")
    lines += [f"Ran then: {name}; `holter status` closes its run" for name in result.running]
    lines += [f"Was changing: {name}; ingest it again" for name in result.unsettled]
    lines += [f"Not in it: {text}" for text in result.left_out]
    return lines


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would go, and remove nothing.")
    ] = False,
    keep_days: Annotated[
        float, number("keep_days", "Keep what has changed, and runs that ended, within these days.")
    ] = 30.0,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Tell what stays too, and why.")
    ] = False,
    mlflow: Annotated[
        bool,
        typer.Option("--mlflow", help="Mark MLflow's runs that nobody names as deleted, too."),
    ] = False,
    yes: Yes = False,
    output: Format = "text",
) -> None:
    """Remove tables, test sets, work folders, checkpoints and Prefect's runs that nobody needs.

    What a registered version, its chain or a ledger names stays, as does all that a flow uses.
    """
    quiet()
    with serving():
        from flows.upkeep import retention

        with console.status("Reading ledgers and chains ..."):
            holdings = retention.look(keep_days, mlflow=mlflow)
        value = _clean_up(holdings, keep_days, reasons=reasons)
        if dry_run or not holdings.going:
            words = "would go" if dry_run else "to go"
            answer(value, output, show_lines(_clean_up_lines(value, words, reasons=reasons)))
            return
        confirm(_clean_up_lines(value, "to go", reasons=reasons), "Remove them?", yes=yes)
        with console.status("Removing ...") as status:
            shrunk = retention.remove(holdings, status.update)
    value = replace(value, removed=True, prefect_database_shrunk=shrunk)
    answer(value, output, show_lines(_clean_up_lines(value, "removed", reasons=reasons)))


def _clean_up(holdings: Holdings, keep_days: float, *, reasons: bool) -> upkeep_kinds.CleanUp:
    """What goes and stays, as it is answered."""
    from flows.cli.answer import upkeep_kinds
    from flows.upkeep import cleaning, mlflow_runs

    going = [run for run in holdings.mlflow if not run.reason]
    return upkeep_kinds.CleanUp(
        removed=False,
        keep_days=keep_days,
        items=[upkeep_item(item) for item in holdings.items if reasons or not item.reason],
        bytes=sum(item.bytes for item in holdings.items if not item.reason),
        prefect_runs=sum(not run.reason for run in holdings.runs),
        prefect_bytes=holdings.prefect_bytes,
        kept_runs=[
            upkeep_kinds.KeptRun(str(run.run_id), run.name, run.reason)
            for run in holdings.runs
            if run.reason
        ],
        prefect_database_shrunk=0,
        mlflow_runs=[
            upkeep_kinds.UpkeepRun(run.run_id, run.name, run.bytes, run.reason)
            for run in holdings.mlflow
            if reasons or not run.reason
        ],
        mlflow_for_good=mlflow_runs.for_good(going),
        not_looked_at=cleaning.outside(),
        unreadable=holdings.needs.unreadable,
    )


def upkeep_item(item: Item) -> upkeep_kinds.UpkeepItem:
    """A thing that may go, as it is answered."""
    from flows.cli.answer import upkeep_kinds

    return upkeep_kinds.UpkeepItem(item.kind, item.name, item.bytes, item.reason)


def item_lines(items: Sequence[upkeep_kinds.UpkeepItem], word: str) -> list[str]:
    """A line for each thing that goes or stays: its size, what it is, and why it stays."""
    return [
        item_line("kept" if item.reason else word, size(item.bytes), f"{item.kind} {item.name}")
        + (f": {item.reason}" if item.reason else "")
        for item in items
    ]


def item_line(word: str, room: str, words: str) -> str:
    """What becomes of a thing, its size, and what it is, under one another."""
    return f"{word:<8}  {room:>10}  {words}"


def _clean_up_lines(value: upkeep_kinds.CleanUp, word: str, *, reasons: bool) -> list[str]:
    lines, held, runs = item_lines(value.items, word), value.prefect_bytes, value.prefect_runs
    if runs:
        room = size(held) if held is not None else "?"
        lines.append(item_line(word, room, f"Prefect's history: {runs} runs"))
    if reasons:
        lines += [
            item_line("kept", "", f"Prefect's run {run.name}: {run.reason}")
            for run in value.kept_runs
        ]
    deleted = [run for run in value.mlflow_runs if not run.reason]
    lines += [
        item_line(
            "kept" if run.reason else word,
            size(run.bytes) if run.bytes is not None else "?",
            f"run of MLflow {run.name}" + (f": {run.reason}" if run.reason else ""),
        )
        for run in value.mlflow_runs
    ]
    lines += [f"cannot tell who needs what: {text}" for text in value.unreadable]
    if value.not_looked_at:
        lines.append(f"not looked at: {value.not_looked_at}")
    count = sum(not item.reason for item in value.items)
    if not (count or runs or deleted):
        return [*lines, f"Nothing to remove that is older than {value.keep_days:g} days."]
    lines.append(
        f"{word}: {count} items and {runs} of Prefect's runs, {size(value.bytes + (held or 0))}. "
        "Ledgers, chains and what versions have in MLflow are not touched."
    )
    if deleted:
        lines.append(
            f"{word}: {len(deleted)} of MLflow's runs, marked as deleted there. For good, with "
            f"their artifacts: {value.mlflow_for_good}"
        )
    if shrunk := value.prefect_database_shrunk:
        lines.append(f"Prefect's database is {size(shrunk)} smaller.")
    return lines
