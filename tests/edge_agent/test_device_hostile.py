"""A hostile MLflow server against the whole agent: trust is in the key, not in the server."""

from __future__ import annotations

import http.client
import io
import json
import os
import random
import shutil
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent import agent as edge
from edge_agent import cli, measure, outbox, presence, slots
from edge_agent.agent import Agent
from edge_agent.board.kinds import device_kind
from flows.train.release import seal
from storage.errors import HolterError, RegistryError
from storage.files import sha256_file, write_json
from storage.registry import client, evaluations
from storage.registry.model_files import LITERT, MANIFEST
from storage.registry.signing import check_name, check_release, public_key, sign_name
from storage.tables.testset import TestSet, write_testset
from tests.conftest import ROOT

#: Answers of the random test, and of one of its examples.
ANSWERS = int(os.environ.get("HOLTER_HOSTILE_ANSWERS", "2000"))
EACH = 100
RUN, TRAINING = "a" * 32, "b" * 32
OUTCOME = {"claim": 1, "status": "FINISHED", "metrics": {"f1": 1}, "tags": {}, "time_ms": 1}
#: What stands in the place of any value of an answer.
NASTY: list[Any] = [
    *(None, True, -1, 0, 1.5, 1 << 70, float("nan"), float("inf"), [], {}, [[]], [None], [{}]),
    *("", "newest", "-1", "²", "../slots", "../keys", "..", "a/../..", "/", "a\0b", "\ud800"),
    *("\x1b[2J\n", "x" * 5_000, "0" * 5_000, "0" * 32, "A" * 32, RUN + "/..", "FINISHED", "1:2"),
    *("withdrawn", "http://[", "mlflow-artifacts:/../..", {"a": {"b": []}}, {"key": "a"}),
]
JUNK = [b"", b"[", b"[" * 50_000, b"nul", b"1" * 5_000, b"\xff\xfe", b'"\\ud800"', b'{"a":1'] + [
    json.dumps(value).encode() for value in NASTY
]


