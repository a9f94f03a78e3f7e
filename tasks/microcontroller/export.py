"""A release as C: its header and source in a folder, with a manifest of digests, signed.

The manifest names the release, its weights' file and this code, so that an export leads back to
what was trained; the signature is made and checked as a release's (`storage.registry.signing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.audit.provenance import git_state
from storage.errors import DigestMismatch, ModelError, SignatureError
from storage.files import (
    read_bounded,
    read_json,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_json,
)
from storage.registry.model_files import MANIFEST
from storage.registry.signing import (
    MOST_MANIFEST,
    NAME_FILE,
    RELEASE,
    SIGNATURE,
    check_release,
    read_statement,
    read_unsigned,
    release_key_path,
    sign,
    trusted_keys,
)
from storage.registry.tags import GIT_COMMIT_TAG, GIT_DIRTY_TAG
from tasks.features.rhythm import rr_features
from tasks.learning.simulate import COURSES, simulate_subject
from tasks.microcontroller.detector import detector_to_c
from tasks.microcontroller.fixed import FixedNetwork, to_fixed
from tasks.microcontroller.generate import Arithmetic, Origin, to_c
from tasks.microcontroller.network import RhythmNetwork, read_network
from tasks.runtimes.runtimes import files_of
from tasks.scores.rule import Rule, rule_of

#: What an export's manifest says that it is.
KIND = "c"
#: The runtime whose file the weights are read from.
WEIGHTS_OF = "onnx"
#: Simulated recordings whose activations fix the scales of int8: half an hour each, of each course.
EXAMPLES, EXAMPLE_HOURS, EXAMPLE_FS_HZ = 12, 0.5, 250.0


@dataclass(frozen=True, eq=False)
class Sources:
    """What an export is made of: a release's network and rule, and where they are from."""

    network: RhythmNetwork
    rule: Rule
    origin: Origin


@dataclass(frozen=True)
class Export:
    """An export that was written, or checked.

    Attributes
    ----------
    folder : Path
    manifest : mapping
        What its manifest says.
    manifest_sha256 : str
    signed_by : str or None
        The public key; None where nobody signed it.
    """

    folder: Path
    manifest: Mapping[str, Any]
    manifest_sha256: str
    signed_by: str | None


def read_sources(folder: Path, manifest: Mapping[str, Any]) -> Sources:
    """The network, rule and origin of a release whose manifest was checked.

    Raises
    ------
    ModelError
        The release has no file of weights to read, or its network is none of RR intervals.
    DigestMismatch
        The file is not the one of the manifest.
    SignatureError
        Name and version are stated, and no trusted key signed that.
    """
    name = str(manifest.get("name"))
    file = files_of(manifest).get(WEIGHTS_OF, "")
    expected = manifest.get("files", {}).get(file, {}).get("sha256")
    if not expected or not (folder / file).is_file():
        raise ModelError(f"{name}: found no file for {WEIGHTS_OF} in the release; expected one")
    data = (folder / file).read_bytes()
    if sha256_bytes(data) != expected:
        raise DigestMismatch(
            f"{file}: found SHA-256 {sha256_bytes(data)}; the manifest says {expected}"
        )
    state = git_state()
    origin = Origin(
        registered=_name_of(folder, manifest),
        manifest_sha256=sha256_file(folder / MANIFEST),
        weights_file=file,
        weights_sha256=expected,
        version=version("holter-af"),
        commit=state[GIT_COMMIT_TAG] + ("+" if state[GIT_DIRTY_TAG] == "true" else ""),
        sources=tuple(
            " ".join(str(row.get(key, "")) for key in ("title", "version", "licence"))
            for row in manifest.get("trained_on", [])
        ),
    )
    return Sources(read_network(data, name), rule_of(manifest), origin)


def _name_of(folder: Path, manifest: Mapping[str, Any]) -> str:
    """Name and version of a release, as its manifest or a signed statement beside it has them."""
    if "registered" in manifest or not (folder / NAME_FILE).is_file():
        return str(manifest.get("registered", manifest.get("name")))
    digest, data = sha256_file(folder / MANIFEST), read_bounded(folder / NAME_FILE, MOST_MANIFEST)
    statement = read_statement(data, trusted_keys(), statement=RELEASE, manifest_sha256=digest)
    return f"{statement['name']}/{statement['version']}"


