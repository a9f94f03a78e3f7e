"""`holter edge`: ask devices for evaluations, and see what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli.answer import Format, answer
from flows.cli.options import LOCAL_DEVICE, Wait, callback_of, number, serving, to_write, version
from flows.reports.shown import say, show_table
from storage.registry.answers import plain
from storage.registry.reference import check_device

if TYPE_CHECKING:  # loads numpy, which is not for `holter --help`
    from tasks.microcontroller.export import Export

app = typer.Typer(no_args_is_help=True, help="Devices: evaluations, groups, releases, accounts.")


def cells(*values: object) -> list[str]:
    """A row of a table: what devices and servers wrote is text in it, without control codes."""
    return [plain(value) for value in values]


def report_deed(form: str, words: str, **of: object) -> None:
    """Answer with what was done, and of what."""
    from flows.cli.answer import device_kinds

    answer(device_kinds.Deed(words, of), form, lambda: say(words))


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
    output: Format = "text",
) -> None:
    """Ask devices to evaluate a registered model on its test set, and wait for the reports."""
    from flows.cli.answer import device_kinds, training_kinds

    with serving(model):
        from flows.decide.release_stages import evaluate_on_devices
        from flows.services.servers import local_agent

        names = device or [LOCAL_DEVICE]
        with local_agent(LOCAL_DEVICE, start=LOCAL_DEVICE in names):
            reports = evaluate_on_devices(model, names, wait_s, install, roll_back)
    figures: dict[str, training_kinds.Figures] = {r.device: {**r.metrics} for r in reports}

    def show() -> None:
        from tasks.pages.numbers import label_of, text_of

        names = dict.fromkeys(name for metrics in figures.values() for name in metrics)
        rows = [
            [label_of(name), *(text_of(metrics.get(name), name) for metrics in figures.values())]
            for name in names
        ]
        show_table(["figure", *cells(*figures)], rows, model)

    answer(device_kinds.DeviceReports(model, figures), output, show)


@app.command("devices")
def edge_devices(
    group: Annotated[str | None, typer.Option(help="Only this device group.")] = None,
    output: Format = "text",
) -> None:
    """Every device: its group, health, when it was last seen, and the last model it ran."""
    from flows.cli.answer import device_kinds

    with serving():
        from storage.audit.fleet import devices

        states = devices(group)
    value = device_kinds.Devices(
        [
            device_kinds.DeviceState(
                state.name,
                state.group,
                state.health,
                state.seen_ago_s,
                *(plain(state.facts.get(name, "")) for name in ("kind", "model", "state")),
            )
            for state in states
        ]
    )

    def show() -> None:
        rows = []
        for device in value.devices:
            age = "" if device.seen_ago_s is None else f"{max(device.seen_ago_s, 0):.0f} s ago"
            details = (device.kind, device.model, device.state)
            rows.append(cells(device.name, device.group, device.health, age, *details))
        show_table(("device", "group", "health", "seen", "kind", "last model", "state"), rows)

    answer(value, output, show)


@app.command("group")
def edge_group(
    device: Annotated[str, typer.Argument(help="The device's name.")],
    group: Annotated[str, typer.Argument(help="The group's name; a device is in one.")],
    output: Format = "text",
) -> None:
    """Put a device into a device group."""
    with serving():
        from storage.audit.fleet import set_group

        set_group(device, group)
    report_deed(output, f"{device} is in group {group}", device=device, group=group)


@app.command("compare")
def edge_compare(
    device: Devices = None,
    figure: Annotated[
        Path | None, typer.Option(callback=to_write, help="Draw F1 against p99 into this PNG.")
    ] = None,
    output: Format = "text",
) -> None:
    """The newest report of every device on every model version: scores, latency, energy, memory."""
    from flows.cli.answer import device_kinds

    with serving():
        from storage.audit.fleet import devices, reports
        from tasks.pages.numbers import label_of, text_of

        states, wrong = reports(device or [entry.name for entry in devices()])
    if figure:
        from storage.files import write_bytes
        from tasks.pages.figures import fleet_figure

        points = [(f"{s.device}, {s.model}/{s.version}", s.metrics) for s in states]
        write_bytes(figure, fleet_figure(points))
    value = device_kinds.DeviceComparison(
        [
            device_kinds.DeviceFigures(s.device, f"{s.model}/{s.version}", {**s.metrics})
            for s in states
        ],
        [*wrong],
    )

    def show() -> None:
        rows = [
            cells(r.device, r.model, *(text_of(r.figures.get(name), name) for name in COMPARED))
            for r in value.reports
        ]
        show_table(("device", "model", *map(label_of, COMPARED)), rows)
        for text in value.left_out:
            say(f"left out  {text}", "bold red")

    answer(value, output, show)


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
    output: Format = "text",
) -> None:
    """Release a version to a device group: the canary first, the others after its report passed."""
    from flows.cli.answer import device_kinds

    with serving(model):
        from flows.decide.release_stages import release_in_stages

        release = release_in_stages(model, group, canary, wait_s)
    names = [report.device for report in release.installed]
    value = device_kinds.DeviceRelease(model, group, release.alias, release.canary.device, names)
    words = f"{value.alias} set after {value.canary}'s report; installed on {', '.join(names)}"
    answer(value, output, lambda: say(words))


@app.command("account")
def edge_account(
    device: Annotated[str, typer.Argument(help="The device's name; also the account's.")],
    training: Annotated[str, typer.Option(help="Experiment whose models it may read.")],
    model: Annotated[list[str], typer.Option(help="Registered model it may read; repeatable.")],
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, help="Asked for where it is not given.")
    ],
    output: Format = "text",
) -> None:
    """Make a device's account on an MLflow server with accounts; you are its administrator."""
    with serving():
        from storage.registry.accounts import make_account

        make_account(device, password, training, model)
    words = f"{device} has an account; it may read {', '.join(model)}"
    report_deed(output, words, device=device, training=training, models=model)


