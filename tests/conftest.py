"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings, or a skip that says why."""
    folder = (ROOT / os.environ.get("HOLTER_REAL_DATA", "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real recordings: {folder} is not there (set HOLTER_REAL_DATA)")
    return folder
