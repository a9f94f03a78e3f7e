"""Places: a folder here, or one in a bucket that pyarrow reaches (s3://, gs://, abfss://, hdfs://).

A bucket's folder answers to the few words of `pathlib.Path` that beat tables need, so the code that
reads and writes them is one and the same. Credentials come from where the clouds' own libraries
look for them, `AWS_ACCESS_KEY_ID` and `AWS_ENDPOINT_URL` for one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Remote:
    """A file or folder outside this machine, by its URI."""

    uri: str

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.uri.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.uri

    @property
    def parent(self) -> Remote:
        """The folder it lies in."""
        return Remote(self.uri.rstrip("/").rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last part of it."""
        return self.uri.rstrip("/").rpartition("/")[2]

    def is_file(self) -> bool:
        """Whether there is such a file."""
        import pyarrow.fs as pafs

        system, path = _reached(self.uri)
        return bool(system.get_file_info(path).type == pafs.FileType.File)

    def open(self, mode: str = "rb") -> Any:
        """Open it for reading bytes; FileNotFoundError where it is not there."""
        if mode != "rb":
            raise ValueError(f"a place outside this machine is read only as rb, not {mode}")
        system, path = _reached(self.uri)
        return system.open_input_file(path)

    def read_bytes(self) -> bytes:
        """All its bytes."""
        with self.open() as file:
            return bytes(file.read())

    def read_text(self) -> str:
        """All its text, in UTF-8."""
        return self.read_bytes().decode()

    def upload(self, file: Path) -> None:
        """Put a whole file in its place: readers see the old one or the new one.

        Object stores show an upload when it has ended; one that was cut off never shows.
        """
        import pyarrow.fs as pafs

        system, path = _reached(self.uri)
        if isinstance(system, pafs.LocalFileSystem):
            raise ValueError(f"{self.uri}: name a folder of this machine by its path")
        pafs.copy_files(str(file), path, pafs.LocalFileSystem(), system)


Place: TypeAlias = Path | Remote


@contextmanager
def here(place: Place) -> Iterator[Path]:
    """A file on this machine: itself, or a copy that goes away afterwards."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="holter-") as folder:
        copy = Path(folder) / place.name
        copy.write_bytes(place.read_bytes())
        yield copy


def place(text: str) -> Place:
    """The place that a path or URI names."""
    return Remote(text.rstrip("/")) if "://" in text else Path(text).absolute()


def beats_place() -> Place:
    """Where beat tables lie: `HOLTER_BEATS`, or `beats` in the state folder."""
    from storage.files import home

    return place(os.environ.get("HOLTER_BEATS") or str(home() / "beats"))


def check_beats_place() -> Place:
    """Where beat tables lie, once it is sure that it can take any.

    Raises
    ------
    PlaceError
        A folder that cannot be written.
    """
    from storage.files import check_writable

    where = beats_place()
    if isinstance(where, Path):
        check_writable(where, "folder of the beat tables (HOLTER_BEATS)")
    return where


@cache
def _system(base: str) -> tuple[Any, str]:
    import pyarrow as pa
    import pyarrow.fs as pafs

    from storage.errors import TableError

    try:
        found: tuple[Any, str] = pafs.FileSystem.from_uri(base)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableError(f"{base}: cannot be reached: {error}") from error
    return found


def _reached(uri: str) -> tuple[Any, str]:
    """The file system of a URI, one connection a bucket, and the path in it."""
    scheme, _, rest = uri.partition("://")
    bucket, _, inside = rest.partition("/")
    system, root = _system(f"{scheme}://{bucket}")
    return system, f"{root.rstrip('/')}/{inside}" if inside else root
