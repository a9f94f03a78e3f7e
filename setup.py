"""What pyproject.toml cannot say: the compiled inner loops, where a C compiler is.

`HOLTER_COMPILER=ziglang` asks for one from a wheel (100 MB, while it installs alone) where the
system has none. Without any, the signal path runs in numpy, to the same bits.
"""

import os
import runpy
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

BUILD = Path(__file__).parent / "storage" / "compiled" / "build.py"


class Compile(build_py):
    """Compile beside the sources, which an editable installation uses and a wheel takes along."""

    def run(self) -> None:
        """Compile, then go on with the sources."""
        if not runpy.run_path(str(BUILD))["build"]():
            self.warn("no C compiler: the signal path runs in numpy, to the same bits")
        super().run()


class WithLibrary(Distribution):
    """A distribution whose wheel is of one platform."""

    def has_ext_modules(self) -> bool:
        """Whether it holds compiled code."""
        return True


def wanted() -> list[str]:
    """The package that has a compiler, where it was asked for and the system has none."""
    asked = os.environ.get("HOLTER_COMPILER") == "ziglang"
    return (
        ["ziglang==0.17.1"] if asked and not runpy.run_path(str(BUILD))["system_compiler"]() else []
    )


setup(cmdclass={"build_py": Compile}, distclass=WithLibrary, setup_requires=wanted())
