"""Releases from the server: what a device needs of one is fetched, and checked as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edge_agent.slots import self_test, trusted_keys
from storage.errors import DeviceError, NotInRegistry, RegistryError, SignatureError
from storage.registry.client import address, fetch_model_file
from storage.registry.model_files import LITERT, MANIFEST
from storage.registry.models import resolve_number
from storage.registry.reference import FORMS, parse
from storage.registry.signing import MOST_MANIFEST, NAME_FILE, SIGNATURE, check_name, check_release
from storage.tables.golden_beats import GOLDEN
from tasks.runtimes.runtimes import files_of, usual


def fetch_release(
    name: str, version: int, to: Path, trusted: Iterable[str], runtime: str | None = None
) -> tuple[Path, dict[str, Any]]:
    """Fetch a model version: signatures first, then what they vouch for, as far as it is needed.

    Parameters
    ----------
    name, version : str, int
        The registered version; the signed statement must be of it.
    to : Path
        An empty folder.
    trusted : iterable of str
        Public keys, 64 hexadecimal digits each.
    runtime : str, optional
        The runtime that is to run it, if not the release's own.

    Returns
    -------
    folder, manifest
        `to`, and the signed manifest.

    Raises
    ------
    SignatureError
        No trusted key signed it, it was changed since, or it is another version.
    DigestMismatch, RegistryError
        A file is not what was signed, or larger.
    DeviceError, ModelError
        It does not answer its golden beats as it did.
    """
    keys = set(trusted)
    for file in (MANIFEST, SIGNATURE):
        fetch_model_file(name, version, file, None, to, MOST_MANIFEST)
    with suppress(NotInRegistry):  # check_name says what to do then
        fetch_model_file(name, version, NAME_FILE, None, to, MOST_MANIFEST)
    manifest = check_release(to, keys)
    check_name(to, name, version, keys)
    network_file = files_of(manifest).get(runtime or usual(manifest), LITERT)
    for file in dict.fromkeys((LITERT, GOLDEN, network_file)):
        signed = manifest["files"].get(file)
        if signed is None:
            raise SignatureError(f"release {name}/{version}: the signed manifest has no {file}")
        fetch_model_file(name, version, file, signed["sha256"], to, signed["bytes"])
    self_test(to)
    if runtime:
        self_test(to, runtime)
    return to, manifest


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
