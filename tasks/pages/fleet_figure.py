"""A picture of devices and models: F1 against the latency of one beat."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence


def fleet_figure(points: Sequence[tuple[str, Mapping[str, float]]]) -> bytes:
    """Draw a named point a report, F1 over p99 latency in ms on a log axis; gives a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, metrics in points:
        if "f1" in metrics and "latency_p99_ms" in metrics:
            at = (metrics["latency_p99_ms"], metrics["f1"])
            axes.plot(*at, "o")
            axes.annotate(name, at, xytext=(6, 3), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel="p99 of one beat, ms", ylabel="F1 of AF, beat level")
    axes.set_title("Devices and models, each on the model's own test set")
    axes.grid(alpha=0.3)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()
