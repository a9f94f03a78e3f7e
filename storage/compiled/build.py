"""Compile `kernels.c` beside itself: `python -m storage.compiled.build`.

The installation does the same (`setup.py`). The compiler is CC, or the system's, or that of the
package ziglang, which has wheels for x86-64 and aarch64. Without any the signal path runs in numpy,
to the same bits. The standard library alone: the installation runs this file before any package.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.c")
#: With a dash, so that Python takes it for no module.
LIBRARY = SOURCE.with_name("holter-kernels.so")
#: No product is contracted into a sum, no sum reordered: bits are the same on every processor.
FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-s")
SYSTEM = ("cc", "gcc", "clang")


def system_compiler() -> list[str]:
    """The command of CC or of the system's C compiler; empty where there is none."""
    words = shlex.split(os.environ.get("CC", ""))
    return words or [name for name in SYSTEM if shutil.which(name)][:1]


def compiler() -> list[str]:
    """The command of a C compiler; empty where there is none."""
    if words := system_compiler():
        return words
    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else []


def source_sha256() -> str:
    """The digest that a library of this source has within."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()


def build() -> bool:
    """Compile; says whether it could. A library that was there is replaced whole, or removed."""
    LIBRARY.unlink(missing_ok=True)
    words = compiler()
    if not words:
        return False
    partial = LIBRARY.with_name(f".{LIBRARY.name}.{os.getpid()}")
    digest = f'-DSOURCE_SHA256="{source_sha256()}"'
    command = [*words, *FLAGS, digest, "-shared", "-fPIC", "-o", str(partial), str(SOURCE)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - no shell
        partial.replace(LIBRARY)
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or error
        print(f"{SOURCE.name} was not compiled: {detail}", file=sys.stderr)
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


if __name__ == "__main__":
    sys.exit(0 if build() else "no C compiler: the signal path runs in numpy, to the same bits")
