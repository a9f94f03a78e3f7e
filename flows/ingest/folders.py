"""What is told of each of several data sets: folder, weight, whether its signals are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from storage.bounds import all_within
from storage.datasets.dataset import data_folder, load_spec, record_names


def one_each(
    datasets: Sequence[str], data: Sequence[Path] | None, weights: Sequence[float] | None
) -> list[Path | None]:
    """The folder of each data set's records; None where its TOML is to name it.

    Raises
    ------
    SpecError
        The records of one are not where they are to be.
    ValueError
        A data set is named twice, there is not one folder or weight for each, or a weight is not
        above 0.
    """
    names = [load_spec(one).name for one in datasets]
    if len(set(names)) < len(names):
        raise ValueError(f"each data set once; found {', '.join(names)}")
    for what, given in {"folder": data, "weight": weights}.items():
        if given and len(given) != len(names):
            raise ValueError(
                f"one {what} or none for each data set ({', '.join(names)}); found {len(given)}"
            )
    all_within(weights=list(weights or ()))
    folders: list[Path | None] = [*data] if data else [None] * len(names)
    for name, folder in zip(datasets, folders, strict=True):
        spec = load_spec(name)
        record_names(spec, data_folder(spec, folder))
    return folders


def signals_of(datasets: Sequence[str], signal: Sequence[bool] | bool | None) -> list[bool]:
    """Whether the signals of each data set are read.

    Parameters
    ----------
    datasets : sequence of str
        Names, or TOMLs.
    signal : bool or list of bool, optional
        One for all or one for each; the TOMLs' own where not given.

    Raises
    ------
    ValueError
        There are more than one, but not one for each.
    """
    choices = [signal] if isinstance(signal, bool) else signal or []
    specs = [load_spec(dataset) for dataset in datasets]
    if len(choices) not in (0, 1, len(specs)):
        names = ", ".join(spec.name for spec in specs)
        raise ValueError(
            f"signal or no signal once, or once for each data set ({names}); found {len(choices)}"
        )
    if not choices:
        return [spec.records.signal for spec in specs]
    return [*choices] if len(choices) == len(specs) else [*choices] * len(specs)


#: The data set of the published method, and what stands in where its signals are not there.
PUBLISHED_ON, INSTEAD = "afdb", ("mitdb", "cpsc2021")


def folder_in(data: Path, dataset: str) -> Path:
    """The folder of a data set in one that holds several, or in one that is its own."""
    return data / dataset if (data / dataset).is_dir() else data


def reproduced_on(data: Path) -> tuple[str, ...]:
    """The data sets that the published method is first looked for on, by the folders there."""
    stand_in = (data / INSTEAD[0]).is_dir() and not (data / PUBLISHED_ON).is_dir()
    return INSTEAD if stand_in else (PUBLISHED_ON,)


def folders_of(
    datasets: list[str],
    given: list[Path] | None,
    weights: list[float] | None = None,
    signal: list[bool] | bool | None = None,
) -> list[Path]:
    """The folder of each data set; misuse where not one of what is given is for each."""
    folders = one_each(datasets, given, weights)
    signals_of(datasets, signal)
    return [data_folder(load_spec(name), at) for name, at in zip(datasets, folders, strict=True)]
