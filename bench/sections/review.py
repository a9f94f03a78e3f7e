"""The review page in Chromium, on simulated records of an hour, a day and a fortnight.

Each record is an hour of the simulator again and again. A first look finds neither a pyramid nor a
model's answers; a second one has both. Playwright and Chromium are needed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from bench.harness import QUIET, ROOT, rounds, workplace
from bench.tables import Cell, Table

FS_HZ, GAIN = 250, 200
#: Hours of a record, and its leads: a Holter has two or more, a patch for a fortnight one.
RECORDS = {"1 h, 2 leads": (1, 2), "24 h, 2 leads": (24, 2), "14 days, 1 lead": (336, 1)}
#: Time from a key to the picture of the new stretch, in ms: once the page has drawn what it asked.
AFTER_KEY = """([canvas, key]) => new Promise((done) => {
  const start = performance.now(), drawn = document.getElementById(canvas);
  const before = drawn.dataset.span;
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const look = () => {
    const moved = drawn.dataset.span !== before, fresh = drawn.dataset.drawn === drawn.dataset.span;
    if (moved && fresh) requestAnimationFrame(() => done(performance.now() - start));
    else if (performance.now() - start > 300000) done(NaN);
    else setTimeout(look, 1);
  };
  look();
})"""
#: Time since the page was asked for until a canvas shows its stretch, in ms.
UNTIL_DRAWN = """(canvas) => new Promise((done) => {
  const look = () => {
    const drawn = document.getElementById(canvas);
    if (drawn && drawn.dataset.drawn && drawn.dataset.drawn === drawn.dataset.span) {
      requestAnimationFrame(() => done(performance.now()));
    } else setTimeout(look, 1);
  };
  look();
})"""
#: What is pressed, and the picture that is to follow.
MOVES = {
    "scroll": ("ecg", ("ArrowRight", "ArrowRight", "ArrowLeft") * 4),
    "zoom": ("ecg", ("ArrowDown",) * 6 + ("ArrowUp",) * 6),
    "day's zoom": ("day", tuple("zZ" * 4)),
}


#: What the page asks for: the kind of answer, and its fields.
QUESTIONS = {
    "the record": ("record", ""),
    "its whole day": ("day", ""),
    "an hour of it": ("day", "from=0&to=3599"),
    "the whole lead": ("ecg", ""),
    "ten minutes of it": ("ecg", "from=1200&to=1800"),
    "a strip": ("ecg", "from=1800&to=1812"),
    "the strip's beats": ("beats", "from=1800&to=1812"),
}


def store(name: str) -> Path:
    """The state folder of a record, with its table and recording; made at first use."""
    hours, leads = RECORDS[name]
    home = workplace() / "review" / f"{hours}h"
    if not (home / "whole").exists():
        _make(home, hours, leads)
        (home / "whole").touch()
    return home


def _make(home: Path, hours: int, leads: int) -> None:
    """Write a recording in format 16 and its table, an hour at a time."""
    from storage.datasets.dataset import DatasetSpec
    from storage.files import sha256_file
    from storage.tables.beats import BeatTable, Source, write_beats
    from storage.tables.beats_manifest import Entry, Manifest, write_manifest
    from tasks.learning.simulate import simulate_subject

    hour = simulate_subject(1, 1.0, float(FS_HZ), "paroxysmal")
    n = len(hour.signal_mv)
    data = home / "data"
    data.mkdir(parents=True, exist_ok=True)
    adu = np.clip(np.rint(hour.signal_mv[:, :leads] * GAIN), -2047, 2047).astype("<i2").tobytes()
    with (data / "long.dat").open("wb") as file:
        for _ in range(hours):
            file.write(adu)
    lines = [f"long {leads} {FS_HZ} {n * hours}"]
    lines += [f"long.dat 16 {GAIN}/mV 16 0 0 0 0 ECG{lead + 1}" for lead in range(leads)]
    (data / "long.hea").write_text("\n".join(lines) + "\n")
    sample = (hour.beats + n * np.arange(hours)[:, None]).ravel()
    place = np.searchsorted(hour.rhythm_start, hour.beats, side="right") - 1
    rhythm = np.tile(hour.rhythms[place], hours)
    rr_s = np.diff(sample / FS_HZ).astype(np.float32)
    nan, beats = np.float32(np.nan), len(sample)
    spec = DatasetSpec.model_validate(
        {
            "name": "long",
            "title": "Simulated",
            "version": "1",
            "licence": "none",
            "citation": "none",
            "source": {"simulated": True},
            "records": {"names": ["long"]},
            "annotations": {"beats": ["detect"]},
            "leads": {"prefer": ["ECG1"]},
            "rhythms": {"af": ["AFIB"], "map": {"N": "N", "AFIB": "AFIB"}, "unmarked": "N"},
        }
    )
    files = {file.name: sha256_file(file) for file in sorted(data.iterdir())}
    source = Source(
        dataset="long",
        record="long",
        subject="long",
        lead="ECG1",
        fs_hz=float(FS_HZ),
        n_samples=n * hours,
        stretches=[[0, n * hours]],
        files=files,
        preprocessing={},
        preprocessing_sha256="",
        code_sha256="",
        key="made up",
        counts={},
        simulated=True,
    )
    table = BeatTable(
        dataset="long",
        record="long",
        subject="long",
        sample=sample,
        time_s=sample / FS_HZ,
        rr_prev_s=np.append(nan, rr_s),
        rr_next_s=np.append(rr_s, nan),
        symbol=np.tile(hour.symbols, hours),
        rhythm=rhythm,
        label=(rhythm == "AFIB").astype(np.int8),
        quality=np.zeros(beats, np.uint16),
        noise=np.zeros(beats, np.float32),
        waveform=None,
        stretches_s=np.array([[0.0, n * hours / FS_HZ]]),
    )
    folder = home / "beats" / "dataset=long"
    path = folder / "long.parquet"
    write_beats(path, [table], source)
    entry = Entry(
        record="long",
        subject="long",
        file=path.name,
        sha256=sha256_file(path),
        key="made up",
        lead="ECG1",
        hours=float(hours),
        beats=beats,
        af_beats=int(table.label.sum()),
        unknown_beats=0,
        flagged_beats=0,
        counts={},
        files=files,
    )
    manifest = Manifest(
        dataset="long",
        title="Simulated",
        version="1",
        licence="none",
        citation="none",
        origin=str(data),
        spec_sha256="",
        preprocessing_sha256="",
        code_sha256="",
        simulated=True,
        entries=(entry,),
        failures={},
        excluded={},
        spec=spec.model_dump(mode="json"),
        signal=True,
    )
    write_manifest(folder / "manifest.json", manifest)


@contextmanager
def served(home: Path) -> Iterator[tuple[str, psutil.Process, tuple[str, str]]]:
    """The page of a state folder: its address, its process, and name and key."""
    from flows.review.people import ensure_owner
    from flows.services.ports import reserve_near

    os.environ["HOLTER_HOME"] = str(home)
    name, key = ensure_owner()
    with reserve_near(0) as reservation:
        port = int(reservation.getsockname()[1])
    words = [sys.executable, "-m", "uvicorn", "--factory", "flows.review.server:app"]
    words += ["--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, **QUIET})  # noqa: S603 - ours
    try:
        address = f"http://127.0.0.1:{port}"
        from flows.services.up_state import answers

        while not answers(f"{address}/health"):
            time.sleep(0.1)
        yield address, psutil.Process(process.pid), (name, key)
    finally:
        process.terminate()
        process.wait(20)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _look(address: str, person: tuple[str, str], server: psutil.Process) -> dict[str, Any]:
    """Open the record, scroll and zoom: times in ms, CPU of server and page, memory in MB."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--enable-precise-memory-info"],
        )
        context = await browser.new_context(
            viewport={"width": 1200, "height": 900},
            http_credentials={"username": person[0], "password": person[1]},
        )
        page = await context.new_page()
        await page.goto(f"{address}/health")  # the browser has started
        start_s = _cpu_s(server)
        await page.goto(f"{address}/record/long/long?at=1800", wait_until="commit")
        figures = {
            "day": await page.evaluate(UNTIL_DRAWN, "day"),
            "strip": await page.evaluate(UNTIL_DRAWN, "ecg"),
        }
        session = await context.new_cdp_session(page)
        await session.send("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
        await session.send("Performance.enable")

        async def cpu_s() -> float:
            metrics = (await session.send("Performance.getMetrics"))["metrics"]
            busy = next(row["value"] for row in metrics if row["name"] == "TaskDuration")
            return float(busy) + _cpu_s(server)

        figures["open_cpu_s"] = await cpu_s() - start_s
        await page.wait_for_timeout(500)
        figures["whole"] = await page.evaluate(AFTER_KEY, ["ecg", "0"])
        await page.evaluate(AFTER_KEY, ["ecg", "1"])
        for name, (canvas, keys) in MOVES.items():
            before = await cpu_s()
            figures[name] = [await page.evaluate(AFTER_KEY, [canvas, key]) for key in keys]
            figures[f"{name}_cpu_ms"] = 1e3 * (await cpu_s() - before) / len(keys)
        heap = await page.evaluate("performance.memory.usedJSHeapSize")
        figures["heap_mb"] = heap / 1e6
        await browser.close()
    return figures


def answers_cpu_ms(home: Path) -> list[float]:
    """CPU ms of this thread for each of `QUESTIONS` about the record, the median of nine."""
    from starlette.requests import Request

    from flows.review import answers
    from flows.review.library import Library

    os.environ["HOLTER_HOME"] = str(home)
    library, medians = Library(), []
    while library.answers("long", "long").waiting:
        time.sleep(0.1)
    for name, fields in QUESTIONS.values():
        text = f"dataset=long&record=long&columns=1182&{fields}"
        request = Request({"type": "http", "query_string": text.encode(), "headers": []})
        while getattr(answers, name)(library, request).get("waiting"):
            time.sleep(0.1)
        times = []
        for _ in range(9):
            start = time.thread_time()
            getattr(answers, name)(library, request)
            times.append(1e3 * (time.thread_time() - start))
        medians.append(median(times))
    library.close()
    return medians


def run() -> list[Table]:
    """Measure, and give the section's tables."""
    asked: list[list[Cell]] = []
    opening: list[list[Cell]] = []
    moving: list[list[Cell]] = []
    for name in RECORDS:
        home = store(name)
        firsts, seconds, memory = [], [], []
        for number in range(rounds()):
            print(f"  round {number + 1}/{rounds()}  {name}", file=sys.stderr, flush=True)
            for folder in ("beats/dataset=long/pyramids", "review"):
                shutil.rmtree(home / folder, ignore_errors=True)
            with served(home) as (address, server, person):
                firsts.append(asyncio.run(_look(address, person, server)))
            with served(home) as (address, server, person):  # of another day
                seconds.append(asyncio.run(_look(address, person, server)))
                memory.append(server.memory_full_info().uss / 1e6)
        opening.append(
            [
                name,
                *(_middle(firsts, key) / 1e3 for key in ("day", "strip", "whole")),
                *(_middle(seconds, key) / 1e3 for key in ("day", "strip")),
                _middle(seconds, "open_cpu_s"),
            ]
        )
        row: list[Cell] = [name]
        for move in MOVES:
            times = [ms for look in seconds for ms in look[move]]
            row += [median(times), max(times), _middle(seconds, f"{move}_cpu_ms")]
        moving.append([*row, median(memory), _middle(seconds, "heap_mb")])
        asked.append([name, *answers_cpu_ms(home)])
    return [
        Table(
            "Opening a record: seconds until it is drawn",
            [
                ("record", None),
                *((f"first look: {part}", 2) for part in ("day", "ECG", "whole lead")),
                *((f"again: {part}", 2) for part in ("day", "ECG")),
                ("again: CPU s, server and page", 2),
            ],
            opening,
        ),
        Table(
            "From a key to the picture, ms, and memory",
            [
                ("record", None),
                *(
                    (f"{move}: {figure}", 0)
                    for move in MOVES
                    for figure in ("median", "worst", "CPU")
                ),
                ("server, MB", 0),
                ("page, MB", 0),
            ],
            moving,
        ),
        Table(
            "An answer of the server, CPU ms",
            [("record", None), *((name, 1) for name in QUESTIONS)],
            asked,
        ),
    ]


def _middle(looks: list[dict[str, Any]], key: str) -> float:
    return float(median(look[key] for look in looks))
