"""What people call each figure, with its unit and form, by the key that MLflow keeps it under.

The keys stay as they are in MLflow, in JSON and in CSV; pages and terminals show these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

NOT_MEASURED, UNDEFINED = "not measured", "-"


@dataclass(frozen=True)
class Number:
    """A figure's name, its unit where it has one, and how its value is written."""

    name: str
    unit: str = ""
    form: str = ".4f"


COUNT, POINTS, PSI = ",.0f", "percentage points", "population stability index"
RATES = {
    "f1": "F1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "accuracy": "accuracy",
}
#: What a rate is of, by how its key begins.
LEVELS = {"": "Beat", "beat_": "Beat", "segment_": "30 s segment", "record_": "Record"}
#: Levels of what is told alone.
TOLD_LEVELS = {name: LEVELS[name] for name in ("", "segment_", "record_")}
NUMBERS = {
    **{
        f"{level}{rate}": Number(f"{of} {name}")
        for level, of in LEVELS.items()
        for rate, name in RATES.items()
    },
    **{
        f"{level}sure_{rate}": Number(f"{of} {name} where told")
        for level, of in TOLD_LEVELS.items()
        for rate, name in RATES.items()
    },
    **{
        f"{level}coverage": Number(f"Share of {of.lower()}s told")
        for level, of in TOLD_LEVELS.items()
    },
    "coverage_at_0.995": Number("Share of beats told at an accuracy of 0.995"),
    "episode_coverage": Number("Share of decided episodes told"),
    "episode_sure_ppv": Number("Episode PPV where told"),
    "episode_sure_sensitivity": Number("Episode sensitivity of what is told"),
    "episodes_found": Number("Episodes, annotated and found by told beats", form=COUNT),
    "episodes_missed": Number("Episodes, annotated and missed", form=COUNT),
    "episodes_untold": Number("Episodes, annotated, that cannot be told", form=COUNT),
    "burden_low": Number("AF burden that is told, share"),
    "burden_high": Number("AF burden with all that cannot be told, share"),
    "told_af": Number("Share told as AF"),
    "cannot_tell": Number("Share that cannot be told"),
    "auc": Number("Beat AUC"),
    "beat_auc": Number("Beat AUC"),
    "record_auc": Number("Record AUC"),
    "beat_ppv_at_sensitivity_97": Number("Beat PPV where the curve's sensitivity is 0.97"),
    "beat_f1_best_threshold": Number("Beat F1 at the curve's best threshold"),
    "record_ppv_at_sensitivity_97": Number("Record PPV where the curve's sensitivity is 0.97"),
    "record_f1_best_threshold": Number("Record F1 at the curve's best threshold"),
    "beat_ece": Number("Calibration error"),
    "episode_sensitivity": Number("Episode sensitivity"),
    "episode_ppv": Number("Episode PPV"),
    "duration_sensitivity": Number("AF duration sensitivity"),
    "duration_ppv": Number("AF duration PPV"),
    "episodes": Number("Episodes, annotated", form=COUNT),
    "detected_episodes": Number("Episodes, decided", form=COUNT),
    "burden_error_pp": Number("AF burden error", POINTS, "+.2f"),
    "burden_error_median_pp": Number("AF burden error, median patient", POINTS, ".2f"),
    "burden_error_worst_pp": Number("AF burden error, worst patient", POINTS, ".2f"),
    "worst_patient_accuracy": Number("Beat accuracy, worst patient"),
    "challenge_score": Number("Challenge score"),
    "precision_weighted": Number("Precision, weighted over both classes"),
    "recall_weighted": Number("Recall, weighted over both classes"),
    "f1_weighted": Number("F1, weighted over both classes"),
    "tp": Number("AF beats decided AF", form=COUNT),
    "fp": Number("Other beats decided AF", form=COUNT),
    "fn": Number("AF beats missed", form=COUNT),
    "tn": Number("Other beats decided so", form=COUNT),
    "n_beats": Number("Beats", form=COUNT),
    "patients": Number("Patients", form=COUNT),
    "records": Number("Records", form=COUNT),
    "labelled_records": Number("Records with a label", form=COUNT),
    "af_records": Number("Records labelled AF", form=COUNT),
    "beats": Number("Beats", form=COUNT),
    "af_beats": Number("AF beats", form=COUNT),
    "analysable_hours": Number("Hours analysed", form=",.2f"),
    "decided_af": Number("Share decided AF"),
    "right": Number("Share decided rightly"),
    "stratum": Number("Kind of beats"),
    "threshold": Number("Threshold", form=".4g"),
    "smoothing_change": Number("Probability of a change, smoothing", form=".4g"),
    "loss": Number("Loss"),
    "cold_start_ms": Number("First beat, the model's loading included", "ms", ".4g"),
    "latency_p50_ms": Number("One beat, median", "ms", ".4g"),
    "latency_p95_ms": Number("One beat, 95th percentile", "ms", ".4g"),
    "latency_p99_ms": Number("One beat, 99th percentile", "ms", ".4g"),
    "throughput_beats_per_cpu_s": Number("Beats a CPU second", form=COUNT),
    "throughput_beats_per_s": Number("Beats a second", form=COUNT),
    "energy_j_per_24_h": Number("Energy for 24 h of ECG", "J", ".4g"),
    "peak_memory_mb": Number("Peak memory", "MB", ".4g"),
    "parameters": Number("Parameters", form=COUNT),
    "zero_weights": Number("Weights that are zero", form=COUNT),
    "multiply_adds": Number("Multiply-adds", form=COUNT),
    "parity_max_abs_error": Number("Export's difference from Keras, largest", form=".2g"),
    "heart_rate_psi": Number("Heart rates", PSI),
    "score_psi": Number("P(AF)", PSI),
    "noise_psi": Number("Noise", PSI),
    "af_share_change_pp": Number("Beats decided AF, change", POINTS, ".2f"),
    "bad_share_rise_pp": Number("Beats with poor signal, rise", POINTS, ".2f"),
    "heart_rate_outside_pp": Number("Beats at unusual heart rates", "per cent", ".2f"),
}
#: Where a figure is of, by how its key begins.
PLACES = {"test_": "test set", "val_": "validation"}


