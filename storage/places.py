"""Places: a folder here, or one in a bucket that pyarrow reaches (s3://, gs://, abfss://, hdfs://).

A bucket's folder answers to the few words of `pathlib.Path` that beat tables need, so the code that
reads and writes them is one and the same. Credentials come from where the clouds' own libraries
look for them, `AWS_ACCESS_KEY_ID` and `AWS_ENDPOINT_URL` for one.

What a store refuses (500, 503 SlowDown, a connection reset or cut, none of a byte in three seconds)
is asked for again by S3's client, `ATTEMPTS` times in all with growing pauses of 20 s at most. So a
request to a store that is away ends within a minute, with PlaceError; one whose upload stalls half
way, which the client sees after 30 s, within four.
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

from storage.addresses import without_credentials
from storage.errors import PlaceError

#: How often a request to S3 is made before it counts as failed: 15 s of pauses, 31 s at most.
ATTEMPTS = 6
SILENCE_S = 3.0
#: Bytes handed to an upload at a time; S3's client makes parts of 10 MB or more of them.
BLOCK = 8 << 20
#: How pyarrow begins what a store of S3, GCS or Azure said; a damaged file has other words.
STORE_SAYS = ("AWS Error", "google::cloud", "Azure")


@dataclass(frozen=True)
class Remote:
    """A file or folder outside this machine, by its URI."""

    uri: str

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.uri.rstrip('/')}/{name}")

    def __str__(self) -> str:
        """Its URI as it may be shown, without credentials."""
        return without_credentials(self.uri)

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

        with answering(self):
            system, path = _resolve(self.uri)
            return bool(system.get_file_info(path).type == pafs.FileType.File)

    def names(self) -> list[str]:
        """The names of the files and folders in it; none where it is not there."""
        import pyarrow.fs as pafs

        with answering(self):
            system, path = _resolve(self.uri)
            selector = pafs.FileSelector(path, allow_not_found=True)
            return sorted(entry.base_name for entry in system.get_file_info(selector))

    def open(self, mode: str = "rb") -> Any:
        """Open it for reading bytes; FileNotFoundError where it is not there."""
        if mode != "rb":
            raise ValueError(f"a place outside this machine is read only as rb, not {mode}")
        with answering(self):
            system, path = _resolve(self.uri)
            return system.open_input_file(path)

    def read_bytes(self) -> bytes:
        """All its bytes."""
        with answering(self), self.open() as file:
            return bytes(file.read())

    def read_text(self) -> str:
        """All its text, in UTF-8."""
        return self.read_bytes().decode()

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove it; FileNotFoundError where it is not there, unless that is no matter."""
        with answering(self):
            system, path = _resolve(self.uri)
            if missing_ok and not self.is_file():
                return
            system.delete_file(path)

    def upload(self, file: Path) -> None:
        """Put a whole file in its place: readers see the old one or the new one.

        Object stores show an upload when it has ended; one that was cut off never shows.

        Raises
        ------
        PlaceError
            The store did not take it: what was there is there still.
        """
        import pyarrow as pa
        import pyarrow.fs as pafs

        with answering(self):
            system, path = _resolve(self.uri)
            if isinstance(system, pafs.LocalFileSystem):
                raise ValueError(f"{self.uri}: name a folder of this machine by its path")
            # Not copy_files, which is silent where the last parts fail; and read by mapping, as
            # an error of reading would have the stream close, and show what it has of the file.
            size = file.stat().st_size
            content = pa.memory_map(str(file)).read_buffer() if size else pa.py_buffer(b"")
            out = system.open_output_stream(path, compression=None)
            for start in range(0, size, BLOCK):
                out.write(content.slice(start, min(BLOCK, size - start)))
            out.close()


Place: TypeAlias = Path | Remote


@contextmanager
def answering(place: Place) -> Iterator[None]:
    """What a store outside this machine refuses becomes one sentence with its address in it."""
    try:
        yield
    except (FileNotFoundError, PlaceError):
        raise
    except OSError as error:
        if isinstance(place, Path) or not any(mark in str(error) for mark in STORE_SAYS):
            raise
        raise PlaceError(
            f"{place}: found a store that refuses or does not answer ({error}); "
            "expected one that this account may read and write"
        ) from error


@contextmanager
def local_file(place: Place) -> Iterator[Path]:
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
        A folder that cannot be written, or a bucket that is not there or does not answer.
    """
    import pyarrow.fs as pafs

    from storage.files import check_writable

    folder = beats_place()
    if isinstance(folder, Path):
        return check_writable(folder, "folder of the beat tables (HOLTER_BEATS)")
    bucket = "/".join(folder.uri.split("/")[:3])
    with answering(folder):
        system, path = _resolve(bucket)
        if system.get_file_info(path).type == pafs.FileType.NotFound:
            raise PlaceError(
                f"{folder}: found no bucket {bucket}; expected one for beat tables (HOLTER_BEATS)"
            )
    return folder


@cache
def _system(base: str) -> tuple[Any, str]:
    import pyarrow as pa
    import pyarrow.fs as pafs

    try:
        system, root = pafs.FileSystem.from_uri(base)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PlaceError(f"{base}: cannot be reached: {error}") from error
    return (_patient(system) if base.startswith("s3://") else system), root


def _patient(source: Any) -> Any:
    """The same S3 as pyarrow found it, with pauses that grow, and small files in one request."""
    import pyarrow.fs as pafs

    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    endpoint = next((os.environ[name] for name in names if os.environ.get(name)), None)
    return pafs.S3FileSystem(
        region=source.region,
        endpoint_override=endpoint,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        connect_timeout=SILENCE_S,
        request_timeout=SILENCE_S,
        allow_delayed_open=True,
    )


def _resolve(uri: str) -> tuple[Any, str]:
    """The file system of a URI, one connection a bucket, and the path in it."""
    scheme, _, rest = uri.partition("://")
    bucket, _, inside = rest.partition("/")
    system, root = _system(f"{scheme}://{bucket}")
    return system, f"{root.rstrip('/')}/{inside}" if inside else root
