"""`holter up`, `down`, `status`, `doctor`, `env`: the servers kept running, and how all is."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import Form, Format, answer
from flows.cli.options import number, quiet
from flows.reports.shown import say, show_table
from flows.services.progress import console
from storage.addresses import without_credentials
from storage.errors import ServerError
from storage.files import check_home, home, make_folder

if TYPE_CHECKING:
    from flows.services.up_state import Servers

#: The work pool of prefect.yaml.
POOL = "holter"
#: How a line of `holter doctor` looks, by whether all is well.
STYLES = {True: "", False: "red"}
START_S, STOP_S, WATCH_S = 330.0, 60.0, 2.0
NO_PORTS: Mapping[str, int] = MappingProxyType({})

Worker = Annotated[
    bool, typer.Option("--worker", help=f"Also a worker that runs the schedules of pool {POOL}.")
]


def up(
    worker: Worker = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay here until Ctrl-C, as a service does.")
    ] = False,
    prefect_port: Annotated[
        int | None, number("prefect_port", "Port of Prefect; else that of the last start.")
    ] = None,
    mlflow_port: Annotated[
        int | None, number("mlflow_port", "Port of MLflow; else that of the last start.")
    ] = None,
    output: Format = "text",
) -> None:
    """Start the Prefect and MLflow servers on loopback; `holter down` stops them."""
    from flows.services.access import named_servers
    from flows.services.ports import reserve_exactly
    from flows.services.up_state import Servers, fault, running, up_process, up_servers

    addresses = named_servers()
    options = {"Prefect": prefect_port, "MLflow": mlflow_port}
    fixed = {name: port for name, port in options.items() if port is not None}
    _check_ports(fixed, addresses)
    if len(addresses) == 2 and not worker:
        others = Servers(addresses["PREFECT_API_URL"], addresses["MLFLOW_TRACKING_URI"])
        words = "The environment names both servers; nothing is started here."
        _answer_up(others, output, words, started=False)
        return
    if servers := running():
        _check_up(servers, fixed)
        words = "Already up."
        if worker and not servers.worker_pid:
            words += " Without a worker: `holter down`, then `holter up --worker`."
        _answer_up(servers, output, words, started=False)
        return
    check_home()
    if (servers := up_servers()) and up_process(servers):
        raise ServerError(f"process {servers.up_pid} of `holter up` runs. {fault(servers)}")
    for name, port in fixed.items():
        reserve_exactly(name, port).close()
    if foreground:
        _stay(output, worker=worker, fixed=fixed)
        return
    servers = _start_beside(worker=worker, fixed=fixed)
    words = "They go on in the background: `holter status`, `holter down`."
    _answer_up(servers, output, words, started=True)


def _check_ports(fixed: dict[str, int], addresses: dict[str, str]) -> None:
    """Refuse a port of a server that is not started here, and one port for both."""
    for name, variable in (("Prefect", "PREFECT_API_URL"), ("MLflow", "MLFLOW_TRACKING_URI")):
        if name in fixed and variable in addresses:
            raise ValueError(
                f"--{name.lower()}-port {fixed[name]}: found {variable}, which names a server; "
                "expected one that is started here"
            )
    if len(fixed) > len(set(fixed.values())):
        raise ValueError(f"found port {fixed['MLflow']} for both servers; expected two ports")


def _check_up(servers: Servers, fixed: dict[str, int]) -> None:
    """Refuse a port that servers which are up do not have."""
    for name, url in (("Prefect", servers.prefect_page), ("MLflow", servers.mlflow)):
        if name in fixed and url.rpartition(":")[2] != str(fixed[name]):
            raise ServerError(
                f"{name} is up at {url}; expected port {fixed[name]}: `holter down`, then again"
            )


def _answer_up(servers: Servers, output: Form, words: str, *, started: bool) -> None:
    """Tell where the servers are; `words` say how they came to be there."""
    from flows.cli.answer.server_kinds import Up
    from flows.services.access import prefect_key, prefect_key_path

    has_key = bool(servers.prefect_pid and prefect_key())
    value = Up(
        started=started,
        servers={"PREFECT_API_URL": servers.prefect_api, "MLFLOW_TRACKING_URI": servers.mlflow},
        worker_pid=servers.worker_pid,
        key_file=str(prefect_key_path()) if has_key else "",
        notes=[*(servers.notes if started else ()), words],
        review=servers.review,
    )

    def show() -> None:
        for note in value.notes:
            say(note)
        say(f"  Prefect  {servers.prefect_page}")
        say(f"  MLflow   {servers.mlflow}")
        if servers.review:
            say(f"  Review   {servers.review} (`holter review` says who may look)")
        if value.key_file:
            say(f"  Key      Prefect's page asks for it once: cat {value.key_file}")
        if value.worker_pid:
            say(f"  Worker   of pool {POOL}, process {value.worker_pid}")

    answer(value, output, show)


def _start_beside(*, worker: bool, fixed: Mapping[str, int] = NO_PORTS) -> Servers:
    """Start `holter up --foreground` as a process of its own, and wait until all answer."""
    from flows.services.up_state import log_bytes, log_tail, running, server_log

    console.print("Starting ...")
    log = server_log(home(), "up")
    make_folder(log.parent)
    start = log_bytes(log)
    words = [sys.executable, "-m", "flows", "up", "--foreground", *(["--worker"] * worker)]
    words += [f"--{name.lower()}-port={port}" for name, port in fixed.items()]
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: S603 - our own command
            words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    deadline = time.monotonic() + START_S
    while (servers := running()) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerError(f"the servers did not start; {log} says:\n{log_tail(log, start)}")
        time.sleep(0.3)
    process.returncode = 0  # it is to outlive this command: no warning that it does
    return servers


def _stay(output: Form, *, worker: bool, fixed: Mapping[str, int]) -> None:
    from flows.review.start import review_server
    from flows.services.access import prefect_key
    from flows.services.pool import make_pool
    from flows.services.servers import servers
    from flows.services.servers import worker as start_worker
    from flows.services.up_state import announce, check_alive

    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    quiet()
    console.print("Starting ...")
    if worker and not os.environ.get("PREFECT_API_URL"):
        prefect_key(make=True)
    with ExitStack() as stack:
        running_servers = replace(stack.enter_context(servers(fixed)), up_pid=os.getpid())
        if worker:
            make_pool(POOL)
            running_servers = replace(
                running_servers, worker_pid=stack.enter_context(start_worker(POOL))
            )
        address, pid = stack.enter_context(review_server())
        running_servers = replace(running_servers, review=address, review_pid=pid)
        stack.enter_context(announce(running_servers))
        _answer_up(running_servers, output, "Ctrl-C stops all of it.", started=True)
        while not stop.wait(WATCH_S):
            check_alive(running_servers)
        console.print("Stopping ...")


def down(output: Format = "text") -> None:
    """Stop what `holter up` started."""
    from flows.cli.answer.server_kinds import Down

    stopped = _stop()
    words = "Stopped." if stopped else "Nothing is up."
    answer(Down(stopped), output, lambda: say(words))


def _stop() -> bool:
    """End the process of `holter up`; gives whether there was one."""
    import psutil

    from flows.services.up_state import forget, up_process, up_servers

    servers = up_servers()
    process = up_process(servers) if servers else None
    if servers is None or process is None:
        forget()  # of one that was killed
        return False
    process.terminate()
    try:
        process.wait(STOP_S)
    except psutil.TimeoutExpired as error:
        raise ServerError(
            f"process {servers.up_pid} still runs after {STOP_S:g} s; its log is in {home()}/logs"
        ) from error
    forget()
    return True


def env(output: Format = "text") -> None:
    """Print what `prefect` and `mlflow` need to reach the servers: eval "$(holter env)".

    With them go the key of `holter up --worker`, and passwords from addresses of your own.
    """
    from flows.cli.answer.server_kinds import Variables
    from flows.services.access import access_variables

    addresses = _addresses()
    if len(addresses) < 2:
        raise ServerError("no servers are up: `holter up` starts them")
    variables = {**addresses, **access_variables(), "HOLTER_HOME": str(home())}

    def show() -> None:
        for name, value in variables.items():
            say(f"export {name}={shlex.quote(value)}")

    answer(Variables(variables), output, show)


def _addresses() -> dict[str, str]:
    """Where the servers are, by the variables that name them."""
    from flows.services.access import named_servers
    from flows.services.up_state import running

    up = running()
    local = {"PREFECT_API_URL": up.prefect_api, "MLFLOW_TRACKING_URI": up.mlflow} if up else {}
    return {**local, **named_servers()}


def status(output: Format = "text") -> None:
    """Servers, work pool, last runs, newest model versions; closes runs that were killed."""
    from flows.cli.answer.server_kinds import Status
    from flows.services.access import named_servers
    from flows.services.servers import servers
    from flows.services.up_state import fault, running, up_servers

    if running() is None and len(named_servers()) < 2:
        if (note := up_servers()) and (failure := fault(note)):
            raise ServerError(f"{failure}; `holter down`, see that the disk has room, `holter up`")
        words = "Nothing is up: `holter up` starts the servers, with `--worker` a worker too."
        answer(Status(False, {}, "", [], [], []), output, lambda: say(words))
        return
    with servers():
        from flows.cli.status import read_status, show_status

        value = read_status(_addresses(), POOL)
    answer(value, output, lambda: show_status(value))


def notify(
    on: Annotated[
        list[str] | None,
        typer.Option(help="Just this kind of notice; repeatable. A wrong one lists them all."),
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Send a test, as the server will.")] = False,
    off: Annotated[bool, typer.Option("--off", help="Tell nobody any more.")] = False,
    output: Format = "text",
) -> None:
    """Have Prefect tell HOLTER_NOTIFY_URL (Slack, e-mail, a web hook) what fails or is refused."""
    from flows.services.servers import prefect_server

    quiet()
    with prefect_server() as api:
        if api is None:
            raise ServerError("no Prefect server is up, which sends the notices: holter up")
        from flows.cli.answer.server_kinds import Notices
        from flows.services.notices import KINDS, send_test, set_up, take_away
        from flows.services.up_state import answering

        with answering(api):
            if off:
                take_away()
                words = "Nobody is told any more; the address is gone from Prefect."
                answer(Notices({}, test=False), output, lambda: say(words))
                return
            automations = set_up({*(on or KINDS), "test"})
            if test:
                send_test(automations["test"])
    names = [name for name in KINDS if name in automations]
    value = Notices({name: KINDS[name].description for name in names}, test=test)

    def show() -> None:
        show_table(["notice", "when"], value.notices.items(), "What Prefect's server tells")
        say(
            "The server has sent the test: look whether it has come."
            if test
            else "Try it: holter notify --test. Pause one on Prefect's Automations page."
        )

    answer(value, output, show)


def doctor(output: Format = "text") -> None:
    """Check versions, folders, space, keys, servers, clocks, killed runs; says what to do."""
    from flows.cli.answer.server_kinds import Health, HealthCheck
    from flows.services.doctor import examine

    checks = [
        HealthCheck(c.name, not c.advice, without_credentials(c.state), c.advice) for c in examine()
    ]
    problems = sum(not check.ok for check in checks)

    def show() -> None:
        for check in checks:
            say(
                f"{'ok     ' if check.ok else 'problem'}  {check.name}: {check.state}",
                STYLES[check.ok],
            )
            if not check.ok:
                say(f"         {check.advice}")
        if problems:
            say(f"{problems} to see to.")

    answer(Health(checks, problems), output, show)
    if problems:
        raise typer.Exit(1)
