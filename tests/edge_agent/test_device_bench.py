"""`holter-edge bench` measures a model without a server."""

from __future__ import annotations

import pytest

from edge_agent.bench import bench
from edge_agent.board.kinds import device_kind
from edge_agent.cli import main
from tests import ROOT
from tests.answers import held


def test_bench_says_what_a_model_costs(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints latency percentiles in order, throughput by threads and batch, and the facts."""
    with pytest.raises(SystemExit) as ended:
        main(["bench", str(ROOT / "tests" / "golden" / "resnet21-untrained.tflite")])
    assert ended.value.code == 0
    found = held(capsys.readouterr().out, "holter-edge bench")
    costs = found["costs"]
    assert 0 < costs["latency_p50_ms"] <= costs["latency_p95_ms"] <= costs["latency_p99_ms"]
    assert costs["model_bytes"] == 49_768
    rates = found["throughput_beats_per_cpu_s"]["1"]
    assert rates["32"] > 0
    assert set(rates) == {"1", "8", "32", "128", "512"}
    assert found["facts"]["kind"]


def test_bench_of_a_network_over_windows() -> None:
    """A network that answers beat by beat over windows: beats are counted, 64 windows at least."""
    found = bench(ROOT / "tests" / "golden" / "rhythm-untrained.tflite", device_kind("x86-64"))
    assert set(found["throughput_beats_per_cpu_s"]["1"]) == {"1", "8", "32"}
    assert found["costs"]["throughput_beats_per_cpu_s"] > 640 * 64 / 60
    assert found["costs"]["latency_p50_ms"] > 0
