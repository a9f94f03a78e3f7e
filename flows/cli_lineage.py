"""`holter verify` and `holter lineage`: what made a model version, and whether it still holds."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.options import registry
from flows.progress import console

VersionOf = Annotated[str, typer.Argument(help="NAME@alias, NAME/version or NAME.")]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", help="Public key that may sign; repeatable. Else those of this machine."),
]
#: How a finding's state looks, and how many of a link's are told one by one.
COLOURS = {"match": "green", "mismatch": "bold red", "out of reach": "yellow"}
MOST_TOLD = 20


def verify(
    model: VersionOf,
    key: Keys = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Every comparison as JSON on standard output.")
    ] = False,
) -> None:
    """Compute every digest of a version's chain again; exit code 1 where one differs."""
    from storage import verify as work
    from storage.signing import trusted_keys

    found = []
    with registry(), console.status("Verifying ...") as status:
        for one in work.verify(model, key or trusted_keys()):
            found.append(one)
            status.update(f"Verifying {one.link}: {escape(one.name)}")
    if as_json:
        print(work.as_json(found))
    counts = Counter((one.link, one.state) for one in found)
    table = Table("link", *COLOURS, "what is compared", title=f"{model}", title_style="bold")
    for link, compared in work.LINKS.items():
        cells = [
            f"[{colour}]{counts[link, state]}[/{colour}]" if counts[link, state] else ""
            for state, colour in COLOURS.items()
        ]
        table.add_row(link, *cells, compared)
    console.print(table)
    for state in (work.MISMATCH, work.OUT):
        told = [one for one in found if one.state == state]
        for one in told[:MOST_TOLD]:
            words = f"{one.link}: {one.name}" + f" {one.told}" * bool(one.told)
            console.print(
                f"[{COLOURS[state]}]{state}[/{COLOURS[state]}]  {escape(words)}", soft_wrap=True
            )
        if len(told) > MOST_TOLD:
            console.print(f"... and {len(told) - MOST_TOLD} more {state}; --json tells all.")
    wrong = sum(one.state == work.MISMATCH for one in found)
    if wrong:
        console.print(f"{model} is not what was sealed: {wrong} of {len(found)} differ.")
        raise typer.Exit(1)
    out = sum(one.state == work.OUT for one in found)
    console.print(
        f"{model} is what was sealed: {len(found) - out} of {len(found)} match"
        + (f", {out} are out of reach here." if out else ".")
    )
