"""The detector of `holter-edge live` as C: an ECG's samples in, R peaks out.

The filters are those of `tasks.signal.filters`, cut short: kernels that end half a second and a
second from their middle take the place of a transform of a block. The rules are those of
`tasks.signal.qrs`, candidate by candidate. What is not here: holes, still leads, poor signal.

In whole numbers a sample is int16, in 1/200 mV. Kernels are int16 of a scale at which no sum of
samples leaves 32 bits; squares and their sum are of 64 bits, and a height is that sum's root.
"""

from __future__ import annotations

from math import ceil, log2, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.bounds import within
from tasks.microcontroller.generate import Arithmetic, Origin, environment
from tasks.signal import qrs
from tasks.signal.filters import band_gain
from tasks.signal.preprocessing import Preprocessing

#: Seconds to each side that the kernels hold: of the slope, and of the band.
SLOPE_S, BAND_S = 0.5, 1.0
#: Points of the transform that the kernels are taken from.
TRANSFORM = 1 << 17
#: Units of a sample in whole numbers: MITDB's own.
UNITS_PER_MV = 200
#: One of the kernels in whole numbers: of the slope, and of the band.
SLOPE_UNIT, BAND_UNIT = 1 << 9, 1 << 14
#: Shares in whole numbers are in these.
PARTS = 1 << 16
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


def in_units(signal_mv: NDArray[np.float32]) -> NDArray[np.int16]:
    """An ECG as the detector in whole numbers takes it, shape as given: mV in, 1/200 mV out."""
    limits = np.iinfo(np.int16)
    units = np.rint(signal_mv.astype(np.float64) * UNITS_PER_MV)
    return np.clip(units, limits.min, limits.max).astype(np.int16)


def detector_to_c(fs_hz: int, origin: Origin, arithmetic: Arithmetic) -> dict[str, str]:
    """The header and the source of the detector at one sampling rate, by file name.

    Parameters
    ----------
    fs_hz : int
        Sampling rate.
    origin : Origin
    arithmetic : {"int8", "float32"}
        In whole numbers alone, beside a network in int8, or in float32.

    Raises
    ------
    ValueError
        The rate is none that a detector is made for.
    """
    within("detector_hz", fs_hz)
    fixed = arithmetic == "int8"
    slope, band = _whole_kernels(*kernels(fs_hz)) if fixed else kernels(fs_hz)
    values = {**_sizes(fs_hz, slope, band), **vars(origin), "fixed": fixed}
    if fixed:
        values |= _whole_numbers(values)
    return {
        file: environment().get_template(f"{file}.j2").render(values) for file in ("qrs.h", "qrs.c")
    }


def _sizes(fs_hz: int, slope: NDArray[Any], band: NDArray[Any]) -> dict[str, Any]:
    """What the templates need: the detector's times in samples."""
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
        "least_height": qrs.LEAST_HEIGHT,
        "number": "float",
    }


def _whole_kernels(
    slope: NDArray[np.float64], band: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Kernels in whole numbers: the slope's without zeros at its end, the band's of sum 0."""
    whole = np.rint(slope * SLOPE_UNIT).astype(np.int64)
    sides = np.rint(band[1:] * BAND_UNIT).astype(np.int64)
    return np.trim_zeros(whole, "b"), np.concatenate([[-2 * sides.sum()], sides])


def _whole_numbers(values: dict[str, Any]) -> dict[str, Any]:
    """What the templates need in whole numbers in place of floats."""
    steepest = int(np.abs(values["slope_kernel"]).sum()) * 2**16
    squares = 2 * values["half"] + 1
    precision = max(0, ceil(log2(squares * steepest**2)) - 62)
    height = values["least_height"] * UNITS_PER_MV * SLOPE_UNIT * sqrt(squares / 2**precision)
    shares = ("search_back", "t_wave_slope", "quiet", "decay")
    return {
        "slope_unit": SLOPE_UNIT,
        "band_unit": BAND_UNIT,
        "units_per_mv": UNITS_PER_MV,
        "parts": PARTS,
        "precision": precision,
        "least_height": round(height),
        "number": "int32_t",
        **{name: round(values[name] * PARTS) for name in shares},
    }
