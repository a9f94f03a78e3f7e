"""Which runtime a device runs a release by: the cheapest that it measured, within the policy.

The choice is kept under a digest of all that it depends on, and made anew where any of it changes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_agent.board.facts import package_versions
from edge_agent.board.jetson import board_facts
from edge_agent.board.sensors import sensors
from edge_agent.runtimes import CANDIDATES, POLICY, Costs, Table, cores, label, measure_runtimes
from storage.errors import PlaceError
from storage.files import read_state, sha256_file, sha256_json, write_json
from storage.registry.model_files import MANIFEST
from storage.registry.signing import read_unsigned
from tasks.networks.registry import find
from tasks.runtimes.runtimes import RUNTIMES, file_of, usual
from tasks.scores.gate import MOST_DIFFERENCE

#: What an agent runs that measures; and why it runs what the server scored.
MEASURED, OWN = "measured", "the release's own"
#: Another than the release's own must need so much less, or it is not worth the change.
LEAST_GAIN = 0.05
#: Choices that a device keeps.
MOST_CHOICES = 32


@dataclass(frozen=True)
class Choice:
    """What a device runs a release by, and the table that it was chosen from.

    Attributes
    ----------
    runtime : str
        By its name in the table of runtimes.
    threads : int
        Threads of the processor.
    by : str
        The figure that it needs least of, or why the release's own is run.
    table : dict
        Costs of each runtime that was measured, or the reason why it was not.
    depends_on : str
        Digest of what it was chosen for (`dependencies`).
    """

    runtime: str
    threads: int
    by: str
    table: Table = field(default_factory=dict)
    depends_on: str = ""

    @property
    def export(self) -> str:
        """The release's export that it runs, by which its parity with Keras is known."""
        return RUNTIMES[self.runtime].export

    @property
    def words(self) -> str:
        """The same in a few words."""
        return f"{label(self.runtime, self.threads)}, {self.by}"


def dependencies(release: Path, kind: Mapping[str, Any]) -> str:
    """Digest of what a choice depends on: release, board, power mode, clocks, versions."""
    now = sensors(kind)
    members = {
        "release": sha256_file(release / MANIFEST),
        "kind": kind["name"],
        "board": board_facts(kind["roots"]),
        "settings": [now[name] for name in ("power_mode", "clocks_locked", "fan_mode")],
        "packages": package_versions(),
        "cores": cores(),
    }
    return sha256_json(members)


def choose(
    home: Path,
    release: Path,
    kind: Mapping[str, Any],
    runtime: str | None,
    say: Callable[[str], None],
) -> Choice:
    """What this device runs a checked release by.

    Parameters
    ----------
    home : Path
        The agent's state folder, where choices are kept.
    release : Path
        The release's folder.
    kind : mapping
        The device's kind.
    runtime : str, optional
        A runtime's name; `MEASURED` for what was chosen before, or is measured now; None for the
        release's own.
    say : callable
        Takes a line for the log.
    """
    manifest = read_unsigned(release)
    if not runtime:
        return Choice(usual(manifest), 1, OWN)
    digest = dependencies(release, kind)
    if runtime != MEASURED:
        return Choice(runtime, 1, "named", {}, digest)
    path = home / "choices" / f"{digest}.json"
    if kept := _kept(path, release, manifest):
        return kept
    say("the runtimes of this release are measured on this device")
    table = measure_runtimes(release, list(CANDIDATES), cores(), kind, engines_of(home, digest))
    choice = replace(pick(table, manifest), depends_on=digest)
    say(f"from now on this release runs in {choice.words}")
    write_json(path, asdict(choice))
    _forget_oldest(path.parent)
    return choice


def engines_of(home: Path, digest: str) -> Path:
    """The folder where TensorRT keeps the engines of a choice, if it is chosen."""
    return home / "engines" / digest[:32]


def _forget_oldest(choices: Path) -> None:
    """Remove all but the newest choices, and their engines."""
    files = sorted(choices.glob("*.json"), key=lambda file: file.stat().st_mtime)
    for file in files[:-MOST_CHOICES]:
        file.unlink(missing_ok=True)
        shutil.rmtree(choices.parent / "engines" / file.stem[:32], ignore_errors=True)


def _kept(path: Path, release: Path, manifest: Mapping[str, Any]) -> Choice | None:
    """The choice in a file; None where there is none, or one that this release cannot run."""
    try:
        members = read_state(path, dict)
        choice = Choice(**members)
        file = file_of(manifest, choice.runtime)
        good = type(choice.threads) is int and 1 <= choice.threads <= cores()
        good = good and isinstance(choice.by, str) and isinstance(choice.table, dict)
    except (OSError, PlaceError, TypeError, ValueError):
        return None
    return choice if good and file and (release / file).is_file() else None


def pick(table: Table, manifest: Mapping[str, Any]) -> Choice:
    """The row that needs least energy, or where that was not measured the least time of a window.

    Another export than the release's own is left out where it is beyond the champion's policy, and
    another row than its own where the gain is below `LEAST_GAIN`.
    """
    own = usual(manifest)
    rows: dict[str, Costs] = {
        name: costs for name, costs in table.items() if isinstance(costs, dict)
    }
    allowed = {name: row for name, row in rows.items() if not beyond(manifest, row["runtime"])}
    if not allowed:
        return Choice(own, 1, f"{OWN}: none could be measured", table)
    energy = all(row.get("energy_mj_per_row", 0) > 0 for row in allowed.values())
    figure = "energy_mj_per_row" if energy else "latency_p50_ms"
    best = min(allowed, key=lambda name: float(allowed[name][figure]))
    mine = allowed.get(own)
    if mine and allowed[best][figure] > (1 - LEAST_GAIN) * mine[figure]:
        best = own
    words = "by energy" if energy else "by latency"
    return Choice(allowed[best]["runtime"], allowed[best]["threads"], words, table)


def beyond(manifest: Mapping[str, Any], runtime: str) -> str:
    """Why a release's policy keeps a runtime from being chosen; empty where it does not.

    The signed manifest has what each export changes beside Keras. What devices run may not be
    beyond the champion's policy, nor change F1 by more than the gate allows a device to differ.
    """
    export, own = find(RUNTIMES, "runtime", runtime).export, usual(manifest)
    entries = manifest.get("runtimes", {})
    parity = entries.get(export, {})
    over = [
        f"{name} {float(parity[name]):.2g} (at most {most:g})"
        for name, most in POLICY.items()
        if export != own and name in parity and not abs(float(parity[name])) <= most
    ]
    change = float(parity.get("f1_change", 0)) - float(entries.get(own, {}).get("f1_change", 0))
    if export != own and not abs(change) <= MOST_DIFFERENCE:
        over.append(f"F1 {change:+.2g} beside {own} (at most {MOST_DIFFERENCE:g})")
    return "; ".join(over)
