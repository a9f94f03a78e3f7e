"""Writing WFDB: one recording at a time, and a simulated data set that says that it is so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.files import sha256_bytes, sha256_file, write_bytes
from storage.formats.checksums import read_sums
from storage.formats.wfdb_annotation import encode_annotations
from storage.formats.wfdb_signal import encode_212

GAIN = 200
NAME = "simulated"


def write_recording(
    folder: Path,
    name: str,
    fs_hz: float,
    signal_mv: NDArray[np.float32],
    beats: NDArray[np.int64],
    symbols: NDArray[np.str_],
    rhythm_start: NDArray[np.int64],
    rhythms: NDArray[np.str_],
) -> dict[str, str]:
    """Write one record: .dat (format 212), .atr (rhythms), .qrs (beats), and last .hea.

    Returns
    -------
    dict of str to str
        SHA-256 of each file, by name.
    """
    adu = np.clip(np.rint(signal_mv * GAIN), -2047, 2047).astype(np.int16)
    lines = [f"{name} 2 {fs_hz:g} {len(adu)}"]
    for lead in range(2):
        checksum = int(adu[:, lead].astype(np.int64).sum()) & 0xFFFF
        checksum -= (checksum & 0x8000) << 1
        lines.append(f"{name}.dat 212 {GAIN} 12 0 {adu[0, lead]} {checksum} 0 ECG{lead + 1}")
    lines.append("# simulated recording: no person, no device")
    marks = {i: f"({rhythm}" for i, rhythm in enumerate(rhythms.tolist())}
    files = {
        f"{name}.dat": encode_212(adu),
        f"{name}.atr": encode_annotations(rhythm_start, ["+"] * len(marks), marks),
        f"{name}.qrs": encode_annotations(beats, symbols.tolist()),
        f"{name}.hea": ("\n".join(lines) + "\n").encode(),
    }
    for file, data in files.items():
        write_bytes(folder / file, data)
    return {file: sha256_bytes(data) for file, data in files.items()}


def write_dataset(folder: Path, names: list[str], digests: dict[str, str], about: str) -> Path:
    """Write RECORDS, SHA256SUMS.txt and dataset.toml beside the records; gives the TOML's path."""
    write_bytes(folder / "RECORDS", "".join(f"{name}\n" for name in names).encode())
    sums = "".join(f"{digests[file]} {file}\n" for file in sorted(digests))
    write_bytes(folder / "SHA256SUMS.txt", sums.encode())
    return write_bytes(
        folder / "dataset.toml",
        f'''name = "{NAME}"
title = "Simulated Holter recordings"
version = "1"
licence = "Apache-2.0"
citation = "Made by this project's simulator; no person was recorded."
notes = "{about}"

[source]
simulated = true

[records]
file = "RECORDS"

[annotations]
beats = ["qrs"]
rhythm = "atr"

[leads]
prefer = ["ECG1", "ECG2"]

[rhythms]
af = ["AFIB"]
map = {{ N = "N", AFIB = "AFIB" }}
'''.encode(),
    )


def is_whole(folder: Path, about: str) -> bool:
    """Whether the folder holds this very data set, every file with its digest."""
    try:
        if f'notes = "{about}"' not in (folder / "dataset.toml").read_text():
            return False
        sums = read_sums(folder)
        return bool(sums) and all(sha256_file(folder / file) == sums[file] for file in sums)
    except (OSError, ValueError):
        return False
