"""Logs of flows: with HOLTER_LOG=json all that a process logs, Prefect's lines too, is JSON."""

from __future__ import annotations

import logging

from prefect.runtime import flow_run, task_run

from storage import logs


def with_runs(record: logging.LogRecord) -> bool:
    """Lines of ours carry the flow run and task run in which they are logged, as Prefect's do."""
    if record.name.startswith(logs.log.name):
        record.flow_run_id, record.task_run_id = flow_run.get_id(), task_run.get_id()
    return True


def set_up() -> None:
    """Take over what Prefect set up at its import, where JSON is asked for."""
    if logs.as_json():
        logs.to_stderr(logging.getLogger()).addFilter(with_runs)
