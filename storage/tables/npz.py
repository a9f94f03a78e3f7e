"""Arrays in one .npz, as numpy writes them: stored, not deflated; no pickle; sizes checked first.

numpy's own reader takes the memory that a header asks for before it looks at the file, and lets
the errors of its parser through; this one reads what `np.savez` and `write_array` write.
Formats: numpy.lib.format 1.0; APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

import math
import re
import struct
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import TableError

#: What zipfile raises for a file that is none, is cut, or asks for what it does not know.
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, OSError, ValueError, EOFError, struct.error),
    *(NotImplementedError, RuntimeError, KeyError, IndexError, OverflowError),
)
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '(\|b1|[<|][iu]1|<[iu][248]|<f[248]|<U[1-9][0-9]{0,6})', "
    rb"'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,18}, )*(?:[0-9]{1,18},?)?)\), \} *\n"
)
SUFFIX = ".npy"
LOCAL_HEADER = 30
BLOCK = 1 << 20


@dataclass(frozen=True)
class Layout:
    """Where a member's values lie in the file, and what they are."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool


@contextmanager
def archive_errors(description: str) -> Iterator[None]:
    """Whatever a damaged archive makes zipfile and numpy raise becomes one TableError."""
    try:
        yield
    except TableError:
        raise
    except _ZIP_ERRORS as error:
        raise TableError(f"{description}: found a damaged file ({error})") from error


def members(file: IO[bytes]) -> dict[str, zipfile.ZipInfo]:
    """The arrays of an archive by name; ValueError where one is named twice."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    by_name = {entry.filename.removesuffix(SUFFIX): entry for entry in entries}
    if len(by_name) != len(entries):
        raise ValueError("found two arrays of one name")
    return by_name


def layout(file: IO[bytes], entry: zipfile.ZipInfo) -> Layout:
    """What a stored member's header says; ValueError unless the values fill the member."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1:
        raise ValueError(f"{entry.filename} is compressed; expected it stored")
    file.seek(entry.header_offset)
    name, extra = struct.unpack("<26x2H", file.read(LOCAL_HEADER))
    start = entry.header_offset + LOCAL_HEADER + name + extra
    file.seek(start)
    head = file.read(len(_MAGIC) + 2)
    if len(head) < len(_MAGIC) + 2 or not head.startswith(_MAGIC):
        raise ValueError(f"{entry.filename} is no array of numpy's version 1.0")
    (size,) = struct.unpack("<H", head[-2:])
    match = _HEADER.fullmatch(file.read(size))
    if match is None:
        raise ValueError(f"{entry.filename} has a header that numpy does not write")
    dtype = np.dtype(match[1].decode())
    shape = tuple(int(part) for part in match[3].replace(b",", b" ").split())
    values = math.prod(shape) * dtype.itemsize
    if len(head) + size + values != entry.file_size:
        raise ValueError(f"{entry.filename} holds {entry.file_size} bytes; {dtype} {shape} said")
    if start + entry.file_size > file.seek(0, SEEK_END):
        raise ValueError(f"{entry.filename} ends beyond the file")
    return Layout(start + len(head) + size, dtype, shape, match[2] == b"True")


def read_array(file: IO[bytes], entry: zipfile.ZipInfo) -> NDArray[Any]:
    """A stored member's values, checked by the archive's sum; ValueError as `layout`."""
    member_layout = layout(file, entry)
    values = np.empty(math.prod(member_layout.shape), member_layout.dtype)
    raw = values.view(np.uint8)
    with zipfile.ZipFile(file) as archive, archive.open(entry) as member:
        member.read(entry.file_size - values.nbytes)
        for at in range(0, values.nbytes, BLOCK):
            part = member.read(BLOCK)
            raw[at : at + len(part)] = np.frombuffer(part, np.uint8)
        member.read(1)  # at its end the sum is compared
    if member_layout.dtype.kind == "U" and values.view(np.uint32).max(initial=0) > sys.maxunicode:
        raise ValueError(f"{entry.filename} holds what is no character")
    return values.reshape(member_layout.shape, order="F" if member_layout.fortran else "C")


def read_arrays(path: Path, names: set[str] | None = None) -> dict[str, NDArray[Any]]:
    """Arrays of an archive by name, or those of some names; ValueError as above."""
    with path.open("rb") as file:
        return {
            name: read_array(file, entry)
            for name, entry in members(file).items()
            if names is None or name in names
        }
