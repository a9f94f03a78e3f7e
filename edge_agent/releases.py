"""Releases from the server: one that is named is fetched, and there for as long as it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_agent.slots import trusted_keys
from storage.errors import DeviceError, RegistryError
from storage.registry.client import address
from storage.registry.models import resolve_number
from storage.registry.reference import FORMS, parse
from tasks.runtimes.releases import fetch_release

__all__ = ["fetch_release", "release_at"]


@contextmanager
def release_at(home: Path, model: str | None) -> Iterator[Path | None]:
    """The file or folder that `--model` means; a version of the server's is there until the end.

    None where none is named: the active release is meant.

    Raises
    ------
    DeviceError
        There is no such folder, and it is no version that a server could have.
    """
    if model is None or Path(model).exists():
        yield Path(model) if model else None
        return
    try:
        parse(model)
        address()
    except (ValueError, RegistryError) as error:
        raise DeviceError(
            f"--model {model}: found no such file or folder; expected a release, or {FORMS} where "
            "MLFLOW_TRACKING_URI names a server"
        ) from error
    name, version = resolve_number(model)  # trusted no further than its signature goes
    work = home / "work"
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    with TemporaryDirectory(prefix="release-", dir=work) as folder:
        to = Path(folder) / "model"
        yield fetch_release(name, version, to, trusted_keys(home))[0]
