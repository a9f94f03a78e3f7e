"""Download a data set from PhysioNet, or from a mirror of it: checked, resumed, polite.

Every file is written under a `.partial` name, compared with the data set's SHA256SUMS.txt, and only
then given its own; what an interrupted download left behind is where the next one goes on.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

import httpx

from storage.datasets.dataset import DatasetSpec
from storage.errors import DownloadError, HeaderMismatch
from storage.files import read_state, safe_path, sha256_file, write_json
from storage.formats.checksums import SUMS, read_sums, records_of
from storage.formats.wfdb_header import parse_header
from storage.text import did_you_mean

#: What of a folder was fetched here: SHA-256 by file. Nothing else of it may ever be removed.
FETCH_NOTE = ".holter-fetched.json"
PHYSIONET = "https://physionet.org/files"
#: Names another server with the same layout: MIRROR/<slug>/<version>/<file>.
MIRROR_VARIABLE = "HOLTER_PHYSIONET"
MOST_BYTES = 1 << 36  #: 64 GiB: no file of a recording is larger
BUSY = frozenset({429, 500, 502, 503, 504})
REDIRECT = frozenset({301, 302, 303, 307, 308})
#: An attempt that brought so much was no failure, only cut off: it does not count.
PROGRESS_BYTES = 1 << 20


@dataclass(frozen=True)
class Manner:
    """How to behave towards the server.

    Attributes
    ----------
    connections : int
        Files fetched at once.
    attempts : int
        Tries of one file that bring nothing before it is given up.
    backoff_s, longest_wait_s : float
        Wait after the first try that failed, doubled after each; and the longest wait, also where
        the server asks for more with Retry-After.
    silence_s : float
        Time without a byte after which a connection counts as dead.
    """

    connections: int = 4
    attempts: int = 5
    backoff_s: float = 1.0
    longest_wait_s: float = 120.0
    silence_s: float = 30.0


POLITE = Manner()


@dataclass(frozen=True)
class FileResult:
    """What became of one file: fetched now, kept as it was here already, or failed and why."""

    file: str
    state: Literal["fetched", "kept", "failed"]
    error: str | None = None


class _Again(Exception):  # noqa: N818 - not an error yet: a try that may be repeated
    """A try that failed in a way that may heal, and how long the server asks to wait."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def fetch_dataset(
    spec: DatasetSpec,
    folder: Path,
    *,
    records: Iterable[str] | None = None,
    mirror: str | None = None,
    on_file: Callable[[FileResult, int], None] = lambda *_: None,
    manner: Manner = POLITE,
) -> list[FileResult]:
    """Download a data set's files, or those of some records, into `folder`.

    Parameters
    ----------
    spec : DatasetSpec
        The data set; its `source.physionet` and `version` say where it is.
    folder : Path
        Where to; files that are there and fit their digest are kept.
    records : iterable of str, optional
        Just these records, with every file that their headers name; by default the TOML's
        `source.files`, or all.
    mirror : str, optional
        Base address; else HOLTER_PHYSIONET, else PhysioNet. Proxies are those of the environment.
    on_file : callable
        Told each file that is done, and how many there are in all as far as is known.
    manner : Manner
        How to behave towards the server.

    Returns
    -------
    list of FileResult
        Every file in the order of its name, failed ones too.

    Raises
    ------
    DownloadError
        The data set's list of files cannot be had: offline, no such data set, no digests in it.
    UnsafeName
        The list names a file outside the folder; nothing of it is then fetched.
    """
    if spec.source.physionet is None:
        raise DownloadError(f"data set {spec.name}: its TOML names no PhysioNet project to fetch")
    base = (mirror or os.environ.get(MIRROR_VARIABLE) or PHYSIONET).rstrip("/")
    if urlsplit(base).scheme not in ("http", "https"):
        raise ValueError(f"a mirror's address begins with https:// or http://, not {base!r}")
    base = f"{base}/{spec.source.physionet}/{quote(spec.version)}"
    folder.mkdir(parents=True, exist_ok=True)
    with httpx.Client(
        timeout=manner.silence_s,
        headers={
            "User-Agent": "holter-af data fetch",
            "Accept-Encoding": "identity",
        },
        limits=httpx.Limits(max_connections=manner.connections),
    ) as client:
        server = _Server(client, base, folder, manner)
        digests = server.listing()
        todo = _files_of(records, spec, digests)
        results: dict[str, FileResult] = {}
        with ThreadPoolExecutor(manner.connections) as pool:
            try:
                while todo:
                    futures = [pool.submit(server.fetch, file, digests.get(file)) for file in todo]
                    total = len(results) + len(futures)
                    for future in as_completed(futures):
                        result = future.result()
                        results[result.file] = result
                        on_file(result, total)
                    names = {name for file in todo for name in _named_by(folder, results[file])}
                    todo = sorted(names - {*results}) if records is not None else []
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    states = [results[file] for file in sorted(results)]
    note = {state.file: digests[state.file] for state in states if state.state == "fetched"}
    if note:
        note[SUMS] = sha256_file(folder / SUMS)
        write_json(folder / FETCH_NOTE, {**fetched_files(folder), **note})
    return states


