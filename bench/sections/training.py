"""Training: beats a second beside stock Keras on the same cores, and an epoch of 20 million beats.

Stock is `model.fit` on an array in memory, with the threads that TensorFlow takes by itself. Ours
is the project's own training from Parquet with one thread, twice side by side, as
`holter reproduce` runs them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.child import peak_mb
from bench.harness import ROOT, Case, measure, workplace
from bench.tables import Cell, Table
from storage.files import sha256_file
from storage.tables.beats import BeatTable, Source, write_beats
from storage.tables.beats_manifest import Entry, Manifest, write_manifest
from storage.tables.labelled import read_labelled
from tasks import THREADS

NETWORKS = ("resnet21", "resnet25", "squeeze", "fused")
#: Steps of an epoch of `fused`, of 16 windows of 640 beats, and its simulated records with shapes.
FUSED_STEPS, FUSED_RECORDS, FUSED_BEATS = 32, 8, 12_000
#: Beats and epochs of a timed training; the first epoch traces and is not counted.
TRAINED, TESTED, EPOCHS = 16_384, 128, 4
RECORDS, RECORD_BEATS, GROUP = 48, 41_667, 4096
#: How often each table is linked under a new name: 2 and 20 million beats.
LINKS = (1, 10)
#: Simulated records of a training of `rhythm`: about AFDB.
DRAWN_RECORDS, DRAWN_BEATS = 25, 48_000

TRAININGS = (
    ("training", None),
    ("beats a s", 0),
    ("beats a s, times stock", 2),
    ("beats a CPU s", 0),
    ("beats a CPU s, times stock", 2),
    ("cores used", 1),
)
EPOCH_COLUMNS = (
    "beats",
    "CPU s to check, find and split",
    "MB before",
    "MB after",
    "MB after a twentieth of the epoch",
    "MB at its end",
    "beats a CPU s",
)


def tables(links: int) -> Path:
    """The manifest of a data set of 48 tables, each under `links` names; written once."""
    from bench.sections.layout import beats

    folder = workplace() / f"beats-{RECORDS}x{RECORD_BEATS}"
    manifest = folder / f"manifest-{links}.json"
    if manifest.is_file():
        return manifest
    length = 9_000_000
    source = Source(
        *("bench", "", "", "II", 250.0, length, [[0, length]], {}, {}, "", "", "", {}),
        simulated=True,
    )
    entries, pool, n = [], beats(), RECORD_BEATS
    for number in range(RECORDS):
        name, file = f"r{number:02}", folder / f"r{number:02}.parquet"
        random = np.random.default_rng(number)
        rows = pool[random.integers(0, len(pool), n)]
        label = (random.random(n) < 0.36).astype(np.int8)
        whole = BeatTable(
            dataset="bench",
            record=name,
            subject=name,
            sample=np.arange(n) * 200,
            time_s=np.arange(n, dtype=np.float64) * 0.8,
            rr_prev_s=np.full(n, 0.8, np.float32),
            rr_next_s=np.full(n, 0.8, np.float32),
            symbol=np.full(n, "N"),
            rhythm=np.where(label == 1, "AFIB", "N"),
            label=label,
            quality=np.zeros(n, np.uint16),
            noise=np.zeros(n, np.float32),
            waveform=rows * random.uniform(0.5, 2),
            stretches_s=np.array([[0.0, 0.8 * n]]),
        )
        parts = (whole.take(slice(at, at + GROUP)) for at in range(0, n, GROUP))
        if not file.is_file():
            write_beats(file, parts, replace(source, record=name, subject=name))
        digest = sha256_file(file)
        for link in range(links):
            copy = folder / f"{name}-{link}.parquet"
            if not copy.exists():
                os.link(file, copy)
            entries.append(Entry(name, name, copy.name, digest, "", "II", 9.0, n, 0, 0, 0, {}))
    table_manifest = Manifest(
        "bench", "Bench", "1", "", "", "", "", "", "", True, tuple(entries), {}, {}
    )
    return write_manifest(manifest, table_manifest)


def epoch(links: int) -> dict[str, float]:
    """Find all beats, split them and read one shuffled epoch of the training side."""
    from tasks.learning.epochs import shuffled_batches
    from tasks.learning.splits import assert_no_leak, split_beats

    path = tables(links)
    before_mb, start = peak_mb(), time.process_time()
    beats = read_labelled([path])
    split = split_beats("intrapatient", beats.subject, beats.label, 0)
    assert_no_leak(split, beats.subject)
    opened_s, opened_mb = time.process_time() - start, peak_mb()
    cpu, wall, rows = time.process_time(), time.perf_counter(), 0
    early_mb, everything = 0.0, np.arange(len(beats))
    for x, _ in shuffled_batches(beats, everything, 128, np.random.default_rng(0)):
        rows += len(x)
        if not early_mb and rows > len(beats) // 20:
            early_mb = peak_mb()
    assert rows == len(beats)  # noqa: S101 - a figure of another number of beats would be wrong
    return {
        "beats": rows,
        "before_mb": before_mb,
        "opened_s": opened_s,
        "opened_mb": opened_mb,
        "early_mb": early_mb,
        "late_mb": peak_mb(),
        "per_cpu_s": rows / (time.process_time() - cpu),
        "per_s": rows / (time.perf_counter() - wall),
    }


def stock(network: str) -> dict[str, float]:
    """One process: `model.fit` on an array; 0 lets TensorFlow take what threads it likes."""
    trainer = "fused_in_memory" if network == "fused" else "in_memory"
    return _together(network, trainer, 1, dict.fromkeys(THREADS, "0"))


def parallel_processes(network: str) -> dict[str, float]:
    """Two processes of one thread each, from Parquet."""
    trainer = "fused_from_records" if network == "fused" else "from_parquet"
    return _together(network, trainer, 2, dict.fromkeys(THREADS, "1"))


def _together(
    network: str, trainer: str, processes: int, threads: dict[str, str]
) -> dict[str, float]:
    """Trainings at the same time, in processes of their own; their throughput added up."""
    tables(1)
    started = [
        subprocess.Popen(  # noqa: S603 - our own modules, no shell
            [sys.executable, "-m", "bench.sections.training", trainer, network],
            cwd=ROOT,
            env={**os.environ, **threads, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError(f"a training of {network} {trainer} failed")
    wall_s = [median(np.diff(result["wall"])) for result in results]
    cpu_s = [median(np.diff(result["cpu"])) for result in results]
    beats = results[0]["beats"]
    return {
        "wall_s": max(wall_s),
        "per_s": sum(beats / s for s in wall_s),
        "per_cpu_s": beats / median(cpu_s),
        "cores": sum(c / w for c, w in zip(cpu_s, wall_s, strict=True)),
        "peak_mb": sum(result["peak_mb"] for result in results),
    }


def in_memory(network: str, on_epoch: Any) -> None:
    """Stock Keras: everything in an array, Keras's own loop."""
    import keras

    from tasks.networks.models import build

    beats = read_labelled([tables(1)])
    x = beats.waveform[np.arange(TRAINED + TESTED)][..., None]
    y = np.eye(2, dtype=np.float32)[beats.label[: len(x)]]
    model = build(network, seed=0)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-4), loss="binary_crossentropy", metrics=["accuracy"]
    )
    model.fit(
        x[:TRAINED],
        y[:TRAINED],
        validation_data=(x[TRAINED:], y[TRAINED:]),
        batch_size=128,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=on_epoch)],
    )


