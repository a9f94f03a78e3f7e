"""The tables of a test by EC57 as text, in the layouts of WFDB's `bxb`, `epicmp` and `sumstats`.

An analyser that tells no ventricular beats has no figures of them: their columns hold `-`, the
programs' own sign of what is undefined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

from tasks.scores.episodes import EpisodeCounts
from tasks.scores.levels.ec57 import BeatCounts, CountsByRecord, average, total

BEATS_HEAD = (
    "Record Nn' Vn' Fn' On'  Nv   Vv  Fv' Ov' No' Vo' Fo'  Q Se   Q +P   V Se   V +P  V FPR"
)
SHUTDOWN_HEAD = (
    "Record Nx   Vx   Fx   Qx  % beats  % N    % V    % F   Total Shutdown\n"
    "                           missed missed missed missed      Time"
)
AF_HEAD = (
    "(AF detection)\nRecord  TPs   FN  TPp   FP  ESe E+P DSe D+P  Ref duration  Test duration "
)
#: What `bxb -l` counts of beats that an analyser tells as ventricular.
NO_VENTRICULAR = (0, 0, 0, 0)
AF_FIGURES = ("episode_sensitivity", "episode_ppv", "duration_sensitivity", "duration_ppv")


def tables(totals: CountsByRecord) -> dict[str, str]:
    """The three tables by what each is of: "qrs", "shutdown" and "af"; those of no record are not.

    Each is what `sumstats` answers on the programs' line formats: a row a record, then the sum,
    gross figures and averages.
    """
    beats = {"qrs": beats_table, "shutdown": shutdown_table} if totals.beats else {}
    out = {name: table(totals.beats) for name, table in beats.items()}
    return out | ({"af": af_table(totals.af)} if totals.af else {})


def beats_table(rows: Mapping[str, BeatCounts]) -> str:
    """The table of beats (`bxb -l`)."""
    lines = [BEATS_HEAD]
    for record, counts in rows.items():
        start = f"{record:>4} {{:5d}} {{:3d}} {{:3d}} {{:3d}} {{:3d}} {{:4d}} {{:3d}} {{:3d}}"
        lines.append(start.format(*_detections(counts)) + _misses(counts) + _beat_rates(counts))
    counts = total(rows.values())
    start = "Sum  {:6d} {:3d} {:3d} {:3d} {:3d} {:4d} {:3d} {:3d}"
    means = [
        average([row.metrics()[key] for row in rows.values()]) for key in ("sensitivity", "ppv")
    ]
    lines += [
        "_" * 86,
        start.format(*_detections(counts)) + _misses(counts),
        f"{'Gross':<54}{_beat_rates(counts)}",
        f"{'Average':<54}{_rates(means)}{_rates([float('nan')] * 3)}",
        f"Total QRS complexes: {counts.annotated}  Total VEBs: {counts.hits[1] + counts.missed[1]}",
    ]
    return _close(lines, len(rows))


def shutdown_table(rows: Mapping[str, BeatCounts]) -> str:
    """The table of what was missed where nothing was analysed (`bxb -l`)."""
    lines = [SHUTDOWN_HEAD]
    for record, counts in rows.items():
        cells = " ".join(f"{n:4d}" for n in counts.shut)
        rates = _rates(_shut_rates(counts))
        lines.append(f"{record:>4} {cells}  {rates}{counts.shut_s:5.0f} seconds")
    counts = total(rows.values())
    cells = " ".join(f"{n:4d}" for n in counts.shut)
    by_record = [_shut_rates(row) for row in rows.values()]
    means = [average(column) for column in zip(*by_record, strict=True)]
    lines += [
        "_" * 68,
        f"Sum   {cells}{'':31}{counts.shut_s:4.0f} seconds",
        f"{'Gross':<25}{_rates(_shut_rates(counts))}",
        f"{'Average':<25}{_rates(means)}",
    ]
    return _close(lines, len(rows))


def af_table(rows: Mapping[str, EpisodeCounts]) -> str:
    """The table of AF episodes (`epicmp -l -A`)."""
    lines = [AF_HEAD]
    for record, counts in rows.items():
        cells = " ".join(f"{n:4d}" for n in _episodes(counts))
        rates = "".join(_whole(value) for value in _af_rates(counts))
        times = f"{clock(counts.reference_s)}   {clock(counts.detected_s)}"
        lines.append(f"{record:>6} {cells} {rates}  {times}")
    counts = total(rows.values())
    cells = " ".join(f"{n:4d}" for n in _episodes(counts))
    by_record = [_af_rates(row) for row in rows.values()]
    means = [average(column) for column in zip(*by_record, strict=True)]
    lines += [
        "_" * 72,
        f"Sum    {cells}{'':19}{clock(counts.reference_s)}   {clock(counts.detected_s)}",
        f"{'Gross':<27}{''.join(map(_whole, _af_rates(counts)))}",
        f"{'Average':<27}{''.join(map(_whole, means))}",
    ]
    return _close(lines, len(rows))


def clock(seconds: float) -> str:
    """A length of time as WFDB writes it, twelve characters wide: "   3:57.236", " 2:11:59.704"."""
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{milliseconds / 1000:06.3f}"
    return f"{f'{hours}:{minutes:02d}:{rest}' if hours else f'{minutes}:{rest}':>12}"


def _detections(counts: BeatCounts) -> Iterable[int]:
    """Annotated N, V, F and Q together that were detected, extra beats; those told as V."""
    n, v, f, q = counts.hits
    return n, v, f + q, counts.extra, *NO_VENTRICULAR


def _misses(counts: BeatCounts) -> str:
    n, v, f, q = counts.missed
    return f" {n:3d} {v:3d} {f + q:3d}"


def _beat_rates(counts: BeatCounts) -> str:
    return _rates([*counts.metrics().values(), *[float("nan")] * 3])


def _shut_rates(counts: BeatCounts) -> list[float]:
    """Share of all beats, of N, V and F, that were missed where nothing was analysed."""
    totals = [hit + missed for hit, missed in zip(counts.hits, counts.missed, strict=True)]
    pairs = [(sum(counts.shut), sum(totals)), *zip(counts.shut[:3], totals[:3], strict=True)]
    return [part / whole if whole else float("nan") for part, whole in pairs]


def _episodes(counts: EpisodeCounts) -> tuple[int, ...]:
    hits, right = counts.hits, counts.right
    return hits, counts.reference - hits, right, counts.detected - right


def _af_rates(counts: EpisodeCounts) -> list[float]:
    metrics = counts.metrics()
    return [metrics[name] for name in AF_FIGURES]


def _rates(shares: Sequence[float]) -> str:
    return "".join(f" {100 * share:6.2f}" if isfinite(share) else f"{'-':>7}" for share in shares)


def _whole(share: float) -> str:
    return f" {int(100 * share + 0.5):3d}" if isfinite(share) else f"{'-':>4}"


def _close(lines: Sequence[str], records: int) -> str:
    plural = "" if records == 1 else "s"
    return "\n".join([*lines, "", f"Summary of results from {records} record{plural}", ""])
