"""SHA256SUMS.txt: whether a record's files are, byte for byte, what the data set published."""

from __future__ import annotations

from collections.abc import Mapping
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
    listed = read_sums(folder)
    known = digests or {}
    compared = False
    for path in sorted((folder / name).parent.glob("*")):
        file = path.relative_to(folder).as_posix()
        if file not in listed or not (file.startswith(f"{name}.") or file in known):
            continue
        found = known.get(file) or sha256_file(path)
        if found != listed[file]:
            raise ChecksumMismatch(name, f"SHA-256 {found[:12]}…", f"{listed[file][:12]}…", file)
        compared = True
    return True if compared else None


def read_sums(folder: Path) -> dict[str, str]:
    """Digest by file name as the folder's SHA256SUMS.txt lists them; empty where it has none."""
    path = folder / SUMS
    if not path.is_file():
        return {}
    lines = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {pair[1].lstrip("*").strip(): pair[0].lower() for pair in lines if len(pair) == 2}
