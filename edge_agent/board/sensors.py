"""Power, heat and clocks, from sysfs. Every root comes from the device kind's TOML, so a test can
give a folder; a sensor that is not there or cannot be read is reported as missing, never fatal.

Power: on Jetson boards the INA3221 monitor's rails (hwmon; labels VDD_IN, VDD_CPU_GPU_CV, VDD_SOC;
volts times amperes), sampled and integrated by trapezoids; on x86-64 the package's RAPL counter,
whose difference is the energy itself.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from edge_agent.board.jetson import fan_mode, power_mode
from edge_agent.board.readings import complete, read_number, read_text
from edge_agent.board.throttling import are_locked, clock_bounds_mhz, clocks_mhz

#: Samples of power a second.
RATE_HZ = 20.0
#: How long idle power is measured before anything runs.
IDLE_S = 2.0
#: Fewer samples than this make no energy figure.
FEWEST = 10
#: Beats of a 24-h record at 70 beats a minute.
BEATS_24_H = 100_800
#: The INA3221's input that is the sum of its shunt voltages, and the label of one not connected.
SUM, NOT_CONNECTED = "7", "NC"


def rails_w(hwmon: Path) -> dict[str, float]:
    """Power of every INA3221 rail in watts, by label; no sum, and none that is not connected."""
    rails = {}
    for monitor in sorted(hwmon.glob("hwmon*")):
        if read_text(monitor / "name") != "ina3221":
            continue
        for label in sorted(monitor.glob("in*_label")):
            number = label.name[2 : -len("_label")]
            millivolts = read_number(monitor / f"in{number}_input")
            milliamperes = read_number(monitor / f"curr{number}_input")
            name = read_text(label)
            if number == SUM or NOT_CONNECTED in re.split(r"[\W_]+", name or ""):
                continue
            if name and millivolts is not None and milliamperes is not None:
                rails[name] = millivolts * milliamperes / 1e6
    return rails


def rapl_j(powercap: Path) -> dict[str, tuple[float, float]]:
    """Energy counters of the processor's packages in joules, each with the value it wraps at."""
    counters = {}
    for zone in sorted(powercap.glob("intel-rapl:?")):
        name, count = read_text(zone / "name"), read_number(zone / "energy_uj")
        wrap = read_number(zone / "max_energy_range_uj")
        if name and count is not None and wrap:
            counters[name] = (count / 1e6, wrap / 1e6)
    return counters


def temperatures_c(root: Path) -> dict[str, float]:
    """Thermal zones in degrees Celsius by type."""
    zones = {
        read_text(zone / "type"): read_number(zone / "temp") for zone in root.glob("thermal_zone*")
    }
    return {name: value / 1000 for name, value in complete(zones).items()}


def sensors(kind: Mapping[str, Any]) -> dict[str, Any]:
    """Every reading of now; "missing" where there is none."""
    roots = {name: Path(path) for name, path in kind["roots"].items()}
    bounds = clock_bounds_mhz(roots["cpu"], roots["devfreq"])
    fixed = are_locked(bounds)
    return {
        "temperatures_c": temperatures_c(roots["thermal"]) or "missing",
        "rails_w": rails_w(roots["hwmon"]) or "missing",
        "rapl": sorted(rapl_j(roots["powercap"])) or "missing",
        "clocks_mhz": clocks_mhz(roots["cpu"]) or "missing",
        "clock_bounds_mhz": {name: list(ends) for name, ends in bounds.items()} or "missing",
        "clocks_locked": "missing" if fixed is None else fixed,
        "power_mode": power_mode(roots["nvpmodel"], roots["modes"]) or "missing",
        "fan_mode": fan_mode(roots["nvpmodel"], roots["fan"]) or "missing",
    }


@dataclass
class Energy:
    """Energy over a stretch of work, filled in at its end.

    Attributes
    ----------
    seconds : float
        Its length.
    joules : dict of str to float
        By rail or package; empty where nothing measures power, or the stretch was too short.
    samples : int
        Samples of power that were integrated; 0 where a counter gave the energy itself.
    source : str
        "INA3221", "RAPL" or "missing".
    """

    seconds: float = 0.0
    joules: dict[str, float] = field(default_factory=dict)
    samples: int = 0
    source: str = "missing"

    def watts(self) -> dict[str, float]:
        """Mean power by rail or package."""
        return {name: value / self.seconds for name, value in self.joules.items()}


@contextmanager
def meter_energy(kind: Mapping[str, Any], rate_hz: float = RATE_HZ) -> Iterator[Energy]:
    """Measure the energy of what runs inside."""
    hwmon, powercap = Path(kind["roots"]["hwmon"]), Path(kind["roots"]["powercap"])
    energy = Energy()
    samples: list[tuple[float, dict[str, float]]] = []
    stop = threading.Event()

    def sample() -> None:
        while True:
            if rails := rails_w(hwmon):
                samples.append((time.monotonic(), rails))
            if stop.wait(1 / rate_hz):
                return

    thread = threading.Thread(target=sample, name="power", daemon=True)
    with_rails = bool(rails_w(hwmon))
    before, begin_s = rapl_j(powercap), time.monotonic()
    if with_rails:
        thread.start()
    try:
        yield energy
    finally:
        energy.seconds = time.monotonic() - begin_s
        after = rapl_j(powercap)
        if with_rails:
            stop.set()
            thread.join()
    if with_rails:
        energy.source, energy.samples = "INA3221", len(samples)
        if len(samples) >= FEWEST:
            energy.joules = _integrate(samples, energy.seconds)
    elif before and after:
        energy.source = "RAPL"
        energy.joules = {
            n: (after[n][0] - before[n][0]) % before[n][1] for n in before if n in after
        }


def _integrate(samples: list[tuple[float, dict[str, float]]], seconds: float) -> dict[str, float]:
    """Joules by rail: trapezoids over the samples, their mean power held to the stretch's ends."""
    joules = {}
    for name in samples[0][1]:
        points = [(at, rails[name]) for at, rails in samples if name in rails]
        if len(points) < FEWEST:
            continue
        area = sum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairwise(points))
        joules[name] = area / (points[-1][0] - points[0][0]) * seconds
    return joules


def idle(kind: Mapping[str, Any], seconds: float = IDLE_S) -> Energy:
    """Energy of doing nothing; at once, and empty, where nothing measures power."""
    with meter_energy(kind) as energy:
        hwmon, powercap = Path(kind["roots"]["hwmon"]), Path(kind["roots"]["powercap"])
        if rails_w(hwmon) or rapl_j(powercap):
            time.sleep(seconds)
    return energy


def energy_costs(
    kind: Mapping[str, Any], resting: Energy, load: Energy, beats: int
) -> dict[str, float]:
    """Metrics of a run over so many beats: power, and joules above idle; none where unmeasured.

    The whole board is the rail that the kind's TOML names (VDD_IN), or all packages together.
    """
    total = kind.get("total_rail", "")

    def watts(energy: Energy) -> float | None:
        powers = energy.watts() if energy.joules else {}
        if total in powers:
            return powers[total]
        return sum(powers.values()) if energy.source == "RAPL" and powers else None

    at_rest, at_work = watts(resting), watts(load)
    if at_rest is None or at_work is None:
        return {}
    joules = (at_work - at_rest) * load.seconds / max(beats, 1)
    return {
        "idle_w": at_rest,
        "load_w": at_work,
        "energy_mj_per_beat": 1e3 * joules,
        "energy_j_per_24_h": joules * BEATS_24_H,
    }
