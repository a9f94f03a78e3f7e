"""`holter forget`: a person who withdrew is found, deleted, blocked, and that is certified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import Format, answer
from flows.cli.options import quiet, report_to_write, serving
from flows.cli.upkeep import Yes, confirm
from flows.reports.shown import say
from flows.services.progress import console

if TYPE_CHECKING:
    from flows.consent.certificate import Certificate


def forget(
    subject: Annotated[str, typer.Argument(help="Whose: DATASET/SUBJECT.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would go, and change nothing.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for the certificate; no name of theirs.")] = "",
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild/--no-rebuild", help="Train versions in use again without them."),
    ] = True,
    yes: Yes = False,
    out: Annotated[
        Path | None,
        typer.Option(callback=report_to_write, help="Write the page to this .md or .html file."),
    ] = None,
    output: Format = "text",
) -> None:
    """Delete what was made of a person, block their recordings, and certify it.

    One that was interrupted goes on when it is called again. Recordings and backups are told of,
    and not touched.
    """
    quiet()
    with serving():
        from flows.consent import forget as work

        with console.status("Reading ledgers and chains ..."):
            plan = work.plan(subject)
            certificate = work.preview(plan)
        if not (dry_run or plan.nothing_left):
            confirm(_lines(certificate), f"Forget {subject}?", yes=yes)
            with console.status("Forgetting ...") as status:
                certificate = work.forget(plan, reason=reason, remaking=rebuild, tell=status.update)
    deliver(certificate, out, output)


def deliver(certificate: Certificate, out: Path | None, output: str) -> None:
    """Give a certificate, and write its page where a file is named."""
    from flows.consent.certificate import TITLES, blocks, folder
    from flows.reports.shown import write

    title, page = TITLES[certificate.state], blocks(certificate)
    file = out
    if out:
        write(title, page, out)
    elif certificate.state == "done":
        file = folder() / f"{certificate.withdrawal}.html"
    value = replace(certificate, file=str(file or ""))
    answer(value, output, lambda: _show(value))


def _show(certificate: Certificate) -> None:
    for line in _lines(certificate):
        say(line)


def _lines(certificate: Certificate) -> list[str]:
    """A certificate in lines: what goes, what is made again, what stays, what nobody can tell."""
    from flows.cli.upkeep import item_line, size
    from flows.consent.certificate import TITLES

    done = certificate.state == "done"
    verb = "deleted" if done else "would go"
    lines = [f"{TITLES[certificate.state]}: {certificate.withdrawal or certificate.subject}"]
    lines += [
        item_line(
            verb,
            size(row.bytes) if row.bytes is not None else "?",
            f"{row.count} {row.kind}: {row.place}",
        )
        for row in certificate.deleted
    ]
    lines += [f"saw them  {row.version} as {', '.join(row.sides)}" for row in certificate.versions]
    lines += [
        f"{'rebuilt' if done else 'rebuild'}   {row.version}"
        + (f" as {row.by}" if row.by else "")
        + (f": {row.reason}" if row.reason else "")
        + _gain(row.gains, row.patients)
        for row in certificate.remade
    ]
    lines += [f"kept      {row.thing}: {row.reason}" for row in certificate.remainder]
    lines += [f"cannot tell: {text}" for text in certificate.doubts]
    lines.append(f"blocked   {certificate.blocked} recordings")
    if certificate.file:
        lines.append(f"Page: {certificate.file}")
    return lines


def _gain(gains: dict[str, list[float | None]], patients: int) -> str:
    """What F1 gained, where two versions were compared."""
    values = gains.get("f1")
    if not values or values[0] is None:
        return ""
    bounds = [f"{value:+.4f}" for value in values[1:] if value is not None]
    interval = f" ({' to '.join(bounds)})" if bounds else ""
    return f"; F1 {values[0]:+.4f}{interval} on {patients} patients"
