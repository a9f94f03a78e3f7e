"""Retrain: from the records of a data set to a device's report on a new model version."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import flow
from prefect.runtime import flow_run

from flows.ingest.failures import telling
from flows.parameters import (
    AnyModel,
    Balance,
    Datasets,
    Device,
    Folders,
    MostFailed,
    Paradigm,
    Policy,
    Seed,
    Signals,
    TeacherVersion,
    TeacherWeight,
    Temperature,
    UsualEpochs,
    UsualRate,
    Wait,
    Weights,
)
from flows.services.alive import WATCHED
from flows.train.beats import Trained
from flows.train.evaluate_device import evaluate_on_device
from flows.train.flow import train_network
from storage.bounds import MOST_FAILED
from storage.registry import evaluations, tracking
from storage.registry.reference import check_device


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
    datasets: Datasets,
    data: Folders = None,
    model: AnyModel = "resnet21",
    paradigm: Paradigm = "interpatient",
    epochs: UsualEpochs = None,
    learning_rate: UsualRate = None,
    seed: Seed = 0,
    policy: Policy = "consensus",
    weights: Weights = None,
    balance: Balance = "beats",
    signal: Signals = None,
    teacher: TeacherVersion = None,
    teacher_weight: TeacherWeight = 0.5,
    temperature: Temperature = 1.0,
    most_failed: MostFailed = MOST_FAILED,
    device: Device = "this-machine",
    wait_s: Wait = 600.0,
) -> Retrained:
    """Ingest, train, register, and evaluate on a device.

    Parameters
    ----------
    datasets : list of str
        Names of data sets, or paths of their TOMLs.
    data : list of Path, optional
        The folder of each; those that the TOMLs name where not given.
    model : str
        Network to train, of single beats or of whole records.
    paradigm : {"interpatient", "intrapatient"}
        How single beats are dealt to train and test; whole records are dealt by patient.
    epochs : int, optional
        Passes over the training beats.
    learning_rate : float, optional
        Adam's learning rate.
    seed : int
        Seed of the split and of the training.
    policy : {"consensus", "reference", "detected"}
        Which beats the tables hold where beats are annotated.
    weights : list of float, optional
        How often beats of each data set are drawn, against 1.
    balance : {"beats", "patient", "class"}
        What is drawn evenly, as `tasks.learning.balance`.
    signal : bool or list of bool, optional
        False, for networks of whole records, reads annotations alone; as
        `flows.ingest.folders.signals_of`.
    teacher, teacher_weight, temperature
        As `flows.train.teacher`, `tasks.learning.distillation.Teaching`.
    most_failed : str
        How many records of a data set may fail, as `storage.bounds.most_allowed`.
    device : str
        The device that evaluates.
    wait_s : float
        How long to wait for its report, in seconds.
    """
    check_device(device)
    trained = train_network(
        datasets,
        data,
        model,
        paradigm=paradigm,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        policy=policy,
        weights=weights,
        balance=balance,
        signal=signal,
        teacher=teacher,
        teacher_weight=teacher_weight,
        temperature=temperature,
        most_failed=most_failed,
    )
    version = trained.version
    report = evaluate_on_device(f"{version.name}/{version.version}", device, wait_s)
    tracking.log_tags(trained.run_id, {"holter.edge_run_id": report.request_id})
    links = {
        "Run": tracking.run_page(trained.run_id),
        "Version": tracking.model_page(version),
        "Device": tracking.run_page(report.request_id),
        "Flow": str(flow_run.get_flow_run_ui_url() or ""),
    }
    return telling(Retrained(trained, device, report, links), trained.ingested)
