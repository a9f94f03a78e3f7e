"""Downloads, against a server on loopback that drops, stalls, truncates and lies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from storage.datasets.dataset import load_spec
from storage.errors import DownloadError, UnsafeName
from storage.recordings.download import FileResult, Manner, fetch_dataset

SPEC = load_spec("mitdb")
ROOT = "/mitdb/1.0.0/"
QUICK = Manner(attempts=3, backoff_s=0.001, longest_wait_s=0.05, silence_s=5.0)
HEADER = b"100 1 360 100\n100.dat 16 200 12 0 0 0 0 MLII\n"
FILES = {
    "RECORDS": b"100\n101\n",
    "100.hea": HEADER,
    "100.dat": bytes(range(256)) * 2000,
    "100.atr": b"\0\0",
    "101.hea": HEADER.replace(b"100", b"101"),
    "101.dat": b"\1" * 200,
    "sub/notes.txt": b"text",
}
#: Faults that are an answer without a body: status and headers.
AT_ONCE = {
    "busy": (429, {"Retry-After": "1"}),
    "elsewhere": (302, {"Location": "http://localhost:1/evil"}),
    "moved": (302, {"Location": f"{ROOT}sub/notes.txt"}),
    "huge": (200, {"Content-Length": str(1 << 50)}),
}


class Server(ThreadingHTTPServer):
    """Serves FILES; `faults` says how the n-th request for a file goes wrong."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(FILES)
        self.faults: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.agents: set[str] = set()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.release = threading.Event()
        self.listing()

    def listing(self, **more: str) -> None:
        """List every file's digest, and `more`."""
        sums = {file: sha256(data).hexdigest() for file, data in self.files.items()} | more
        sums.pop("SHA256SUMS.txt", None)
        text = "".join(f"{digest} {file}\n" for file, digest in sums.items())
        self.files["SHA256SUMS.txt"] = text.encode()

    @property
    def url(self) -> str:
        """Base address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def asked(self, file: str) -> list[str]:
        """The Range header of every request for a file."""
        return [span for name, span in self.requests if name == file]

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    """One request: the file, or the fault that is next for it."""

    server: Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer, counting how many are answered at once."""
        server = self.server
        with server.lock:
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            self.answer()
        finally:
            with server.lock:
                server.at_once -= 1

    def answer(self) -> None:
        """The file, or its next fault."""
        server, file = self.server, self.path.removeprefix(ROOT)
        span = self.headers.get("Range", "")
        server.requests.append((file, span))
        server.agents.add(self.headers.get("User-Agent", ""))
        queue = server.faults.get(file, [])
        fault = queue.pop(0) if queue else ""
        data = server.files.get(file)
        if data is None:
            return self.reply(404, b"")
        if fault in AT_ONCE:
            return self.reply(AT_ONCE[fault][0], b"", AT_ONCE[fault][1])
        if fault == "lie":
            data = bytes(len(data))
        start = int(span[6:-1]) if span.startswith("bytes=") and fault != "ignore range" else 0
        status = 206 if start else 200
        more = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        if fault == "other part":
            status, more = 206, {"Content-Range": f"bytes 7-{len(data) - 1}/{len(data)}"}
        if start >= len(data) and start:
            return self.reply(416, b"")
        return self.send_part(fault, status, data[start:], more)

    def send_part(self, fault: str, status: int, part: bytes, more: dict[str, str]) -> None:
        """Send the bytes asked for, or fewer of them."""
        if fault in ("drop", "stall"):
            self.reply(status, part[: len(part) // 2], {**more, "Content-Length": str(len(part))})
            if fault == "stall":
                self.server.release.wait(10)
            return None
        if fault == "cut":  # ends early and announces nothing
            part, more = part[: len(part) // 2], {**more, "Content-Length": ""}
        return self.reply(status, part, more)

    def reply(self, status: int, body: bytes, more: dict[str, str] | None = None) -> None:
        """Send status, headers (an empty one is left out) and body."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (more or {})).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as here:
        thread = threading.Thread(target=here.serve_forever, args=(0.01,))
        thread.start()
        yield here
        here.release.set()
        here.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, **more: object) -> dict[str, FileResult]:
    arguments: dict[str, object] = {"mirror": server.url, "manner": QUICK, **more}
    files = fetch_dataset(SPEC, folder, **arguments)  # type: ignore[arg-type] # any of its options
    return {one.file: one for one in files}


def assert_whole(folder: Path, *names: str) -> None:
    for name in names or tuple(FILES):
        assert (folder / name).read_bytes() == FILES[name]
    assert not list(folder.rglob("*.partial"))


def test_everything_is_fetched_and_kept(server: Server, tmp_path: Path) -> None:
    """A data set comes over four connections at most; a second fetch asks for the list alone."""
    told: list[tuple[str, int]] = []
    found = fetch(server, tmp_path, on_file=lambda one, total: told.append((one.file, total)))
    assert {one.state for one in found.values()} == {"fetched"}
    assert {name for name, _ in told} == set(FILES)
    assert {total for _, total in told} == {len(FILES)}
    assert_whole(tmp_path)
    assert server.most_at_once <= 4
    assert all(agent.startswith("holter-af") for agent in server.agents)
    server.requests.clear()
    assert {one.state for one in fetch(server, tmp_path).values()} == {"kept"}
    assert [name for name, _ in server.requests] == ["SHA256SUMS.txt"]


def test_what_a_toml_wants_is_fetched(server: Server, tmp_path: Path) -> None:
    """Of a project with more in it, the TOML's files are fetched, and a list of labels always."""
    server.files["copy/100.hea"], server.files["labels.csv"] = HEADER, b"100,N\n"
    server.listing()
    source = SPEC.source.model_copy(update={"files": ("1*", "sub/*")})
    labels = SPEC.labels.model_copy(update={"file": ("labels-v3.csv", "labels.csv")})
    spec = SPEC.model_copy(update={"source": source, "labels": labels})
    how: dict[str, Any] = {"mirror": server.url, "manner": QUICK}
    files = {one.file for one in fetch_dataset(spec, tmp_path / "all", **how)}
    assert files == {file for file in FILES if file != "RECORDS"}
    some = fetch_dataset(spec, tmp_path / "some", records=["notes", "101"], **how)
    assert {one.file for one in some} == {
        "101.hea", "101.dat", "RECORDS", "labels.csv", "sub/notes.txt"
    }  # fmt: skip
    nothing = spec.model_copy(update={"source": source.model_copy(update={"files": ("x/*",)})})
    with pytest.raises(DownloadError, match=r"found 9 files listed; expected some that are x/\*"):
        fetch_dataset(nothing, tmp_path / "none", **how)


@pytest.mark.parametrize("fault", ["drop", "cut", "stall"])
def test_a_broken_connection_is_resumed(server: Server, tmp_path: Path, fault: str) -> None:
    """After a drop or a stall the rest alone is asked for; a silent cut shows in the digest."""
    server.faults["100.dat"] = [fault]
    quick = replace(QUICK, silence_s=0.3)
    assert fetch(server, tmp_path, manner=quick)["100.dat"].state == "fetched"
    assert_whole(tmp_path)
    half = len(FILES["100.dat"]) // 2
    assert server.asked("100.dat") == (["", ""] if fault == "cut" else ["", f"bytes={half}-"])


def test_a_later_run_resumes(server: Server, tmp_path: Path) -> None:
    """What a run that was given up left behind is where the next one goes on."""
    server.faults["100.dat"] = ["drop"] + ["busy"] * 2
    found = fetch(server, tmp_path)["100.dat"]
    assert found.state == "failed"
    assert "gave up after 3 tries" in (found.error or "")
    assert not (tmp_path / "100.dat").exists()
    server.requests.clear()
    assert fetch(server, tmp_path)["100.dat"].state == "fetched"
    assert server.asked("100.dat") == [f"bytes={len(FILES['100.dat']) // 2}-"]
    assert_whole(tmp_path)


@pytest.mark.parametrize("fault", ["ignore range", "other part", "lie"])
def test_a_bad_resume_starts_again(server: Server, tmp_path: Path, fault: str) -> None:
    """Where Range is ignored, or another part or other bytes come, the file is right after all."""
    server.faults["100.dat"] = ["drop", fault]
    assert fetch(server, tmp_path)["100.dat"].state == "fetched"
    assert_whole(tmp_path)


@pytest.mark.parametrize("left", [b"x" * 100, b"x" * 1_000_000, FILES["100.dat"]])
def test_a_stale_start_is_replaced(server: Server, tmp_path: Path, left: bytes) -> None:
    """Another version's start, a longer one, or the whole file left as partial ends in the file."""
    (tmp_path / "100.dat.partial").write_bytes(left)
    assert fetch(server, tmp_path)["100.dat"].state == "fetched"
    assert_whole(tmp_path)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("lie", "found SHA-256 .*; expected "),
        ("elsewhere", "redirected to http://localhost:1/evil"),
        ("moved", "found SHA-256"),
        ("huge", "bytes to come; there is room for"),
        ("busy", "the server answered 429"),
        ("drop", "gave up after 3 tries"),
    ],
)
def test_a_file_that_cannot_be_had_fails_alone(
    server: Server, tmp_path: Path, fault: str, reason: str
) -> None:
    """A file that stays wrong is never given its name; the reason is told, the others come."""
    server.faults["101.dat"] = [fault] * 9
    found = fetch(server, tmp_path)
    assert found["101.dat"].state == "failed"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found["101.dat"].error)
    assert not (tmp_path / "101.dat").exists()
    assert {one.state for file, one in found.items() if file != "101.dat"} == {"fetched"}