@dataclass
class Answer:
    """One answer as it goes over the wire."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def raw(self) -> bytes:
        """Status line, headers and body."""
        headers = {"Content-Length": str(len(self.body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} x", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1") + self.body


class Wire:
    """A connection whose other end is the stub; as `http.client.HTTPConnection`."""

    def __init__(self, server: Stub) -> None:
        self.server = server

    def request(self, method: str, path: str, body: Any, _headers: dict[str, str]) -> None:
        """Take a request."""
        data = body.read() if hasattr(body, "read") else body
        self._raw = self.server.answered(method, path, data)

    def getresponse(self) -> http.client.HTTPResponse:
        """Read the answer as from a socket."""
        raw = self._raw

        class Socket:
            def makefile(self, _mode: str) -> io.BytesIO:
                return io.BytesIO(raw)

        response = http.client.HTTPResponse(Socket())  # type: ignore[arg-type]  # makefile is all
        response.begin()
        return response

    def close(self) -> None:
        """Nothing is open."""


class Stub:
    """The part of MLflow that a device sees, with one request that waits; honest by itself."""

    def __init__(self, model: Path, testset: Path) -> None:
        self.model, self.testset = model, testset
        self.count, self.tags = 0, dict[str, str]()
        self.reset()

    def reset(self, **tags: str) -> None:
        """The request waits again."""
        marks = {
            "holter.device": "belt",
            "holter.model": "m",
            "holter.version": "2",
            "holter.install": "true",
            "holter.threshold": "0.5",
            "holter.model_sha256": sha256_file(self.model / LITERT),
            "holter.testset_run_id": TRAINING,
            "holter.testset_path": "testset/testset.npz",
            "holter.testset_sha256": sha256_file(self.testset),
            **tags,
        }
        info = {"run_id": RUN, "status": "SCHEDULED", "start_time": 5}
        info |= {"artifact_uri": "mlflow-artifacts:/1/x", "experiment_id": "1"}
        data = {"tags": [{"key": k, "value": v} for k, v in marks.items()], "params": []}
        self.run: dict[str, Any] = {"info": info, "data": data}
        self.files: dict[str, bytes] = {}

    def answered(self, method: str, path: str, body: bytes | None) -> bytes:
        """The raw answer to a request."""
        self.count += 1
        return self.bent(urlsplit(path).path, self.honest(method, path, body)).raw()

    def bent(self, _endpoint: str, answer: Answer) -> Answer:
        """What becomes of an honest answer."""
        return answer

    def honest(self, method: str, path: str, body: bytes | None) -> Answer:
        """What MLflow would answer."""
        where = urlsplit(path)
        query = {key: value[0] for key, value in parse_qs(where.query).items()}
        if where.path == "/model-versions/get-artifact":
            file = self.model / query["path"]
            return Answer(file.read_bytes()) if file.is_file() else Answer(b"{}", 404)
        if where.path == "/get-artifact":
            if query["run_uuid"] == TRAINING:
                return Answer(self.testset.read_bytes())
            sent = self.files.get(query["path"])
            return Answer(b"{}", 404) if sent is None else Answer(sent)
        if method == "PUT":
            self.files["/".join(where.path.split("/")[-2:])] = body or b""
            return Answer(b"{}")
        return self.told(where.path.partition("/mlflow/")[2], json.loads(body or b"{}"))

    def told(self, name: str, asked: dict[str, Any]) -> Answer:
        """What an endpoint of the REST interface would answer."""
        value: Any = {}
        if name.startswith("experiments/get"):
            tags = [{"key": key, "value": value} for key, value in self.tags.items()]
            value = {"experiment": {"experiment_id": "1", "name": "edge/belt", "tags": tags}}
        elif name == "experiments/set-experiment-tag":
            self.tags[asked["key"]] = asked["value"]
        elif name == "runs/search":
            state = self.run["info"]["status"]
            value = {"runs": [] if f"!= '{state}'" in asked["filter"] else [self.run]}
        elif name == "runs/get":
            value = {"run": self.run}
        elif name == "runs/update":
            self.run["info"]["status"] = asked["status"]
        elif name == "runs/log-parameter":
            known = {one["key"] for one in self.run["data"]["params"]}
            if asked["key"] in known:
                return Answer(b"{}", 400)
            self.run["data"]["params"].append({k: asked[k] for k in ("key", "value")})
        return Answer(json.dumps(value).encode())


class Hostile(Stub):
    """One that bends a share of its answers, or all of one endpoint, in any way there is."""

    rng = random.Random(0)  # noqa: S311 - repeatable

    def turn(self) -> None:
        """Begin another pass: what is bent now."""
        every = ("runs/search", "runs/get", "get-by-name", "get-artifact", "log-", "runs/update")
        self.share = self.rng.choice((0.0, 0.05, 0.3, 1.0))
        self.victim = self.rng.choice((*every, "artifacts/artifacts", "nothing"))

    def bent(self, endpoint: str, answer: Answer) -> Answer:
        """The answer, damaged."""
        rng = self.rng
        if self.victim not in endpoint and rng.random() >= self.share:
            return answer
        kind = rng.randrange(7)
        if kind == 0:
            answer.body = rng.choice(JUNK)
        elif kind == 1:
            answer.status = rng.choice((100, 204, 301, 400, 404, 418, 500, 999))
        elif kind == 2:
            names = ("Date", "Content-Length", "Transfer-Encoding", "Location", "X\r\nY")
            values = ("", "x", "-1", "9" * 30, "chunked", "Fri, 99 Foo 0000 99:99:99 +9999")
            answer.headers = {rng.choice(names): rng.choice(values)}
        elif kind == 3:
            answer.body = answer.body[: rng.randrange(len(answer.body) + 1)]
        elif kind == 4 and answer.body:
            data = bytearray(answer.body)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            answer.body = bytes(data)
        else:
            answer.body = self.replaced(answer.body)
        return answer

    def replaced(self, body: bytes) -> bytes:
        """A JSON answer with one of its values replaced."""
        try:
            value = json.loads(body)
        except ValueError:
            return self.rng.choice(JUNK)
        spots = list(places(value))
        return json.dumps(
            with_value(value, self.rng.choice(spots), self.rng.choice(NASTY))
        ).encode()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a value, itself too."""
    yield path
    inside: dict[Any, Any] = value if isinstance(value, dict) else {}
    if isinstance(value, list):
        inside = dict(enumerate(value))
    for key, inner in inside.items():
        yield from places(inner, (*path, key))


