"""What `holter analyse` and `holter-edge analyse` answer, for a program: one kind an answer.

Shares are of 1, times in seconds of the record unless their names say hours; what is not known is
None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.scores.drift import Profile


@dataclass(frozen=True)
class Span:
    """A part of a record."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Episode:
    """An episode of AF; it cannot be told where less than half of its beats are told."""

    start_s: float
    end_s: float
    told: float
    state: Literal["AF", "cannot tell"]


@dataclass(frozen=True)
class Decider:
    """The network that decided: how, its file's digest, where it is from, and why it was chosen.

    Between `untold_from` and `untold_to` P(AF) tells nothing; they are equal where it always does.
    `af_share` is how common AF was taken to be; None where the release is not calibrated.
    """

    name: str
    registered: str | None
    origin: str
    reason: str
    threshold: float
    smoothing_change: float
    untold_from: float
    untold_to: float
    af_share: float | None
    af_share_reason: str
    decision: list[str]
    runtime: str
    sha256: str


@dataclass(frozen=True)
class Reliability:
    """A network's figures on a data set, and its PPV at the burden found.

    `interval` has the 95 % interval of each figure; `false_alarm_share` is the burden that false
    alarms alone make where there is no AF.
    """

    dataset: str | None
    title: str | None
    side: str | None
    level: str | None
    subjects: int | None
    beats: int | None
    prevalence: float | None
    interval: dict[str, list[float] | None] | None
    sensitivity: float | None
    specificity: float | None
    ppv: float | None
    ppv_at_burden: float | None
    reason: str
    false_alarm_share: float | None


@dataclass(frozen=True)
class RecordAnswer:
    """A recording's answer: the content of its JSON file, and the files that were written.

    `af_burden` is None, and `cannot_tell` says why, where nothing can be told of the rhythm. It is
    `af_burden_low` if nothing of what cannot be told is AF, and `af_burden_high` if all of it is.
    """

    record: str
    cannot_tell: str | None
    cannot_tell_s: float
    cannot_tell_stretches: list[Span]
    af_burden: float | None
    af_burden_low: float | None
    af_burden_high: float | None
    af_s: float
    longest_af_s: float
    episodes_of_30_s: int
    episodes: list[Episode]
    hours: float
    analysable_hours: float
    unanalysable_share: float
    analysable: list[Span]
    start: str | None
    lead: str | None
    fs_hz: float
    beats: int
    flagged_beats: int
    mean_heart_rate_bpm: float | None
    caveats: list[str]
    warnings: list[str]
    model: Decider
    reliability: list[Reliability]
    profile: Profile
    files_sha256: dict[str, str]
    preprocessing_sha256: str
    beat_code_sha256: str
    files: list[str]


@dataclass(frozen=True)
class NoRhythm:
    """A recording that was read and of whose rhythm nothing can be told; it has no files."""

    record: str
    cannot_tell: str
    af_burden: None
    files: list[str]


@dataclass(frozen=True)
class TableRow:
    """A recording of a folder; `note` says what is wrong where the state is not `analysed`."""

    record: str
    file: str
    start: str | None
    hours: float | None
    analysable_hours: float | None
    af_burden: float | None
    af_burden_low: float | None
    af_burden_high: float | None
    cannot_tell_s: float | None
    episodes_of_30_s: int | None
    longest_af_s: float | None
    network: str | None
    registered: str | None
    state: Literal["analysed", "cannot tell", "failed"]
    note: str


@dataclass(frozen=True)
class FolderAnswer:
    """A folder's answer: a row a recording, how many have no answer, and the table's file."""

    records: list[TableRow]
    unanswered: int
    table: str
