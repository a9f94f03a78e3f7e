"""What of a training was simulated: its data sets, and what it draws beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from storage.errors import ModelError
from tasks.networks.sequence import reads_records, reads_shapes


def simulated_records(params: Mapping[str, str]) -> int:
    """Simulated records that each epoch of a training draws beside its data sets, by its run."""
    return int(params.get("simulated", 0))


def simulations(params: Mapping[str, str], datasets: Iterable[Mapping[str, Any]]) -> list[str]:
    """What of a training was simulated, in sentences; none where nothing was.

    Parameters
    ----------
    params : mapping of str to str
        Of the training's run.
    datasets : iterable of mapping
        Its data sets' manifests, as the chain has them.
    """
    data = list(datasets)
    sentences = [
        f"data set {manifest['dataset']} is simulated" for manifest in data if manifest["simulated"]
    ]
    if count := simulated_records(params):
        sentences.append(f"{count} simulated records of sinus rhythm are drawn each epoch")
    bare = sum(entry["lead"] is None for manifest in data for entry in manifest["entries"])
    if bare and _reads_shapes(params.get("model", "")):
        sentences.append(f"{bare} records without a signal are given simulated shapes")
    return sentences


def _reads_shapes(name: str) -> bool:
    """Whether a network reads shapes; not told of one that this version does not know."""
    try:
        return reads_records(name) and reads_shapes(name)
    except ModelError:
        return False
