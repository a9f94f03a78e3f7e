"""The detector of `holter-edge live` as C: an ECG's samples in, R peaks out.

The filters are those of `tasks.signal.filters`, cut short: kernels that end half a second and a
second from their middle take the place of a transform of a block. The rules are those of
`tasks.signal.qrs`, candidate by candidate. What is not here: holes, still leads, poor signal.
"""

from __future__ import annotations

from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.bounds import within
from tasks.microcontroller.generate import Origin, environment
from tasks.signal import qrs
from tasks.signal.filters import band_gain
from tasks.signal.preprocessing import Preprocessing

#: Seconds to each side that the kernels hold: of the slope, and of the band.
SLOPE_S, BAND_S = 0.5, 1.0
#: Points of the transform that the kernels are taken from.
TRANSFORM = 1 << 17
#: Candidates are two tenths of a second apart, and none waits for more than ten seconds.
MOST_CANDIDATES = 64


def kernels(fs_hz: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The middle and one side of the slope's kernel and of the band's.

    Parameters
    ----------
    fs_hz : int
        Sampling rate.

    Returns
    -------
    slope : float64, shape (k,)
        Taps 1 to k; those before the middle are their negatives, the middle is 0.
    band : float64, shape (m + 1,)
        Taps 0 to m; those before the middle are the same. Their sum is 0: an electrode's offset
        is none of the signal.
    """
    config = Preprocessing()
    frequency_hz = np.fft.rfftfreq(TRANSFORM, 1 / fs_hz)
    clean = band_gain(frequency_hz, fs_hz, config.low_hz, config.high_hz, config.order)
    feature = clean * band_gain(frequency_hz, fs_hz, 5.0, 15.0, 1) * 2j * pi * frequency_hz
    slope, band = np.fft.irfft(feature, TRANSFORM), np.fft.irfft(clean, TRANSFORM)
    taps, reach = round(SLOPE_S * fs_hz), round(BAND_S * fs_hz)
    band = band[: reach + 1]
    offset = (2 * band.sum() - band[0]) / (2 * reach + 1)
    return slope[1 : taps + 1], band - offset


def detector_to_c(fs_hz: int, origin: Origin) -> dict[str, str]:
    """The header and the source of the detector at one sampling rate, by file name.

    Raises
    ------
    ValueError
        The rate is none that a detector is made for.
    """
    within("detector_hz", fs_hz)
    values = {**_sizes(fs_hz), **vars(origin)}
    return {
        file: environment().get_template(f"{file}.j2").render(values) for file in ("qrs.h", "qrs.c")
    }


def _sizes(fs_hz: int) -> dict[str, Any]:
    """What the templates need: the detector's times in samples."""
    slope, band = kernels(fs_hz)
    half = round(qrs.INTEGRATION_S * fs_hz / 2)
    reach, relocation = round(qrs.REFRACTORY_S * fs_hz), round(qrs.RELOCATION_S * fs_hz)
    ahead = relocation + len(band) - 1
    delay = max(len(slope) + half + reach, ahead)
    return {
        "fs_hz": fs_hz,
        "longest_days": 2**31 // (fs_hz * 86_400),
        "slope_kernel": slope,
        "band_kernel": band,
        "slope_taps": len(slope),
        "band_taps": len(band) - 1,
        "half": half,
        "reach": reach,
        "relocation": relocation,
        "delay": delay,
        "raw": delay + ahead + 1,
        "slope": delay + half + 1,
        "mean": delay + reach + 1,
        "most": MOST_CANDIDATES,
        "memory": qrs.MEMORY,
        "least_candidates": qrs.LEAST_CANDIDATES,
        "t_wave": qrs.T_WAVE_S * fs_hz,
        "silent": qrs.LEARNING_S * fs_hz,
        "learning_s": f"{qrs.LEARNING_S:g}",
        "end": qrs.END_S * fs_hz,
        "search_back": qrs.SEARCH_BACK,
        "t_wave_slope": qrs.T_WAVE_SLOPE,
        "quiet": qrs.QUIET,
        "decay": qrs.DECAY,
        "least_mean": qrs.LEAST_HEIGHT**2,
    }