def with_value(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """A copy with the value at a place replaced."""
    if not path:
        return other
    copy = deepcopy(value)
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = other
    return copy


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A signed release m/2, signed others, a test set, and the trusted key."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = np.random.default_rng(4).normal(size=(6, 300, 1)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLTER_HOME", str(folder / "server"))
        release = folder / "m2"
        release.mkdir()
        shutil.copy(ROOT / "tests" / "golden" / "resnet21-untrained.tflite", release / LITERT)
        write_json(release / MANIFEST, {"name": "resnet21", "threshold": 0.5})
        seal(release, {"waveform": rows})
        for name, model, version in (("m1", "m", 1), ("n9", "n", 9), ("unnamed", "m", 2)):
            shutil.copytree(release, folder / name)
            sign_name(folder / name, model, version)
        (folder / "unnamed" / "release.json").unlink()
        sign_name(release, "m", 2)
        (folder / "keys").mkdir()
        (folder / "keys" / "release.pub").write_text(public_key())
        testset = TestSet(
            {"waveform": rows},
            np.tile(np.array([0, 1], np.int8), 3),
            np.repeat("r", 6),
            np.repeat("s", 6),
            np.arange(6, dtype=np.int64),
        )
        write_testset(folder / "testset.npz", testset)
        patch.setenv("HOLTER_EDGE_KEYS", str(folder / "keys"))
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patch.setattr(measure, "TIMED", 2)
        patch.setattr(measure, "WARM_UP", 1)
        for owner, name, value in (
            (presence, "SETTLE_S", 0.0),
            (presence, "LEASE_S", 0.0),
            (client, "PAUSES_S", ()),
            (edge, "POLL_S", 0.0),
        ):
            patch.setattr(owner, name, value)
        names = ("m2", "m1", "n9", "unnamed", "testset.npz", "keys")
        yield {name.partition(".")[0]: folder / name for name in names}


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a stub in the network's place."""

    def put(server: Stub) -> None:
        monkeypatch.setattr(client, "_connection", lambda *_: Wire(server))

    return put


def agent_in(folder: Path) -> Agent:
    """An agent in `folder`/edge, beside files that it must not touch, with no sensors."""
    kind = device_kind("x86-64")
    kind["roots"] = dict.fromkeys(kind["roots"], str(folder / "none"))
    for name in ("slots", "keys", "tmp", "edge/keys"):
        (folder / name).mkdir(parents=True)
        (folder / name / "precious").write_text(name)
    return Agent("belt", kind, folder / "edge")


def around(folder: Path) -> dict[str, bytes]:
    """All files beside the agent's folder, and its keys."""
    home, files = folder / "edge", (path for path in folder.rglob("*") if path.is_file())
    kept = (p for p in files if home not in p.parents or home / "keys" in p.parents)
    return {str(path): path.read_bytes() for path in kept}


def assert_trusted(home: Path) -> None:
    """What is active is signed, and is the version that it is called."""
    now = slots.active(home)
    if now is not None:
        check_release(now, slots.trusted_keys(home))
        reference = slots.contents(home)[now.name].partition(" ")[0]
        name, _, version = reference.rpartition("/")
        check_name(now, name, int(version), slots.trusted_keys(home))


def spent(agent: Agent, say: Any = lambda _: None) -> None:
    """A pass of the agent and a look at its status: they end, or say why in our own words."""
    with suppress(HolterError):
        edge.once(agent, say)
    with suppress(HolterError), redirect_stdout(io.StringIO()):
        cli._status(agent.home, agent.device, lambda _, text: print(text))


def test_the_stub_is_honest(made: dict[str, Path], connect: Any, tmp_path: Path) -> None:
    """Undisturbed, the request is evaluated, reported and installed: the other tests test that."""
    server, agent = Stub(made["m2"], made["testset"]), agent_in(tmp_path)
    connect(server)
    assert edge.once(agent, lambda _: None) == 0
    assert server.run["info"]["status"] == "FINISHED"
    assert slots.contents(agent.home) == {"a": "m/2 (active)"}
    assert outbox.waiting(agent.home) == []


