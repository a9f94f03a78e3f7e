"""What is required of speed and memory, beside what the other sections measured last."""

from __future__ import annotations

from statistics import mean

from bench.tables import RESULTS, Cell, Table, read_result

#: Figure; the section, table, row and column that it is of; required; "most" or "least".
REQUIRED: tuple[tuple[str, tuple[str, int, str, int], float, str], ...] = (
    ("10 h, one lead, warm: ratio", ("before", 0, "10 h, WFDB 212, warm", 3), 0.5, "most"),
    ("24 h, one lead, warm: ratio", ("before", 0, "24 h, WFDB 212, warm", 3), 0.5, "most"),
    ("10 h: times as fast as the stock-Python best", ("signal", 0, "stock-Python", 2), 3, "least"),
    ("24 h analysed, `rhythm`: ratio", ("analyse", 0, "`rhythm`", 3), 0.5, "most"),
    (
        "24 h analysed, `fused_cues` beside `fused`: ratio",
        ("analyse", 0, "`fused_cues`", 3),
        0.5,
        "most",
    ),
    (
        "twelve leads at 1000 Hz, one wanted, warm: ratio",
        ("before", 0, "24 h, WFDB 16, twelve leads, 1000 Hz, warm", 3),
        0.6,
        "most",
    ),
    (
        "FLAC, warm: ratio",
        ("before", 0, "24 h, WFDB FLAC (516), two leads, 250 Hz, warm", 3),
        0.6,
        "most",
    ),
    ("23 records of 10 h through the flow, wall: ratio", ("dataset", 1, "wall", 1), 0.6, "most"),
    ("the same: CPU over no Prefect, %", ("dataset", 0, "Prefect, ThreadPool", 4), 10, "most"),
    (
        "an evaluation of 1,256 h of annotations, CPU s",
        ("evaluation", 0, "in all", 1),
        40,
        "most",
    ),
    ("`lineage` of a local store, CPU s", ("lineage", 0, "`holter lineage", 2), 1.5, "most"),
    ("`doctor`, CPU s", ("commands", 0, "`holter doctor", 2), 1.5, "most"),
    ("`status`, CPU s", ("commands", 0, "`holter status", 2), 1.5, "most"),
    ("`verify`, CPU s", ("commands", 0, "`holter verify", 2), 1.5, "most"),
    ("`data check`, 1,000 records: ratio", ("commands", 0, "`holter data check`", 3), 0.5, "most"),
    (
        "training `resnet25`: beats a CPU s, times stock",
        ("training", 0, "resnet25, two side by side", 4),
        1.6,
        "least",
    ),
    (
        "training `fused`: beats a CPU s, times stock",
        ("training", 0, "fused, two side by side", 4),
        1.6,
        "least",
    ),
    ("one beat of `resnet21`, float32, us", ("beat", 0, "`litert-float32`", 1), 40, "most"),
    ("one beat of `resnet21`, int8, us", ("beat", 0, "`litert-int8`", 1), 34, "most"),
)


def figure(section: str, table: int, row: str, column: int) -> float:
    """A figure of another section's newest result, by how its row begins."""
    rows = read_result(RESULTS / f"{section}.json").tables[table].rows
    value = next(cells for cells in rows if str(cells[0]).startswith(row))[column]
    if not isinstance(value, int | float):
        raise SystemExit(f"{section}: found {value!r} at {row!r}; expected a number")
    return value


def scaling() -> tuple[float, float]:
    """How far CPU an hour lies off its mean, and memory beyond 30 h over that of 30 h, %."""
    rows = read_result(RESULTS / "scaling.json").tables[0].rows
    hours, ms, _, mb = ([float(str(cell)) for cell in column] for column in zip(*rows, strict=True))
    beyond = max(m for m, h in zip(mb, hours, strict=True) if h > 30)
    return 100 * max(abs(x / mean(ms) - 1) for x in ms), 100 * (beyond / mb[hours.index(30)] - 1)


def row_of(name: str, value: float, required: float, limit: str) -> list[Cell]:
    """A row: what is required, what was measured, and whether that is enough."""
    reached = value <= required if limit == "most" else value >= required
    return [name, f"at {limit} {required:g}", value, "yes" if reached else "no"]


def run() -> list[Table]:
    """Gather, and give the section's table."""
    rows = [row_of(name, figure(*at), required, way) for name, at, required, way in REQUIRED]
    off, over = scaling()
    rows.append(row_of("1 to 1,000 h: CPU an hour off its mean, %", off, 10, "most"))
    rows.append(row_of("beyond 30 h: peak memory over that of 30 h, %", over, 20, "most"))
    columns = [("figure", None), ("required", None), ("measured", 3), ("reached", None)]
    return [Table("Required and measured, ratios against f5676ade31cf", list(columns), rows)]
