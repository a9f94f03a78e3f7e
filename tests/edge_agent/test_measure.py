"""What a device measures is of the process that measures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edge_agent.measure import peak_memory_mb
from tests import ROOT


def test_peak_memory_is_not_inherited() -> None:
    """A small process that a large one started reports its own peak, not the large one's."""
    small = "from edge_agent.measure import peak_memory_mb; print(peak_memory_mb())"
    large = (
        "import os, sys; block = b'x' * (400 << 20); "
        f"os.execv(sys.executable, [sys.executable, '-c', {small!r}])"
    )
    found = subprocess.run(
        [sys.executable, "-c", large], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 20 < float(found.stdout) < 350


def test_peak_memory_where_the_system_tells_none(tmp_path: Path) -> None:
    """Without VmHWM it is what is resident now; with it, that, in MiB."""
    assert peak_memory_mb(tmp_path / "none") > 10
    (tmp_path / "status").write_text("Name:\tpython\nVmPeak:\t 9 kB\nVmHWM:\t  2048 kB\n")
    assert peak_memory_mb(tmp_path / "status") == 2
