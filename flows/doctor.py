"""What `holter doctor` looks at: each check says what it found, and what to do about it."""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.request import urlopen

from packaging.requirements import Requirement

from storage.errors import HolterError, PlaceError
from storage.files import check_home, home
from storage.places import Place, check_beats_place
from storage.provenance import ROOT
from storage.signing import release_key_path

LEAST_FREE_GB = 5.0
MOST_CLOCK_S = 5.0


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and what to do: nothing where it is well."""

    name: str
    found: str
    advice: str = ""


def versions(constraints: Path = ROOT / "constraints.txt") -> Iterator[Check]:
    """Installed packages against the versions that are known to work together."""
    lines = [line.partition("#")[0].strip() for line in constraints.read_text().splitlines()]
    wrong, right = [], 0
    for wanted in (Requirement(line) for line in lines if line):
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            continue  # of an extra that is not installed
        if wanted.specifier.contains(found, prereleases=True):
            right += 1
        else:
            wrong.append(f"{wanted.name} {found}, expected {wanted.specifier}")
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


def space(least_gb: float = LEAST_FREE_GB) -> Iterator[Check]:
    """Room for beat tables, databases and artifacts."""
    folder = next(path for path in (home(), *home().parents) if path.exists())
    free_gb = shutil.disk_usage(folder).free / 1e9
    advice = f"free some: less than {least_gb:g} GB is soon used up" if free_gb < least_gb else ""
    yield Check("free space", f"{free_gb:.1f} GB at {folder}", advice)


def secrets() -> Iterator[Check]:
    """The signing key is its owner's alone."""
    path = release_key_path()
    if not path.is_file():
        yield Check("signing key", "none yet; the first release makes one")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    advice = f"chmod 600 {path}" if mode & 0o077 else ""
    yield Check("signing key", f"{path}, mode {mode:03o}", advice)


def servers() -> Iterator[Check]:
    """Prefect and MLflow answer, and their clocks are ours."""
    from flows.servers import named_servers, running

    there, named = running(), named_servers()
    prefect = named.get("PREFECT_API_URL") or (there.prefect_api if there else "")
    mlflow = named.get("MLFLOW_TRACKING_URI") or (there.mlflow if there else "")
    for name, url in (("Prefect", prefect), ("MLflow", mlflow)):
        if not url:
            yield Check(name, "not up: each command starts its own; `holter up` keeps one")
            continue
        try:
            with urlopen(f"{url}/health", timeout=5) as reply:  # noqa: S310 - as it was named
                said = reply.headers.get("Date")
        except (OSError, ValueError) as error:
            yield Check(name, f"{url}: {error}", "start it, or correct the variable that names it")
            continue
        yield Check(name, f"{url} answers")
        if said:
            off = time.time() - parsedate_to_datetime(said).timestamp()
            advice = "set both clocks by NTP: schedules and ages are wrong" if off else ""
            yield Check(
                f"clock of {name}",
                f"{off:+.0f} s to ours",
                advice if abs(off) > MOST_CLOCK_S else "",
            )


def dead() -> Iterator[Check]:
    """No run whose process is gone; those that there are can be closed where servers answer."""
    from flows.alive import dead_runs

    found = dead_runs()
    names = ", ".join(f"{run.flow} (process {run.pid})" for run in found)
    yield Check(
        "killed runs", names or "none", "`holter status` closes them in Prefect" if found else ""
    )


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    versions,
    folders,
    space,
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
