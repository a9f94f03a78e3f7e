"""Notices for real: a Prefect server sends them, a web hook and a mail server of ours get them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, StreamRequestHandler, ThreadingTCPServer
from typing import Any

import httpx
import pytest

from flows.decide.promote import promote
from flows.ingest.simulate import write_simulated
from flows.services.events import tell
from flows.services.notices import KINDS, send_test, set_up
from flows.services.servers import Servers
from storage.errors import ServerError
from storage.registry.policy import DEFAULT, read_policy
from tests import made_up
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # Prefect's and MLflow's own, at import and in threads
]
HOLTER = {f"holter-{kind}" for kind in ("failure", "records", "late", "drift", "gate", "test")}


class Got:
    """What has come, in order: the headers and text of each message."""

    def __init__(self) -> None:
        self.messages: list[tuple[dict[str, str], str]] = []

    def about(self, word: str, patience_s: float = 60.0) -> list[str]:
        """The messages with a word in them; waits for the first."""
        deadline = time.monotonic() + patience_s
        while not (found := [text for _, text in self.messages if word in text]):
            assert time.monotonic() < deadline, f"no {word!r} in {self.messages}"
            time.sleep(0.2)
        return found


@pytest.fixture(scope="module")
def holter_servers(own_servers: Servers) -> Servers:
    """Servers of this module's own: notices stay in Prefect's memory."""
    return own_servers


@pytest.fixture(scope="module")
def hook() -> Iterator[tuple[str, Got]]:
    """A web hook on loopback, and what it gets."""
    got = Got()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            got.messages.append((dict(self.headers), text))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/path-secret", got
        server.shutdown()
        thread.join()


def holter(*words: str, url: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of ours, with an address for notices where one is given."""
    env = {**os.environ, **({"HOLTER_NOTIFY_URL": url} if url else {})}
    command = [sys.executable, "-m", "flows", *words]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture
