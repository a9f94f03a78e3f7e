"""What the commands answer with `--format json`: one kind a command, its fields held by a schema.

`docs/list_answers.py` writes the schemas down. A figure that is undefined is None. Times are
ISO 8601 in UTC. Names of figures are those of `tasks.pages.numbers`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Figures = dict[str, float | None]


# Reports


@dataclass(frozen=True)
class TextPart:
    """A heading, a paragraph, a caveat or a command of a report."""

    kind: Literal["heading", "words", "caveat", "code"]
    text: str


@dataclass(frozen=True)
class TilePart:
    """A number of a report's summary."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class SummaryPart:
    """The answer of a report in a sentence, with its numbers; its state is good, bad or plain."""

    kind: Literal["summary"]
    text: str
    state: str
    tiles: list[TilePart]


@dataclass(frozen=True)
class TablePart:
    """A table of a report."""

    kind: Literal["table"]
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class PicturePart:
    """A picture of a report, in words: `--out FILE.html` shows it."""

    kind: Literal["picture"]
    shows: str


@dataclass(frozen=True)
class OutlineLine:
    """A line of an outline, and how deep it hangs."""

    depth: int
    text: str


@dataclass(frozen=True)
class OutlinePart:
    """An outline of a report."""

    kind: Literal["outline"]
    lines: list[OutlineLine]


Part = TextPart | SummaryPart | TablePart | PicturePart | OutlinePart


@dataclass(frozen=True)
class Report:
    """`holter card`, `compare`: a report's title and its parts; where it was written, if it was."""

    title: str
    parts: list[Part]
    file: str | None = None


# Data sets


@dataclass(frozen=True)
class DataSet:
    """A data set that has a TOML."""

    name: str
    title: str
    version: str
    licence: str
    toml: str


@dataclass(frozen=True)
class DataSets:
    """`holter data list`: every data set that has a TOML."""

    data_sets: list[DataSet]


@dataclass(frozen=True)
class Remark:
    """What is told of a record or file: why it failed, or what it does not tell for certain."""

    name: str
    text: str


@dataclass(frozen=True)
class Download:
    """`holter data fetch`: how many files, of them kept from before, and those that failed."""

    data_set: str
    title: str
    licence: str
    citation: str
    folder: str
    files: int
    kept: int
    failed: list[Remark]


@dataclass(frozen=True)
class RecordState:
    """A record as `holter data check` finds it; see `storage.recordings.check.RecordCheck`."""

    record: str
    subject: str
    fs_hz: float
    hours: float
    recorded_hours: float
    uncovered_hours: float
    lead: str | None
    beats: int
    rhythm_hours: dict[str, float]
    label_source: str
    checksums: str
    problem: str | None
    warnings: list[str]


@dataclass(frozen=True)
class DataCheck:
    """`holter data check`: every record, and how many have a problem.

    `left_out` are those that the TOML excludes; `absent` tells of labels without a record.
    """

    data_set: str
    folder: str
    records: list[RecordState]
    problems: int
    checksums_fit: int
    left_out: list[Remark]
    absent: str


@dataclass(frozen=True)
class Proposal:
    """A part of a TOML as `holter data add` proposes it, and what in the folder tells it."""

    part: str
    value: str
    evidence: str


@dataclass(frozen=True)
class TomlChange:
    """An entry of the TOML that options changed: as proposed, and as it is."""

    entry: str
    proposal: str
    value: str


@dataclass(frozen=True)
class DataAddition:
    """`holter data add`: proposal, what options changed, check, files; None: not written."""

    data_set: str
    proposal: list[Proposal]
    notes: list[str]
    changes: list[TomlChange]
    check: DataCheck
    toml: str | None
    picture: str | None
    commands: list[str]


@dataclass(frozen=True)
class Simulation:
    """`holter data simulate`: the records' folder and the TOML."""

    folder: str
    toml: str
    records: int


@dataclass(frozen=True)
class Ingest:
    """`holter ingest`: the beat tables of a data set; `twice` are records under two names."""

    data_set: str
    title: str
    records: int
    hours: float
    beats: int
    kept: int
    failed: list[Remark]
    warnings: list[Remark]
    twice: dict[str, list[str]]
    manifest: str


# Training and evaluation


@dataclass(frozen=True)
class Training:
    """`holter train`: the version, its figures on the test side, and where to look at it."""

    model: str
    version: int
    run_id: str
    title: str
    caveat: str
    figures: Figures
    links: dict[str, str]
    commands: list[str]
    ingests: list[Ingest]


@dataclass(frozen=True)
class Retraining:
    """`holter retrain` and `holter run`: the training, and a device's figures."""

    training: Training
    device: str
    device_figures: Figures


@dataclass(frozen=True)
class Look:
    """`holter data watch`: one look, a line of JSON each."""

    ingests: list[Ingest]
    built: list[str]
    waiting: list[Remark]
    training: Training | None


@dataclass(frozen=True)
class Evaluation:
    """`holter evaluate`: figures by data set, the report, and where to look at it."""

    model: str
    run_id: str
    figures: dict[str, Figures]
    report: str
    links: dict[str, str]
    ingests: list[Ingest]


@dataclass(frozen=True)
class Reproduction:
    """The published method's experiment on one data set."""

    data_set: str
    report: str
    run_id: str
    run: str
    ingest: Ingest


@dataclass(frozen=True)
class Reproductions:
    """`holter reproduce`: one result for each data set."""

    reproductions: list[Reproduction]


# Lineage and decisions


@dataclass(frozen=True)
class LedgerEntry:
    """A signed entry of a model's ledger; see `storage.audit.ledger_entry.Entry`."""

    sequence: int
    time_utc: str
    who: str
    action: str
    model: str
    version: int | None
    reason: str
    details: dict[str, str]
    previous: str
    key: str
    signature: str


