"""Clocks, whether they are locked, and what held them back during a run.

A device of the kernel's thermal framework that limits a clock has a `cur_state` above 0 while it
does; fans are such devices too, and are no throttling. Over-current and under-voltage events of an
Orin are counted in `oc*_event_cnt` of the hwmon device `soctherm_oc`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.board.readings import complete, read_number, read_text

#: How often the states of cooling devices are looked at during a run.
RATE_HZ = 4.0
#: Types of cooling devices that hold a clock back.
_HOLDS = re.compile(r".*-alert|(?:thermal-)?(?:cpufreq|devfreq)-.*|Processor", re.A)


def clocks_mhz(cpu: Path) -> dict[str, float]:
    """Clock of every processor core in MHz."""
    return _of_cores(cpu, "scaling_cur_freq")


def clock_bounds_mhz(cpu: Path, devfreq: Path) -> dict[str, tuple[float, float]]:
    """Least and largest clock that each core, and each devfreq device as a GPU, may have now."""
    least, most = (_of_cores(cpu, f"scaling_{end}_freq") for end in ("min", "max"))
    for device in sorted(devfreq.glob("*")):
        low, high = read_number(device / "min_freq"), read_number(device / "max_freq")
        if low is not None and high is not None:
            least[device.name], most[device.name] = low / 1e6, high / 1e6
    return {name: (least[name], most[name]) for name in least if name in most}


def are_locked(bounds: Mapping[str, tuple[float, float]]) -> bool | None:
    """Whether every clock is held to one value, as `jetson_clocks` does; None where none is known.

    Of a clock that has one value alone this says nothing else.
    """
    return all(least == most for least, most in bounds.values()) if bounds else None


def _of_cores(cpu: Path, file: str) -> dict[str, float]:
    cores: dict[str | None, float | None] = {
        core.name: read_number(core / "cpufreq" / file) for core in cpu.glob("cpu[0-9]*")
    }
    return {name: value / 1e3 for name, value in complete(cores).items()}


@dataclass
class Throttling:
    """What held clocks back over a stretch of work, filled in at its end.

    Attributes
    ----------
    states : dict of str to int
        The highest state of each cooling device that held a clock back, by its type.
    events : dict of str to int
        Over-current and under-voltage events, by counter; those that came alone.
    watched : int
        Cooling devices and counters that were looked at; 0 means that nothing can be said.
    """

    states: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    watched: int = 0

    def answer(self) -> dict[str, int] | str:
        """The same as one mapping, empty where nothing was held back; "missing" if unwatched."""
        return {**self.states, **self.events} if self.watched else "missing"


@contextmanager
def watch_throttling(kind: Mapping[str, Any], rate_hz: float = RATE_HZ) -> Iterator[Throttling]:
    """Look at what holds clocks back while the block runs."""
    roots = {name: Path(path) for name, path in kind["roots"].items()}
    throttling, stop = Throttling(), threading.Event()
    devices = cooling_devices(roots["thermal"])
    before = event_counts(roots["hwmon"])
    throttling.watched = len(devices) + len(before)

    def look() -> None:
        for kind_of_device, path in devices:
            state = int(read_number(path / "cur_state") or 0)
            if state > throttling.states.get(kind_of_device, 0):
                throttling.states[kind_of_device] = state

    def watch() -> None:
        while not stop.wait(1 / rate_hz):
            look()

    thread = threading.Thread(target=watch, name="throttling", daemon=True)
    look()
    if devices:
        thread.start()
    try:
        yield throttling
    finally:
        stop.set()
        if devices:
            thread.join()
        look()
        counts = event_counts(roots["hwmon"])
        gains = {name: int(counts[name] - before[name]) for name in before if name in counts}
        throttling.events = {name: gain for name, gain in gains.items() if gain > 0}


def cooling_devices(thermal: Path) -> list[tuple[str, Path]]:
    """Type and folder of every cooling device that holds a clock back."""
    devices = [(read_text(path / "type") or "", path) for path in thermal.glob("cooling_device*")]
    return [(name, path) for name, path in sorted(devices) if _HOLDS.fullmatch(name)]


def event_counts(hwmon: Path) -> dict[str, float]:
    """Over-current and under-voltage events since the start of the system, by counter."""
    counts: dict[str | None, float | None] = {
        path.name.removesuffix("_event_cnt"): read_number(path)
        for path in hwmon.glob("hwmon*/oc*_event_cnt")
    }
    return complete(counts)
