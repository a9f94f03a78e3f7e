"""The run of an evaluation on data sets: its network fetched, its files logged and signed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.ingest.flow import IngestResult
from flows.train.training_run import log_dataset, work_folder
from storage.audit import ledger, outcomes
from storage.audit.provenance import git_state
from storage.files import sha256_file, sha256_folder
from storage.registry import client, tracking
from storage.registry.evaluations import OUTCOME
from storage.registry.model_files import LITERT
from storage.registry.models import ModelVersion
from storage.registry.tags import (
    EVALUATION_FOLDER,
    KIND_TAG,
    MODEL_RUN_TAG,
    MODEL_TAG,
    THRESHOLD_TAG,
    VERSION_TAG,
    artifact_tag,
    dataset_sha256_tag,
)
from tasks.pages.markup import inline
from tasks.runtimes.litert import LiteRT


@contextmanager
def evaluation_run(
    version: ModelVersion,
    ingested: Sequence[IngestResult],
    title: str,
    params: Mapping[str, object],
) -> Iterator[str]:
    """The run of an evaluation, its data sets logged; failed where the work within fails.

    Parameters
    ----------
    version : ModelVersion
        What is evaluated.
    ingested : sequence of IngestResult
        What on.
    title : str
        What the run is called, after the version.
    params : mapping
        How.

    Yields
    ------
    str
        The run's id.
    """
    run_id = tracking.start_run(
        experiment=f"evaluate/{version.name}",
        run_name=f"{version.reference} {title}",
        params={"model": version.reference, **params},
        tags={
            **git_state(),
            KIND_TAG: "evaluation",
            MODEL_TAG: version.name,
            VERSION_TAG: str(version.version),
            "mlflow.note.content": (
                f"[{inline(version.reference)}]({tracking.model_link(version)}). "
                f"[Its training]({tracking.run_link(version.run_id)})."
            ),
            MODEL_RUN_TAG: version.run_id,
            THRESHOLD_TAG: version.tags[THRESHOLD_TAG],
            **{dataset_sha256_tag(m.manifest.dataset): m.manifest.digest() for m in ingested},
        },
    )
    try:
        for result in ingested:
            log_dataset(run_id, result.path, result.manifest, "evaluation", {})
        yield run_id
    except BaseException as error:
        tracking.finish_run(run_id, "FAILED", f"{type(error).__name__}: {error}")
        raise
    tracking.finish_run(run_id, "FINISHED")


def log_evaluation(run_id: str, folder: Path) -> None:
    """Write the outcome of an evaluation beside its report, and log the folder of both."""
    outcomes.write_outcome(run_id, folder)
    tracking.log_folder(run_id, folder, EVALUATION_FOLDER)


def enter_evaluation(
    version: ModelVersion,
    ingested: Sequence[IngestResult],
    run_id: str,
    folder: Path,
    reason: str,
) -> ledger.Entry:
    """Write an evaluation into the ledger: its run, its data sets, the digests of its files."""
    return ledger.append(
        version.name,
        version.version,
        ledger.EVALUATED,
        reason,
        run_id=run_id,
        datasets=" ".join(result.manifest.digest() for result in ingested),
        report=sha256_folder(folder),
        **{outcomes.DETAIL: sha256_file(folder / OUTCOME)},
    )


def registered_network(version: ModelVersion) -> LiteRT:
    """The LiteRT file of a version, fetched and checked, ready to answer."""
    digest = version.tags[artifact_tag(LITERT)]
    folder = work_folder(version.run_id) / "fetched"
    file = client.fetch_model_file(version.name, version.version, LITERT, digest, folder)
    return LiteRT(file.read_bytes())
