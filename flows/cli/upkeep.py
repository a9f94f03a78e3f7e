"""`holter backup`, `restore` and `gc`: copies of the state folder, and what of it may go."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.cli.options import number, quiet, serving
from flows.services.progress import console
from storage.files import home

if TYPE_CHECKING:
    from flows.upkeep.backup import Backup
    from flows.upkeep.cleaning import Item
    from flows.upkeep.restore import RestoreResult

Form = Annotated[
    Literal["text", "json"], typer.Option("--format", help="Form of the answer, on standard output")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


def answer(form: str, value: Mapping[str, Any], lines: Iterable[str]) -> None:
    """Write an answer to standard output: a value as JSON, or its lines."""
    print(json.dumps(value, indent=1) if form == "json" else "\n".join(lines))


def size(count: int) -> str:
    """A number of bytes in words."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} bytes"


def confirm(question: str, *, yes: bool) -> bool:
    """Whether to go on: as told by --yes, or asked at a terminal."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ValueError(f"{question} found no terminal to ask at; expected --yes")
    return typer.confirm(question, err=True)


def backup(
    file: Annotated[Path, typer.Argument(help="File to write, outside the state folder.")],
    keys: Annotated[
        Path | None,
        typer.Option("--keys", help="Also copy the keys, into this file of their own (mode 600)."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
    form: Form = "text",
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
    answer(form, asdict(result), _backup_lines(result))


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
    form: Form = "text",
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
    answer(form, asdict(result), _restore_lines(result))


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
    yes: Yes = False,
    form: Form = "text",
) -> None:
    """Remove tables, test sets, work folders, checkpoints and Prefect's runs that nobody needs.

    What a registered version, its chain or a ledger names stays, as does all that a flow uses.
    """
    quiet()
    from flows.upkeep import cleaning, history

    database = history.database()
    with serving():
        from flows.upkeep.needs import read_needs

        with console.status("Reading ledgers and chains ..."):
            needs = read_needs()
        view = cleaning.view_of(needs, keep_days)
        with console.status("Looking ..."):
            items = cleaning.look(view)
            runs = history.look(needs, view.since_s)
        ended = [run for run in runs if not run.reason]
        held = history.held_bytes(database, [run.run_id for run in ended]) if database else None
        leaving = [item for item in items if not item.reason]
        value = {
            "removed": False,
            "keep_days": keep_days,
            "items": [_fields(item) for item in items if reasons or not item.reason],
            "bytes": sum(item.bytes for item in leaving),
            "prefect_runs": len(ended),
            "prefect_bytes": held,
            "prefect_runs_kept": [
                {"run_id": str(run.run_id), "name": run.name, "kept": run.reason}
                for run in runs
                if run.reason
            ],
            "not_looked_at": cleaning.outside(),
            "unreadable": needs.unreadable,
        }
        lines = _gc_lines(value, dry_run=dry_run, reasons=reasons)
        if dry_run or not (leaving or ended):
            answer(form, value, lines)
            return
        if not yes:
            console.print("\n".join(lines), markup=False, soft_wrap=True)
        if not confirm("Remove them?", yes=yes):
            raise typer.Exit(1)
        with console.status("Removing ...") as status:
            for item in leaving:
                cleaning.remove(item)
            total = len(ended)
            history.remove(ended, lambda n: status.update(f"Removing runs: {n} of {total}"))
            value["prefect_database_shrunk"] = history.shrink(database) if database and ended else 0
        value["removed"] = True
    answer(form, value, _gc_lines(value, dry_run=False, reasons=reasons))


def _fields(item: Item) -> dict[str, Any]:
    return {"kind": item.kind, "name": item.name, "bytes": item.bytes, "kept": item.reason}


def _gc_lines(value: Mapping[str, Any], *, dry_run: bool, reasons: bool) -> list[str]:
    word = "removed" if value["removed"] else "would go" if dry_run else "to go"
    items: Sequence[Mapping[str, Any]] = value["items"]
    lines = [
        f"{'kept' if item['kept'] else word:<8}  {size(item['bytes']):>10}  {item['kind']} "
        f"{item['name']}" + (f": {item['kept']}" if item["kept"] else "")
        for item in items
    ]
    held = value["prefect_bytes"]
    if runs := value["prefect_runs"]:
        room = size(held) if held is not None else "?"
        lines.append(f"{word:<8}  {room:>10}  Prefect's history: {runs} runs")
    if reasons:
        lines += [
            f"kept                  Prefect's run {run['name']}: {run['kept']}"
            for run in value["prefect_runs_kept"]
        ]
    lines += [f"cannot tell who needs what: {text}" for text in value["unreadable"]]
    if value["not_looked_at"]:
        lines.append(f"not looked at: {value['not_looked_at']}")
    total = value["bytes"] + (held or 0)
    count = sum(not item["kept"] for item in items)
    if not count and not runs:
        return [*lines, f"Nothing to remove that is older than {value['keep_days']:g} days."]
    lines.append(
        f"{word}: {count} items and {runs} of Prefect's runs, {size(total)}. "
        "Ledgers, chains and what MLflow has are not touched."
    )
    if shrunk := value.get("prefect_database_shrunk"):
        lines.append(f"Prefect's database is {size(shrunk)} smaller.")
    return lines
