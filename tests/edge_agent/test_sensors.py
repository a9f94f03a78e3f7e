"""Power, heat and clocks, read from a made-up sysfs with known answers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent import sensors
from edge_agent.facts import device_kind

RAILS = {1: ("VDD_IN", 5000, 1200), 2: ("VDD_CPU_GPU_CV", 5000, 400), 3: ("VDD_SOC", 5000, 300)}


@pytest.fixture
def kind(tmp_path: Path) -> dict[str, Any]:
    """A Jetson whose sysfs lies in a folder: INA3221, three zones (one dead), two cores, mode 2."""
    files = {
        "hwmon/hwmon0/name": "nvme",
        "hwmon/hwmon0/in1_label": "not a rail",
        "hwmon/hwmon1/name": "ina3221",
        "thermal/thermal_zone0/type": "cpu-thermal",
        "thermal/thermal_zone0/temp": "48250",
        "thermal/thermal_zone1/type": "gpu-thermal",
        "thermal/thermal_zone1/temp": "47000",
        "thermal/thermal_zone2/type": "dead-thermal",
        "cpu/cpu0/cpufreq/scaling_cur_freq": "1510400",
        "cpu/cpu1/cpufreq/scaling_cur_freq": "729600",
        "cpu/cpuidle/current_driver": "none",
        "nvpmodel": "pmode:0002",
        "powercap/none": "",
    }
    for number, (label, millivolts, milliamperes) in RAILS.items():
        files[f"hwmon/hwmon1/in{number}_label"] = label
        files[f"hwmon/hwmon1/in{number}_input"] = str(millivolts)
        files[f"hwmon/hwmon1/curr{number}_input"] = str(milliamperes)
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    jetson = device_kind("jetson-orin-nano")
    return {**jetson, "roots": {name: str(tmp_path / name) for name in jetson["roots"]}}


def test_golden_sysfs(kind: dict[str, Any]) -> None:
    """Every reading of the made-up board is what its files say; the dead zone is left out."""
    assert sensors.sensors(kind) == {
        "temperatures_c": {"cpu-thermal": 48.25, "gpu-thermal": 47.0},
        "rails_w": {"VDD_IN": 6.0, "VDD_CPU_GPU_CV": 2.0, "VDD_SOC": 1.5},
        "rapl": "missing",
        "clocks_mhz": {"cpu0": 1510.4, "cpu1": 729.6},
        "power_mode": "2",
    }


def test_missing_sensors_are_said(tmp_path: Path) -> None:
    """Without any sysfs every reading is "missing", and there is no energy figure."""
    kind: dict[str, Any] = device_kind("x86-64")
    kind = {**kind, "roots": {name: str(tmp_path / "none") for name in kind["roots"]}}
    assert set(map(str, sensors.sensors(kind).values())) == {"missing"}
    resting = sensors.idle(kind, 60.0)
    assert (resting.source, resting.joules) == ("missing", {})
    assert sensors.energy_costs(kind, resting, resting, 100) == {}


def test_rails_are_integrated(kind: dict[str, Any]) -> None:
    """A rail that rests at 6 W and works at 9 W costs 3 W times the time above idle."""
    resting = sensors.idle(kind, 0.3)
    current = Path(kind["roots"]["hwmon"]) / "hwmon1" / "curr1_input"
    current.write_text("1800\n")
    with sensors.meter_energy(kind, rate_hz=100) as load:
        time.sleep(0.3)
    assert resting.source == "INA3221"
    assert resting.samples >= 5
    costs = sensors.energy_costs(kind, _whole(resting), load, 1000)
    assert costs["idle_w"] == pytest.approx(6.0)
    assert costs["load_w"] == pytest.approx(9.0)
    assert costs["energy_mj_per_beat"] == pytest.approx(3.0 * load.seconds)
    assert costs["energy_j_per_24_h"] == pytest.approx(3.0 * load.seconds * 100.8)


def _whole(resting: sensors.Energy) -> sensors.Energy:
    """A short rest has too few samples for a figure; its power is known here."""
    resting.joules = {"VDD_IN": 6.0 * resting.seconds}
    return resting


def test_too_short_is_not_measured(kind: dict[str, Any]) -> None:
    """A stretch with fewer than ten samples gives no energy."""
    with sensors.meter_energy(kind) as load:
        pass
    assert load.samples < sensors.FEWEST
    assert load.joules == {}


def test_rapl_wraps(tmp_path: Path) -> None:
    """A package's counter that wraps in between still gives the energy used."""
    kind: dict[str, Any] = device_kind("x86-64")
    kind = {**kind, "roots": {name: str(tmp_path) for name in kind["roots"]}}
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("1000000000\n")
    (zone / "energy_uj").write_text("999000000\n")
    with sensors.meter_energy(kind) as load:
        (zone / "energy_uj").write_text("4000000\n")
    assert load.source == "RAPL"
    assert load.joules == {"package-0": pytest.approx(5.0)}
