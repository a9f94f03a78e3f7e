"""`holter exchange`: signatures and time stamps that the public tools of others verify."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.cli.answer import Format, answer
from flows.cli.options import callback_of, registry, registry_to_read, version
from flows.reports.shown import say
from flows.services.progress import console
from storage.errors import HolterError
from storage.exchange.timestamps import SERVER
from storage.registry.reference import check_name, parse

app = typer.Typer(
    no_args_is_help=True, help="For outsiders: signed releases, and time stamps of the ledger."
)


@app.command("key")
def exchange_key(output: Format = "text") -> None:
    """The public key (PEM) that others verify signed releases by."""
    from flows.cli.answer import device_kinds
    from storage.exchange.bundle import exchange_public_key

    key = exchange_public_key()
    answer(device_kinds.Key(key), output, lambda: say(key.rstrip()))


@app.command("stamp")
def exchange_stamp(
    model: Annotated[
        str, typer.Argument(callback=callback_of(check_name), help="A registered model.")
    ],
    output: Format = "text",
) -> None:
    """Have a time-stamp authority (HOLTER_TSA) stamp the newest entry of a model's ledger."""
    from flows.cli.answer import exchange_kinds
    from storage.exchange.timestamps import server

    server()
    with registry():
        from storage.audit.ledger import trusted_entries
        from storage.exchange.stamps import stamp_head
        from storage.registry.signing import trusted_keys

        entry, stamp, path = stamp_head(model, trusted_entries(model, trusted_keys()))
    value = exchange_kinds.TimeStamp(
        model, entry.sequence, entry.sha256, stamp.time.isoformat(), str(path), stamp.verified
    )

    def show() -> None:
        note = "" if value.verified else "; not verified: HOLTER_TSA_ROOTS names no certificates"
        say(f"{model}: entry {value.entry} was there {value.time_utc}{note}")
        say(f"Kept in MLflow and {value.file}. Verify: holter verify {model}, or")
        say(f"openssl ts -verify -in {value.file} -digest {value.sha256} -CAfile ROOTS.pem")

    answer(value, output, show)


def stamp_decision(model: str) -> None:
    """Have what was just decided stamped, where an authority is configured.

    The decision stands whatever the authority does: a stamp that cannot be had is a warning.
    """
    if not os.environ.get(SERVER):
        return
    from storage.audit.ledger import trusted_entries
    from storage.exchange.stamps import stamp_head
    from storage.registry.signing import trusted_keys

    name = parse(model).name
    try:
        entry, stamp, _ = stamp_head(name, trusted_entries(name, trusted_keys()))
    except HolterError as error:
        words = f"{error}; later: holter exchange stamp {name}"
        console.print(f"[yellow]not stamped[/yellow]  {escape(words)}", soft_wrap=True)
    else:
        console.print(f"Stamped  entry {entry.sequence} of the ledger: {stamp.time.isoformat()}")


@app.command("sign")
def exchange_sign(
    model: Annotated[str, version("NAME@alias, NAME/version or NAME.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write, not there yet.")],
    output: Format = "text",
) -> None:
    """Write a version's files into a folder with an OpenSSF Model Signing bundle."""
    from flows.cli.answer import exchange_kinds
    from storage.exchange.bundle import BUNDLE
    from storage.exchange.release import export_release
    from storage.registry.signing import trusted_keys

    folder = out.absolute()
    with registry_to_read(model):
        from storage.audit.chain import resolve

        target = resolve(model)
        files = export_release(target, folder, trusted_keys())
    value = exchange_kinds.SignedRelease(target.reference, str(folder), files, BUNDLE)

    def show() -> None:
        say(f"{value.version}: {len(files)} files and their signature {BUNDLE} in {folder}")
        say("Verify:  holter exchange key > holter.pem")
        say(
            f"         model_signing verify key {folder} --signature {folder / BUNDLE} "
            "--no-ignore-git-paths --public_key holter.pem"
        )

    answer(value, output, show)
