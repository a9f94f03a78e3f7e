"""Writing WFDB: one recording at a time, and a simulated data set that says that it is so.

By the wfdb package, which is right for these: format 212, beats, rhythms with short texts. Where it
is wrong, on texts of 256 characters or more, `storage.formats.wfdb_annotation.encode_annotations`
refuses; that one also serves devices, which have no wfdb.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from storage.files import sha256_bytes, sha256_file, write_bytes
from storage.formats.checksums import read_sums

GAIN = 200
NAME = "simulated"
#: The files of a record; the header comes last, as a record is there once its header is.
ENDINGS = ("dat", "atr", "qrs", "hea")


class Recording(Protocol):
    """What is written: `tasks.learning.simulate.SimulatedRecording` has it."""

    @property
    def signal_mv(self) -> NDArray[np.float32]:
        """Two leads in millivolts, shape (n, 2)."""

    @property
    def beats(self) -> NDArray[np.int64]:
        """R peaks as sample indices, strictly ascending, shape (k,)."""

    @property
    def symbols(self) -> NDArray[np.str_]:
        """Their WFDB mnemonics, shape (k,)."""

    @property
    def rhythm_start(self) -> NDArray[np.int64]:
        """Where each rhythm begins, as sample indices, shape (m,)."""

    @property
    def rhythms(self) -> NDArray[np.str_]:
        """Their names, shape (m,)."""


def write_recording(folder: Path, name: str, fs_hz: float, recording: Recording) -> dict[str, str]:
    """Write one record: .dat (format 212), .atr (rhythms), .qrs (beats), and last .hea.

    Returns
    -------
    dict of str to str
        SHA-256 of each file, by name.
    """
    import wfdb  # slow, as it loads pandas

    adu = np.clip(np.rint(recording.signal_mv * GAIN), -2047, 2047).astype(np.int16)
    marks = [f"({rhythm}" for rhythm in recording.rhythms.tolist()]
    with TemporaryDirectory(prefix="holter-") as work:
        wfdb.wrsamp(
            name,
            fs=fs_hz,
            units=["mV"] * 2,
            sig_name=["ECG1", "ECG2"],
            d_signal=adu,
            fmt=["212"] * 2,
            adc_gain=[GAIN] * 2,
            baseline=[0] * 2,
            comments=["simulated recording: no person, no device"],
            write_dir=work,
        )
        wfdb.wrann(name, "qrs", recording.beats, recording.symbols.tolist(), write_dir=work)
        wfdb.wrann(
            name, "atr", recording.rhythm_start, ["+"] * len(marks), aux_note=marks, write_dir=work
        )
        files = {f"{name}.{end}": (Path(work) / f"{name}.{end}").read_bytes() for end in ENDINGS}
    for file, data in files.items():
        write_bytes(folder / file, data)
    return {file: sha256_bytes(data) for file, data in files.items()}


def write_dataset(folder: Path, names: list[str], digests: dict[str, str], notes: str) -> Path:
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
notes = "{notes}"

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


def is_whole(folder: Path, notes: str) -> bool:
    """Whether the folder holds this very data set, every file with its digest."""
    try:
        if f'notes = "{notes}"' not in (folder / "dataset.toml").read_text():
            return False
        sums = read_sums(folder)
        return bool(sums) and all(sha256_file(folder / file) == sums[file] for file in sums)
    except (OSError, ValueError):
        return False
