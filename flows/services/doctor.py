"""What `holter doctor` looks at: each check says what it found, and what to do about it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.request import urlopen

from packaging.requirements import Requirement

from storage.audit.provenance import ROOT
from storage.errors import HolterError, PlaceError
from storage.files import check_home, home
from storage.places import Place, beats_place, check_beats_place
from storage.registry.signing import release_key_path
from storage.run_notes import dead_runs

LEAST_FREE_GB = 5.0
LEAST_FILES = 1000
MOST_CLOCK_S = 5.0


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and what to do: nothing where it is well."""

    name: str
    state: str
    advice: str = ""


def versions(constraints: Path = ROOT / "constraints.txt") -> Iterator[Check]:
    """Installed packages against the versions that are known to work together."""
    files = (constraints, constraints.with_name("constraints-gpu.txt"))
    text = "\n".join(file.read_text() for file in files if file.is_file())
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    wrong, right = [], 0
    for requirement in (Requirement(line) for line in lines if line):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            continue  # of an extra that is not installed
        if requirement.specifier.contains(installed, prereleases=True):
            right += 1
        else:
            wrong.append(f"{requirement.name} {installed}, expected {requirement.specifier}")
    advice = "pip install -c constraints.txt -e '.[server,edge]'" if wrong else ""
    yield Check("packages", "; ".join(wrong) or f"{right} as in {constraints.name}", advice)


def folders() -> Iterator[Check]:
    """The state folder and the beat tables' place can be written; a bucket can be reached."""
    yield _place("state folder", check_home)
    yield _place("beat tables", check_beats_place)


def _place(name: str, look: Callable[[], Place]) -> Check:
    try:
        return Check(name, str(look()))
    except PlaceError as error:
        advice = "give this user the right to write it, or name another (HOLTER_HOME, HOLTER_BEATS)"
        return Check(name, str(error), advice)


def _local_places() -> dict[str, Path]:
    """What lies on this machine's disks, by what it is; the beat tables where they lie apart."""
    places, beats = {"state folder": home()}, beats_place()
    if isinstance(beats, Path) and not beats.is_relative_to(home()):
        places["beat tables"] = beats
    return places


def space(least_gb: float = LEAST_FREE_GB) -> Iterator[Check]:
    """Room for databases and artifacts, and for beat tables where they lie on another disk."""
    for name, place in _local_places().items():
        folder = next(path for path in (place, *place.parents) if path.exists())
        disk = os.statvfs(folder)
        free_gb = disk.f_bavail * disk.f_frsize / 1e9
        limited = disk.f_files > 0  # some file systems have no limit of files
        names = f", {disk.f_favail:,} files more" if limited else ""
        short = free_gb < least_gb or (limited and disk.f_favail < LEAST_FILES)
        advice = f"free some: less than {least_gb:g} GB, or {LEAST_FILES} files, is soon used up"
        yield Check(
            f"free space, {name}", f"{free_gb:.1f} GB{names} at {folder}", advice if short else ""
        )


def privacy() -> Iterator[Check]:
    """Other users of this machine cannot read recordings, tables and databases; a group may."""
    for name, place in _local_places().items():
        if not place.is_dir():
            yield Check(f"privacy, {name}", f"{place}: made with mode 700 when it is needed")
            continue
        mode = stat.S_IMODE(place.stat().st_mode)
        advice = f"chmod o= {place}; who is to share it may be in its group" if mode & 0o007 else ""
        yield Check(f"privacy, {name}", f"{place}, mode {mode:03o}", advice)


def secrets() -> Iterator[Check]:
    """The signing key, and the key of the local Prefect server, are their owner's alone."""
    from flows.services.access import prefect_key_path

    for name, path, maker in (
        ("signing key", release_key_path(), "the first release"),
        ("Prefect key", prefect_key_path(), "`holter up --worker`"),
    ):
        if not path.is_file():
            yield Check(name, f"none yet; {maker} makes one")
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        advice = f"chmod 600 {path}" if mode & 0o077 else ""
        yield Check(name, f"{path}, mode {mode:03o}", advice)


def servers() -> Iterator[Check]:
    """Prefect and MLflow answer, and their clocks are ours."""
    from flows.services.access import named_servers
    from flows.services.up_state import fault, running, up_servers

    state, addresses = running(), named_servers()
    if state is None and len(addresses) < 2 and (note := up_servers()) and (failure := fault(note)):
        yield Check(
            "`holter up`", failure, "`holter down`, see that the disk has room, `holter up`"
        )
    prefect = addresses.get("PREFECT_API_URL") or (state.prefect_api if state else "")
    mlflow = addresses.get("MLFLOW_TRACKING_URI") or (state.mlflow if state else "")
    for name, url in (("Prefect", prefect), ("MLflow", mlflow)):
        if not url:
            yield Check(name, "not up: each command starts its own; `holter up` keeps one")
            continue
        try:
            with urlopen(f"{url}/health", timeout=5) as reply:  # noqa: S310 - as it was named
                date = reply.headers.get("Date")
        except (OSError, ValueError) as error:
            yield Check(name, f"{url}: {error}", "start it, or correct the variable that names it")
            continue
        yield Check(name, f"{url} answers")
        if date:
            off = time.time() - parsedate_to_datetime(date).timestamp()
            advice = "set both clocks by NTP: schedules and ages are wrong" if off else ""
            yield Check(
                f"clock of {name}",
                f"{off:+.0f} s to ours",
                advice if abs(off) > MOST_CLOCK_S else "",
            )


def dead() -> Iterator[Check]:
    """No run whose process is gone; those that there are can be closed where servers answer."""
    runs = dead_runs()
    names = ", ".join(f"{run.flow} (process {run.pid})" for run in runs)
    yield Check(
        "killed runs", names or "none", "`holter status` closes them in Prefect" if runs else ""
    )


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    versions,
    folders,
    space,
    privacy,
    secrets,
    servers,
    dead,
)


def examine() -> Iterator[Check]:
    """Every check; one that breaks is a problem of its own, and the others go on."""
    for check in CHECKS:
        yield from _whole(check)


def _whole(check: Callable[[], Iterator[Check]]) -> list[Check]:
    try:
        return list(check())
    except (HolterError, OSError, ValueError) as error:
        return [Check(check.__name__, str(error), "this check could not be made")]
