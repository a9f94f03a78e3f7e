"""What the commands answer that write formats of auditors and catalogues."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SignedRelease:
    """`holter exchange sign`: a version's files in a folder, and the bundle over them."""

    version: str
    folder: str
    files: list[str]
    bundle: str


@dataclass(frozen=True)
class TimeStamp:
    """`holter exchange stamp`: which entry of a ledger an authority saw, and when (UTC).

    `verified` is False where no certificates are configured to verify it by.
    """

    model: str
    entry: int
    sha256: str
    time_utc: str
    file: str
    verified: bool
