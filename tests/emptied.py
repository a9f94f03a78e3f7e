"""Servers that are started once and emptied for each module, on databases made once a run.

A first start makes the tables of a database, which costs seconds; a start costs seconds again.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.services.servers import LOOPBACK, MLFLOW, PREFECT, Kind, _answering, _start

#: The database of each server, in its state folder.
DATABASES: Mapping[Kind, str] = {PREFECT: "prefect/prefect.db", MLFLOW: "mlflow/mlflow.db"}


def copy_database(source: Path, target: Path) -> None:
    """Make a database what another one is; a server may use either meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    target.touch(0o600)
    with closing(sqlite3.connect(source)) as kept, closing(sqlite3.connect(target)) as live:
        live.execute("PRAGMA busy_timeout = 60000")
        kept.backup(live)


@dataclass(frozen=True)
class Databases:
    """Empty databases with every table, kept in a folder that the run's processes share."""

    folder: Path

    def lay(self, home: Path, *kinds: Kind) -> None:
        """Put them into a state folder, as far as they are known."""
        for kind in kinds:
            if (kept := self.folder / DATABASES[kind]).exists():
                copy_database(kept, home / DATABASES[kind])

    def keep(self, home: Path, kind: Kind) -> None:
        """Keep that of a server that has just started, where none is kept."""
        kept = self.folder / DATABASES[kind]
        if not kept.exists():
            fresh = home / f"{kind.name}.db"
            copy_database(home / DATABASES[kind], fresh)
            kept.parent.mkdir(parents=True, exist_ok=True)
            fresh.rename(kept)

    @contextmanager
    def started(self, home: Path, *kinds: Kind) -> Iterator[list[Emptied]]:
        """Servers of a state folder without anything in them, ended with the block."""
        self.lay(home, *kinds)
        with ExitStack() as stack:
            starting = [_start(stack, kind, home, 0) for kind in kinds]
            servers = [_answering(stack, server, home) for server in starting]
            for kind in kinds:
                self.keep(home, kind)
            yield [
                Emptied(one.kind, home, f"http://{LOOPBACK}:{one.port}", one.process.pid, self)
                for one in servers
            ]


@dataclass(frozen=True)
class Emptied:
    """A server that runs, its state folder and its address."""

    kind: Kind
    home: Path
    address: str
    pid: int
    databases: Databases

    def empty(self) -> None:
        """Have it hold what it held at its first start: nothing but its tables."""
        copy_database(
            self.databases.folder / DATABASES[self.kind], self.home / DATABASES[self.kind]
        )
        shutil.rmtree(self.home / "mlflow" / "artifacts", ignore_errors=True)
