"""`holter edge`: ask devices for evaluations, and see what became of them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from flows.options import LOCAL_DEVICE, Device, Wait, serving
from flows.progress import console

app = typer.Typer(no_args_is_help=True, help="Devices: ask for an evaluation, see its state.")


@app.command("request")
def edge_request(
    model: Annotated[str, typer.Argument(help="NAME@alias, NAME/version, or NAME.")],
    device: Device = LOCAL_DEVICE,
    wait_s: Wait = 600.0,
) -> None:
    """Ask a device to evaluate a registered model on its test set, and wait for the report."""
    with serving():
        from flows.evaluate_device import evaluate_on_device
        from flows.servers import local_agent

        with local_agent(device, start=device == LOCAL_DEVICE):
            report = evaluate_on_device(model, device, wait_s)
    console.print_json(data=report.metrics)


@app.command("key")
def edge_key() -> None:
    """The public key that a device enrols to trust this server's releases."""
    from storage.signing import public_key

    print(public_key())


@app.command("status")
def edge_status(
    device: Annotated[str, typer.Option(help="Device to ask about.")] = LOCAL_DEVICE,
) -> None:
    """The evaluations asked of a device, newest first."""
    with serving():
        from storage.evaluations import device_requests

        table = Table("request", "model", "version", "state", "agent", "reason")
        for state in device_requests(device):
            table.add_row(
                state.request_id,
                state.model,
                str(state.version),
                state.status,
                state.agent or "",
                state.reason or "",
            )
        console.print(table)