@dataclass(frozen=True)
class Lineage:
    """`holter lineage`: the sealed chain, the ledger's entries, the evaluations; what is wrong."""

    aliases: list[str]
    chain: dict[str, Any]
    chain_sha256: str
    seal_fault: str
    faults: list[str]
    ledger: list[LedgerEntry]
    evaluations: list[dict[str, Any]]


@dataclass(frozen=True)
class Sight:
    """A version that saw a record's subject; see `storage.audit.sights.Sight`."""

    model: str
    version: int
    dataset: str
    subject: str
    records: list[str]
    side: str
    simulated: bool
    aliases: list[str]
    in_mlflow: str
    run_id: str
    same_as: str


@dataclass(frozen=True)
class ParetoPoint:
    """A version's F1 and costs; `front` names the costs in which no other beats it."""

    name: str
    training: str
    f1: float | None
    bounds: list[float] | None
    costs: dict[str, float]
    front: list[str]


@dataclass(frozen=True)
class ParetoGroup:
    """Versions tested on the same beats."""

    about: str
    patients: int
    beats: int
    latency: str
    points: list[ParetoPoint]


@dataclass(frozen=True)
class Pareto:
    """`holter pareto`: versions in groups, and why each of the others is left out."""

    groups: list[ParetoGroup]
    left_out: dict[str, str]


@dataclass(frozen=True)
class Verdict:
    """A check of a policy: what was asked and found; passed, failed, missing or not asked."""

    title: str
    figure: str
    asked: str
    found: str
    state: str
    note: str


@dataclass(frozen=True)
class Promotion:
    """`holter promote`: the decision, and each check behind it."""

    version: str
    alias: str
    policy: str
    decision: str
    checks: list[Verdict]


@dataclass(frozen=True)
class Rollback:
    """`holter rollback`: the version that an alias was on, and the one that it is on."""

    model: str
    alias: str
    before: int
    after: int


@dataclass(frozen=True)
class Drift:
    """`holter drift`: whether a bound was passed, each check, and the report."""

    drifted: bool
    run_id: str
    checks: list[Verdict]
    report: Report
    ingests: list[Ingest]


@dataclass(frozen=True)
class Change:
    """What is not as it was at a training: as recorded, and as it is here."""

    name: str
    recorded: str
    here: str


@dataclass(frozen=True)
class Rebuild:
    """`holter rebuild`: bit-equal, equal in figures, or differs; files equal to the byte or not."""

    version: str
    outcome: str
    changes: list[Change]
    files: dict[str, bool]
    figures: dict[str, list[float]]


# Servers


@dataclass(frozen=True)
class RunState:
    """A flow run: when it began, how long it took, or has taken so far."""

    name: str
    state: str
    began: str
    seconds: float
    message: str


@dataclass(frozen=True)
class ModelState:
    """A registered model: its newest version, and the versions that its aliases are on."""

    name: str
    newest: int
    aliases: dict[str, int]


@dataclass(frozen=True)
class Status:
    """`holter status`: servers by variable, the worker, runs closed, last runs, models."""

    up: bool
    servers: dict[str, str]
    worker: str
    closed: list[Remark]
    runs: list[RunState]
    models: list[ModelState]


@dataclass(frozen=True)
class HealthCheck:
    """A check of `holter doctor`: what was found; what to do, where there is a problem."""

    name: str
    ok: bool
    state: str
    advice: str


@dataclass(frozen=True)
class Health:
    """`holter doctor`: each check, and how many have a problem."""

    checks: list[HealthCheck]
    problems: int


@dataclass(frozen=True)
class Variables:
    """`holter env`: variables that reach the servers; keys and passwords are among them."""

    variables: dict[str, str]


@dataclass(frozen=True)
class Notices:
    """`holter notify`: the notices that are on, by name; whether a test was sent."""

    notices: dict[str, str]
    test_sent: bool


# Devices


@dataclass(frozen=True)
class DeviceReports:
    """`holter edge request`: each device's figures of a version."""

    model: str
    reports: dict[str, Figures]


@dataclass(frozen=True)
class DeviceState:
    """A device: its group, its health, when it was seen, and what it told last."""

    name: str
    group: str
    health: str
    seen_ago_s: float | None
    kind: str
    model: str
    state: str


@dataclass(frozen=True)
class Devices:
    """`holter edge devices`: every device."""

    devices: list[DeviceState]


@dataclass(frozen=True)
class DeviceFigures:
    """A device's newest figures of a version."""

    device: str
    model: str
    figures: Figures


@dataclass(frozen=True)
class DeviceComparison:
    """`holter edge compare`: newest reports; `left_out` are those that cannot be used."""

    reports: list[DeviceFigures]
    left_out: list[str]


@dataclass(frozen=True)
class DeviceRelease:
    """`holter edge release`: the alias that was set, after whose report, and where it is."""

    model: str
    group: str
    alias: str
    canary: str
    devices: list[str]


@dataclass(frozen=True)
class Deed:
    """What a command did that has no figures: `holter edge group`, `account`, `maker`, `sign`."""

    done: str
    of: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Key:
    """`holter edge key`: the public key that a device enrols."""

    public_key: str


@dataclass(frozen=True)
class DeviceRequest:
    """An evaluation asked of a device, and what came of it."""

    request: str
    model: str
    version: int
    status: str
    agent: str
    reason: str


@dataclass(frozen=True)
class DeviceRequests:
    """`holter edge status`: the evaluations asked of a device, newest first."""

    device: str
    requests: list[DeviceRequest]
