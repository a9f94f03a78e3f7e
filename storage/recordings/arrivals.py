"""New and changed records of a folder that is still being filled: taken when they are whole."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from storage.datasets.dataset import DatasetSpec, record_names
from storage.datasets.labels import row_sha256
from storage.errors import HolterError
from storage.files import home, owner, read_json, sha256_json, write_json
from storage.recordings.records import open_record


@dataclass(frozen=True)
class RecordState:
    """A record as it was last seen.

    Attributes
    ----------
    stamp : str
        Digest of its files' names, sizes and times of change.
    taken : bool
        Whether it was handed on in this state.
    reason : str
        Why not, where it was looked into and is not whole.
    """

    stamp: str
    taken: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Look:
    """What one look at a folder found.

    Attributes
    ----------
    ready : tuple of str
        Records that are new or changed, whole, and quiet.
    waiting : dict of str to str
        Records that are still arriving, and why.
    states : dict of str to RecordState
        Every record, to be kept for the next look.
    """

    ready: tuple[str, ...]
    waiting: dict[str, str]
    states: dict[str, RecordState]


def look(
    spec: DatasetSpec,
    folder: Path,
    before: Mapping[str, RecordState],
    quiet_s: float,
    *,
    signal: bool,
) -> Look:
    """Find the records that have arrived or changed since `before`.

    A record is taken once its files have the sizes that its header tells, and none of them has
    changed for `quiet_s` seconds. One that is not whole is looked into again when it changes. A
    time of change that far in the future is of another clock, or of ours before it was set back:
    it says nothing, and the record does not wait for it.
    """
    ready: list[str] = []
    waiting: dict[str, str] = {}
    states: dict[str, RecordState] = {}
    for name, (stamp, changed_s) in _stamps(spec, folder, record_names(spec, folder)).items():
        age_s = time.time() - changed_s
        last = before.get(name)
        if last is not None and last.stamp == stamp and (last.taken or last.reason):
            states[name] = last
        elif abs(age_s) < quiet_s:
            states[name] = RecordState(stamp)
            waiting[name] = f"changed {max(age_s, 0):.0f} s ago; quiet for {quiet_s:g} s is enough"
        else:
            reason = _not_whole(spec, folder, name, signal=signal)
            states[name] = RecordState(stamp, taken=not reason, reason=reason)
            if not reason:
                ready.append(name)
        if states[name].reason:
            waiting[name] = states[name].reason
    return Look(tuple(ready), waiting, states)


def _stamps(spec: DatasetSpec, folder: Path, names: Sequence[str]) -> dict[str, tuple[str, float]]:
    """Of every record a digest of its files and its label's row, and its files' newest change.

    A record's files are those whose names begin with its own, whatever the case, and with no longer
    one's; a change is in seconds since 1970. Each folder is listed once.
    """
    spelled = {name.casefold(): name for name in names} | {name: name for name in names}
    files_by_record: dict[str, list[tuple[str, int, int]]] = {name: [] for name in names}
    parents = {PurePosixPath(name).parent for name in names}
    for parent in parents:
        unsafe = parent.is_absolute() or ".." in parent.parts
        if unsafe or not (folder / parent).is_dir():
            continue
        for entry in sorted(os.scandir(folder / parent), key=lambda entry: entry.name):
            file = (parent / entry.name).as_posix()
            name = owner(file, spelled, "._") or owner(file.casefold(), spelled, "._")
            if name is None:
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:  # renamed while we looked
                continue
            files_by_record[spelled[name]].append((entry.name, status.st_size, status.st_mtime_ns))
    out = {}
    for name, files in files_by_record.items():
        row = row_sha256(spec, folder, name)
        newest = max((mtime for _, _, mtime in files), default=0) / 1e9
        out[name] = sha256_json([*files, row] if row else files), newest
    return out


def _not_whole(spec: DatasetSpec, folder: Path, name: str, *, signal: bool) -> str:
    try:
        open_record(spec, folder, name, signal=signal)
    except HolterError as error:
        return str(error)
    return ""


def _state(dataset: str) -> Path:
    return home() / "watch" / f"{dataset}.json"


def read_states(dataset: str) -> dict[str, RecordState]:
    """What was kept of the last look, or nothing at the first one."""
    try:
        return {name: RecordState(**value) for name, value in read_json(_state(dataset)).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_states(dataset: str, states: Mapping[str, RecordState]) -> None:
    """Keep a look for the next one."""
    write_json(_state(dataset), {name: asdict(value) for name, value in states.items()})
