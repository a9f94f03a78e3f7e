"""The `holter-edge` command: pulls its work from MLflow, listens on nothing."""

from __future__ import annotations

import argparse
import itertools
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.board.jetson import l4t_release
from edge_agent.board.kinds import ROOTS, device_kind, refuse_other_release, usual_kind
from storage.bounds import within
from storage.errors import DeviceError, HolterError, ModelError
from storage.files import check_writable, read_state, write_json
from storage.json_text import as_json
from storage.logs import bound, log, to_stderr
from storage.registry.answers import plain
from storage.registry.boxed import BOXED

if TYPE_CHECKING:  # loads numpy
    from tasks.analysis.analyse import Release

#: Prints an answer, or the same as text.
Tell = Callable[[object, str], None]
MODEL = (
    "a release's folder; where a server is named, NAME@alias, NAME/version or NAME "
    "(default: the active one)"
)


#: Words in a runtime's place: the cheapest on this device, and what the server scored.
WAYS = ("measured", "release")


class ShowVersion(argparse.Action):
    """The option `--version`."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the installed version, and end: it is looked up where it is asked for alone."""
        print(f"holter-edge {version('holter-af')}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="holter-edge",
        description="Evaluate registered AF models on this device and report back to MLflow.",
        epilog="The server is named by MLFLOW_TRACKING_URI; work files lie in HOLTER_EDGE_HOME. "
        "HOLTER_LOG=json: log lines are JSON.",
    )
    top.add_argument("--version", action=ShowVersion, nargs=0, help="print the version and end")
    commands = top.add_subparsers(dest="command", required=True)
    kind = usual_kind(platform.machine(), l4t_release(Path(ROOTS["l4t"])))
    for name, help_ in (
        ("run", "keep asking for requests until stopped"),
        ("once", "work through the requests that wait now, then end"),
        ("status", "list this device's requests and the models on it"),
        ("enroll", "trust a release key, and keep this device's name"),
        ("bench", "measure a model on this device: latency, throughput, memory, energy"),
        (
            "analyse",
            "find AF in a recording, or in a folder of them: burden, episodes, report page",
        ),
        ("live", "decide the beats of samples that come in now: JSON lines, one a beat"),
        ("rollback", "go back to the model that was active before"),
    ):
        command = commands.add_parser(name, help=help_, description=help_)
        if name == "enroll":
            command.add_argument("--key", required=True, help="64 digits, from `holter edge key`")
        if name == "bench":
            text = "file, release or, where a server is named, NAME@alias (default: the active)"
            command.add_argument("model", nargs="?", help=text)
            text = "compare this runtime of the release; may be given several times"
            command.add_argument("--runtime", action="append", help=text)
        if name in ("run", "once"):
            _serve_options(command, name)
        if name in ("status", "bench"):
            usual = "json" if name == "bench" else "text"
            text = "text, or json: the same content, for a program (default: %(default)s)"
            command.add_argument("--format", choices=("text", "json"), default=usual, help=text)
        if name == "analyse":
            _analyse_options(command)
        if name == "live":
            _live_options(command)
        if name not in ("rollback", "bench", "analyse", "live"):
            command.add_argument("--device", help="this device's name (default: as enrolled)")
        if name in ("run", "once", "bench"):
            command.add_argument("--kind", default=kind, help="device kind (default: %(default)s)")
    return top


def _serve_options(command: argparse.ArgumentParser, name: str) -> None:
    text = (
        "what runs the network: measured, the cheapest that is measured here; release, what the "
        "server scored; or a name: litert-float32, litert-int8, onnx, onnx-cpu, onnx-cuda, "
        "onnx-tensorrt (default: %(default)s)"
    )
    command.add_argument("--runtime", type=_way, default="measured", help=text)
    if name == "run":
        text = "seconds between two looks for requests: more for a fleet (default: %(default)s)"
        command.add_argument("--poll-s", type=_number("poll_s", float), default=2.0, help=text)


