"""What lineage, checks and decisions answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.cli.answer.data_kinds import Ingest
from flows.cli.answer.report_kinds import Report
from flows.reports.pccp import Evidence
from storage.audit.findings import Sight
from storage.audit.ledger_entry import Entry
from storage.labels.decisions import Decision
from tasks.scores.promotion import Verdict as Verdict


@dataclass(frozen=True)
class Lineage:
    """`holter lineage`: the sealed chain, the ledger's entries, the evaluations; what is wrong."""

    aliases: list[str]
    chain: dict[str, Any]
    chain_sha256: str
    seal_fault: str
    faults: list[str]
    ledger: list[Entry]
    evaluations: list[dict[str, Any]]


@dataclass(frozen=True)
class RecordDecision(Decision):
    """A decision about a passage, and the entry of its data set's ledger that signs it."""

    entry: int | None = None


@dataclass(frozen=True)
class RecordLineage:
    """`holter lineage --record`: who ever saw it, and what people decided about its passages."""

    sights: list[Sight]
    decisions: list[RecordDecision]


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
    local: str


@dataclass(frozen=True)
class Rebuild:
    """`holter rebuild`: bit-equal, equal in figures, or differs; files equal to the byte or not."""

    version: str
    outcome: str
    changes: list[Change]
    files: dict[str, bool]
    figures: dict[str, list[float]]


@dataclass(frozen=True)
class ChangeControl:
    """`holter pccp`: a plan by its digest, what each version shows of it, and the document."""

    model: str
    plan: str
    adopted: bool
    evidence: list[Evidence]
    report: Report
