"""What is freed, and kept."""

from __future__ import annotations

import ctypes
import platform

import pytest

from storage.memory import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has these options")
def test_glibc_takes_both_options() -> None:
    """It refuses a piece larger than its own limit; these it takes."""
    keep_freed_memory.cache_clear()
    assert keep_freed_memory()


def test_another_library_goes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A C library without mallopt is no error."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    keep_freed_memory.cache_clear()
    assert not keep_freed_memory()
    keep_freed_memory.cache_clear()
