"""SHA256SUMS.txt: whether a record's files are, byte for byte, what the data set published."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from storage.errors import ChecksumMismatch
from storage.files import refuse_unsafe, sha256_file
from storage.text import file_name, lines

SUMS = "SHA256SUMS.txt"


def verify_checksums(
    folder: Path, name: str, digests: Mapping[str, str] | None = None
) -> bool | None:
    """Compare a record's files with the data set's SHA256SUMS.txt.

    Parameters
    ----------
    folder, name
        As in `open_record`.
    digests : mapping, optional
        Digests known already (`Record.digests`), so that no file is read twice.

    Returns
    -------
    bool or None
        True where every file that is here and listed fits; None where none is listed.

    Raises
    ------
    ChecksumMismatch
        Naming the first file that differs.
    """
    refuse_unsafe(folder, name, name)
    sums = folder / SUMS
    try:
        state = sums.stat()
    except OSError:
        return None
    sums_by_file, by_record = _index_sums(sums, state.st_mtime_ns, state.st_size, state.st_ino)
    earlier = digests or {}
    compared = False
    for file in sorted(
        {*by_record.get(name, ()), *(file for file in earlier if file in sums_by_file)}
    ):
        digest = earlier.get(file)
        if not digest and not (folder / file).is_file():
            continue
        digest = digest or sha256_file(folder / file)
        if digest != sums_by_file[file]:
            raise ChecksumMismatch(
                name, f"SHA-256 {digest[:12]}…", f"{sums_by_file[file][:12]}…", file
            )
        compared = True
    return True if compared else None


@lru_cache(maxsize=4)
def _index_sums(sums: Path, *_state: int) -> tuple[Mapping[str, str], Mapping[str, list[str]]]:
    """The digests of a list that has not changed, and its files by record: read once for all.

    Read for every record, the list of a hundred thousand would take longer than the records.
    """
    sums_by_file = read_sums(sums.parent)
    by_record: dict[str, list[str]] = {}
    for file in sums_by_file:
        for record in records_of(file):
            by_record.setdefault(record, []).append(file)
    return sums_by_file, by_record


def records_of(file: str) -> list[str]:
    """The names of the records that a file may be of: without its suffix, or its `.NAME.csv`."""
    stem, dot, suffix = file.rpartition(".")
    if not dot or "/" in suffix:
        return []
    record, dot, annotator = stem.rpartition(".")
    of_csv = suffix == "csv" and dot and annotator and "/" not in annotator
    return [stem, record] if of_csv else [stem]


def read_sums(folder: Path) -> dict[str, str]:
    """Digest by file name as the folder's SHA256SUMS.txt lists them; empty where it has none."""
    path = folder / SUMS
    if not path.is_file():
        return {}
    pairs = (line.split(maxsplit=1) for line in lines(path.read_bytes()))
    # sha256sum marks a file that it read as binary by "*".
    return {
        file_name(pair[1].removeprefix("*")): pair[0].lower() for pair in pairs if len(pair) == 2
    }
