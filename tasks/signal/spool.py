"""A band-passed lead that is too long for memory, in a file that nobody else sees.

It is 4 bytes a sample, without a name, and gone with its reader. Where there is no room for it, the
lead is filtered again in its place.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np

from tasks.signal.filters import Floats

#: Of a disk; what lies in /tmp may lie in memory.
FOLDER = Path("/var/tmp")  # noqa: S108 - a file without a name
#: Room that is left to others, as a multiple of what is taken.
LEFT = 1.0


class Spool:
    """Samples that are written once, in order, and read where they are wanted.

    Parameters
    ----------
    n_samples : int
        How many there will be.

    Raises
    ------
    OSError
        There is no room for them.
    """

    def __init__(self, n_samples: int) -> None:
        chosen = os.environ.get("TMPDIR") or (FOLDER if FOLDER.is_dir() else tempfile.gettempdir())
        free = shutil.disk_usage(chosen).free
        if free < 4 * n_samples * (1 + LEFT):
            raise OSError(f"{chosen}: {free} bytes free; expected {4 * n_samples * (1 + LEFT):g}")
        self._file = tempfile.TemporaryFile(dir=chosen, buffering=0)  # noqa: SIM115 - see below
        weakref.finalize(self, self._file.close)

    def append(self, samples: Floats) -> None:
        """Write the next samples; OSError where the disk is full."""
        rest = np.ascontiguousarray(samples).data.cast("B")
        while len(rest):
            rest = rest[self._file.write(rest) :]

    def read(self, start: int, stop: int) -> Floats:
        """Read samples [start, stop).

        Raises
        ------
        OSError
            They are not there.
        """
        out = np.empty(stop - start, np.float32)
        if os.preadv(self._file.fileno(), [out.data], 4 * start) != out.nbytes:
            raise OSError(f"samples {start} to {stop} of a lead on disk cannot be read")
        return out
