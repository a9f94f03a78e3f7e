"""The compiled inner loops, where they are: numpy arrays to `kernels.c` and back.

`LIBRARY` is None where nothing was compiled, or another source was. Each user then takes its own
numpy twin, slower and to the same bits.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

from numpy.typing import NDArray

from storage.compiled.build import LIBRARY as PATH
from storage.compiled.build import source_sha256

_SIZE, _FLOAT, _AT, _BYTE = ctypes.c_ssize_t, ctypes.c_float, ctypes.c_void_p, ctypes.c_char
#: What each function takes, and what it gives.
_TYPES: dict[str, tuple[list[Any], Any]] = {
    "shrink_work": ([_SIZE] * 3, _SIZE),
    "shrink": (
        [_AT, _SIZE, _SIZE, _SIZE, _AT, _SIZE, _SIZE, ctypes.c_double, _AT, _AT],
        None,
    ),
    "moving_mean": ([_AT, _SIZE, _SIZE, _AT, _AT], None),
    "highest": ([_AT, _SIZE, _SIZE, _SIZE, _FLOAT, _AT], _SIZE),
    "look": ([_AT] * 4 + [_SIZE] * 4 + [_AT] * 3, None),
    "judge": ([_AT] * 4 + [_SIZE] + [_AT] * 4, _SIZE),
    "steps": ([_AT, _SIZE, _SIZE, _AT, _AT], None),
    "segment": ([_AT, _SIZE, _AT, _AT, _AT, _SIZE, _AT, _SIZE, _SIZE, _AT], None),
    "noise": ([_AT, _SIZE, _SIZE, _AT], None),
    "cells": ([_AT, _SIZE, _SIZE, _AT, _AT, _AT, _AT], None),
    "runs": ([_AT, _SIZE, _SIZE, _FLOAT, _AT], None),
    "digests": ([_AT, _SIZE, _SIZE, _AT], None),
    "leads": ([_AT, _SIZE, ctypes.c_double, _AT], None),
    "decode_16": ([_AT, _SIZE, _SIZE, _SIZE, ctypes.c_int32, _FLOAT, _FLOAT, _AT], None),
    "decode_212": ([_AT, _SIZE, _SIZE, _SIZE, ctypes.c_int32, _FLOAT, _FLOAT, _AT], None),
}


def memory(x: NDArray[Any]) -> int:
    """Where a contiguous array's bytes begin."""
    try:
        return ctypes.addressof(
            _BYTE.from_buffer(x.data)
        )  # a fifth of the time that numpy's own takes
    except (TypeError, ValueError):  # of an array that may not be written, or is empty
        if not x.flags.c_contiguous:
            raise
        at: int = x.__array_interface__["data"][0]
        return at


def load() -> Any:
    """The functions of the library that this source was compiled to; None where there is none."""
    try:
        library = ctypes.CDLL(str(PATH))
        library.holter_source.restype = ctypes.c_char_p
        if library.holter_source() != source_sha256().encode():
            return None
        functions = {name: library[f"holter_{name}"] for name in _TYPES}
    except (OSError, AttributeError):
        return None
    for name, (arguments, result) in _TYPES.items():
        functions[name].argtypes, functions[name].restype = arguments, result
    return SimpleNamespace(**functions)


#: The functions of `kernels.c`, each by its name without "holter_"; None where there are none.
#: They hold no lock of Python's and keep nothing. The caller sees to types, lengths and memory.
LIBRARY = load()
