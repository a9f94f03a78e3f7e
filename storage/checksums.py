"""SHA256SUMS.txt: whether a record's files are, byte for byte, what the data set published."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from storage.errors import ChecksumMismatch
from storage.files import safe_path, sha256_file

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
    safe_path(folder, name, record=name)
    sums = folder / SUMS
    if not sums.is_file():
        return None
    state = sums.stat()
    listed, by_stem = _indexed(sums, state.st_mtime_ns, state.st_size, state.st_ino)
    known = digests or {}
    mine = [file for file in by_stem.get(_stem(name), ()) if file.startswith(f"{name}.")]
    compared = False
    for file in sorted({*mine, *(file for file in known if file in listed)}):
        path = folder / file
        if file not in known and not path.is_file():
            continue
        found = known.get(file) or sha256_file(path)
        if found != listed[file]:
            raise ChecksumMismatch(name, f"SHA-256 {found[:12]}…", f"{listed[file][:12]}…", file)
        compared = True
    return True if compared else None


@lru_cache(maxsize=4)
def _indexed(sums: Path, *_state: int) -> tuple[Mapping[str, str], Mapping[str, tuple[str, ...]]]:
    """The digests of a list that has not changed, and its files by record: read once for all.

    Read for every record, the list of a hundred thousand would take longer than the records.
    """
    listed = read_sums(sums.parent)
    by_stem: dict[str, tuple[str, ...]] = {}
    for file in listed:
        by_stem[_stem(file)] = (*by_stem.get(_stem(file), ()), file)
    return listed, by_stem


def _stem(file: str) -> str:
    """A name up to the first dot of its last part."""
    folder, slash, name = file.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def read_sums(folder: Path) -> dict[str, str]:
    """Digest by file name as the folder's SHA256SUMS.txt lists them; empty where it has none."""
    path = folder / SUMS
    if not path.is_file():
        return {}
    lines = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {pair[1].lstrip("*").strip(): pair[0].lower() for pair in lines if len(pair) == 2}
