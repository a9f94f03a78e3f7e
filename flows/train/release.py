"""The release step: a network's file for each runtime, held to Keras's answers; a signature."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.train.training_run import step, work_folder
from storage.audit import versions
from storage.errors import ModelError, ParityError
from storage.files import read_json
from storage.registry import tracking
from storage.registry.client import fetch_model_file
from storage.registry.model_files import LITERT, MANIFEST, WEIGHTS, write_model_files
from storage.registry.signing import MOST_MANIFEST, sign_name, sign_release
from storage.tables.golden_beats import GOLDEN, write_golden
from tasks.learning.training import predict
from tasks.networks.cost import multiply_adds
from tasks.networks.pruning import zero_weights
from tasks.runtimes.convert import EXPORTS, check, compare
from tasks.runtimes.litert import af_probability
from tasks.runtimes.runtimes import REFERENCE, Network, files_of, installed_runtime, usual

GOLDEN_BEATS, GOLDEN_WINDOWS = 16, 2
#: Rows of one call while runtimes are timed, and passes of which the quickest counts.
BATCH, PASSES = 32, 3


@step
def export_network(
    network: Any,
    rows: Mapping[str, NDArray[np.float32]],
    label: NDArray[np.int8],
    metadata: Mapping[str, Any],
    run_id: str,
    runtime: str | None = None,
) -> Path:
    """Make a release: Keras model, HDF5 weights, and the files of the runtimes that hold parity.

    The LiteRT file of `runtime`, else the quickest of those that hold it, becomes `model.tflite`,
    which is scored, tested on devices and run there unless they ask for another; the others lie
    beside it. What was found, and why a runtime is left out, is in the manifest.

    Parameters
    ----------
    network : keras.Model
        The trained network.
    rows : mapping of str to float32
        Inputs of training patients: they fix int8's ranges, parity is measured on them, and the
        first are the golden beats.
    label : int8, shape (n,) or (n, beats)
        Of those; -1 is not counted.
    metadata : mapping
        What the manifest is to say; "threshold" is among it.
    run_id : str
        The training's run.
    runtime : str, optional
        The runtime that is to be usual.

    Raises
    ------
    ParityError
        The float32 export does not answer as Keras does, or that of `runtime`.
    """
    expected = predict(network, rows)
    files: dict[str, bytes] = {}
    results: dict[str, dict[str, Any]] = {}
    for name, export in EXPORTS.items():
        results[name] = {"limits": asdict(export.limits)}
        try:
            data = export.make(network, rows)
            runner = installed_runtime(name).open(data, network.name, 1)
            answer = af_probability(runner.predict(rows))
            parity = compare(expected, answer, label, float(metadata["threshold"]))
            results[name] |= {**asdict(parity), "bytes": len(data)}
            check(name, parity)
        except (ParityError, ModelError) as error:
            if name in (REFERENCE, runtime):
                raise
            results[name]["refused"] = str(error)
            continue
        files[name] = data
        results[name]["cpu_us_per_row"] = _cpu_us(runner, rows)
    default = runtime or quickest(results)
    folder = work_folder(run_id) / "model"
    tracking.save_keras_flavor(network, folder)
    paths = {name: LITERT if name == default else EXPORTS[name].file for name in files}
    for name, path in paths.items():
        results[name]["file"] = path
    results["keras-hdf5"] = {"file": WEIGHTS}
    costs = {
        "parameters": network.count_params(),
        "zero_weights": zero_weights(network),
        "multiply_adds": multiply_adds(network),
    }
    manifest = {**metadata, **costs, "runtime": default, "runtimes": results, "run_id": run_id}
    write_model_files(folder, network, {paths[k]: data for k, data in files.items()}, manifest)
    tracking.log_metrics(
        run_id,
        {
            **costs,
            "parity_max_abs_error": results[REFERENCE]["max_abs_error"],
            **{f"bytes_{name}": len(data) for name, data in files.items()},
        },
    )
    count = GOLDEN_BEATS if label.ndim == 1 else GOLDEN_WINDOWS
    seal(folder, {name: array[:count] for name, array in rows.items()})
    return folder


def quickest(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The quickest of the LiteRT files that hold parity, by what was found of every runtime."""
    suffix = Path(LITERT).suffix
    times = {
        name: float(facts["cpu_us_per_row"])
        for name, facts in results.items()
        if "cpu_us_per_row" in facts and Path(EXPORTS[name].file).suffix == suffix
    }
    return min(times, key=times.__getitem__)


def _cpu_us(runner: Network, rows: Mapping[str, NDArray[np.float32]]) -> float:
    """CPU time of a row in batches of 32, microseconds: the quickest of three passes."""
    passes = []
    for _ in range(PASSES):
        start = time.process_time()
        runner.predict(rows, BATCH)
        passes.append(time.process_time() - start)
    return 1e6 * min(passes) / len(next(iter(rows.values())))


def name_again(reference: str) -> str:
    """State, signed, the name and number of a version that was registered without; gives them.

    The manifest is the one that the version's sealed chain names, whatever the server answers.

    Raises
    ------
    SignatureError, RegistryError
        The version has no sealed chain, or its manifest is not the one of the chain.
    """
    version = versions.read_version(reference)
    model, digest = version.model, version.files[MANIFEST]
    with TemporaryDirectory() as folder:
        to = Path(folder)
        fetch_model_file(model.name, model.version, MANIFEST, digest, to, MOST_MANIFEST)
        tracking.log_name(model, sign_name(to, model.name, model.version))
    return model.reference


def seal(folder: Path, inputs: Mapping[str, NDArray[np.float32]]) -> None:
    """Keep the answers to the first sixteen beats for devices' self-tests, and sign the folder."""
    golden = {name: np.ascontiguousarray(array[:GOLDEN_BEATS]) for name, array in inputs.items()}
    manifest = read_json(folder / MANIFEST)
    answers = {}
    for runtime, file in files_of(manifest).items():
        if runtime in EXPORTS:
            network = installed_runtime(runtime).open((folder / file).read_bytes(), "", 1)
            answers[runtime] = af_probability(network.predict(golden))
    write_golden(folder / GOLDEN, golden, answers.pop(usual(manifest)), answers)
    sign_release(folder)