@app.command("maker")
def edge_maker(
    person: Annotated[str, typer.Argument(help="The person's account; no device's.")],
    output: Format = "text",
) -> None:
    """Let a person's account make experiments and models, as a training does."""
    with serving():
        from storage.registry.accounts import let_make

        let_make(person)
    report_deed(output, f"{person} may make experiments and models", person=person)


@app.command("sign")
def edge_sign(
    model: Annotated[str, typer.Argument(help="NAME@alias, NAME/version, or NAME.")],
    output: Format = "text",
) -> None:
    """State, signed, a version's name and number, by its sealed chain: for versions without."""
    with serving():
        from flows.train.release import name_again

        reference = name_again(model)
    report_deed(output, f"{reference} has its signed name and version now", version=reference)


@app.command("key")
def edge_key(output: Format = "text") -> None:
    """The public key that a device enrols to trust this server's releases."""
    from flows.cli.answer import device_kinds
    from storage.registry.signing import public_key

    key = public_key()
    answer(device_kinds.Key(key), output, lambda: say(key))


@app.command("status")
def edge_status(
    device: Annotated[
        str, typer.Option(callback=callback_of(check_device), help="Device to ask about.")
    ] = LOCAL_DEVICE,
    output: Format = "text",
) -> None:
    """The evaluations asked of a device, newest first."""
    from flows.cli.answer import device_kinds

    with serving():
        from storage.registry.evaluations import device_requests

        states = device_requests(device)
    value = device_kinds.DeviceRequests(
        device,
        [
            device_kinds.DeviceRequest(
                request=state.request_id,
                model=state.model,
                version=state.version,
                status="cannot be read" if state.fault else state.status,
                agent=state.agent or "",
                reason=state.fault or state.reason or "",
            )
            for state in states
        ],
    )

    def show() -> None:
        rows = [
            cells(r.request, r.model, r.version, r.status, r.agent, r.reason)
            for r in value.requests
        ]
        show_table(("request", "model", "version", "state", "agent", "reason"), rows)

    answer(value, output, show)