def fetched_files(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that were fetched into a folder, by name; none where no note is there.

    Raises
    ------
    PlaceError
        The note is damaged.
    """
    path = folder / FETCH_NOTE
    return read_state(path, dict) if path.is_file() else {}


@dataclass(frozen=True)
class _Server:
    """One data set's folder on a server, and the folder here that it is fetched into."""

    client: httpx.Client
    base: str
    folder: Path
    manner: Manner

    def listing(self) -> dict[str, str]:
        """Fetch SHA256SUMS.txt; digest by file name, every name checked to stay in the folder."""
        partial = self.folder / f".{SUMS}.partial"
        partial.unlink(missing_ok=True)  # it has no digest of its own: never resumed
        try:
            self._patiently(SUMS, partial)
            partial.replace(self.folder / SUMS)
        finally:
            partial.unlink(missing_ok=True)
        digests = {file: digest for file, digest in read_sums(self.folder).items() if file != SUMS}
        if not digests or not all(
            re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in digests.values()
        ):
            raise DownloadError(
                f"{self.base}/{SUMS}: found no list of digests; expected one a line"
            )
        for file in digests:
            safe_path(self.folder, file, record=file)
        return digests

    def fetch(self, file: str, sha256: str | None) -> FileResult:
        """Fetch one file, or keep the one that is here and fits; never raises for the file."""
        if sha256 is None:
            return FileResult(file, "failed", f"{file}: a header names it, {SUMS} does not list it")
        try:
            path = safe_path(self.folder, file, record=file)
            if path.is_file() and sha256_file(path) == sha256:
                return FileResult(file, "kept")
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.partial")
            digest = sha256_file(partial) if partial.is_file() else ""
            # What is here may be of another version, left from an earlier time: once from anew.
            for _ in range(2):
                if digest != sha256:
                    self._patiently(file, partial)
                    digest = sha256_file(partial)
                if digest == sha256:
                    partial.replace(path)
                    return FileResult(file, "fetched")
                partial.unlink()
        except (DownloadError, OSError) as error:
            return FileResult(file, "failed", str(error))
        differs = f"{file}: found SHA-256 {digest[:12]}…; expected {sha256[:12]}…, as in {SUMS}"
        return FileResult(file, "failed", differs)

    def _patiently(self, file: str, partial: Path) -> None:
        """Receive a file whole, waiting and trying again where that may help."""
        failed = 0
        while True:
            before = partial.stat().st_size if partial.is_file() else 0
            try:
                return self._receive(f"{self.base}/{quote(file)}", partial)
            except (httpx.TransportError, _Again) as error:
                now = partial.stat().st_size if partial.is_file() else 0
                failed = 0 if now - before >= PROGRESS_BYTES else failed + 1
                if failed >= self.manner.attempts:
                    raise DownloadError(self._reason(file, error)) from error
                wait_s = self.manner.backoff_s * 2**failed / 2  # failed is 1 at the first
                asked_s = error.wait_s if isinstance(error, _Again) else 0.0
                time.sleep(min(max(wait_s, asked_s), self.manner.longest_wait_s))

    def _reason(self, file: str, error: Exception) -> str:
        cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            return (
                f"cannot reach {self.base} ({cause}); is the network up? A proxy is taken from "
                f"HTTPS_PROXY, another server from --mirror or {MIRROR_VARIABLE}"
            )
        tries = self.manner.attempts
        return f"{file}: gave up after {tries} tries ({cause}); what came is kept to resume from"

    def _receive(self, url: str, partial: Path, hops: int = 3) -> None:
        """One request: append to what is there already, from where it ends."""
        have = partial.stat().st_size if partial.is_file() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self.client.stream("GET", url, headers=headers) as reply:
            if reply.status_code in REDIRECT:
                target = reply.next_request.url if reply.next_request else None
                if target is None or _origin(target) != _origin(reply.url) or not hops:
                    raise DownloadError(f"{url}: redirected to {target}; expected the file itself")
            elif reply.status_code in BUSY:
                wait_s = _retry_after_s(reply.headers.get("Retry-After", ""))
                raise _Again(f"the server answered {reply.status_code}", wait_s)
            elif reply.status_code == 416:  # what is here already is not the start of what is there
                partial.unlink(missing_ok=True)
                raise _Again("the server has less than is here already")
            elif reply.status_code not in (200, 206):
                raise DownloadError(f"{url}: the server answered {reply.status_code}")
            elif reply.status_code == 206 and not _continues(reply, have):
                partial.unlink(missing_ok=True)
                raise _Again("the server sent another part than was asked for")
            else:
                target = None
                self._append(reply, partial, have if reply.status_code == 206 else 0, url)
        if target is not None:
            self._receive(str(target), partial, hops - 1)

    def _append(self, reply: httpx.Response, partial: Path, start: int, url: str) -> None:
        length = reply.headers.get("Content-Length", "")
        expected = int(length) if length.isdecimal() else None
        free = shutil.disk_usage(partial.parent).free
        if expected is not None and expected > min(free, MOST_BYTES):
            raise DownloadError(f"{url}: {expected:,} bytes to come; there is room for {free:,}")
        received = 0
        with partial.open("r+b" if start else "wb") as out:
            out.seek(start)
            for chunk in reply.iter_raw():
                received += len(chunk)
                if start + received > MOST_BYTES:
                    raise DownloadError(f"{url}: more than {MOST_BYTES:,} bytes")
                out.write(chunk)
            out.truncate()
            out.flush()
            os.fsync(out.fileno())
        if expected is not None and received != expected:
            raise _Again(f"{received:,} bytes came; {expected:,} were announced")


def _continues(reply: httpx.Response, have: int) -> bool:
    return re.match(rf"bytes {have}-", reply.headers.get("Content-Range", "")) is not None


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _retry_after_s(value: str) -> float:
    """Seconds that a Retry-After header asks for: a number of them, or a date (RFC 9110)."""
    if value.isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (until - datetime.now(tz=timezone.utc)).total_seconds())


