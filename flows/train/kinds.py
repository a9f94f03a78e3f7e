"""What only networks of single beats, or only those of whole records, take in training."""

from __future__ import annotations

from typing import Any

#: Options of one kind: their usual value, and why the other kind has no other.
OF_BEATS: dict[str, tuple[object, str]] = {
    "paradigm": ("interpatient", "its split can only be interpatient"),
    "most_beats": (0, "a limit of beats is for single beats"),
}
OF_RECORDS: dict[str, tuple[object, str]] = {
    "averaged": (None, "an average of epochs is for whole records"),
    "signal": (True, "it needs the signal"),
}


def fitting(model: str, **options: Any) -> dict[str, Any]:
    """The options that a network's training takes; None leaves one to the training.

    Raises
    ------
    ValueError
        The network, paradigm or balance is not known, or an option is for the other kind.
    """
    from tasks.learning.balance import refuse_unless_balance  # numpy is not for `holter --help`
    from tasks.learning.splits import refuse_unless_paradigm
    from tasks.networks.sequence import reads_records

    refuse_unless_balance(options.get("balance", "beats"))
    refuse_unless_paradigm(options.get("paradigm", "interpatient"))
    whole = reads_records(model)
    kind = "whole records" if whole else "one beat at a time"
    for name, (usual, why) in (OF_BEATS if whole else OF_RECORDS).items():
        given = options.pop(name, usual)
        values = given if isinstance(given, list) else [given]  # of each data set
        if any(value not in (usual, None) for value in values):
            raise ValueError(f"{model} reads {kind}: {why}; found {name} {given}")
    return {name: value for name, value in options.items() if value is not None}
