"""A model's folder: Keras model, HDF5 weights, LiteRT file, and a manifest of their digests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.files import sha256_file, write_bytes, write_json

LITERT = "model.tflite"
WEIGHTS = "model.weights.h5"
MANIFEST = "manifest.json"
#: What `mlflow artifacts download models:/NAME/1` adds to the files.
MLFLOW_META = "registered_model_meta"


def write_model_files(
    folder: Path, model: Any, exports: Mapping[str, bytes], details: Mapping[str, Any]
) -> None:
    """Add weights, exports and manifest to a folder that holds the Keras model.

    Parameters
    ----------
    folder : Path
        The model's folder.
    model : keras.Model
        The model whose weights go into HDF5.
    exports : mapping of str to bytes
        The exported model, by file name.
    details : mapping
        What else the manifest says: classes, threshold, what it was made from.
    """
    model.save_weights(folder / WEIGHTS)
    for name, data in exports.items():
        write_bytes(folder / name, data)
    files = {
        str(path.relative_to(folder)): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    write_json(
        folder / MANIFEST,
        {
            **details,
            "name": model.name,
            "parameters": model.count_params(),
            "inputs": inputs_of(model),
            "files": files,
        },
    )


def inputs_of(model: Any) -> dict[str, list[Any]]:
    """The first input's name and shape of a Keras model, as a manifest has them."""
    return {model.inputs[0].name: [None, *model.input_shape[1:]]}
