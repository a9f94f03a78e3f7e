"""Retrain: from the records of a data set to a device's report on a new model version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run

from flows.ingest.failures import telling
from flows.parameters import form_field, settings_of_run
from flows.services.alive import WATCHED
from flows.train.evaluate_device import evaluate_on_device
from flows.train.flow import TrainingResult, train
from flows.train.settings import RetrainSettings
from storage.registry import evaluations, tracking


@dataclass(frozen=True)
class RetrainResult:
    """What a retraining made: the training, the device's report, and where to look at both."""

    trained: TrainingResult
    device_name: str
    device: evaluations.RequestState
    links: dict[str, str]


def _name() -> str:
    settings: RetrainSettings = settings_of_run(RetrainSettings)
    return settings.training.run_name("retrain")


@flow(name="retrain", flow_run_name=_name, **WATCHED)
def retrain(
    settings: Annotated[
        RetrainSettings, form_field("The training, and the device that evaluates.")
    ],
) -> RetrainResult:
    """Ingest, train, register, and evaluate on a device."""
    trained = train(settings.training)
    version = trained.version
    report = evaluate_on_device(version.reference, settings.device, settings.wait_s)
    tracking.log_tags(trained.run_id, {"holter.edge_run_id": report.request_id})
    links = {
        "Run": tracking.run_page(trained.run_id),
        "Version": tracking.model_page(version),
        "Device": tracking.run_page(report.request_id),
        "Flow": str(flow_run.get_flow_run_ui_url() or ""),
    }
    return telling(RetrainResult(trained, settings.device, report, links), trained.ingested)
