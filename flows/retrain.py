"""Retrain: from the records of a data set to a device's report on a new model version."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import flow
from prefect.runtime import flow_run

from flows.alive import WATCHED
from flows.evaluate_device import evaluate_on_device
from flows.parameters import (
    Data,
    Dataset,
    Device,
    Epochs,
    Model,
    Paradigm,
    Policy,
    Rate,
    Seed,
    Wait,
)
from flows.train import Trained, train
from storage import evaluations, tracking


@dataclass(frozen=True)
class Retrained:
    """What a retraining made: the training, the device's report, and where to look at both."""

    trained: Trained
    device_name: str
    device: evaluations.RequestState
    links: dict[str, str]


@flow(
    name="retrain",
    flow_run_name="retrain-{model}-{paradigm}-seed{seed}",
    **WATCHED,
)
def retrain(
    dataset: Dataset,
    data: Data = None,
    model: Model = "resnet21",
    paradigm: Paradigm = "interpatient",
    epochs: Epochs = 100,
    learning_rate: Rate = 1e-4,
    seed: Seed = 0,
    policy: Policy = "consensus",
    device: Device = "this-machine",
    wait_s: Wait = 600.0,
) -> Retrained:
    """Ingest, train, register, and evaluate on a device.

    Parameters
    ----------
    dataset : str
        Name of a data set, or path of its TOML.
    data : Path, optional
        Folder that holds its records; the one that its TOML names where not given.
    model : str
        Network to train.
    paradigm : {"interpatient", "intrapatient"}
        How the beats are dealt to train and test.
    epochs : int
        Passes over the training beats.
    learning_rate : float
        Adam's learning rate.
    seed : int
        Seed of the split and of the training.
    policy : {"consensus", "reference", "detected"}
        Which beats the tables hold where beats are annotated.
    device : str
        The device that evaluates.
    wait_s : float
        How long to wait for its report, in seconds.
    """
    trained = train(dataset, data, model, paradigm, epochs, learning_rate, seed, policy)
    version = trained.version
    report = evaluate_on_device(f"{version.name}/{version.version}", device, wait_s)
    tracking.log_tags(trained.run_id, {"holter.edge_run_id": report.request_id})
    links = {
        "Run": tracking.run_page(trained.run_id),
        "Version": tracking.model_page(version),
        "Device": tracking.run_page(report.request_id),
        "Flow": str(flow_run.get_flow_run_ui_url() or ""),
    }
    return Retrained(trained, device, report, links)