def _analyse_options(command: argparse.ArgumentParser) -> None:
    text = "a .hea, .dat, .edf or .ecg file, a WFDB record without suffix, or a folder of them"
    command.add_argument("record", type=Path, help=text)
    command.add_argument("--out", type=Path, default=Path(), help="folder to write to (default: .)")
    text = (
        f"{MODEL}, or a name of the box: {', '.join(BOXED)}; the box decides where none is active"
    )
    command.add_argument("--model", help=text)
    text = "how the answer is written (default: %(default)s)"
    command.add_argument("--format", choices=("text", "json"), default="text", help=text)
    text = "what runs the network: litert-float32, litert-int8, onnx (default: the release's)"
    command.add_argument("--runtime", type=_runtime, help=text)
    text = "lead to read; may be given several times, the first that is there is read"
    command.add_argument("--lead", action="append", help=text)
    text = "runs of fewer equal decisions become what surrounds them (default: %(default)s)"
    command.add_argument("--least-beats", type=_number("least_beats", int), default=1, help=text)
    text = (
        "share of 1 of the recorded time that is AF among those who are asked (default: 0.12 where "
        "less than two minutes can be analysed, else as the release was calibrated)"
    )
    command.add_argument("--af-share", type=_number("af_share", float), help=text)


def _live_options(command: argparse.ArgumentParser) -> None:
    text = "-: standard input; a serial port; tcp://127.0.0.1:PORT (default: %(default)s)"
    command.add_argument("source", nargs="?", default="-", help=text)
    command.add_argument(
        "--fs", type=_number("fs_hz", float), required=True, help="samples a second"
    )
    text = "how samples come (default: %(default)s)"
    command.add_argument(
        "--format", choices=("text", "int16", "float32"), default="text", help=text
    )
    text = "what stands for a millivolt (default: %(default)s)"
    command.add_argument(
        "--units-per-mv", type=_number("units_per_mv", float), default=1.0, help=text
    )
    text = "rate of a serial port (default: %(default)s)"
    command.add_argument("--baud", type=_number("baud", int), default=115_200, help=text)
    text = "share of 1 of the recorded time that is AF (default: as the release was calibrated)"
    command.add_argument("--af-share", type=_number("af_share", float), help=text)
    command.add_argument("--model", help=MODEL)


