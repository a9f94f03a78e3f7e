"""The agent's cycle: find a request, claim it, check every digest, run it, report it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent import outbox
from edge_agent.board.facts import facts
from edge_agent.choice import MEASURED, choose, engines_of
from edge_agent.measure import measure
from edge_agent.outbox import Job, fail, finish, finite, forget_tries, new_job, try_again
from edge_agent.presence import Presence, agent_id, lock_home, present
from edge_agent.releases import fetch_release
from edge_agent.slots import install, refuse_older, trusted_keys
from storage.errors import DeviceError, DigestMismatch, HolterError, OutOfReach, RegistryError
from storage.files import sha256_file, write_json
from storage.logs import bound
from storage.registry import client, evaluations
from storage.registry.model_files import LITERT
from storage.registry.tags import (
    CHOICE_TAG,
    DEVICE_KIND_TAG,
    INSTALL_TAG,
    MODEL_SHA256_TAG,
    ROLL_BACK_TAG,
    RUNTIME_TAG,
    TESTSET_PATH_TAG,
    TESTSET_RUN_TAG,
    TESTSET_SHA256_TAG,
    THRESHOLD_TAG,
)
from storage.tables.testset import TestSet, read_testset
from tasks.runtimes.runtimes import open_runtime
from tasks.scores.metrics import beat_metrics

POLL_S = 2.0
#: What a request's tags name of its test set.
TESTSET = (TESTSET_RUN_TAG, TESTSET_PATH_TAG, TESTSET_SHA256_TAG)
#: So many complaints about a server's runs are remembered, not to be made twice.
MOST_COMPLAINTS = 1_000


@dataclass(frozen=True)
class Agent:
    """A device's name, kind and state folder; its runtime (`choice.choose`), if not a release's;
    seconds between two looks for requests."""

    device: str
    kind: dict[str, Any]
    home: Path
    runtime: str | None = None
    poll_s: float = POLL_S


def once(agent: Agent, say: Callable[[str], None]) -> int:
    """Send what waits, work through the requests that wait, oldest first; gives how many failed.

    Raises
    ------
    DeviceError
        Another agent works under this device's name or in this folder, or the disk is full.
    OutOfReach
        The server is; finished reports stay in the outbox.
    """
    with lock_home(agent.home), present(_presence(agent), say) as presence:
        return cycle(agent, presence, say)


def forever(agent: Agent, say: Callable[[str], None]) -> None:
    """Ask for requests again and again; a server out of reach, or a full disk, is waited for."""
    complaint = ""
    with lock_home(agent.home):
        while True:
            try:
                with present(_presence(agent), say) as presence:
                    complaints: set[str] = set()
                    while True:
                        cycle(agent, presence, say, complaints)
                        complaint = ""
                        time.sleep(agent.poll_s)
            except (RegistryError, OSError) as error:  # noqa: PERF203 - one pass is seconds long
                if str(error) != complaint:
                    say(f"waiting: {error}")
                complaint = str(error)
                time.sleep(agent.poll_s)


def _presence(agent: Agent) -> Presence:
    return Presence(agent.device, agent_id(agent.home), {"kind": agent.kind["name"]})


def cycle(
    agent: Agent,
    presence: Presence,
    say: Callable[[str], None],
    complaints: set[str] | None = None,
) -> int:
    """One pass over outbox and requests; gives how many evaluations failed or were skipped.

    A run that cannot be read, or of which the server answers what cannot be, is said and skipped;
    `complaints` holds what was said of such runs, which is not said again at each pass.
    """
    complaints = set() if complaints is None else complaints

    def complain(words: str) -> None:
        if words not in complaints:
            say(words)
        if len(complaints) < MOST_COMPLAINTS:
            complaints.add(words)

    outbox.send(agent.home, say, complain)
    failed = 0
    for request in reversed(evaluations.device_requests(agent.device, *evaluations.WAITING)):
        presence.check()
        if request.request_id in outbox.waiting(agent.home):
            continue
        try:
            failed += not _claim_and_serve(agent, request, presence, say)
        except OutOfReach:
            raise
        except RegistryError as error:
            complain(f"run {request.request_id or 'of no id'}: skipped: {error}")
            failed += 1
    return failed


def _claim_and_serve(
    agent: Agent,
    request: evaluations.RequestState,
    presence: Presence,
    say: Callable[[str], None],
) -> bool:
    """Claim a request and serve it; False where its evaluation failed."""
    if request.fault:
        raise RegistryError(request.fault)
    number = evaluations.claim(request, presence.agent_id)
    if number is None:
        return True
    tags = {DEVICE_KIND_TAG: str(agent.kind["name"])}
    job = new_job(agent.home, request, number, tags)
    with bound(request=job.request_id, model=job.reference):
        say(f"request {job.request_id}: {request.model} version {request.version}")
        presence.beat(state=f"evaluates {job.reference}")
        job = serve(agent, job, say)
    presence.beat(state="idle", model=job.reference)
    return job.is_good


def serve(agent: Agent, job: Job, say: Callable[[str], None]) -> Job:
    """Evaluate what was claimed and report it; the job as it ended, FINISHED or FAILED."""
    outbox.make_workplace(job)
    try:
        job = try_again(job)
        job = evaluate(agent, job, say)
    except OutOfReach:
        forget_tries(job)
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in client.DISK_ERRORS:
            forget_tries(job)
            raise
        reason = (
            str(error) if isinstance(error, HolterError) else f"{type(error).__name__}: {error}"
        )
        job = fail(job, reason)
        say(f"request {job.request_id}: failed: {reason}")
    outbox.put(job)
    outbox.remove(agent.home, job.folder)
    forget_tries(job)
    outbox.send(agent.home, say)
    return job


def evaluate(agent: Agent, job: Job, say: Callable[[str], None]) -> Job:
    """Fetch, check and run what a job's request names; leaves the report's files in its folder."""
    request, tags = job.request, job.request.tags
    back = (tags.get(ROLL_BACK_TAG, ""), agent.device)
    if tags.get(INSTALL_TAG) == "true":
        refuse_older(agent.home, job.reference, *back)
    threshold = threshold_of(tags)
    run, file, sha256 = (tags.get(name, "") for name in TESTSET)
    version, keys = (request.model, request.version), trusted_keys(agent.home)
    named = None if agent.runtime == MEASURED else agent.runtime
    release, manifest = fetch_release(
        *version, job.folder / "model", keys, named, every_file=agent.runtime == MEASURED
    )
    refuse_other_model(release, tags.get(MODEL_SHA256_TAG, ""))
    choice = choose(agent.home, release, agent.kind, agent.runtime, say)
    engines = engines_of(agent.home, choice.depends_on)
    network = partial(open_runtime, release, manifest, choice.runtime, choice.threads, engines)
    testset = read_testset(client.fetch_run_file(run, file, sha256, job.folder / "testset"))
    measured = measure(network, testset, agent.kind)
    scores = beat_metrics(*testset.select_counted(measured.probability), threshold)
    metrics = {**scores, **measured.costs}
    write_json(
        job.report / "report.json",
        {
            "request": job.request_id,
            "device": agent.device,
            "model": {"name": request.model, "version": request.version},
            "digests": {k: v for k, v in tags.items() if k.endswith("_sha256")},
            "runtime": choice.export,
            "choice": asdict(choice),
            "threshold": threshold,
            "metrics": finite(metrics),
            "per_record": per_record(testset, measured.probability, threshold),
            "throttling": measured.throttling.answer(),
            "facts": facts(agent.kind),
        },
    )
    np.save(job.report / "probability.npy", measured.probability, allow_pickle=False)
    if tags.get(INSTALL_TAG) == "true":
        install(agent.home, release, job.reference, *back)
    return finish(job, metrics, {RUNTIME_TAG: choice.export, CHOICE_TAG: choice.words})


def refuse_other_model(release: Path, sha256: str) -> None:
    """Raise DigestMismatch where a release's default network is not the one of a digest."""
    digest = sha256_file(release / LITERT)
    if sha256 != digest:
        raise DigestMismatch(f"{LITERT}: signed with SHA-256 {digest}; the request says {sha256!a}")


def threshold_of(tags: Mapping[str, str]) -> float:
    """The threshold that a request names."""
    text = tags.get(THRESHOLD_TAG, "")
    try:
        threshold = float(text)
    except ValueError:
        threshold = float("nan")
    if not 0 <= threshold <= 1:
        raise DeviceError(f"request: found threshold {text!r}; expected a number in 0..1")
    return threshold


def per_record(
    testset: TestSet, probability: np.ndarray[Any, np.dtype[np.float32]], threshold: float
) -> dict[str, dict[str, float | None]]:
    """Metrics of every record of the test set."""
    out = {}
    for name in np.unique(testset.record):
        mask = testset.record == name
        scores = beat_metrics(*testset.select_counted(probability, mask), threshold)
        out[str(name)] = finite(scores)
    return out
