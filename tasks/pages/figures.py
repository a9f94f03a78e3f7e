"""Figures as PNG bytes. Each says of what it is; colours are safe for colour-blind readers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from storage.tables.beats import R_INDEX
from tasks.pages.colours import AF, NOT_AF
from tasks.pages.numbers import label_of
from tasks.scores.bootstrap import Interval
from tasks.scores.calibration import calibration
from tasks.scores.curves import Curve, precision_recall
from tasks.scores.curves import roc as roc_corners
from tasks.scores.levels.certainty import ACCURACY, coverage_at
from tasks.scores.metrics import area_under_roc, confusion
from tasks.scores.pareto import COSTS, Point, front

BLUE, ORANGE, GREY = NOT_AF, AF, "#777777"
CLASSES = ("not AF", "AF")
#: Corners of a curve that are drawn, at most.
MOST_CORNERS = 4_000
#: A curve without a corner.
NO_CURVE: Curve = (np.empty(0), np.empty(0))
#: Below this share of the beats, accuracy is of few: it may lie below the drawn field.
LEAST_COVERAGE = 0.1
#: Colour of a beat by what it counts as.
CLASS_COLOUR = {"AF": ORANGE, "not AF": BLUE, "no label": GREY}


@dataclass(frozen=True, eq=False)
class RhythmBeats:
    """Some beats of one rhythm: its name, "AF", "not AF" or "no label", (n, 300) mV, and places."""

    rhythm: str
    means: str
    waveform: NDArray[np.float32]
    place: list[str]


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()


def _figure(title: str, width: float = 6.4, height: float = 4.8) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=9)
    return figure


def confusion_matrix(
    label: NDArray[np.int8], probability: NDArray[np.float32], threshold: float, title: str
) -> bytes:
    """Counts and row percentages of truth (rows) against decision (columns)."""
    matrix = np.asarray(confusion(label, probability, threshold), dtype=np.int64).reshape(2, 2)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = _figure(title, 5.6, 4.8)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i in range(2):
        for j in range(2):
            colour = "white" if share[i, j] > 0.5 else "black"
            text = f"{matrix[i, j]:,}\n{share[i, j]:.1%}"
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=13)
    axes.set_xticks((0, 1), CLASSES)
    axes.set_yticks((0, 1), CLASSES)
    axes.set_xlabel("decision")
    axes.set_ylabel("annotated")
    return _png(figure)


def roc(label: NDArray[np.int8], probability: NDArray[np.float32], title: str) -> bytes:
    """The receiver operating characteristic, with the area under it."""
    figure = _figure(title, 5.6, 5.2)
    _roc(figure.subplots(), label, probability)
    return _png(figure)


def curves(
    label: NDArray[np.int8],
    probability: NDArray[np.float32],
    title: str,
    accuracy: Curve | None = None,
) -> bytes:
    """ROC, precision over recall, and calibration, side by side; where given, what is told.

    `accuracy` is that over coverage, shape (k,) each.
    """
    figure = _figure(title, 11.2 if accuracy is None else 14.8, 3.9)
    first, second, third, *fourth = figure.subplots(1, 3 if accuracy is None else 4)
    _roc(first, label, probability)
    second.plot(*_thin(precision_recall(label, probability)), color=BLUE, lw=2)
    _unit(second, "sensitivity", "PPV")
    bins = calibration(label, probability)
    third.plot(bins.probability, bins.true, "o-", color=BLUE, label=f"error {bins.error:.4f}")
    third.legend(loc="lower right")
    _unit(third, "P(AF)", "share of AF", diagonal=True)
    for axes in fourth:
        _told(axes, *_thin(accuracy or NO_CURVE))
    return _png(figure)


def _told(axes: Axes, coverage: NDArray[np.float64], accuracy: NDArray[np.float64]) -> None:
    """How right is what is told, as more of it is told; the axis of accuracy is stretched."""
    best = coverage_at(ACCURACY, coverage, accuracy)
    axes.plot(coverage, accuracy, color=BLUE, lw=2, label=f"{ACCURACY} at {best:.3f} of the beats")
    axes.axhline(ACCURACY, color=GREY, lw=1, ls=":")
    axes.legend(loc="lower left")
    least = float(accuracy[coverage >= LEAST_COVERAGE].min(initial=ACCURACY))
    room = (1 - least) * 1.3
    axes.set(xlabel="share of beats told", ylabel="accuracy of those", xlim=(0, 1))
    axes.set(ylim=(max(1 - room, 0.0), 1 + 0.05 * room), box_aspect=1)


def _roc(axes: Axes, label: NDArray[np.int8], probability: NDArray[np.float32]) -> None:
    if 0 < int(label.sum()) < len(label):
        area = area_under_roc(label, probability)
        axes.plot(
            *_thin(roc_corners(label, probability)), color=BLUE, lw=2, label=f"AUC {area:.4f}"
        )
        axes.legend(loc="lower right")
    else:
        axes.text(0.5, 0.5, "one class only: no curve", ha="center")
    _unit(axes, "1 - specificity", "sensitivity", diagonal=True)


def _thin(curve: Curve) -> Curve:
    """A curve's corners, shape (k,) each: of many, so many as can be seen."""
    place = np.unique(np.linspace(0, max(len(curve[0]) - 1, 0), MOST_CORNERS).astype(np.int64))
    return (curve[0][place], curve[1][place]) if len(curve[0]) else curve