def test_busy_servers_are_given_the_time_they_ask(server: Server, tmp_path: Path) -> None:
    """Retry-After is waited for, within the longest wait."""
    server.faults["101.dat"] = ["busy"]
    began = time.monotonic()
    slow = replace(QUICK, longest_wait_s=0.4)
    assert fetch(server, tmp_path, manner=slow)["101.dat"].state == "fetched"
    assert time.monotonic() - began >= 0.4


def test_a_missing_file_is_named(server: Server, tmp_path: Path) -> None:
    """A file that is listed but not there fails at once, without more tries."""
    server.listing(**{"102.dat": "0" * 64})
    found = fetch(server, tmp_path)["102.dat"]
    assert "the server answered 404" in (found.error or "")
    assert server.asked("102.dat") == [""]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil"])
def test_a_list_that_leaves_the_folder_is_refused(
    server: Server, tmp_path: Path, name: str
) -> None:
    """A name in SHA256SUMS.txt that leaves the folder stops the fetch before any file."""
    server.listing(**{name: "0" * 64})
    with pytest.raises(UnsafeName):
        fetch(server, tmp_path / "here")
    assert {file for file, _ in server.requests} == {"SHA256SUMS.txt"}
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["SHA256SUMS.txt"]


def test_records_bring_what_their_headers_name(server: Server, tmp_path: Path) -> None:
    """--records fetches a record's files, those its header names, and the list of records."""
    segments = b"100 1 360 100\nshared.dat 16 200 12 0 0 0 0 MLII\n"
    server.files["100.hea"], server.files["shared.dat"] = segments, b"\2" * 200
    server.listing()
    found = fetch(server, tmp_path, records=["100"])
    assert set(found) == {"RECORDS", "100.hea", "100.dat", "100.atr", "shared.dat"}
    with pytest.raises(DownloadError, match=r"no file of a record '1000' \(did you mean '100'\?\)"):
        fetch(server, tmp_path, records=["1000"])