def _files_of(
    records: Iterable[str] | None, spec: DatasetSpec, digests: dict[str, str]
) -> list[str]:
    """The listed files that the data set wants; of some records theirs, and what tells of all."""
    globs = spec.source.files or ("*",)
    matches = [file for file in digests if any(fnmatchcase(file, glob) for glob in globs)]
    if not matches:
        raise DownloadError(
            f"data set {spec.name}: found {len(digests)} files listed; expected some that are "
            f"{' or '.join(globs)}, as its TOML wants"
        )
    if records is None:
        return matches
    selection = [file for file in (spec.records.file, *spec.labels.files) if file in digests]
    by_record: dict[str, list[str]] = {}
    for file in matches:
        names = (file, *records_of(file))
        for name in dict.fromkeys((*names, *(name.rpartition("/")[2] for name in names))):
            by_record.setdefault(name, []).append(file)
    for record in records:
        files = by_record.get(record, [])
        if not files:
            hint = did_you_mean(record, by_record)
            raise DownloadError(f"data set {spec.name}: no file of a record {record!r}{hint}")
        selection += files
    return list(dict.fromkeys(file for file in selection if file))


def _named_by(folder: Path, result: FileResult) -> list[str]:
    """The files that a header names: signals, and the headers of segments."""
    if result.state == "failed" or not result.file.lower().endswith(".hea"):
        return []
    try:
        header = parse_header((folder / result.file).read_bytes(), result.file, result.file)
    except HeaderMismatch:
        return []  # its digest fits: published so, and reading the record will say what is wrong
    names = [signal.file for signal in header.signals]
    names += [f"{segment}.hea" for segment, _ in header.segments if segment != "~"]
    parent = result.file.rpartition("/")[0]
    return [f"{parent}/{name}" if parent else name for name in names if name != "~"]