def _unit(axes: Axes, x: str, y: str, *, diagonal: bool = False) -> None:
    """A field from 0 to 1 both ways."""
    if diagonal:
        axes.plot((0, 1), (0, 1), color=GREY, lw=1, ls=":")
    axes.set(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.01))
    axes.set_aspect("equal")


def intervals(
    rows: Sequence[tuple[str, Interval]], title: str, crosses: Sequence[float] | None = None
) -> bytes:
    """A row a value: a point on its 95 % interval, with a cross beside; else a line at zero."""
    figure = _figure(title, 8, 1.0 + 0.34 * len(rows))
    axes = figure.subplots()
    for place, (_, interval) in enumerate(rows):
        axes.plot((interval.low, interval.high), (place, place), color=BLUE, lw=2, alpha=0.6)
        axes.plot(interval.value, place, "o", color=BLUE)
    if crosses is None:
        axes.axvline(0, color=GREY, lw=1, ls=":")
    else:
        axes.plot(crosses, range(len(rows)), "x", color=ORANGE, mew=2, ms=7)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.25)
    return _png(figure)


def training_curves(history: Mapping[str, Sequence[float]], title: str) -> bytes:
    """Loss and accuracy by epoch, training and validation."""
    figure = _figure(title, 8, 3.6)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        epochs = np.arange(1, len(history[name]) + 1)
        axes.plot(epochs, history[name], color=BLUE, marker=".", label="training")
        axes.plot(epochs, history[f"val_{name}"], color=ORANGE, marker=".", label="validation")
        axes.set(xlabel="epoch", ylabel=name)
        axes.legend()
    return _png(figure)


def beats_by_rhythm(rows: Sequence[RhythmBeats], title: str) -> bytes:
    """One row of beats a rhythm, each in a field of its own under the place it comes from."""
    most = max(len(row.waveform) for row in rows)
    figure = _figure(title, 1.3 * most + 1.6, 1.25 * len(rows) + 0.6)
    fields = figure.subplots(len(rows), most, squeeze=False)
    for row, line in zip(rows, fields, strict=True):
        low, high = float(row.waveform.min()), float(row.waveform.max())
        margin = 0.05 * max(high - low, 0.1)
        for number, axes in enumerate(line):
            axes.set_xticks(())
            axes.set_yticks(())
            axes.spines[:].set_visible(False)
            if number < len(row.waveform):
                axes.axvline(R_INDEX, color="#dddddd", lw=1)
                axes.plot(row.waveform[number], color=CLASS_COLOUR[row.means], lw=1.1)
                axes.set(ylim=(low - margin, high + margin), xlim=(0, row.waveform.shape[1] - 1))
                axes.set_title(row.place[number], fontsize=6, color=GREY, pad=2)
        line[0].set_ylabel(
            f"{row.rhythm or '(none)'}\n{row.means}",
            rotation=0,
            ha="right",
            va="center",
            fontsize=8,
        )
    return _png(figure)


def per_patient(
    label: NDArray[np.int8],
    probability: NDArray[np.float32],
    subject: NDArray[np.str_],
    threshold: float,
    title: str,
) -> bytes:
    """Accuracy of every test subject as a bar, with its share of AF beats beside."""
    names = np.unique(subject)
    rows = []
    for name in names:
        own = subject == name
        right = (probability[own] >= threshold) == (label[own] == 1)
        rows.append((str(name), float(right.mean()), float(label[own].mean()), int(own.sum())))
    rows.sort(key=lambda row: row[1])
    figure = _figure(title, 7, 1.6 + 0.32 * len(rows))
    axes = figure.subplots()
    place = np.arange(len(rows))
    axes.barh(place + 0.2, [row[1] for row in rows], 0.4, color=BLUE, label="accuracy")
    axes.barh(place - 0.2, [row[2] for row in rows], 0.4, color=ORANGE, label="share of AF beats")
    axes.set_yticks(place, [f"{row[0]}  ({row[3]:,} beats)" for row in rows], fontsize=8)
    axes.set_xlim(0, 1)
    figure.legend(loc="outside lower center", ncols=2)
    return _png(figure)