def name_of(key: str) -> str:
    """What people call a figure; a key that is not in the table, with spaces."""
    if key in NUMBERS:
        return NUMBERS[key].name
    for start, place in PLACES.items():
        if (rest := key.removeprefix(start)) != key:
            return f"{name_of(rest)}, {place}"
    return key.replace("_", " ")


def label_of(key: str) -> str:
    """A figure's name with its unit, for a column or an axis."""
    return ", ".join(filter(None, (name_of(key), _number(key).unit)))


def text_of(value: Any, key: str = "") -> str:
    """A value as a reader wants it: in its figure's form, or as it is where it is text."""
    if value is None:
        return NOT_MEASURED
    if isinstance(value, str):
        return value
    if not isfinite(value):
        return UNDEFINED
    return format(value, COUNT if isinstance(value, int) else _number(key).form)


def phrase_of(key: str, value: float) -> str:
    """Name, value and unit in one phrase."""
    return " ".join(filter(None, (name_of(key), text_of(value, key), _number(key).unit)))


def with_bounds(figures: Mapping[str, float], key: str) -> str:
    """A figure with its 95 % interval, where it has one."""
    text = text_of(figures.get(key), key)
    bounds = bounds_of(figures, key)
    return f"{text} ({bounds})" if bounds else text


def bounds_of(figures: Mapping[str, float], key: str) -> str:
    """The 95 % interval of a figure; empty where there is none."""
    low, high = (figures.get(f"{key}_{end}", float("nan")) for end in ("low", "high"))
    if not (isfinite(figures.get(key, float("nan"))) and isfinite(low) and isfinite(high)):
        return ""
    return f"{text_of(low, key)} to {text_of(high, key)}"


def _number(key: str) -> Number:
    for start in PLACES:
        key = key.removeprefix(start)
    return NUMBERS.get(key, Number(key))


def clock(seconds: float) -> str:
    """A time in the record as h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