def fused_records() -> tuple[Any, Any]:
    """Simulated records with shapes, and how `fused` learns from them here."""
    from tasks.features.fused import SHAPE_SAMPLES
    from tasks.learning.rhythm_augment import simulated_sinus
    from tasks.learning.rhythm_training import RhythmConfig

    random = np.random.default_rng(0)
    records = [simulated_sinus(k, FUSED_BEATS, random) for k in range(FUSED_RECORDS)]
    shapes = random.normal(size=(FUSED_BEATS, SHAPE_SAMPLES)).astype(np.float32)
    config = RhythmConfig(epochs=EPOCHS, steps=FUSED_STEPS)
    return [replace(record, shape=shapes[: len(record)]) for record in records], config


def fused_in_memory(network: str, on_epoch: Any) -> None:
    """Stock Keras on windows that are drawn once, in arrays."""
    import keras

    from tasks.learning.rhythm_training import draw
    from tasks.networks.models import build, spec_of
    from tasks.networks.sequence import as_read_by

    records, config = fused_records()
    inputs, label = draw(network, {*spec_of(network).inputs}, records, config, 0)
    model = build(network, seed=0)
    model.compile(optimizer=keras.optimizers.AdamW(1e-3), loss="binary_crossentropy")
    follow = keras.callbacks.LambdaCallback(on_epoch_end=on_epoch)
    target = np.maximum(label, 0).astype(np.float32)[..., None]
    x = as_read_by(network, inputs)
    model.fit(x, target, batch_size=config.batch, epochs=EPOCHS, verbose=0, callbacks=[follow])


def fused_from_records(network: str, on_epoch: Any) -> None:
    """The project's own training: windows drawn anew each epoch, and augmented."""
    from tasks.learning.rhythm_training import fit_rhythm
    from tasks.learning.training import Course

    records, config = fused_records()
    fit_rhythm(network, records, config, course=Course(keep=on_epoch))


