"""The agent on aarch64: an arm64 Debian that qemu-user runs; `make edge-aarch64` builds it.

Nothing here is a device's time: emulated times are never reported as such.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from storage.registry import evaluations
from tests.conftest import Registered

pytestmark = [pytest.mark.slow, pytest.mark.aarch64, pytest.mark.timeout(900)]
COUNTS = ("tp", "fp", "tn", "fn", "n_beats")


@pytest.fixture
def root() -> Path:
    """The arm64 root, or a skip that says why."""
    folder = Path(os.environ.get("HOLTER_AARCH64_ROOT", "none"))
    if not (folder / "opt" / "agent").is_dir() or not (folder / ".wheels").is_file():
        pytest.skip("no arm64 root: `make edge-aarch64` builds one")
    return folder


def test_the_cycle_on_aarch64_reports_what_x86_scores(
    registered: Registered, mlflow_server: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pull, test and report on aarch64: every decision is the x86 server's, every score too."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    request_id = registered.request("emulated-aarch64")
    home = root / "var" / "lib" / "holter-edge"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(registered.keys, home / "keys")
    # Without /proc and /sys: an x86 machine's would mislead the runtime about its processor.
    words = ["once", "--device", "emulated-aarch64", "--runtime", "release"]
    done = subprocess.run(
        ["chroot", str(root), "/usr/bin/python3", "-m", "edge_agent", *words],
        env={
            "MLFLOW_TRACKING_URI": mlflow_server,
            "HOLTER_EDGE_HOME": "/var/lib/holter-edge",
            "PYTHONPATH": "/opt/agent:/opt/packages",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    state = evaluations.request_state(request_id)
    assert state.status == "FINISHED"
    assert {k: state.metrics[k] for k in COUNTS} == {k: registered.metrics[k] for k in COUNTS}
    for name, value in registered.metrics.items():
        assert state.metrics[name] == pytest.approx(value, abs=1e-4), name
    machine = subprocess.run(
        ["chroot", str(root), "/usr/bin/uname", "-m"], capture_output=True, text=True, check=True
    )
    assert machine.stdout.strip() == "aarch64"
