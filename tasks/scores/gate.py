"""The gate of a staged release: what a canary's report must show before others follow."""

from __future__ import annotations

from collections.abc import Mapping

#: Largest difference of a score between device and server: one machine's rounding, not a bug.
MOST_DIFFERENCE = 1e-3
SCORES = ("f1", "sensitivity", "specificity", "f1_weighted")
#: A beat is to be decided well before the next one comes (300 beats a minute).
MOST_P99_MS = 100.0


def gate(
    device: Mapping[str, float], server: Mapping[str, float], most_p99_ms: float = MOST_P99_MS
) -> list[str]:
    """What keeps a report from passing; empty if nothing does.

    Parameters
    ----------
    device : mapping
        Metrics of the canary's report.
    server : mapping
        The server's own on the same test set.
    most_p99_ms : float
        Largest 99th percentile of one beat's latency.
    """
    wrong = differences(device, server)
    latency = device.get("latency_p99_ms", float("nan"))
    if not latency <= most_p99_ms:
        wrong.append(f"p99 {latency:.1f} ms; at most {most_p99_ms:g} ms")
    return wrong


def differences(device: Mapping[str, float], server: Mapping[str, float]) -> list[str]:
    """Where a report differs from what the server scored on the same test set."""
    wrong = []
    if device.get("n_beats") != server.get("n_beats"):
        wrong.append(f"{device.get('n_beats')} beats; the server had {server.get('n_beats')}")
    for name in SCORES:
        if name not in server:
            continue  # undefined there: a class without beats
        figure = device.get(name, float("nan"))
        if not abs(figure - server[name]) <= MOST_DIFFERENCE:
            wrong.append(f"{name} {figure:.4f}; the server has {server[name]:.4f}")
    return wrong
