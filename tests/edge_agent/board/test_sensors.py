"""Power, heat and clocks, read from a made-up sysfs with known answers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent.board import sensors
from edge_agent.board.jetson import board_facts
from edge_agent.board.kinds import device_kind, refuse_other_release, usual_kind
from edge_agent.board.throttling import watch_throttling
from storage.errors import DeviceError

RAILS = {1: ("VDD_IN", 5000, 1200), 2: ("VDD_CPU_GPU_CV", 5000, 400), 3: ("NC", 5000, 300)}
#: As on an Orin Nano Super of JetPack 6.2 and later.
MODES = """
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< POWER_MODEL ID=3 NAME=7W >
< PM_CONFIG DEFAULT=1 >
"""
PACKAGES = """Package: nvidia-l4t-core
Status: install ok installed
Version: 36.4.3-20250107174145

Package: nvidia-jetpack
Status: install ok installed
Version: 6.2+b77
"""


@pytest.fixture
def kind(tmp_path: Path) -> dict[str, Any]:
    """A Jetson whose files lie in a folder: INA3221, three zones (one dead), two cores, mode 2."""
    files = {
        "hwmon/hwmon0/name": "nvme",
        "hwmon/hwmon0/in1_label": "not a rail",
        "hwmon/hwmon1/name": "ina3221",
        "hwmon/hwmon1/in7_label": "sum of shunt voltages",
        "hwmon/hwmon1/in7_input": "8080",
        "hwmon/hwmon1/curr7_input": "1900",
        "hwmon/hwmon2/name": "soctherm_oc",
        "hwmon/hwmon2/oc1_event_cnt": "0",
        "hwmon/hwmon2/oc3_event_cnt": "27390",
        "thermal/thermal_zone0/type": "cpu-thermal",
        "thermal/thermal_zone0/temp": "48250",
        "thermal/thermal_zone1/type": "gpu-thermal",
        "thermal/thermal_zone1/temp": "47000",
        "thermal/thermal_zone2/type": "dead-thermal",
        "cpu/cpu0/cpufreq/scaling_cur_freq": "1510400",
        "cpu/cpu1/cpufreq/scaling_cur_freq": "729600",
        "cpu/cpu0/cpufreq/scaling_min_freq": "729600",
        "cpu/cpu0/cpufreq/scaling_max_freq": "1510400",
        "cpu/cpuidle/current_driver": "none",
        "devfreq/17000000.gpu/min_freq": "306000000",
        "devfreq/17000000.gpu/max_freq": "1020000000",
        "nvpmodel": "pmode:0002 fmode:fanNull",
        "modes": MODES,
        "fan": "<FAN 1>\n\tFAN_DEFAULT_CONTROL close_loop\n\tFAN_DEFAULT_PROFILE cool\n",
        "l4t": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
        "model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "packages": PACKAGES,
        "powercap/none": "",
        "thermal/cooling_device0/type": "pwm-fan",
        "thermal/cooling_device0/cur_state": "3",
        "thermal/cooling_device1/type": "cpu-throttle-alert",
        "thermal/cooling_device1/cur_state": "0",
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
        "rails_w": {"VDD_IN": 6.0, "VDD_CPU_GPU_CV": 2.0},
        "rapl": "missing",
        "clocks_mhz": {"cpu0": 1510.4, "cpu1": 729.6},
        "clock_bounds_mhz": {"17000000.gpu": [306.0, 1020.0], "cpu0": [729.6, 1510.4]},
        "clocks_locked": False,
        "power_mode": {"id": 2, "name": "MAXN_SUPER"},
        "fan_mode": "cool",
    }


def test_golden_board(kind: dict[str, Any]) -> None:
    """Module, Jetson Linux and JetPack are what their files say."""
    assert board_facts(kind["roots"]) == {
        "model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "l4t": "36.4.3",
        "jetpack": "6.2+b77",
    }


#: What a file of the board holds, and what is then told: nothing is made up for what is odd.
ODD: dict[str, tuple[str, str, Any]] = {
    "a mode of no name": ("nvpmodel", "pmode:0009 fmode:quiet", {"id": 9, "name": "missing"}),
    "members the other way round": (
        "modes",
        "< POWER_MODEL NAME=MAXN ID=2 >",
        {"id": 2, "name": "MAXN"},
    ),
    "no configuration": ("modes", "", {"id": 2, "name": "missing"}),
    "a number that is none": ("nvpmodel", "pmode:two", "missing"),
    "an older status": ("nvpmodel", "pmode:0000", {"id": 0, "name": "15W"}),
}


@pytest.mark.parametrize("case", ODD)
def test_power_modes_are_told_as_they_are(kind: dict[str, Any], case: str) -> None:
    """A mode has the name of the board's own configuration, or none."""
    root, words, expected = ODD[case]
    Path(kind["roots"][root]).write_text(words + "\n")
    assert sensors.sensors(kind)["power_mode"] == expected


def test_locked_clocks_are_told(kind: dict[str, Any]) -> None:
    """Clocks whose least is their largest, the GPU's too, are locked: `jetson_clocks` does it."""
    (Path(kind["roots"]["cpu"]) / "cpu0" / "cpufreq" / "scaling_min_freq").write_text("1510400\n")
    assert sensors.sensors(kind)["clocks_locked"] is False
    (Path(kind["roots"]["devfreq"]) / "17000000.gpu" / "min_freq").write_text("1020000000\n")
    assert sensors.sensors(kind)["clocks_locked"] is True


def test_throttling_of_a_run_is_told(kind: dict[str, Any]) -> None:
    """A clock that was held back, and events that were counted meanwhile: the fan is neither."""
    with watch_throttling(kind, rate_hz=200) as throttling:
        state = Path(kind["roots"]["thermal"]) / "cooling_device1" / "cur_state"
        state.write_text("1\n")
        while not throttling.states:
            time.sleep(0.005)
        state.write_text("0\n")
        (Path(kind["roots"]["hwmon"]) / "hwmon2" / "oc3_event_cnt").write_text("27395\n")
    assert throttling.answer() == {"cpu-throttle-alert": 1, "oc3": 5}
    with watch_throttling(kind) as calm:
        pass
    assert calm.answer() == {}


def test_a_board_of_another_release_is_no_such_kind(kind: dict[str, Any]) -> None:
    """The kind is taken from Jetson Linux's release; one that is named wrongly is refused."""
    assert usual_kind("aarch64", "36.4.3") == "jetson-orin-nano"
    assert usual_kind("aarch64", "39.2.1") == "jetson-orin-nano-jetpack-7"
    assert usual_kind("aarch64", "38.2.0") == usual_kind("aarch64", None) == "aarch64"
    refuse_other_release(kind, "36.5.0")
    with pytest.raises(DeviceError, match=r"of Jetson Linux 36; this board runs 39\.2\.1"):
        refuse_other_release(kind, "39.2.1")


def test_missing_sensors_are_said(tmp_path: Path) -> None:
    """Without any sysfs every reading is "missing", and there is no energy figure."""
    kind: dict[str, Any] = device_kind("x86-64")
    kind = {**kind, "roots": {name: str(tmp_path / "none") for name in kind["roots"]}}
    assert set(map(str, sensors.sensors(kind).values())) == {"missing"}
    resting = sensors.idle(kind, 60.0)
    assert (resting.source, resting.joules) == ("missing", {})
    assert sensors.energy_costs(kind, resting, resting, 100) == {}
    assert set(board_facts(kind["roots"]).values()) == {"missing"}
    with watch_throttling(kind) as throttling:
        pass
    assert throttling.answer() == "missing"


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
