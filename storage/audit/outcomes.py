"""Figures of evaluations as they were signed: none is read from MLflow's database alone.

An evaluation's outcome is one file of its run: figures, parameters, tags. Its digest is in the
ledger's entry of the evaluation, which is signed. `read_evaluation(entry)` reads figures from that
file, and compares what MLflow has now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from storage.audit.findings import MISMATCH, OUT, Finding, compare, compare_values
from storage.audit.ledger_entry import Entry
from storage.errors import OutOfReach, RegistryError
from storage.files import parse_text, sha256_file, write_json
from storage.registry.answers import numbers, part, text
from storage.registry.client import call, read_run_file
from storage.registry.evaluations import (
    MOST_OUTCOME,
    OUTCOME,
    RequestState,
    request_state,
)
from storage.registry.experiments import DRIFT, find_experiment
from storage.registry.models import run_state
from storage.registry.tags import (
    DRIFTED_TAG,
    EVALUATION_FOLDER,
    REPORT_PARAM,
    VERSION_TAG,
    report_folder,
)

LINK = "evaluations"
#: The detail of an entry that has the digest of the outcome of an evaluation on data sets.
DETAIL = "outcome"
#: How the reason of a report's entry begins that does not name the device among its details.
REASON = "report of device "


@dataclass(frozen=True)
class Evaluation:
    """An evaluation as its entry of the ledger holds it.

    Attributes
    ----------
    state : RequestState or None
        Its run; figures, parameters, tags and device are those that were signed, and there are no
        figures where none were signed. None where MLflow no longer has the run.
    findings : tuple of Finding
        What was signed against what MLflow has now.
    """

    state: RequestState | None
    findings: tuple[Finding, ...]


def write_outcome(run_id: str, folder: Path) -> str:
    """Write the outcome of an evaluation on data sets beside its report; gives its digest.

    Parameters
    ----------
    run_id : str
        Its run, with all figures, parameters and tags; MLflow's own tags, such as the description
        that a person may change on its page, are left out.
    folder : Path
        The files of its report, before they are logged.
    """
    run = run_state(run_id)
    tags = {name: tag for name, tag in run.tags.items() if not name.startswith("mlflow.")}
    parts = {"metrics": run.metrics, "params": run.params, "tags": tags}
    return sha256_file(write_json(folder / OUTCOME, parts))


def device_of(entry: Entry) -> str:
    """The device whose report an entry is about; "" of an evaluation on data sets."""
    if "datasets" in entry.details:
        return ""
    return entry.details.get("device", entry.reason.removeprefix(REASON))


def title(entry: Entry) -> str:
    """What an evaluation is called where it is compared."""
    return f"{entry.reason}, run {entry.details['run_id']}"


def read_evaluation(entry: Entry) -> Evaluation:
    """An evaluation, its figures held to what was signed.

    Parameters
    ----------
    entry : Entry
        Its entry of the ledger, signed by a trusted key.

    Raises
    ------
    OutOfReach
        The server does not answer.
    """
    try:
        now = request_state(entry.details["run_id"])
    except OutOfReach:
        raise
    except RegistryError as error:
        return Evaluation(None, (Finding(LINK, title(entry), MISMATCH, str(error)),))
    signed = replace(now, device=device_of(entry), metrics={}, params={}, tags={})
    try:
        outcome, findings = _outcome(entry, now)
    except OutOfReach:
        raise
    except RegistryError as error:
        return Evaluation(signed, (Finding(LINK, title(entry), MISMATCH, str(error)),))
    if outcome is None:
        reason = "its figures were signed by nobody: evaluate again"
        return Evaluation(signed, (Finding(LINK, title(entry), OUT, reason),))
    for kind, values in outcome.items():
        current = getattr(now, kind)
        findings += compare_values(
            LINK, f"{title(entry)}: {kind.removesuffix('s')}", values, current
        )
    if signed.device:
        findings.append(compare(LINK, f"{title(entry)}: device", signed.device, now.device))
    return Evaluation(replace(signed, **outcome), tuple(findings))


def _outcome(entry: Entry, now: RequestState) -> tuple[dict[str, Any] | None, list[Finding]]:
    """The outcome whose digest was signed, and whether MLflow names the same; None: none was."""
    if not device_of(entry):
        digest = entry.details.get(DETAIL)
        return (_fetch(entry, f"{EVALUATION_FOLDER}/{OUTCOME}", digest) if digest else None), []
    digest = entry.details["report"]
    claim, _, sha256 = now.params.get(REPORT_PARAM, "").partition(":")
    number = int(claim) if claim.isascii() and claim.isdecimal() and len(claim) < 9 else 1
    finding = compare(LINK, title(entry), digest, sha256)
    return _fetch(entry, f"{report_folder(number)}/{OUTCOME}", digest), [finding]


def _fetch(entry: Entry, file: str, digest: str) -> dict[str, dict[str, Any]]:
    """An outcome's figures, parameters and tags by kind; what is undefined is left out."""
    try:
        document = parse_text(read_run_file(entry.details["run_id"], file, digest, MOST_OUTCOME))
        rows = [
            {"key": k, "value": v} for k, v in part(document, "metrics").items() if v is not None
        ]
        params, tags = document.get("params", {}).items(), part(document, "tags").items()
    except (ValueError, AttributeError) as error:
        raise RegistryError(f"{file}: found {error}; expected figures and tags by name") from error
    return {
        "metrics": numbers({"metrics": rows}, "metrics"),
        "params": {key: text(value, f"parameter {key[:80]}") for key, value in params},
        "tags": {key: text(value, f"tag {key[:80]}") for key, value in tags},
    }


def newest_drift(model: str, version: int) -> tuple[str, int, str] | None:
    """The newest look for a version's drift that ended: its run, time in ms, and outcome."""
    experiment = find_experiment(f"{DRIFT}{model}")
    if experiment is None:
        return None
    fields: dict[str, Any] = {
        "experiment_ids": [experiment.id],
        "filter": f"tags.`{VERSION_TAG}` = '{version}' and attributes.status = 'FINISHED'",
        "order_by": ["attributes.start_time DESC"],
        "max_results": 1,
    }
    for run in call("POST", "runs/search", **fields).get("runs", ()):
        tags = {tag["key"]: tag["value"] for tag in run.get("data", {}).get("tags", ())}
        info = run["info"]
        return info["run_id"], int(info["start_time"]), tags.get(DRIFTED_TAG, "see its report")
    return None