def shares(
    edges: Mapping[str, NDArray[np.float64]],
    reference: Mapping[str, NDArray[np.float64]],
    new: Mapping[str, NDArray[np.float64]],
    title: str,
) -> bytes:
    """Shares of beats over bins, reference and new, a field a quantity; the outer bins are open."""
    figure = _figure(title, 3.6 * len(edges), 3.2)
    fields = figure.subplots(1, len(edges), squeeze=False)[0]
    for axes, (name, inner) in zip(fields, edges.items(), strict=True):
        width = float(inner[1] - inner[0])
        outer = np.concatenate([[inner[0] - width], inner, [inner[-1] + width]])
        for side, colour, label in ((reference, BLUE, "training"), (new, ORANGE, "new")):
            axes.stairs(side[name], outer, color=colour, lw=1.6, label=label)
        axes.set(xlabel=name, ylabel="share of beats", ylim=(0, None))
    fields[0].legend(fontsize=8)
    return _png(figure)


def pareto(points: Sequence[Point], latency: str, title: str) -> bytes:
    """F1 against each cost on a log axis, a field a cost: points that no other beats are joined.

    Parameters
    ----------
    points : sequence of Point
        Of one test set.
    latency : str
        Whose latency it is, for its axis.
    title : str
        Data set, split and level.
    """
    figure = _figure(title, 10.4, 7.6)
    for axes, (cost, label) in zip(figure.subplots(2, 2).flat, COSTS.items(), strict=True):
        measured = [p for p in points if cost in p.costs and p.f1 == p.f1]  # NaN is no F1
        best = front(points, cost)
        axes.set(xlabel=latency if cost == "latency_us" else label, ylabel=label_of("f1"))
        if not measured:
            axes.set(xticks=(), yticks=())
            axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
            continue
        axes.set_xscale("log")
        axes.plot([p.costs[cost] for p in best], [p.f1 for p in best], color=BLUE, lw=1, alpha=0.6)
        for point in measured:
            leads = point in best
            colour, weight = (BLUE, 1.0) if leads else (GREY, 0.45)
            at = (point.costs[cost], point.f1)
            if point.bounds:
                axes.plot([at[0]] * 2, point.bounds, color=colour, lw=1, alpha=0.4 * weight)
            axes.plot(*at, "o", color=colour, alpha=weight, ms=6 if leads else 5)
        _room(axes, [p.costs[cost] for p in measured])
        _label_points(axes, measured, best, cost)
        axes.grid(alpha=0.25)
    return _png(figure)


def _label_points(axes: Axes, points: Sequence[Point], best: Sequence[Point], cost: str) -> None:
    """Names in a column right of the points, a line from each: none lies on another."""
    axes.get_ylim()  # settles the scale
    to_axes = axes.transData + axes.transAxes.inverted()
    ordered = sorted(points, key=lambda p: (-p.f1, p.costs[cost]))
    heights = [to_axes.transform((p.costs[cost], p.f1))[1] for p in ordered]
    for point, height in zip(ordered, spread(heights, 0.055), strict=True):
        colour, weight = (BLUE, 1.0) if point in best else (GREY, 0.75)
        axes.annotate(
            point.name,
            (point.costs[cost], point.f1),
            xytext=(0.57, height),
            textcoords=axes.transAxes,
            va="center",
            fontsize=6.5,
            color=colour,
            alpha=weight,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "lw": 0.5,
                "alpha": 0.4,
                "relpos": (0, 0.5),
            },
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Falling heights within 0 to 1, moved apart until neighbours are a gap from each other.

    Where there are too many for that, they share the height evenly.
    """
    gap = min(gap, 1 / max(len(heights), 1))
    out: list[float] = []
    for number, height in enumerate(heights):
        lowest = gap * (len(heights) - number - 0.5)  # what comes below needs room too
        out.append(max(min(height, out[-1] - gap if out else 1 - gap / 2), lowest))
    return out


def _room(axes: Axes, costs: Sequence[float]) -> None:
    """Leave room for names right of the dearest point, and for figures of two at least."""
    low, high = min(costs), max(costs)
    span = max(high / low, 2.0)
    axes.set_xlim(low / span**0.08, low * span**2)
    ticks = [t for t in _ONE_TWO_FIVE if axes.get_xlim()[0] <= t <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [_short(t) for t in ticks], fontsize=8)
    axes.minorticks_off()


_ONE_TWO_FIVE = [m * 10.0**k for k in range(-3, 12) for m in (1, 2, 5)]


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {letter}"
    return f"{value:g}"


def fleet_figure(points: Sequence[tuple[str, Mapping[str, float]]]) -> bytes:
    """F1 over the 99th percentile of a beat's latency on a log axis, a named point a report."""
    figure = _figure("Devices and models, each on the model's own test set", 8, 5)
    axes = figure.subplots()
    for name, metrics in points:
        if "f1" in metrics and "latency_p99_ms" in metrics:
            at = (metrics["latency_p99_ms"], metrics["f1"])
            axes.plot(*at, "o")
            axes.annotate(name, at, xytext=(6, 3), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel=label_of("latency_p99_ms"), ylabel=label_of("f1"))
    axes.grid(alpha=0.3)
    return _png(figure)