def notify(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What `holter notify` does, in this process, which is quicker."""

    def work(url: str, kinds: Collection[str] = KINDS, *, test: bool = False) -> None:
        monkeypatch.setenv("HOLTER_NOTIFY_URL", url)
        made = set_up({*kinds, "test"})
        if test:
            send_test(made["test"])

    return work


def automations(servers: Servers) -> dict[str, dict[str, Any]]:
    reply = httpx.post(f"{servers.prefect_api}/automations/filter", json={}, timeout=30)
    return {one["name"]: one for one in reply.raise_for_status().json()}


@pytest.fixture(scope="module")
def told(holter_servers: Servers, hook: tuple[str, Got]) -> Got:
    """What the hook gets once `holter notify` has named it, with a header, and a test has come."""
    url, got = hook
    assert holter_servers.prefect_pid
    done = holter("notify", "--test", url=f"{url}?+Authorization=Bearer%20header-secret")
    assert done.returncode == 0, done.stderr
    assert got.about("A test")
    assert got.messages[0][0]["Authorization"] == "Bearer header-secret"
    assert "secret" not in done.stdout + done.stderr
    return got


def test_it_is_set_up_once(
    holter_servers: Servers, told: Got, hook: tuple[str, Got], notify: Callable[..., None]
) -> None:
    """Again changes nothing but what is asked: a paused one stays paused, others go and come."""
    assert told.messages
    before = automations(holter_servers)
    assert set(before) == HOLTER
    gate = f"{holter_servers.prefect_api}/automations/{before['holter-gate']['id']}"
    httpx.patch(gate, json={"enabled": False}, timeout=30).raise_for_status()
    notify(hook[0], ["gate"])
    found = automations(holter_servers)
    assert set(found) == {"holter-gate", "holter-test"}
    assert found["holter-gate"]["id"] == before["holter-gate"]["id"]
    assert not found["holter-gate"]["enabled"]
    httpx.patch(gate, json={"enabled": True}, timeout=30).raise_for_status()
    notify(hook[0])
    assert set(automations(holter_servers)) == HOLTER


@pytest.fixture(scope="module")
def deployments(holter_servers: Servers) -> dict[str, str]:
    """The ids of two deployments, as prefect.yaml deploys them; no worker is there."""
    from flows.services.pool import make_pool

    make_pool("holter")
    names = ("train/nightly", "ingest/hourly")
    words = [sys.executable, "-m", "prefect", "--no-prompt", "deploy"]
    words += [word for name in names for word in ("-n", name)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=120)
    url = f"{holter_servers.prefect_api}/deployments/name/"
    found = {name: httpx.get(url + name, timeout=30).raise_for_status().json() for name in names}
    return {name: str(one["id"]) for name, one in found.items()}


@pytest.fixture
def scheduled(holter_servers: Servers, deployments: dict[str, str]) -> Callable[..., str]:
    """A way to schedule a run of a deployment for a time that has passed; gives the run's id."""

    def run(
        folder: str,
        ago: timedelta = timedelta(0),
        name: str = "train/nightly",
        **parameters: object,
    ) -> str:
        when = (datetime.now(timezone.utc) - ago).isoformat()
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": when}}
        sets = [{"dataset": "mitdb", "data": folder}]
        parameters = parameters or {"settings": {"datasets": sets, "model": "resnet21"}}
        asked = {"parameters": parameters, "state": state}
        url = f"{holter_servers.prefect_api}/deployments/{deployments[name]}/create_flow_run"
        for _ in range(30):  # a busy server on SQLite says 503: its database is locked
            if (reply := httpx.post(url, json=asked, timeout=30)).status_code != 503:
                break
            time.sleep(1)
        return str(reply.raise_for_status().json()["id"])

    return run


def test_a_deployment_that_fails_is_told_once(
    told: Got,
    hook: tuple[str, Got],
    scheduled: Callable[..., str],
    notify: Callable[..., None],
) -> None:
    """One message for the run, none for the flow within it, and the reason is not in it."""
    from flows.ingest.flow import ingest

    run = scheduled("/no-such-set")
    words = [sys.executable, "-m", "prefect", "flow-run", "execute", run]
    subprocess.run(words, cwd=ROOT, capture_output=True, timeout=120)
    (message,) = told.about("train/nightly failed")
    said = json.loads(message)["message"]
    assert run in said, "a link to the run"
    assert "no-such-set" not in said, "the reason stays on the server"
    with pytest.raises(Exception, match="no-such-set"):
        ingest("no-such-set")  # at the terminal: whoever started it sees it
    notify(hook[0], test=True)  # it comes after all others
    assert len(told.about("failed")) == 1


def test_records_that_failed_are_counted(
    told: Got, scheduled: Callable[..., str], tmp_path: Path
) -> None:
    """A run that is done, but left a record out, is told with the count; no record is named."""
    toml = write_simulated(tmp_path, 3, 0.02, 4)
    (tmp_path / "sim001.dat").unlink()
    run = scheduled("", name="ingest/hourly", dataset=str(toml), data=str(tmp_path))
    words = [sys.executable, "-m", "prefect", "flow-run", "execute", run]
    subprocess.run(words, cwd=ROOT, capture_output=True, timeout=120)
    (message,) = told.about("ingest/hourly: 1 of 3")
    said = json.loads(message)["message"]
    assert "is done, but 1 of 3 records failed" in said
    assert run in said, "a link to the run"
    assert "sim001" not in said, "the record stays on the server"


def test_a_run_that_nobody_takes_is_told(told: Got, scheduled: Callable[..., str]) -> None:
    """Without a worker a run is late, and a notice says where to look."""
    scheduled("/records", timedelta(hours=1))
    assert "is a worker there" in told.about("is late")[0]


def test_a_refused_promotion_is_told(told: Got, tmp_path: Path) -> None:
    """What the policy refuses is told with the checks that did not pass, and so is an override."""
    version = made_up.register(tmp_path / "1", name="holter-told")
    policy = read_policy(DEFAULT)
    done = promote(version.model.reference, policy, approver="Dr. Who")
    (message,) = told.about("holter-told/1 refused as champion")
    said = json.loads(message)["message"]
    assert "asked by Dr. Who" in said
    failed = [one.title for one in done.verdicts if one.state in ("failed", "missing")]
    assert failed
    assert all(title in said for title in failed)
    assert "/models/holter-told/versions/1" in said
    promote(version.model.reference, policy, override=True, reason="a trial")
    told.about("holter-told/1 overridden as champion")


def test_drift_is_told(told: Got) -> None:
    """The event that the drift flow raises becomes a message with what is beyond its bound."""
    payload = {"beyond": ["heart rates"], "page": "http://mlflow/run"}
    tell("holter.drift.found", "holter.model.m", "m/3", payload)
    said = json.loads(told.about("drift of m/3")[0])["message"]
    assert said == "m/3, beyond its bound: heart rates.\nhttp://mlflow/run"


def test_mail_comes_too(told: Got, notify: Callable[..., None]) -> None:
    """mailto:// goes by SMTP; where nothing answers that is told, without the password."""
    assert told.messages
    mails: list[str] = []

    class Smtp(StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            for line in self.rfile:
                word = line.strip().upper()
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    text = iter(self.rfile.readline, b".\r\n")
                    mails.append(b"".join(text).decode())
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")

    handler: type[BaseRequestHandler] = Smtp
    with ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_address[1]
        url = f"mailto://127.0.0.1:{port}?from=holter@ward7.test&to=team@ward7.test&mode=insecure"
        notify(url, test=True)
        server.shutdown()
        thread.join()
    assert "Subject: Holter AF: test" in mails[0]
    with pytest.raises(ServerError, match="could not send the notice") as raised:
        notify(url.replace("://", "://me:pass-secret@"), test=True)
    assert "secret" not in str(raised.value)


def test_secrets_are_in_no_log(told: Got) -> None:
    """Neither the servers' logs nor the address that Prefect shows has what is secret in it."""
    assert told.messages
    logs = list((Path(os.environ["HOLTER_HOME"]) / "logs").glob("*.log"))
    assert logs
    assert not [log for log in logs if "secret" in log.read_text()]
    blocks = httpx.post(f"{os.environ['PREFECT_API_URL']}/block_documents/filter", json={})
    assert "holter-notify" in blocks.text
    assert "********" in blocks.text
    assert not [word for word in ("path", "header", "pass") if f"{word}-secret" in blocks.text]


def test_off_leaves_nothing(holter_servers: Servers, told: Got) -> None:
    """`--off` takes automations and address away, and once more is no error."""
    assert told.messages
    for _ in range(2):
        assert holter("notify", "--off").returncode == 0
        assert automations(holter_servers) == {}
    blocks = httpx.post(f"{holter_servers.prefect_api}/block_documents/filter", json={})
    assert "holter-notify" not in blocks.text


@pytest.mark.usefixtures("holter_servers")
@pytest.mark.parametrize(
    ("url", "kinds", "expected"),
    [
        ("", (), "HOLTER_NOTIFY_URL is not set"),
        ("carrier-pigeon://secret", (), r"found carrier-pigeon://\.\.\.; expected https://hooks"),
        ("https://ward7.test/secret", ("failures",), "there are failure, records, late"),
    ],
)
def test_what_cannot_be_set_up_is_misuse(
    url: str, kinds: tuple[str, ...], expected: str, notify: Callable[..., None]
) -> None:
    """No address, one of no kind, a kind that there is not: each says what is expected."""
    with pytest.raises(ValueError, match=expected) as raised:
        notify(url, kinds)
    assert "secret" not in str(raised.value)


def test_without_a_server_a_promotion_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No server: nobody to tell. One that does not answer: a warning. Neither is a failure."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", f"http://me:{'secret'}@127.0.0.1:9/api")
    tell("holter.promotion.refused", "holter.model.m", "m/1", {})
    said = capsys.readouterr().err
    assert "not told  Prefect at http://127.0.0.1:9" in said
    assert "secret" not in said
    monkeypatch.delenv("PREFECT_API_URL")
    tell("holter.promotion.refused", "holter.model.m", "m/1", {})
    assert capsys.readouterr().err == ""
    assert "no Prefect server is up" in holter("notify").stderr
