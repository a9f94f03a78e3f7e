"""The preprocessing configuration: what shapes a beat table, in one digestible value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from storage.files import sha256_json

Policy = Literal["consensus", "reference", "detected"]


@dataclass(frozen=True)
class Preprocessing:
    """How a lead becomes beats (method: mean, band-pass, wavelet, R peaks, 1/3-2/3 segments).

    Attributes
    ----------
    low_hz, high_hz : float
        Pass band of the zero-phase Butterworth filter.
    order : int
        Order of the Butterworth filter in each direction.
    wavelet : str
        Wavelet whose detail coefficients are soft-thresholded.
    levels : int
        Levels of the wavelet transform.
    noise_window_s : float
        Length of the windows, from the record's start, whose noise sets the wavelet's threshold.
    match_window_s : float
        Largest distance between an annotated and a detected beat that are the same (EC57: 150 ms).
    policy : {"consensus", "reference", "detected"}
        Which beats the table holds where annotations exist; see `tasks.signal.match`.
    """

    low_hz: float = 0.5
    high_hz: float = 50.0
    order: int = 2
    wavelet: str = "db4"
    levels: int = 5
    noise_window_s: float = 120.0
    match_window_s: float = 0.15
    policy: Policy = "consensus"

    def digest(self) -> str:
        """SHA-256 of the configuration."""
        return sha256_json(asdict(self))
