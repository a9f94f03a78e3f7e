"""The settings of data sets: folder, weight, whether their signals are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.settings import Settings, setting
from storage.datasets.dataset import data_folder, load_spec, record_names

#: What the setting `policy` says of itself.
POLICY = "Beats to keep where beats are annotated: agreed on, annotated, or detected."


class DatasetSettings(Settings):
    """One of a training's data sets."""

    dataset: str = setting(..., "Name of a data set, or path of its TOML on the worker's machine.")
    data: Path | None = setting(
        None, "Folder of its records; left out, the one that its TOML names."
    )
    weight: float | None = setting(
        None, "How often it is drawn against the other data sets; left out, as often as they."
    )
    signal: bool | None = setting(
        None, "Off reads annotations alone, no waveforms; left out, as the data set's TOML says."
    )


#: How a column of several data sets is asked for, where it is not once for each.
NUMBERS = {"data": "one folder or none", "signal": "signal or no signal once, or once"}


def data_sets(names: Sequence[str], **columns: Any) -> tuple[DatasetSettings, ...]:
    """The settings of each data set, from lists in one order.

    Parameters
    ----------
    names : sequence of str
        Names, or TOMLs.
    columns
        The other settings, by their names: none, one for each, of `signal` one for all too.

    Raises
    ------
    ValueError
        There are some of one kind, but not one for each data set.
    """
    signal = columns.get("signal")
    lists = {**columns, "signal": [signal] if isinstance(signal, bool) else signal}
    for column, values in lists.items():
        if len(values or ()) not in (0, len(names), *([1] if column == "signal" else [])):
            datasets = ", ".join(load_spec(name).name for name in names)
            expected = NUMBERS.get(column, f"one {column} or none")
            raise ValueError(f"{expected} for each data set ({datasets}); found {len(values)}")
    filled = {column: [*values] for column, values in lists.items() if values}
    rows = [
        {column: values[n % len(values)] for column, values in filled.items()}
        for n in range(len(names))
    ]
    return tuple(DatasetSettings(dataset=n, **row) for n, row in zip(names, rows, strict=True))


def resolve_folders(datasets: Sequence[DatasetSettings]) -> list[DatasetSettings]:
    """Each data set with the folder of its records, and whether their signals are read.

    Raises
    ------
    SpecError
        The records of one are not where they are to be.
    ValueError
        A data set is named twice.
    """
    specs = [load_spec(dataset.dataset) for dataset in datasets]
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise ValueError(f"each data set once; found {', '.join(names)}")
    results = []
    for dataset, spec in zip(datasets, specs, strict=True):
        folder = data_folder(spec, dataset.data)
        record_names(spec, folder)
        signal = spec.records.signal if dataset.signal is None else dataset.signal
        results.append(dataset.model_copy(update={"data": folder, "signal": signal}))
    return results


#: The data set of the published method, and what stands in where its signals are not there.
PUBLISHED_ON, INSTEAD = "afdb", ("mitdb", "cpsc2021")


def folder_in(data: Path, dataset: str) -> Path:
    """The folder of a data set in one that holds several, or in one that is its own."""
    return data / dataset if (data / dataset).is_dir() else data


def reproduced_on(data: Path) -> tuple[str, ...]:
    """The data sets that the published method is first looked for on, by the folders there."""
    stand_in = (data / INSTEAD[0]).is_dir() and not (data / PUBLISHED_ON).is_dir()
    return INSTEAD if stand_in else (PUBLISHED_ON,)
