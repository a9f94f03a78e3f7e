"""A staged release: the canary first, and the rest of its device group only after the gate."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import flow
from prefect.events import emit_event

from flows.exchange.account import Account, account_of, alias_of
from flows.reports.version_page import renew_pages
from flows.services.alive import WATCHED
from flows.services.events import CANARY_REFUSED, refusal, resource_of
from flows.train.evaluate_device import await_report, request
from storage.audit import fleet, ledger
from storage.audit.chain import resolve
from storage.errors import DeviceError
from storage.registry import evaluations, tracking
from tasks.scores.gate import MOST_P99_MS, gate


@dataclass(frozen=True)
class StagedRelease:
    """What a staged release did: the alias it set, the canary's report, the reports of all."""

    alias: str
    canary: evaluations.RequestState
    installed: tuple[evaluations.RequestState, ...]


@account_of.register
def _account(result: StagedRelease) -> Account:
    """A canary's report moved an alias to a version, which was installed."""
    address, canary = tracking.address(), result.canary
    reports = account_of([canary, *result.installed])
    alias = alias_of(canary.model, result.alias, canary.version, address)
    return Account(reports.inputs, (alias, *reports.outputs))


@flow(name="evaluate-on-devices", flow_run_name="{model}", **WATCHED)
def evaluate_on_devices(
    model: str,
    devices: list[str],
    wait_s: float = 600.0,
    install: bool = False,
    roll_back: bool = False,
) -> list[evaluations.RequestState]:
    """Have several devices run a registered model at the same time, and give back their reports."""
    requests = [(request(model, device, install, roll_back), device) for device in devices]
    return [await_report(request_id, device, wait_s) for request_id, device in requests]


@flow(name="release-in-stages", flow_run_name="{model}-to-{group}", **WATCHED)
def release_in_stages(
    model: str,
    group: str,
    canary: str | None = None,
    wait_s: float = 600.0,
    most_p99_ms: float = MOST_P99_MS,
) -> StagedRelease:
    """Have a group's canary test a model version, and install it on all once that passed.

    The alias `stable-GROUP` moves to the version once the canary's report has passed the gate.

    Parameters
    ----------
    model : str
        NAME@alias, NAME/version or NAME.
    group : str
        The device group.
    canary : str, optional
        Its device to go first; the first by name otherwise.
    wait_s : float
        How long to wait for each report.
    most_p99_ms : float
        Largest 99th percentile of one beat's latency.

    Raises
    ------
    DeviceError
        The canary failed or its report did not pass: no alias moves, nothing is installed.
    DigestMismatch
        MLflow has other figures of the canary than were signed.
    """
    names = fleet.members(group)
    first = canary or names[0]
    if first not in names:
        raise DeviceError(f"device {first}: not in group {group}; there are {', '.join(names)}")
    version = resolve(model)
    (delivered,) = evaluate_on_devices(version.reference, [first], wait_s, install=False)
    report = fleet.signed_report(delivered)
    wrong = gate(report.metrics, fleet.server_metrics(version), most_p99_ms)
    alias = f"stable-{group}"
    if wrong:
        emit_event(
            CANARY_REFUSED,
            resource=resource_of(version),
            payload=refusal(alias, f"canary {first}", wrong, tracking.model_page(version)),
        )
        raise DeviceError(f"canary {first}, {version.reference}: {'; '.join(wrong)}")
    move = ledger.move_alias(
        version.name,
        version.version,
        alias,
        f"canary {first}: its report passed the gate",
        request=report.request_id,
    )
    renew_pages(move)
    installed = evaluate_on_devices(version.reference, names, wait_s, install=True)
    return StagedRelease(alias, report, tuple(installed))
