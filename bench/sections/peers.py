"""What a user would otherwise write: a record's lead to a file of beats, with each peer's tools.

Each reads raw WFDB, filters, denoises, detects, cuts beats of 300 samples and writes Parquet. None
of them does what ours does besides: checksums, annotations, labels, quality flags, provenance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FS_HZ = 250.0


def neurokit(folder: str, name: str, out: str) -> int:
    """NeuroKit2: clean, peaks, segment, with its defaults."""
    import neurokit2 as nk
    import pandas as pd
    import wfdb

    signal = wfdb.rdrecord(f"{folder}/{name}", channels=[0]).p_signal[:, 0]
    clean = nk.ecg_clean(signal, sampling_rate=int(FS_HZ))
    _, peaks = nk.ecg_peaks(clean, sampling_rate=int(FS_HZ))
    beats = nk.ecg_segment(clean, rpeaks=peaks["ECG_R_Peaks"], sampling_rate=int(FS_HZ))
    pd.concat(beats).to_parquet(out)
    return len(beats)


def wfdb_script(folder: str, name: str, out: str) -> int:
    """The wfdb package: rdrecord, filtfilt, pywt, XQRS, a loop of interp1d, pandas."""
    import wfdb.processing

    clean = _script_clean(folder, name)
    peaks = wfdb.processing.xqrs_detect(clean, fs=FS_HZ, verbose=False)
    return _script_write(clean, np.asarray(peaks), out)


def ecg_detectors(folder: str, name: str, out: str) -> int:
    """The same with the Pan-Tompkins of py-ecg-detectors."""
    from ecgdetectors import Detectors

    clean = _script_clean(folder, name)
    peaks = Detectors(FS_HZ).pan_tompkins_detector(clean)
    return _script_write(clean, np.asarray(peaks), out)


def _script_clean(folder: str, name: str) -> NDArray[np.float64]:
    import pywt
    import wfdb
    from scipy.signal import butter, filtfilt

    signal = wfdb.rdrecord(f"{folder}/{name}", channels=[0]).p_signal[:, 0]
    b, a = butter(2, (0.5, 50.0), "bandpass", fs=FS_HZ)
    band = filtfilt(b, a, signal - signal.mean())
    parts = pywt.wavedec(band, "db4", level=5)
    limit = np.median(np.abs(parts[-1])) / 0.6745 * np.sqrt(2 * np.log(len(band)))
    parts[1:] = [pywt.threshold(part, limit, "soft") for part in parts[1:]]
    return np.asarray(pywt.waverec(parts, "db4")[: len(band)])


def _script_write(clean: NDArray[np.float64], peaks: NDArray[np.int64], out: str) -> int:
    import pandas as pd
    from scipy.interpolate import interp1d

    rows = []
    for before, r, after in zip(peaks[:-2], peaks[1:-1], peaks[2:], strict=True):
        first, last = r - (r - before) // 3, r + 2 * (after - r) // 3
        parts = []
        for low, high, count in ((first, r, 100), (r, last, 200)):
            piece = clean[low : high + 1]
            at = np.linspace(0, len(piece) - 1, count)
            parts.append(interp1d(np.arange(len(piece)), piece)(at))
        rows.append(np.concatenate(parts))
    frame = pd.DataFrame(np.array(rows, dtype=np.float32))
    frame.columns = frame.columns.astype(str)
    frame.insert(0, "r", peaks[1:-1])
    frame.to_parquet(out)
    return len(frame)


def stock(folder: str, name: str, out: str) -> int:
    """The fastest we know from ready-made parts: numpy, scipy, pywt, sleepecg's C, pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pywt
    from scipy.signal import butter, sosfiltfilt
    from sleepecg.heartbeats import detect_heartbeats

    raw = np.frombuffer(Path(folder, f"{name}.dat").read_bytes(), np.uint8).reshape(-1, 3)
    low, high = raw[:, 0].astype(np.int16), raw[:, 1].astype(np.int16)
    signal = ((high << 12 >> 4) | low).astype(np.float32) * np.float32(1 / 200)
    sos = butter(2, (0.5, 50.0), "bandpass", fs=FS_HZ, output="sos").astype(np.float32)
    band: NDArray[np.float32] = sosfiltfilt(sos, signal - signal.mean())
    parts: list[Any] = pywt.wavedec(band, "db4", level=5)
    limit = np.float32(np.median(np.abs(parts[-1])) / 0.6745 * np.sqrt(2 * np.log(len(band))))
    parts[1:] = [pywt.threshold(part, limit, "soft") for part in parts[1:]]
    clean = pywt.waverec(parts, "db4")[: len(band)]
    peaks = detect_heartbeats(clean, FS_HZ)
    rr, r = np.diff(peaks), peaks[1:-1]
    before = np.arange(-100, 0, dtype=np.float32) / 100
    after = np.arange(200, dtype=np.float32) / 200
    beats = np.empty((len(r), 300), np.float32)
    for at in range(0, len(r), 512):
        rows = slice(at, at + 512)
        prev, following = (x[rows].astype(np.float32)[:, None] for x in (rr[:-1] / 3, rr[1:] / 1.5))
        away = np.hstack([prev * before, following * after])
        whole = np.floor(away)
        left = r[rows, None] + whole.astype(np.int64)
        value = clean[left]
        beats[rows] = value + (away - whole) * (clean[left + 1] - value)
    waveform = pa.FixedSizeListArray.from_arrays(pa.array(beats.reshape(-1)), 300)
    columns = pa.table({"r": r, "waveform": waveform})
    pq.write_table(columns, out, compression="lz4", use_dictionary=False, write_statistics=False)
    return len(r)
