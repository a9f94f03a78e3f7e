"""What the commands of data sets answer."""

from __future__ import annotations

from dataclasses import dataclass


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
    kept_count: int
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
    """`holter ingest`: the beat tables of a data set; `twice` are records under two names.

    `review` says how far people's decisions shape the labels; "" where they do not.
    `withdrawn` are records that were left out as their use was withdrawn.
    """

    data_set: str
    title: str
    records: int
    hours: float
    beats: int
    kept_count: int
    failed: list[Remark]
    warnings: list[Remark]
    twice: dict[str, list[str]]
    review: str
    withdrawn: list[str]
    manifest: str


@dataclass(frozen=True)
class Reviewer:
    """Who decided about passages of a data set: how often, what, and which versions were seen."""

    name: str
    decisions: int
    records: int
    verdicts: dict[str, int]
    versions: list[str]
    last_utc: str


@dataclass(frozen=True)
class Dispute:
    """A passage in samples, and what two reviewers say of it; "" for "cannot tell"."""

    record: str
    start: int
    end: int
    rhythms: list[str]


@dataclass(frozen=True)
class ReviewerPair:
    """How two reviewers agree, by `tasks.review.agreement`."""

    reviewers: list[str]
    episodes: int
    samples: int
    kappa_episodes: float | None
    kappa_time: float | None
    disputes: list[Dispute]


@dataclass(frozen=True)
class LabelDecisions:
    """`holter labels`: decisions, what holds by the rule, agreement, and what the ledger signs.

    `signed_count` is None where the ledger cannot be asked, `note` says why. `torn` are files of
    lines that a killed writer left, `files` those that were written.
    """

    data_set: str
    is_layer: bool
    rule: str
    log: str
    decisions: int
    records: int
    passages: int
    cannot_tell: int
    disputed: int
    reviewers: list[Reviewer]
    agreements: list[ReviewerPair]
    signed_count: int | None
    note: str
    faults: list[str]
    torn: list[str]
    files: list[str]