def _number(name: str, kind: Callable[[str], float]) -> Callable[[str], float]:
    """What reads an option's number, and holds it to its bound."""

    def number(text: str) -> float:
        value = kind(text)
        try:
            return within(name, value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return number


def _runtime(name: str) -> str:
    """The name of a runtime that this device has."""
    from tasks.runtimes.runtimes import installed_runtime

    try:
        installed_runtime(name)
    except (ValueError, ModelError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name


def _way(name: str) -> str:
    """A word for how the runtime is found, or the name of one that this device has."""
    return name if name in WAYS else _runtime(name)


def say(text: str) -> None:
    """One line to the log, whatever a server wrote into it."""
    log.info(plain(text))


def _stop(number: int, _frame: object) -> None:
    """SIGTERM ends as an error does: what is at work is cleared up first."""
    sys.exit(128 + number)


def main(words: list[str] | None = None) -> None:
    """Entry point of the `holter-edge` command."""
    options = parser().parse_args(words)
    try:
        handler = to_stderr(log)
    except ValueError as error:
        parser().error(str(error))
    signal.signal(signal.SIGTERM, _stop)
    try:
        sys.exit(work(options))
    except (HolterError, OSError) as error:
        log.error("error  %s", plain(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        log.removeHandler(handler)


def work(options: argparse.Namespace) -> int:
    """Do what the options say; gives the exit code."""
    from edge_agent import slots

    home = slots.edge_home()
    if options.command in ("run", "once", "enroll", "rollback"):
        check_writable(home, "state folder (HOLTER_EDGE_HOME)")
    if options.command == "rollback":
        say(f"active again: {slots.rollback(home)}")
        return 0
    if options.command == "enroll":
        if options.device:
            write_json(home / "device.json", {"device": options.device})
        say(f"key {slots.enrol(home, options.key)} is trusted from now on")
        return 0
    alone = {"bench": _bench, "analyse": _analyse, "live": _live}
    if options.command in alone:
        return alone[options.command](home, options)
    device = options.device or _device_name(home)
    if options.command == "status":
        return _status(home, device, _teller(options))
    with bound(device=device):
        return _serve(home, device, options)


def _serve(home: Path, device: str, options: argparse.Namespace) -> int:
    from edge_agent.agent import Agent, forever, once
    from storage.registry.client import address

    runtime = None if options.runtime == "release" else options.runtime
    agent = Agent(device, _kind(options.kind), home, runtime)
    if options.command == "once":
        return 1 if once(agent, say) else 0
    agent = replace(agent, poll_s=options.poll_s)
    say(f"device {device} asks {address()} for requests")
    forever(agent, say)
    return 0


def _kind(name: str) -> dict[str, Any]:
    """A device kind by name, unless the board runs another release than it is of."""
    kind = device_kind(name)
    refuse_other_release(kind, l4t_release(Path(kind["roots"]["l4t"])))
    return kind


def _bench(home: Path, options: argparse.Namespace) -> int:
    from edge_agent import slots
    from edge_agent.bench import BEATS, bench
    from edge_agent.releases import release_at
    from edge_agent.runtimes import CANDIDATES

    runtimes = options.runtime or tuple(CANDIDATES)
    with release_at(home, options.model) as model:
        target = model or slots.begin(home)[0]
        measured = bench(target, _kind(options.kind), BEATS, runtimes)
    _teller(options)(measured, "\n".join(_lines(measured)))
    if not options.model:
        slots.confirm(home)
    return 0


def _lines(value: Any, name: str = "") -> Iterator[str]:
    """Values within objects, a line each: their names, and what they are."""
    if isinstance(value, list):
        value = ", ".join(map(str, value)) or "none"
    if not isinstance(value, dict):
        yield f"{name}  {value:.4g}" if isinstance(value, float) else f"{name}  {value}"
        return
    for key, part in value.items():
        yield from _lines(part, f"{name} {key}".strip())


def _analyse(home: Path, options: argparse.Namespace) -> int:
    from edge_agent import slots
    from tasks.analysis import command
    from tasks.analysis.many import Order

    check_writable(options.out, "folder (--out)")
    leads, runtime = tuple(options.lead or ()), options.runtime
    with _release(home, options.model, runtime) as release:
        order = Order(options.out, release, leads, options.least_beats, runtime, options.af_share)
        if options.record.is_dir():
            exit_code = command.analyse_folder(options.record, order, _teller(options), _count())
        else:
            exit_code = command.analyse_recording(options.record, order, _teller(options))
    if release is not None and not options.model:
        slots.confirm(home)
    return exit_code


@contextmanager
def _release(home: Path, model: str | None, runtime: str | None) -> Iterator[Release | None]:
    """What decides: the release that is named, or the active one; None where the box is to."""
    from edge_agent import slots
    from edge_agent.releases import release_at
    from tasks.analysis.analyse import Release, from_the_box

    if model is not None and model in BOXED:
        yield from_the_box(model, runtime)
    elif model is None and slots.active(home) is None:
        yield None
    else:
        with release_at(home, model) as folder:
            origin = f"{model}, named by --model" if model else "the active one of this device"
            yield Release(*slots.choose_release(home, folder, runtime), origin)


def _teller(options: argparse.Namespace) -> Tell:
    """What prints an answer, or its text, on standard output."""
    return lambda value, text: print(as_json(value) if options.format == "json" else text)


def _count() -> Callable[[str, int], None]:
    """What tells of each recording that is done, on standard error."""
    numbers = itertools.count(1)
    return lambda name, total: say(f"{next(numbers)}/{total}  {name}")


def _live(home: Path, options: argparse.Namespace) -> int:
    from edge_agent import slots
    from edge_agent.live import decisions, millivolts, open_source, run
    from edge_agent.releases import release_at

    with release_at(home, options.model) as folder:
        release, manifest = slots.choose_release(home, folder)
        with open_source(options.source, options.baud) as read:
            chunks = millivolts(read, options.format, options.units_per_mv)
            share = options.af_share
            exit_code = run(decisions(chunks, options.fs, release, manifest, share), say)
    if not options.model:
        slots.confirm(home)
    return exit_code


def _device_name(home: Path) -> str:
    try:
        return read_state(home / "device.json", str, "device")
    except OSError as error:
        words = "name this device with --device, or once with `holter-edge enroll --device NAME`"
        raise DeviceError(words) from error


def _status(home: Path, device: str, tell: Tell) -> int:
    from edge_agent.slots import contents
    from storage.registry.evaluations import device_requests

    slots = contents(home)
    requests = [
        {
            "request": plain(state.request_id),
            "model": plain(state.model),
            "version": state.version,
            "status": "cannot be read" if state.fault else plain(state.status),
            "agent": plain(state.agent or ""),
            "reason": plain(state.fault or state.reason or ""),
        }
        for state in device_requests(device)
    ]
    lines = [f"device {device}"]
    lines += [f"slot {slot}: {release}" for slot, release in slots.items()]
    for row in requests:
        version = f"{row['model']}/{row['version']}"
        lines.append(f"{row['request']} {version} {row['status']} {row['reason']}".rstrip())
    value = {"device": device, "slots": slots, "requests": requests}
    tell(value, "\n".join(lines))
    return 0
