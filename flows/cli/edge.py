"""`holter edge`: ask devices for evaluations, and see what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli.options import LOCAL_DEVICE, Wait, callback_of, serving, to_write, version
from flows.services.progress import console
from storage.registry.answers import plain
from storage.registry.reference import check_device

app = typer.Typer(no_args_is_help=True, help="Devices: evaluations, groups, releases, accounts.")


def cells(*values: object) -> list[str]:
    """A row of a table: what devices and servers wrote is text in it, and no markup."""
    return [escape(plain(value)) for value in values]


Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        callback=callback_of(lambda names: [check_device(name) for name in names or ()]),
        help="Device to ask; may be given several times.",
    ),
]


@app.command("request")
def edge_request(
    model: Annotated[str, version("NAME@alias, NAME/version, or NAME.")],
    device: Devices = None,
    wait_s: Wait = 600.0,
    install: Annotated[bool, typer.Option(help="The device keeps the model.")] = False,
    roll_back: Annotated[
        bool, typer.Option(help="Sign that it may be older than what the device has had.")
    ] = False,
) -> None:
    """Ask devices to evaluate a registered model on its test set, and wait for the reports."""
    with serving(model):
        from flows.decide.release_stages import evaluate_on_devices
        from flows.services.servers import local_agent

        names = device or [LOCAL_DEVICE]
        with local_agent(LOCAL_DEVICE, start=LOCAL_DEVICE in names):
            reports = evaluate_on_devices(model, names, wait_s, install, roll_back)
    console.print_json(data={report.device: report.metrics for report in reports})


@app.command("devices")
def edge_devices(
    group: Annotated[str | None, typer.Option(help="Only this device group.")] = None,
) -> None:
    """Every device: its group, health, when it was last seen, and the last model it ran."""
    with serving():
        from storage.audit.fleet import devices

        table = Table("device", "group", "health", "seen", "kind", "last model", "state")
        for device in devices(group):
            age = "" if device.seen_ago_s is None else f"{max(device.seen_ago_s, 0):.0f} s ago"
            details = [device.facts.get(name, "") for name in ("kind", "model", "state")]
            table.add_row(*cells(device.name, device.group, device.health, age, *details))
        console.print(table)


@app.command("group")
def edge_group(
    device: Annotated[str, typer.Argument(help="The device's name.")],
    group: Annotated[str, typer.Argument(help="The group's name; a device is in one.")],
) -> None:
    """Put a device into a device group."""
    with serving():
        from storage.audit.fleet import set_group

        set_group(device, group)


@app.command("compare")
def edge_compare(
    device: Devices = None,
    figure: Annotated[
        Path | None, typer.Option(callback=to_write, help="Draw F1 against p99 into this PNG.")
    ] = None,
) -> None:
    """The newest report of every device on every model version: scores, latency, energy, memory."""
    with serving():
        from storage.audit.fleet import devices, reports
        from tasks.pages.numbers import label_of, text_of

        states, wrong = reports(device or [entry.name for entry in devices()])
        table = Table("device", "model", *map(label_of, COMPARED))
        for state in states:
            words = [text_of(state.metrics.get(name), name) for name in COMPARED]
            table.add_row(*cells(state.device, f"{state.model}/{state.version}", *words))
        console.print(table)
        for text in wrong:
            console.print(f"[bold red]left out[/bold red]  {escape(text)}", soft_wrap=True)
        if figure:
            from storage.files import write_bytes
            from tasks.pages.figures import fleet_figure

            points = [(f"{s.device}, {s.model}/{s.version}", s.metrics) for s in states]
            write_bytes(figure, fleet_figure(points))


#: What `holter edge compare` shows.
COMPARED = (
    "f1",
    "latency_p50_ms",
    "latency_p99_ms",
    "throughput_beats_per_cpu_s",
    "energy_j_per_24_h",
    "peak_memory_mb",
)


@app.command("release")
def edge_release(
    model: Annotated[str, version("NAME@alias, NAME/version, or NAME.")],
    group: Annotated[str, typer.Option(help="The device group.")],
    canary: Annotated[str | None, typer.Option(help="Its device to go first.")] = None,
    wait_s: Wait = 600.0,
) -> None:
    """Release a version to a device group: the canary first, the others after its report passed."""
    with serving(model):
        from flows.decide.release_stages import release_in_stages

        release = release_in_stages(model, group, canary, wait_s)
    names = ", ".join(report.device for report in release.installed)
    console.print(
        f"{release.alias} set after {release.canary.device}'s report; installed on {names}"
    )


@app.command("account")
def edge_account(
    device: Annotated[str, typer.Argument(help="The device's name; also the account's.")],
    training: Annotated[str, typer.Option(help="Experiment whose models it may read.")],
    model: Annotated[list[str], typer.Option(help="Registered model it may read; repeatable.")],
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, help="Asked for where it is not given.")
    ],
) -> None:
    """Make a device's account on an MLflow server with accounts; you are its administrator."""
    with serving():
        from storage.registry.accounts import make_account

        make_account(device, password, training, model)


@app.command("maker")
def edge_maker(
    person: Annotated[str, typer.Argument(help="The person's account; no device's.")],
) -> None:
    """Let a person's account make experiments and models, as a training does."""
    with serving():
        from storage.registry.accounts import let_make

        let_make(person)


@app.command("sign")
def edge_sign(
    model: Annotated[str, typer.Argument(help="NAME@alias, NAME/version, or NAME.")],
) -> None:
    """State, signed, a version's name and number, by its sealed chain: for versions without."""
    with serving():
        from flows.train.release import name_again

        console.print(f"{name_again(model)} has its signed name and version now")


@app.command("key")
def edge_key() -> None:
    """The public key that a device enrols to trust this server's releases."""
    from storage.registry.signing import public_key

    print(public_key())


@app.command("status")
def edge_status(
    device: Annotated[
        str, typer.Option(callback=callback_of(check_device), help="Device to ask about.")
    ] = LOCAL_DEVICE,
) -> None:
    """The evaluations asked of a device, newest first."""
    with serving():
        from storage.registry.evaluations import device_requests

        table = Table("request", "model", "version", "state", "agent", "reason")
        for state in device_requests(device):
            reason = state.fault or state.reason or ""
            status = "cannot be read" if state.fault else state.status
            fields = (state.request_id, state.model, state.version, status, state.agent or "")
            table.add_row(*cells(*fields, reason))
        console.print(table)
