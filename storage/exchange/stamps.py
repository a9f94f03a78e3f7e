"""Time stamps of a ledger's entries: asked for, kept among the artifacts of its run, verified.

A stamp is of the bytes that an entry's signature is over: its digest is the entry's own, which the
next entry holds. What was stamped was written before, and so was all that it follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from storage.audit.findings import MATCH, MISMATCH, OUT, Finding
from storage.audit.ledger import trusted_entries
from storage.audit.ledger_entry import Entry
from storage.audit.ledger_run import ledger_run
from storage.errors import NotInRegistry, OutOfReach, RegistryError, SignatureError
from storage.exchange.timestamps import (
    MOST_BYTES,
    SUFFIX,
    Stamp,
    UnverifiableError,
    check_stamp,
    read_stamp,
    request_stamp,
)
from storage.files import home, write_bytes
from storage.registry.answers import rows, text
from storage.registry.client import call, fetch_run_file, upload

FOLDER = "timestamps"
#: An entry is written at the server's clock, and stamped at the authority's.
CLOCKS = timedelta(minutes=10)


def stamp_head(model: str, entries: Sequence[Entry]) -> tuple[Entry, Stamp, Path]:
    """Have the newest entry of a ledger stamped; the response goes to MLflow, a copy stays here.

    One that is stamped already keeps its stamp, if it holds: the earlier one says more.

    Raises
    ------
    NotInRegistry
        The ledger has no entry.
    ServerError, SignatureError
        As `storage.exchange.timestamps.request_stamp`.
    RegistryError
        MLflow does not take it.
    """
    if not entries:
        raise NotInRegistry(f"ledger of {model}: found no entry to stamp")
    entry, run = entries[-1], ledger_run(model, make=False)
    path = kept_folder(model) / f"{entry.sequence:06d}{SUFFIX}"
    with suppress(RegistryError, SignatureError), TemporaryDirectory(prefix="holter-") as folder:
        earlier = _fetch(run, f"{FOLDER}/{path.name}", Path(folder))
        return entry, _read(earlier, entry), write_bytes(path, earlier)
    response = request_stamp(entry.signed_bytes())
    write_bytes(path, response)
    upload(str(run["info"]["artifact_uri"]), FOLDER, path)
    return entry, _read(response, entry), path


def _fetch(run: Mapping[str, Any], file: str, folder: Path) -> bytes:
    return fetch_run_file(run["info"]["run_id"], file, None, folder, MOST_BYTES).read_bytes()


def kept_folder(model: str) -> Path:
    """Where this machine's own copies of a ledger's stamps lie."""
    return home() / "ledger" / FOLDER / quote(model, safe="")


def _read(response: bytes, entry: Entry) -> Stamp:
    try:
        return check_stamp(response, entry.signed_bytes())
    except UnverifiableError:
        return read_stamp(response, entry.signed_bytes())


def findings(model: str, trusted: Iterable[str]) -> Iterator[Finding]:
    """Each stamp against the entry that it is of, among those that a trusted key signed.

    None where no entry was stamped. What is wrong with the ledger itself is told by
    `storage.audit.verify`.
    """
    try:
        by_number = {entry.sequence: entry for entry in trusted_entries(model, trusted)}
        run = ledger_run(model, make=False)
        files = _files(run["info"]["run_id"]) if run else []
    except OutOfReach:
        raise
    except RegistryError:
        return
    with TemporaryDirectory(prefix="holter-") as folder:
        for file in files:
            yield _finding(run, file, by_number, Path(folder))


def _files(run_id: str) -> list[str]:
    try:
        answer = call("GET", "artifacts/list", run_id=run_id, path=FOLDER)
    except NotInRegistry:
        return []
    paths = [text(row.get("path"), "artifact's path") for row in rows(answer, "files")]
    return sorted(path for path in paths if path.endswith(SUFFIX))


def _finding(run: dict[str, Any], file: str, by_number: dict[int, Entry], folder: Path) -> Finding:
    number = PurePosixPath(file).stem
    name = f"time stamp {number[:20]}"
    entry = by_number.get(int(number)) if number.isdecimal() and len(number) < 19 else None
    if entry is None:
        return Finding("ledger", name, MISMATCH, "it is of no entry that a trusted key signed")
    try:
        stamp = check_stamp(_fetch(run, file, folder), entry.signed_bytes())
    except UnverifiableError as error:
        return Finding("ledger", name, OUT, str(error))
    except (SignatureError, RegistryError) as error:
        return Finding("ledger", name, MISMATCH, str(error))
    if stamp.time + CLOCKS < entry.time:
        return Finding("ledger", name, MISMATCH, f"of {stamp.time}; the entry is of {entry.time}")
    return Finding("ledger", name, MATCH, f"entry {entry.sequence} was there {stamp.time}")
