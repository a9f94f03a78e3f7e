"""Releases: fetched from the server and checked as they come, and tested before they are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import DeviceError, NotInRegistry, SignatureError
from storage.files import read_json
from storage.registry.client import fetch_model_file
from storage.registry.model_files import LITERT, MANIFEST
from storage.registry.signing import MOST_MANIFEST, NAME_FILE, SIGNATURE, check_name, check_release
from storage.tables.golden_beats import GOLDEN, read_golden
from tasks.networks.registry import find
from tasks.runtimes.litert import af_probability
from tasks.runtimes.runtimes import RUNTIMES, Network, file_of, open_runtime, usual

#: Largest difference from the answers of the release's own machine, and where it may be larger:
#: int8 answers in steps of 1/256, and another processor may round five of them otherwise.
LEAST_ERROR = 1e-3
MOST_ERROR = {"litert-int8": 0.02}
#: Extras whose runtimes are a device's.
EXTRAS = ("edge", "onnx")


def self_test(folder: Path, runtime: str | None = None) -> None:
    """Run the golden beats of a release, in its own runtime or in the one that is named.

    Raises
    ------
    DeviceError
        An answer differs from the release's by more than rounding explains.
    """
    manifest = read_json(folder / MANIFEST)
    name = runtime or usual(manifest)
    check_answers(folder, manifest, name, open_runtime(folder, manifest, name))


def check_answers(folder: Path, manifest: Mapping[str, Any], name: str, network: Network) -> None:
    """Hold an open network of a release to the golden answers of its runtime; as `self_test`."""
    export = find(RUNTIMES, "runtime", name).export
    inputs, expected = read_golden(folder / GOLDEN, None if export == usual(manifest) else export)
    answers = af_probability(network.predict(inputs))
    error = float(np.abs(answers - expected).max(initial=0))
    most = MOST_ERROR.get(export, LEAST_ERROR)
    if not len(expected) or not error <= most:
        raise DeviceError(
            f"self-test: found an error of {error:g} on {len(expected)} golden beats; "
            f"expected at most {most:g} on at least one"
        )


def fetch_release(
    name: str,
    version: int,
    to: Path,
    trusted: Iterable[str],
    runtime: str | None = None,
    *,
    every_file: bool = False,
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
    every_file : bool
        Fetch the files of all runtimes that are installed here: which runs it is not known yet.

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
    names = [n for n, r in RUNTIMES.items() if r.installed and r.extra in EXTRAS and every_file]
    files = [file_of(manifest, n) or LITERT for n in (runtime or usual(manifest), *names)]
    for file in dict.fromkeys((LITERT, GOLDEN, *files)):
        signed = manifest["files"].get(file)
        if signed is None:
            raise SignatureError(f"release {name}/{version}: the signed manifest has no {file}")
        fetch_model_file(name, version, file, signed["sha256"], to, signed["bytes"])
    self_test(to)
    if runtime:
        self_test(to, runtime)
    return to, manifest