def from_parquet(network: str, on_epoch: Any) -> None:
    """The project's own training."""
    from tasks.learning.training import Course, TrainingConfig, fit

    beats = read_labelled([tables(1)])
    index = np.arange(TRAINED + TESTED)
    config = TrainingConfig(epochs=EPOCHS)
    fit(network, beats, (index[:TRAINED], index[TRAINED:]), config, Course(keep=on_epoch))


def main(trainer: str, network: str) -> None:
    """One training; prints when its epochs ended, and its peak memory, as JSON."""
    wall: list[float] = []
    cpu: list[float] = []

    def on_epoch(*_: Any, **__: Any) -> None:
        wall.append(time.perf_counter())
        cpu.append(time.process_time())

    globals()[trainer](network, on_epoch)
    beats = FUSED_STEPS * 16 * 640 if trainer.startswith("fused") else TRAINED
    print(json.dumps({"wall": wall, "cpu": cpu, "peak_mb": peak_mb(), "beats": beats}))


def drawing() -> dict[str, float]:
    """An epoch's windows for `rhythm`, and one epoch of its training, of simulated records."""
    from tasks.learning.rhythm_augment import simulated_sinus
    from tasks.learning.rhythm_training import RhythmConfig, draw, fit_rhythm
    from tasks.learning.training import Course

    random = np.random.default_rng(0)
    records = [simulated_sinus(k, DRAWN_BEATS, random) for k in range(DRAWN_RECORDS)]
    config = RhythmConfig(epochs=2)
    draw("rhythm", {"rhythm"}, records[:1], config, 0)
    start = time.process_time()
    x, _ = draw("rhythm", {"rhythm"}, records, config, 0)
    drawing_s = time.process_time() - start
    ends: list[float] = []
    course = Course(keep=lambda _: ends.append(time.process_time()))
    fit_rhythm("rhythm", records, config, course=course)
    return {
        "beats": x["rhythm"].shape[0] * x["rhythm"].shape[1],
        "drawing_s": drawing_s,
        "epoch_s": ends[1] - ends[0],
    }


def run() -> list[Table]:
    """Measure, and give the section's tables."""
    kinds = {
        "model.fit, array in memory": "stock",
        "two side by side, Parquet": "parallel_processes",
    }
    cases = {
        f"{network}, {kind}": Case(f"bench.sections.training:{function}", (network,), once=True)
        for network in NETWORKS
        for kind, function in kinds.items()
    }
    cases |= {
        f"epoch {links}": Case("bench.sections.training:epoch", (links,), once=True)
        for links in LINKS
    }
    cases["windows"] = Case("bench.sections.training:drawing", once=True)
    results = {name: figures.result for name, figures in measure(cases).items()}
    rows: list[list[Cell]] = []
    for network in NETWORKS:
        pair = [results[f"{network}, {kind}"] for kind in kinds]
        for kind, figures in zip(kinds, pair, strict=True):
            rates = [
                x
                for key in ("per_s", "per_cpu_s")
                for x in (figures[key], figures[key] / pair[0][key])
            ]
            rows.append([f"{network}, {kind}", *rates, figures["cores"]])
    small, large = (results[f"epoch {links}"] for links in LINKS)
    fastest = max(results[f"{n}, {k}"]["per_cpu_s"] for n in NETWORKS for k in kinds)
    growth = (large["late_mb"] - small["late_mb"]) / (large["beats"] - small["beats"]) * 2**20
    names = ("beats", "opened_s", "before_mb", "opened_mb", "early_mb", "late_mb", "per_cpu_s")
    return [
        Table(
            f"{TRAINED:,} synthetic beats, batches of 128; `fused`: windows of 640, batches of 16",
            list(TRAININGS),
            rows,
        ),
        Table(
            "A shuffled epoch, no trainer",
            [(name, 0) for name in EPOCH_COLUMNS],
            [[figures[name] for name in names] for figures in (small, large)],
        ),
        Table(
            "What reading costs",
            [("figure", None), ("value", 1)],
            [
                [
                    "reading, % of the quickest network's CPU time",
                    100 * fastest / large["per_cpu_s"],
                ],
                ["memory of one more beat on disk, bytes", growth],
            ],
        ),
        Table(
            f"An epoch of `rhythm`: {DRAWN_RECORDS} simulated records of {DRAWN_BEATS:,} beats",
            [("step", None), ("CPU s", 2)],
            [
                ["windows drawn", results["windows"]["drawing_s"]],
                ["drawn and learnt from", results["windows"]["epoch_s"]],
            ],
        ),
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