class Counted(Stub):
    """One that replaces the value at one place of one kind of answer."""

    def __init__(self, model: Path, testset: Path) -> None:
        super().__init__(model, testset)
        self.known: dict[str, Any] = {}
        self.spot: tuple[str, tuple[Any, ...], Any] | None = None

    def bent(self, endpoint: str, answer: Answer) -> Answer:
        """Note an answer, or replace its value."""
        if "get-artifact" in endpoint or answer.status != 200:
            return answer
        value = json.loads(answer.body)
        if self.spot is None:
            if len(json.dumps(value)) > len(json.dumps(self.known.get(endpoint))):
                self.known[endpoint] = value
        elif endpoint == self.spot[0]:
            _, path, other = self.spot
            try:
                answer.body = json.dumps(with_value(value, path, other)).encode()
            except (KeyError, IndexError):  # this one has no such value
                return answer
        return answer


def test_every_field_of_every_answer(
    made: dict[str, Path], connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands in a field, the agent goes on, and nothing outside its folder changes."""
    server, agent = Counted(made["m2"], made["testset"]), agent_in(tmp_path)
    connect(server)
    edge.once(agent, lambda _: None)
    monkeypatch.setattr(edge, "evaluate", lambda _, job, *__: outbox.finish(job, {"f1": 1.0}))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    before, tried = around(tmp_path), 0
    ways = ["../slots", "../keys", "../../slots", str(tmp_path / "keys")]
    for endpoint, value in server.known.items():
        for path in places(value):
            for other in [*ways, *NASTY[tried % 17 :: 17]]:
                server.reset()
                server.spot = (endpoint, path, other)
                tried += 1
                spent(agent)
            assert around(tmp_path) == before, (endpoint, path)
            assert slots.contents(agent.home) == {"a": "m/2 (active)"}, (endpoint, path)
    assert tried > 300


@settings(max_examples=max(ANSWERS // EACH, 1), suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 64))
def test_a_hostile_server(seed: int, made: dict[str, Path]) -> None:
    """Of answers of every kind none ends the agent with a traceback, writes outside its folder, or
    brings a model that is not signed under its name; HOLTER_HOSTILE_ANSWERS sets how many."""
    rng = random.Random(seed)  # noqa: S311 - repeatable
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        server, agent = Hostile(made["m2"], made["testset"]), agent_in(folder)
        server.rng = rng
        patch.setattr(client, "_connection", lambda *_: Wire(server))
        patch.setattr(tempfile, "tempdir", str(folder / "tmp"))
        before = around(folder)
        while server.count < EACH:
            server.reset()
            server.turn()
            server.model = made[rng.choice(("m2", "m2", "m1", "n9", "unnamed"))]
            spent(agent)
            assert around(folder) == before
            assert_trusted(agent.home)


class Enough(BaseException):
    """So many passes were seen."""


def test_one_broken_run_leaves_the_others(
    made: dict[str, Path], connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with a version that is no number is said, once, and skipped; the next is evaluated."""

    class Two(Stub):
        def honest(self, method: str, path: str, body: bytes | None) -> Answer:
            answer = super().honest(method, path, body)
            value = json.loads(answer.body) if "runs/search" in path else {}
            if "runs/search" in path:
                broken = deepcopy(self.run)
                broken["info"] |= {"run_id": "c" * 32, "start_time": 1}
                broken["data"]["tags"] = [{"key": "holter.version", "value": "newest"}]
                answer.body = json.dumps({"runs": [broken, *value["runs"]]}).encode()
            return answer

    server, agent = Two(made["m2"], made["testset"]), agent_in(tmp_path)
    connect(server)
    said: list[str] = []
    passes = iter(range(4))

    def sleep(_: float) -> None:
        if next(passes, None) is None:
            raise Enough

    monkeypatch.setattr("edge_agent.agent.time.sleep", sleep)
    with pytest.raises(Enough):
        edge.forever(agent, said.append)
    told = [line for line in said if "skipped" in line]
    words = "tag holter.version: found 'newest'; expected a whole number"
    assert len(told) == 1
    assert f"run {'c' * 32}: skipped: MLflow's answer: {words}" in told[0]
    assert server.run["info"]["status"] == "FINISHED"


def test_status_lists_a_broken_run(
    made: dict[str, Path], connect: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that cannot be read stands in the list with the reason, on one line, as plain text."""
    server = Stub(made["m2"], made["testset"])
    server.honest = lambda *_: Answer(  # type: ignore[method-assign]  # one answer for all
        json.dumps(
            {
                "experiment": {"experiment_id": "1", "tags": []},
                "runs": [{"info": {"run_id": RUN, "status": "\x1b[2J\n"}, "data": {}}, [], None],
            }
        ).encode()
    )
    connect(server)
    cli._status(tmp_path, "belt", lambda _, text: print(text))
    device, *lines = capsys.readouterr().out.splitlines()
    assert (device, len(lines)) == ("device belt", 3)
    assert all("cannot be read" in line and line.isprintable() for line in lines)
    assert any(line.startswith(RUN) for line in lines)


def test_a_damaged_outcome_is_worked_on_again(
    made: dict[str, Path], connect: Any, tmp_path: Path
) -> None:
    """An outcome that the disk damaged leaves the outbox with the reason; the request is done."""
    server, agent = Stub(made["m2"], made["testset"]), agent_in(tmp_path)
    connect(server)
    for data in (b"{", b"[]", b'{"claim": "x"}', None):
        server.reset()
        sealed = agent.home / "outbox" / RUN
        sealed.mkdir(parents=True)
        if data is not None:
            (sealed / "outcome.json").write_bytes(data)
        (agent.home / "outbox" / "lost+found").mkdir(exist_ok=True)
        said: list[str] = []
        assert edge.once(agent, said.append) == 0
        assert any("dropped: " in line for line in said)
        assert server.run["info"]["status"] == "FINISHED"


class Endless(Stub):
    """One that answers without end: pages, or bytes whose length is not told."""

    def answered(self, method: str, path: str, body: bytes | None) -> bytes:
        """Another page for each page."""
        self.count += 1
        if "runs/search" in path:
            return Answer(json.dumps({"runs": [], "next_page_token": "more"}).encode()).raw()
        return super().answered(method, path, body)


def test_pages_end(made: dict[str, Path], connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that always has another page is given up, in one of our errors."""
    server = Endless(made["m2"], made["testset"])
    connect(server)
    monkeypatch.setattr(client, "MOST_PAGES", 20)
    with pytest.raises(RegistryError, match="found over 20 pages"):
        evaluations.device_requests("belt", "SCHEDULED")
    assert server.count < 30


class Flood(Wire):
    """A connection over which any number of bytes come, in chunks, their length not told."""

    def getresponse(self) -> http.client.HTTPResponse:
        """Chunks of 64 kB, 700 MB in all, made as they are read."""

        class Raw(io.RawIOBase):
            left = 700 << 20
            head = b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n"

            def readable(self) -> bool:
                return True

            def readinto(self, buffer: Any) -> int:
                data, self.head = self.head or b"10000\r\n" + b" " * 65_536 + b"\r\n", b""
                self.left -= len(data)
                assert len(data) <= len(buffer)
                buffer[: len(data)] = data
                return len(data) if self.left > 0 else 0

        class Socket:
            def makefile(self, _mode: str) -> io.BufferedReader:
                return io.BufferedReader(Raw(), 1 << 17)

        response = http.client.HTTPResponse(Socket())  # type: ignore[arg-type]  # makefile is all
        response.begin()
        return response


def test_an_answer_is_read_up_to_its_limit(
    made: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of 700 MB as JSON, as an outcome or as a manifest no more is read than the limit."""
    server = Stub(made["m2"], made["testset"])
    monkeypatch.setattr(client, "_connection", lambda *_: Flood(server))
    reads: dict[int, Callable[[], object]] = {
        client.MOST_ANSWER: lambda: client.call("GET", "experiments/get"),
        1 << 20: lambda: client.read_run_file(RUN, "outcome.json", "0" * 64, 1 << 20),
        1 << 19: lambda: client.fetch_model_file("m", 1, "f", None, tmp_path, 1 << 19),
    }
    for most, read in reads.items():
        tracemalloc.start()
        with pytest.raises(RegistryError, match=f"found over {most} bytes"):
            read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2.5 * most + (1 << 20)
    assert list(tmp_path.iterdir()) == []
