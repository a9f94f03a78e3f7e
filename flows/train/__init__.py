"""Networks are trained, taught, registered, and evaluated on devices.

The flow `train` is handed on from here, and loaded when it is asked for.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "train":
        from flows.train.flow import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
