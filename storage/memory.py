"""How the process keeps memory that it has freed."""

from __future__ import annotations

import ctypes
from functools import cache

#: Options of glibc's mallopt(3).
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
#: Freed memory goes back to the system beyond this much; a larger piece always does. The piece is
#: the largest that glibc allows: decoded samples of twelve leads are of such a size.
KEPT_BYTES, PIECE_BYTES = 64 << 20, 32 << 20


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep a little of what is freed; says whether it can.

    glibc gives pieces over 128 kB back to the system, which clears every page that it lends anew.
    The transforms of a lead ask for a thousand such pieces a day: a fifth of an analysis. Peak
    memory stays. Another C library goes its own way.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT_BYTES) and mallopt(MMAP_THRESHOLD, PIECE_BYTES))