def test_a_page_instead_of_the_list_is_refused(server: Server, tmp_path: Path) -> None:
    """A login page in place of SHA256SUMS.txt is an error that says so."""
    server.files["SHA256SUMS.txt"] = b"<html> please log in </html>"
    with pytest.raises(DownloadError, match="found no list of digests"):
        fetch(server, tmp_path)


def test_offline_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, the error names the server, the proxy variable and the mirror option."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DownloadError, match=r"cannot reach .*HTTPS_PROXY.*--mirror"):
        fetch_dataset(SPEC, tmp_path, mirror="http://127.0.0.1:9", manner=QUICK)


def test_a_proxy_of_the_environment_is_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY is where requests go, by their whole address."""
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", server.url)
    with pytest.raises(DownloadError, match="404"):
        fetch_dataset(SPEC, tmp_path, mirror="http://physio.test", manner=QUICK)
    assert server.requests[0][0] == "http://physio.test/mitdb/1.0.0/SHA256SUMS.txt"


def test_the_command_reports_and_exits_with_3(server: Server, tmp_path: Path) -> None:
    """`holter data fetch` exits 0 when all is there, and 3 when a file failed."""
    words = ["data", "fetch", "mitdb", "--to", str(tmp_path), "--mirror", server.url]
    assert CliRunner().invoke(app, words).exit_code == 0
    (tmp_path / "101.dat").unlink()
    server.faults["101.dat"] = ["elsewhere"] * 9
    done = CliRunner().invoke(app, [*words, "--records", "100,101"])
    assert done.exit_code == 3
    assert "redirected" in done.stderr