@app.command("export")
def edge_export(
    model: Annotated[
        str,
        typer.Argument(
            help="A rhythm network of the box, a release's folder, or NAME@alias, NAME/version or "
            "NAME of the registry."
        ),
    ],
    target: Annotated[Literal["c"], typer.Option(help="c: one C99 header and source.")] = "c",
    arithmetic: Annotated[
        Literal["int8", "float32"],
        typer.Option(help="int8: whole numbers alone; float32: with a floating-point unit."),
    ] = "int8",
    detector_hz: Annotated[
        int | None,
        number("detector_hz", "Find R peaks in C too, in an ECG of so many samples a second."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to. Default: the network's name and -c.")
    ] = None,
    output: Format = "text",
) -> None:
    """Write a release as C for a microcontroller: RR intervals in, P(AF) out, beat by beat."""
    from flows.cli.analyse import release_of
    from storage.files import check_writable
    from storage.registry.boxed import BOXED
    from tasks.microcontroller.export import WEIGHTS_OF, read_sources, write_export

    with release_of(model, WEIGHTS_OF) as release:
        assert release is not None  # noqa: S101 - a model is named
        sources = read_sources(release.folder, release.manifest)
        folder = out or Path(f"{sources.network.name}-{target}")
        check_writable(folder.absolute().parent, "folder (--out)")
        export = write_export(sources, arithmetic, folder, detector_hz)
        if model not in BOXED and not Path(model).exists():
            _enter_export(export)
    _answer_export(export, output, "wrote")


def _enter_export(export: Export) -> None:
    """Write into the ledger of a registered version what was made of it."""
    from flows.reports.version_page import renew_pages
    from storage.audit import ledger
    from storage.audit.ledger_entry import EXPORTED
    from storage.registry.reference import parse

    content = export.manifest
    version = parse(str(content["release"]["registered"]))
    entry = ledger.append(
        version.name,
        int(version.version),
        EXPORTED,
        f"as C for a microcontroller, in {content['arithmetic']}",
        export_sha256=export.manifest_sha256,
        manifest_sha256=str(content["release"]["manifest_sha256"]),
    )
    renew_pages(entry)


@app.command("check-export")
def edge_check_export(
    folder: Annotated[Path, typer.Argument(help="The folder of an export.")],
    key: Annotated[
        list[str] | None,
        typer.Option(help="Public key that may sign; repeatable. Else those of this machine."),
    ] = None,
    output: Format = "text",
) -> None:
    """Check that every file of an export is as it was signed; exit code 1 where one is not."""
    from storage.registry.signing import trusted_keys
    from tasks.microcontroller.export import check_export

    _answer_export(check_export(folder, key or trusted_keys()), output, "found as signed")


def _answer_export(export: Export, form: str, deed: str) -> None:
    """Answer with an export that was written or checked."""
    from flows.cli.answer import device_kinds

    content = export.manifest
    value = device_kinds.Export(
        model=str(content["name"]),
        target=str(content["export"]),
        arithmetic=str(content["arithmetic"]),
        detector_hz=content["detector_hz"],
        folder=str(export.folder),
        files=sorted(content["files"]),
        release=str(content["release"]["registered"]),
        release_manifest_sha256=str(content["release"]["manifest_sha256"]),
        manifest_sha256=export.manifest_sha256,
        signed_by=export.signed_by,
    )

    def show() -> None:
        names = ", ".join(plain(name) for name in value.files)
        say(f"{deed} {names} in {value.folder}: {plain(value.model)} in {plain(value.arithmetic)}")
        say(f"release {plain(value.release)}, manifest {plain(value.release_manifest_sha256)}")
        by = f"signed by {value.signed_by}"
        say(by if value.signed_by else "not signed: no release key is here (holter edge key)")

    answer(value, form, show)