@cache
def example_intervals() -> tuple[NDArray[np.float32], ...]:
    """RR intervals of simulated recordings, (n,) each: nothing from outside is needed."""
    return tuple(
        (np.diff(simulated.beats, prepend=np.nan) / EXAMPLE_FS_HZ).astype(np.float32)
        for seed in range(EXAMPLES)
        for simulated in (
            simulate_subject(seed, EXAMPLE_HOURS, EXAMPLE_FS_HZ, COURSES[seed % len(COURSES)]),
        )
    )


def in_integers(sources: Sources) -> FixedNetwork:
    """The network and its rule in integers, its scales from simulated recordings."""
    network = sources.network
    examples = [
        rr_features(rr_s, causal=network.causal).astype(np.float64) for rr_s in example_intervals()
    ]
    return to_fixed(network, sources.rule, examples)


def write_export(
    sources: Sources, arithmetic: Arithmetic, out: Path, detector_hz: int | None = None
) -> Export:
    """Write headers, sources and manifest into a folder, signed where there is a release key.

    A folder without a manifest is none: it goes first, and comes last.

    Parameters
    ----------
    sources : Sources
    arithmetic : {"int8", "float32"}
    out : Path
        An empty folder, an earlier export's, or one to make.
    detector_hz : int, optional
        Sampling rate of an ECG whose R peaks are to be found in C too.

    Raises
    ------
    ValueError
        The sampling rate is none that a detector is made for.
    ModelError
        The folder holds files of another origin, or the network's numbers do not fit.
    """
    name = sources.network.name
    _refuse_strange(out, name)
    integers = in_integers(sources) if arithmetic == "int8" else None
    origin = sources.origin
    texts = to_c(sources.network, sources.rule, integers, origin)
    if detector_hz is not None:
        texts |= detector_to_c(detector_hz, origin, arithmetic)
    content = {
        "export": KIND,
        "name": name,
        "arithmetic": arithmetic,
        "detector_hz": detector_hz,
        "release": {
            "registered": origin.registered,
            "manifest_sha256": origin.manifest_sha256,
            "weights": {"file": origin.weights_file, "sha256": origin.weights_sha256},
        },
        "code": {"version": origin.version, "commit": origin.commit},
        "files": {
            file: {"sha256": sha256_bytes(text.encode()), "bytes": len(text.encode())}
            for file, text in texts.items()
        },
    }
    for file in (MANIFEST, SIGNATURE, *_files_of(name)):
        (out / file).unlink(missing_ok=True)
    for file, text in texts.items():
        write_bytes(out / file, text.encode())
    write_json(out / MANIFEST, content)
    seal = sign((out / MANIFEST).read_bytes()) if release_key_path().exists() else None
    if seal:
        write_json(out / SIGNATURE, seal)
    return Export(out, content, sha256_file(out / MANIFEST), seal["key"] if seal else None)


def _files_of(name: str) -> tuple[str, ...]:
    """What an export of a network may hold beside its manifest."""
    return (f"{name}.h", f"{name}.c", "qrs.h", "qrs.c")


def _refuse_strange(out: Path, name: str) -> None:
    """Refuse a folder that holds more than an earlier export of this network."""
    own = {MANIFEST, SIGNATURE, *_files_of(name)}
    strange = sorted(path.name for path in out.glob("*") if path.name not in own)
    if strange:
        raise ModelError(
            f"folder {out}: found {strange[0]!a}; expected an empty folder, or an earlier export "
            f"of {name}"
        )
    if (out / MANIFEST).exists() and read_unsigned(out).get("export") != KIND:
        raise ModelError(f"folder {out}: found a release; expected an earlier export of {name}")


def check_export(folder: Path, trusted: Iterable[str]) -> Export:
    """An export whose files are all as a trusted key signed them.

    Raises
    ------
    SignatureError
        No trusted key signed it, a file was changed, is missing, or is not named in the manifest.
    """
    if not (folder / SIGNATURE).is_file():
        raise SignatureError(
            f"export {folder}: found no {SIGNATURE}; expected one: who made it cannot be told. "
            "Export again where there is a release key (holter edge key makes it)"
        )
    content = check_release(folder, trusted)
    if content.get("export") != KIND:
        raise SignatureError(f"{folder}: found a release; expected an export to C")
    for name in content["files"]:
        if not (folder / name).is_file():
            raise SignatureError(f"{folder}: found no file {name}; the manifest names it")
    seal = read_json(folder / SIGNATURE)
    return Export(folder, content, sha256_file(folder / MANIFEST), str(seal["key"]))
