"""Evaluate on a device: put a request before it, wait for its report, fail clearly without one."""

from __future__ import annotations

import time
from typing import Annotated

from prefect import flow, task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE

from flows.exchange.account import Account, account_of, report_of, version_named
from flows.parameters import Version, form_field
from flows.reports.version_page import renew_pages
from flows.services.alive import WATCHED
from flows.services.progress import Progress
from flows.settings import bound_of
from flows.train.settings import RetrainSettings
from storage.audit import ledger
from storage.audit.chain import resolve
from storage.audit.outcomes import REASON
from storage.bounds import BOUNDS
from storage.errors import DeviceError, NotInRegistry
from storage.registry import evaluations, tracking
from storage.registry.signing import sign_roll_back
from storage.registry.tags import REPORT_PARAM
from tasks.pages.markup import inline

Device = Annotated[str, form_field(str(RetrainSettings.model_fields["device"].description))]
Wait = Annotated[
    float,
    bound_of("wait_s"),
    form_field(str(RetrainSettings.model_fields["wait_s"].description), **BOUNDS["wait_s"].schema),
]
POLL_S = 1.0
#: What of the two steps (taken, reported) a request has behind it, by its status.
STAGES = {"SCHEDULED": 0, "RUNNING": 1}
#: How long a report that is decided may take to end its run.
GRACE_S = 60.0


@account_of.register
def _account(report: evaluations.RequestState) -> Account:
    """A version that a device ran became its report."""
    address = tracking.address()
    name = f"{report.model}/reports/{report.device}"
    return Account(
        (version_named(report.model, report.version, address),),
        (report_of(name, report.request_id, address, report.metrics),),
    )


@account_of.register(list)
def _accounts(reports: list[evaluations.RequestState]) -> Account:
    """Reports of several devices."""
    parts = [account_of(report) for report in reports]
    return Account(
        parts[0].inputs if parts else (),
        tuple(data for part in parts for data in part.outputs),
    )


@flow(name="evaluate-on-device", flow_run_name="{model}-on-{device}", **WATCHED)
def evaluate_on_device(
    model: Version, device: Device = "this-machine", wait_s: Wait = 600.0
) -> evaluations.RequestState:
    """Have a device run a registered model on its test set, and give back the report.

    Parameters
    ----------
    model : str
        NAME@alias, NAME/version or NAME.
    device : str
        The device's name.
    wait_s : float
        How long to wait for the report.

    Raises
    ------
    DeviceError
        No agent took the request in time, or the device reported a failure.
    RegistryError
        No such model, or the MLflow server is out of reach.
    """
    request_id = request(model, device)
    return await_report(request_id, device, wait_s)


@task(cache_policy=NO_CACHE, persist_result=False)
def request(model: str, device: str, install: bool = False, roll_back: bool = False) -> str:
    """Put the request into the device's experiment; the device may be told to keep the model.

    `roll_back` signs that it may be older than what the device has had.
    """
    version = resolve(model)
    back = sign_roll_back(device, version.name, version.version) if roll_back else ""
    request_id = evaluations.request_evaluation(
        device=device,
        model=version,
        testset_run_id=version.run_id,
        testset_path=version.tags["holter.testset"],
        testset_sha256=version.tags["holter.testset_sha256"],
        tags={
            "holter.simulated": version.tags.get("holter.simulated", "false"),
            "holter.install": str(install).lower(),
            **({"holter.roll_back": back} if back else {}),
            "mlflow.note.content": (
                f"[{inline(version.reference)}]({tracking.model_link(version)}) "
                f"on {inline(device)}, with its test set. "
                f"[The training]({tracking.run_link(version.run_id)})."
            ),
        },
    )
    create_link_artifact(
        key="device-report",
        link=tracking.run_page(request_id),
        link_text=f"Report of {device} in MLflow",
    )
    return request_id


@task(cache_policy=NO_CACHE, persist_result=False)
def await_report(request_id: str, device: str, wait_s: float) -> evaluations.RequestState:
    """Wait with progress until the device has finished or failed, or the time is up."""
    deadline = time.monotonic() + wait_s
    with Progress(f"Waiting for {device}", 2) as progress:
        while True:
            state = evaluations.request_state(request_id)
            stage = STAGES.get(state.status, 2)
            if stage > progress.count:
                progress.step(state.status.lower(), by=stage - progress.count)
            if state.status == "FINISHED":
                enter(state)
                return state
            if state.status not in STAGES:
                raise DeviceError(f"device {device}, request {request_id}: {state.reason}")
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
    scheduled = state.status == "SCHEDULED"
    problem = "no agent took the request" if scheduled else f"agent {state.agent} sent no report"
    reason = f"{problem} within {wait_s:g} s"
    if not evaluations.withdraw(request_id, reason):  # the report came at the last moment
        return await_report.fn(request_id, device, GRACE_S)
    hint = f"; start one there with `holter-edge run --device {device}`" if scheduled else ""
    raise DeviceError(f"device {device}: {reason}{hint}")


def enter(state: evaluations.RequestState) -> None:
    """Enter a device's report into the model's ledger, by the digest of what it said.

    Raises
    ------
    NotInRegistry
        The version that it is about is gone, though MLflow may have another one of its number.
    """
    run_id = resolve(f"{state.model}/{state.version}").run_id
    requested = state.tags.get("holter.training_run_id", run_id)
    if requested != run_id:
        raise NotInRegistry(
            f"report of device {state.device} on {state.model}/{state.version}: found a version of "
            f"training run {run_id}; expected that of {requested}, which is gone from MLflow"
        )
    entry = ledger.append(
        state.model,
        state.version,
        ledger.EVALUATED,
        f"{REASON}{state.device}",
        run_id=state.request_id,
        device=state.device,
        report=state.params[REPORT_PARAM].partition(":")[2],
    )
    renew_pages(entry)
