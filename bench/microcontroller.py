"""An export at work: built for this computer and for a Cortex-M, run, counted and measured.

The Cortex-M is QEMU's, at one instruction a nanosecond of its own time (`-icount shift=0`): what
its SysTick counts are instructions, not the cycles of a real one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.datasets.dataset import load_spec
from storage.recordings.records import open_record
from storage.recordings.stretches import slices
from storage.tables.beats import BeatTable, join_tables
from tasks.microcontroller.reference import in_microseconds
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing

FIRMWARE = Path(__file__).parent / "firmware"
#: What the export is held to; a product in a sum stays one.
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off")
#: What the detector's files are called.
DETECTOR = "qrs"
#: After a stretch.
END = 0xFFFFFFFF
TOOLS = ("arm-none-eabi-gcc", "qemu-system-arm")
#: What newlib brings: a C library that reads and writes by semihosting.
NEWLIB = "rdimon.specs"


@dataclass(frozen=True)
class Core:
    """A Cortex-M, its floating-point unit or "", and the board of QEMU that has it."""

    cpu: str
    fpu: str
    board: str

    @property
    def flags(self) -> tuple[str, ...]:
        """What the compiler is told of it."""
        unit = ("-mfloat-abi=hard", f"-mfpu={self.fpu}") if self.fpu else ("-mfloat-abi=soft",)
        sections = ("-ffunction-sections", "-fdata-sections")
        return (f"-mcpu={self.cpu}", "-mthumb", *unit, *sections)


CORES = (
    Core("cortex-m4", "fpv4-sp-d16", "mps2-an386"),
    Core("cortex-m7", "fpv5-sp-d16", "mps2-an500"),
)
#: A core without a floating-point unit: the compiler's library computes with floats.
PLAIN_CORE = Core("cortex-m3", "", "mps2-an385")


@dataclass(frozen=True)
class Counts:
    """Beats answered; instructions of all, of the dearest beat and end; bytes of stack.

    Of the detector it is samples, and neither end nor stack.
    """

    beats: int
    instructions: int
    dearest_beat: int
    dearest_end: int
    stack: int


@dataclass(frozen=True)
class Sizes:
    """Bytes of the least firmware that decides: flash with constants, memory without stack."""

    flash: int
    memory: int


def run_words(words: Sequence[str | Path], folder: Path) -> None:
    """Run a tool in a folder.

    Raises
    ------
    RuntimeError
        It failed; the message has what it wrote.
    """
    done = subprocess.run(  # noqa: S603 - tools of the table, no shell
        [str(word) for word in words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{words[0]} gave {done.returncode}: {done.stdout}{done.stderr}")


def missing_tools() -> list[str]:
    """The tools of a Cortex-M that are not installed, and its C library."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if TOOLS[0] in missing:
        return missing
    words = [TOOLS[0], f"-print-file-name={NEWLIB}"]
    place = subprocess.run(words, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return missing if Path(place.strip()).is_absolute() else [*missing, f"newlib ({NEWLIB})"]


def write_beats(path: Path, stretches: Iterable[NDArray[np.int64]]) -> None:
    """Intervals in microseconds as the firmware reads them."""
    words = [np.append(stretch, END) for stretch in stretches]
    path.write_bytes(np.concatenate(words).astype("<u4").tobytes())


def read_answers(path: Path, arithmetic: str) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """P(AF), in 1/65536 for int8, and the verdict of every beat, shape (n,) each."""
    rows = np.frombuffer(path.read_bytes(), "<u4").reshape(-1, 2)
    kind = "<u4" if arithmetic == "int8" else "<f4"
    return rows[:, 0].copy().view(kind).astype(np.float64), rows[:, 1].astype(np.uint8)


def _sources(export: Path, name: str) -> list[str | Path]:
    """The sources of a program: the detector's, or a network's of that name."""
    main = FIRMWARE / ("detect.c" if name == DETECTOR else "main.c")
    defines = [f"-I{export}", f"-I{FIRMWARE}", f"-DMODEL={name}", f'-DHEADER="{name}.h"']
    return [*defines, main, export / f"{name}.c"]


def answer_here(export: Path, name: str, folder: Path, flags: Sequence[str] = ("-O2",)) -> None:
    """Answer a folder's `beats.bin` on this computer, into `answers.bin`.

    The detector (`DETECTOR`) answers `ecg.bin` into `peaks.bin`.
    """
    build_here(export, name, folder, flags)
    run_words([folder / "here"], folder)


def build_here(export: Path, name: str, folder: Path, flags: Sequence[str] = ("-O2",)) -> None:
    """Build the program `here` in a folder."""
    run_words(["gcc", *WARNINGS, *flags, *_sources(export, name), "-lm", "-o", "here"], folder)


def answer_on(core: Core, export: Path, name: str, folder: Path) -> Counts:
    """The same on an emulated core, counted."""
    _link(core, export, name, folder, (f"--specs={NEWLIB}",))
    words = ["qemu-system-arm", "-M", core.board, "-cpu", core.cpu, "-icount", "shift=0"]
    words += ["-nographic", "-monitor", "none", "-serial", "none", "-kernel", "core.elf"]
    run_words([*words, "-semihosting-config", "enable=on,target=native"], folder)
    return Counts(*map(int, (folder / "counts.txt").read_text().split()))


def sizes_on(core: Core, export: Path, name: str, folder: Path) -> Sizes:
    """What the least firmware takes, by the linker's map."""
    words = ("-DBARE", "-nostartfiles", "--specs=nosys.specs", f"-Wl,-Map={folder / 'map'}")
    _link(core, export, name, folder, words)
    text = (folder / "map").read_text()
    rows = re.findall(r"^\.(\w[\w.]*) +0x[0-9a-f]+ +0x([0-9a-f]+)", text, re.MULTILINE)
    bytes_of = {section: int(size, 16) for section, size in rows}
    flash = sum(bytes_of.get(section, 0) for section in ("text", "ARM.exidx", "init_array", "data"))
    return Sizes(flash, bytes_of.get("data", 0) + bytes_of.get("bss", 0))


def _link(core: Core, export: Path, name: str, folder: Path, flags: Sequence[str]) -> None:
    """Link a program for a core."""
    words = ["arm-none-eabi-gcc", *WARNINGS, "-O2", "-fno-math-errno", *core.flags, *flags]
    words += ["-Wl,--gc-sections", "-T", str(FIRMWARE / "mps2.ld"), str(FIRMWARE / "start.c")]
    run_words([*words, *_sources(export, name), "-lm", "-o", "core.elf"], folder)


def table_of(folder: Path, name: str) -> BeatTable:
    """A record of afdb by its annotations alone: every beat, with its interval and its label."""
    record = open_record(load_spec("afdb"), folder, name, signal=False)
    tables, _, _ = beat_tables(record, None, Preprocessing())
    return join_tables(list(tables))


def stretches_of(table: BeatTable) -> list[NDArray[np.int64]]:
    """Intervals of each stretch in microseconds, as an export is fed them."""
    return [in_microseconds(table.rr_prev_s[part]) for part in slices(table.begins)]
