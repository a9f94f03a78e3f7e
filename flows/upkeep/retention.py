"""Retention: what nobody needs goes, by hand or by schedule, and what an audit needs stays.

The flow `retention` is what a schedule runs. It is no flow that keeps others from cleaning up, and
removes nothing while any other flow runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.parameters import form_field
from flows.settings import bound_of
from flows.upkeep import cleaning, history, mlflow_runs
from flows.upkeep.cleaning import USUAL_DAYS, Item
from flows.upkeep.history import Run
from flows.upkeep.mlflow_runs import MlflowRun
from flows.upkeep.needs import Needs, read_needs
from storage.bounds import BOUNDS

Tell = Callable[[str], None]
KeepDays = Annotated[
    float,
    bound_of("keep_days"),
    form_field(
        "What has changed, or ended, within so many days stays.", **BOUNDS["keep_days"].schema
    ),
]


@dataclass(frozen=True)
class Holdings:
    """What lies in the state folder, in Prefect and in MLflow, each thing with why it stays.

    Attributes
    ----------
    needs : Needs
        What versions, chains and ledgers name.
    items : tuple of Item
        Things of the state folder.
    runs : tuple of Run
        Prefect's runs that ended long ago.
    mlflow : tuple of MlflowRun
        MLflow's, where they were asked for.
    prefect_bytes : int or None
        Of the rows of those of Prefect's that go; None where its database is not of this machine.
    """

    needs: Needs
    items: tuple[Item, ...]
    runs: tuple[Run, ...]
    mlflow: tuple[MlflowRun, ...]
    prefect_bytes: int | None

    @property
    def going(self) -> bool:
        """Whether there is anything that goes."""
        reasons = (
            *(item.reason for item in self.items),
            *(run.reason for run in self.runs),
            *(run.reason for run in self.mlflow),
        )
        return not all(reasons)


def look(keep_days: float, *, mlflow: bool) -> Holdings:
    """Everything that may go or stays.

    Raises
    ------
    RegistryError
        MLflow is out of reach.
    """
    needs = read_needs()
    view = cleaning.view_of(needs, keep_days)
    runs = history.look(needs, view.since_s)
    database = history.database()
    ended = [run.run_id for run in runs if not run.reason]
    return Holdings(
        needs=needs,
        items=tuple(cleaning.look(view)),
        runs=tuple(runs),
        mlflow=tuple(mlflow_runs.look(needs, view.since_s)) if mlflow else (),
        prefect_bytes=history.held_bytes(database, ended) if database else None,
    )


def remove(holdings: Holdings, tell: Tell = lambda _: None) -> int:
    """Remove what goes; the bytes by which Prefect's database is smaller then.

    Raises
    ------
    BackupError
        A flow has begun since.
    """
    for item in holdings.items:
        if not item.reason:
            cleaning.remove(item)
    mlflow_runs.remove([run for run in holdings.mlflow if not run.reason])
    ended = [run for run in holdings.runs if not run.reason]
    history.remove(ended, lambda n: tell(f"Removing runs: {n} of {len(ended)}"))
    database = history.database()
    return history.shrink(database) if database and ended else 0


@flow(name="retention")
def retention(
    keep_days: KeepDays = USUAL_DAYS,
    mlflow: Annotated[bool, form_field("MLflow's runs that nobody names go too.")] = False,
    dry_run: Annotated[bool, form_field("Tell what would go, and remove nothing.")] = False,
) -> dict[str, int]:
    """Remove what nobody needs, as `holter gc` does; Prefect keeps a table of what went and stayed.

    Parameters
    ----------
    keep_days : float
        What has changed, or ended, within so many days stays.
    mlflow : bool
        Mark MLflow's runs that nobody names as deleted too.
    dry_run : bool
        Tell alone.

    Returns
    -------
    dict of str to int
        How many of each kind went.
    """
    holdings = look(keep_days, mlflow=mlflow)
    if not dry_run:
        remove(holdings)
    rows = [
        *((item.kind, item.reason) for item in holdings.items),
        *(("run of Prefect", run.reason) for run in holdings.runs),
        *(("run of MLflow", run.reason) for run in holdings.mlflow),
    ]
    verb = "would go" if dry_run else "went"
    create_table_artifact(
        key="retention",
        table=[
            {"what": kind, "why": reason or verb, "count": count}
            for (kind, reason), count in sorted(Counter(rows).items())
        ],
        description=f"What {verb}, and what stays and why, after {keep_days:g} days",
    )
    return dict(Counter(kind for kind, reason in rows if not reason))
