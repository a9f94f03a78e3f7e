"""A beat table as an analyst reads it: `python read_table.py [TABLE]`.

Without a name it reads `beats/sim001.parquet`, which `ingest_record.py` leaves. A beat counts here
where both its RR intervals are known and nothing speaks against its signal.
"""

import sys
from pathlib import Path

import numpy as np

from storage.tables.beats import BAD, read_beats


def main() -> None:
    """Print the RR intervals of each rhythm of a table."""
    path = Path(sys.argv[1] if sys.argv[1:] else "beats/sim001.parquet")
    table = read_beats(path, waveform=False)
    usable = (table.quality & BAD) == 0
    usable &= np.isfinite(table.rr_prev_s) & np.isfinite(table.rr_next_s)
    print(f"{table.dataset}/{table.record}: {len(table)} beats, {usable.sum()} of them usable")
    print("rhythm  beats  mean RR s  SD of RR s  RMS of successive differences s")
    for rhythm in np.unique(table.rhythm):
        rows = usable & (table.rhythm == rhythm)
        before_s, after_s = table.rr_prev_s[rows], table.rr_next_s[rows]
        rmssd_s = np.sqrt(np.mean((after_s - before_s) ** 2))
        figures = f"{before_s.mean():9.3f}  {before_s.std():10.3f}  {rmssd_s:31.3f}"
        print(f"{rhythm:6}  {rows.sum():5}  {figures}")


if __name__ == "__main__":
    main()
