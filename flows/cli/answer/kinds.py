"""What the commands answer with `--format json`: one kind a command, its fields held by a schema.

A figure that is undefined is None. Times are ISO 8601 in UTC. `flows.cli.answer.schema` names the
kind of each command.
"""

from __future__ import annotations

from flows.cli.answer.data_kinds import (
    DataAddition as DataAddition,
)
from flows.cli.answer.data_kinds import (
    DataCheck as DataCheck,
)
from flows.cli.answer.data_kinds import (
    DataSet as DataSet,
)
from flows.cli.answer.data_kinds import (
    DataSets as DataSets,
)
from flows.cli.answer.data_kinds import (
    Dispute as Dispute,
)
from flows.cli.answer.data_kinds import (
    Download as Download,
)
from flows.cli.answer.data_kinds import (
    Ingest as Ingest,
)
from flows.cli.answer.data_kinds import (
    Labels as Labels,
)
from flows.cli.answer.data_kinds import (
    Proposal as Proposal,
)
from flows.cli.answer.data_kinds import (
    RecordState as RecordState,
)
from flows.cli.answer.data_kinds import (
    Remark as Remark,
)
from flows.cli.answer.data_kinds import (
    Reviewer as Reviewer,
)
from flows.cli.answer.data_kinds import (
    ReviewerPair as ReviewerPair,
)
from flows.cli.answer.data_kinds import (
    Simulation as Simulation,
)
from flows.cli.answer.data_kinds import (
    TomlChange as TomlChange,
)
from flows.cli.answer.decision_kinds import (
    Change as Change,
)
from flows.cli.answer.decision_kinds import (
    ChangeControl as ChangeControl,
)
from flows.cli.answer.decision_kinds import (
    Drift as Drift,
)
from flows.cli.answer.decision_kinds import (
    Lineage as Lineage,
)
from flows.cli.answer.decision_kinds import (
    Pareto as Pareto,
)
from flows.cli.answer.decision_kinds import (
    ParetoGroup as ParetoGroup,
)
from flows.cli.answer.decision_kinds import (
    ParetoPoint as ParetoPoint,
)
from flows.cli.answer.decision_kinds import (
    Promotion as Promotion,
)
from flows.cli.answer.decision_kinds import (
    Rebuild as Rebuild,
)
from flows.cli.answer.decision_kinds import (
    RecordDecision as RecordDecision,
)
from flows.cli.answer.decision_kinds import (
    RecordLineage as RecordLineage,
)
from flows.cli.answer.decision_kinds import (
    Rollback as Rollback,
)
from flows.cli.answer.decision_kinds import (
    Verdict as Verdict,
)
from flows.cli.answer.device_kinds import (
    Bench as Bench,
)
from flows.cli.answer.device_kinds import (
    Deed as Deed,
)
from flows.cli.answer.device_kinds import (
    DeviceComparison as DeviceComparison,
)
from flows.cli.answer.device_kinds import (
    DeviceContents as DeviceContents,
)
from flows.cli.answer.device_kinds import (
    DeviceFacts as DeviceFacts,
)
from flows.cli.answer.device_kinds import (
    DeviceFigures as DeviceFigures,
)
from flows.cli.answer.device_kinds import (
    DeviceRelease as DeviceRelease,
)
from flows.cli.answer.device_kinds import (
    DeviceReports as DeviceReports,
)
from flows.cli.answer.device_kinds import (
    DeviceRequest as DeviceRequest,
)
from flows.cli.answer.device_kinds import (
    DeviceRequests as DeviceRequests,
)
from flows.cli.answer.device_kinds import (
    Devices as Devices,
)
from flows.cli.answer.device_kinds import (
    DeviceState as DeviceState,
)
from flows.cli.answer.device_kinds import (
    Export as Export,
)
from flows.cli.answer.device_kinds import (
    Key as Key,
)
from flows.cli.answer.device_kinds import (
    RuntimeCosts as RuntimeCosts,
)
from flows.cli.answer.exchange_kinds import (
    SignedRelease as SignedRelease,
)
from flows.cli.answer.exchange_kinds import (
    TimeStamp as TimeStamp,
)
from flows.cli.answer.report_kinds import (
    OutlineLine as OutlineLine,
)
from flows.cli.answer.report_kinds import (
    OutlinePart as OutlinePart,
)
from flows.cli.answer.report_kinds import (
    Part as Part,
)
from flows.cli.answer.report_kinds import (
    PicturePart as PicturePart,
)
from flows.cli.answer.report_kinds import (
    Report as Report,
)
from flows.cli.answer.report_kinds import (
    SummaryPart as SummaryPart,
)
from flows.cli.answer.report_kinds import (
    TablePart as TablePart,
)
from flows.cli.answer.report_kinds import (
    TextPart as TextPart,
)
from flows.cli.answer.report_kinds import (
    TilePart as TilePart,
)
from flows.cli.answer.server_kinds import (
    Down as Down,
)
from flows.cli.answer.server_kinds import (
    Health as Health,
)
from flows.cli.answer.server_kinds import (
    HealthCheck as HealthCheck,
)
from flows.cli.answer.server_kinds import (
    ModelState as ModelState,
)
from flows.cli.answer.server_kinds import (
    Notices as Notices,
)
from flows.cli.answer.server_kinds import (
    Review as Review,
)
from flows.cli.answer.server_kinds import (
    RunState as RunState,
)
from flows.cli.answer.server_kinds import (
    Status as Status,
)
from flows.cli.answer.server_kinds import (
    Up as Up,
)
from flows.cli.answer.server_kinds import (
    Variables as Variables,
)
from flows.cli.answer.training_kinds import (
    CrossValidation as CrossValidation,
)
from flows.cli.answer.training_kinds import (
    Ec57 as Ec57,
)
from flows.cli.answer.training_kinds import (
    Evaluation as Evaluation,
)
from flows.cli.answer.training_kinds import (
    Figures as Figures,
)
from flows.cli.answer.training_kinds import (
    FoldState as FoldState,
)
from flows.cli.answer.training_kinds import (
    Look as Look,
)
from flows.cli.answer.training_kinds import (
    RecordLeftOut as RecordLeftOut,
)
from flows.cli.answer.training_kinds import (
    Reproduction as Reproduction,
)
from flows.cli.answer.training_kinds import (
    Reproductions as Reproductions,
)
from flows.cli.answer.training_kinds import (
    Retraining as Retraining,
)
from flows.cli.answer.training_kinds import (
    Training as Training,
)
from flows.cli.answer.upkeep_kinds import (
    CleanUp as CleanUp,
)
from flows.cli.answer.upkeep_kinds import (
    DataRemoval as DataRemoval,
)
from flows.cli.answer.upkeep_kinds import (
    KeptRun as KeptRun,
)
from flows.cli.answer.upkeep_kinds import (
    UpkeepItem as UpkeepItem,
)
from flows.cli.answer.upkeep_kinds import (
    UpkeepRun as UpkeepRun,
)
