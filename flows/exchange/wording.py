"""A run event in the words of openlineage-python, from what is known of a run and its data sets."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from openlineage.client import event_v2
from openlineage.client import facet_v2 as facets

from flows.exchange.account import Account, Data, Moment, Run
from flows.exchange.facets import CodeRunFacet, Facet
from storage.audit.provenance import environment_sha256, git_state
from storage.registry.tags import GIT_COMMIT_TAG, GIT_DIRTY_TAG

#: The variable of OpenLineage's integrations that names the namespace of jobs, and what it is else.
NAMESPACE, NAMESPACE_DEFAULT = "OPENLINEAGE_NAMESPACE", "holter"
PRODUCER = f"urn:holter-af:{version('holter-af')}"


def event(run: Run, moment: Moment, account: Account) -> event_v2.RunEvent:
    """The event of what happened to a run."""
    return event_v2.RunEvent(
        eventType=event_v2.RunState[moment.kind],
        eventTime=moment.time.isoformat(timespec="milliseconds"),
        producer=PRODUCER,
        run=event_v2.Run(run.run_id, _run_facets(run, account, moment.error)),
        job=event_v2.Job(namespace(), run.job, _job_facets(run)),
        inputs=[_input(data) for data in account.inputs],
        outputs=[_output(data) for data in account.outputs],
    )


def namespace() -> str:
    """The namespace of jobs."""
    return os.environ.get(NAMESPACE) or NAMESPACE_DEFAULT


def _own(base: type[facets.RunFacet | facets.DatasetFacet], items: Iterable[Facet]) -> Any:
    """Facets of ours as objects of the client, by key, with the addresses of their schemas."""
    objects = {}
    for item in items:
        item_object = base(producer=PRODUCER).with_additional_properties(**item.values())
        item_object._schemaURL = item.address()
        objects[item.KEY] = item_object
    return objects


def _run_facets(run: Run, account: Account, error: str) -> dict[str, Any]:
    state, words = git_state(), facets.execution_parameters_run
    code = CodeRunFacet(
        commit=state[GIT_COMMIT_TAG],
        dirty=state[GIT_DIRTY_TAG],
        environment_sha256=environment_sha256(),
    )
    engine = facets.processing_engine_run.ProcessingEngineRunFacet(
        version=version("prefect"),
        name="Prefect",
        openlineageAdapterVersion=version("holter-af"),
        producer=PRODUCER,
    )
    objects = {**_own(facets.RunFacet, (code, *account.facets)), "processing_engine": engine}
    if run.parameters:
        parameters = [words.ExecutionParameter(k, value=v) for k, v in run.parameters.items()]
        objects["executionParameters"] = words.ExecutionParametersRunFacet(
            parameters, producer=PRODUCER
        )
    if run.parent:
        objects["parent"] = _parent(run.parent)
    if error:
        objects["errorMessage"] = facets.error_message_run.ErrorMessageRunFacet(
            message=error, programmingLanguage="PYTHON", producer=PRODUCER
        )
    return objects


def _parent(parent: Run) -> facets.parent_run.ParentRunFacet:
    words, root = facets.parent_run, parent.root
    return words.ParentRunFacet(
        run=words.Run(parent.run_id),
        job=words.Job(namespace(), parent.job),
        root=words.Root(words.RootRun(root.run_id), words.RootJob(namespace(), root.job)),
        producer=PRODUCER,
    )


def _job_facets(run: Run) -> dict[str, Any]:
    objects: dict[str, Any] = {
        "jobType": facets.job_type_job.JobTypeJobFacet("BATCH", "HOLTER", "FLOW", producer=PRODUCER)
    }
    if run.description:
        objects["documentation"] = facets.documentation_job.DocumentationJobFacet(
            run.description, producer=PRODUCER
        )
    if run.owner:
        owner = facets.ownership_job.Owner(f"user:{run.owner}", "STARTED_BY")
        objects["ownership"] = facets.ownership_job.OwnershipJobFacet([owner], producer=PRODUCER)
    return objects


def _data_facets(data: Data) -> dict[str, Any]:
    address = data.namespace if "://" in data.namespace else f"{data.namespace}://"
    uri = f"{address}/{data.name.lstrip('/')}"
    objects = {
        **_own(facets.DatasetFacet, data.facets),
        "dataSource": facets.datasource_dataset.DatasourceDatasetFacet(
            data.namespace, uri, producer=PRODUCER
        ),
        "storage": facets.storage_dataset.StorageDatasetFacet(
            data.layer, data.form or None, producer=PRODUCER
        ),
    }
    if data.version:
        objects["version"] = facets.dataset_version_dataset.DatasetVersionDatasetFacet(
            data.version, producer=PRODUCER
        )
    if data.description:
        objects["documentation"] = facets.documentation_dataset.DocumentationDatasetFacet(
            data.description, producer=PRODUCER
        )
    if data.columns:
        columns = [
            facets.schema_dataset.SchemaDatasetFacetFields(name, kind, ordinal_position=number)
            for number, (name, kind) in enumerate(data.columns.items(), start=1)
        ]
        objects["schema"] = facets.schema_dataset.SchemaDatasetFacet(columns, producer=PRODUCER)
    return objects


def _input(data: Data) -> event_v2.InputDataset:
    counts = facets.input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
        rowCount=data.rows, fileCount=data.files, producer=PRODUCER
    )
    statistics: dict[str, Any] = (
        {} if data.rows is data.files is None else {"inputStatistics": counts}
    )
    return event_v2.InputDataset(
        data.namespace, data.name, inputFacets=statistics, facets=_data_facets(data)
    )


def _output(data: Data) -> event_v2.OutputDataset:
    counts = facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=data.rows, fileCount=data.files, producer=PRODUCER
    )
    statistics: dict[str, Any] = (
        {} if data.rows is data.files is None else {"outputStatistics": counts}
    )
    return event_v2.OutputDataset(
        data.namespace, data.name, outputFacets=statistics, facets=_data_facets(data)
    )
