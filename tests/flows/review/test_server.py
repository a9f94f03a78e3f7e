"""The review page's server: who is let in, and what it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from flows.review import people
from flows.review.server import make_app
from flows.review.writing import MOST_BODY
from storage.errors import PlaceError
from storage.labels.decisions import read_decisions
from tests.review import HOSTILE, KEYS, authorization, fill

ADDRESS = "http://127.0.0.1:5100"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("review")
        for name in ("HOLTER_BEATS", "HOLTER_HOSTS", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("HOLTER_HOME", str(folder))
        patch.setattr("flows.review.server.PAUSE_S", 0.0)
        yield fill(folder)


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[TestClient]:
    assert home.is_dir()
    with TestClient(make_app(), ADDRESS, headers={"Authorization": authorization("ada")}) as one:
        yield one


def decision(number: int, **fields: Any) -> dict[str, Any]:
    """A decision that is taken."""
    usual = {"dataset": "simulated", "record": "sim000", "start": 100, "end": 5000}
    return usual | {"id": f"{number:032x}", "verdict": "accept", "rhythm": "AFIB"} | fields


def send(client: TestClient, value: object, **headers: str) -> tuple[int, Any]:
    usual = {"Content-Type": "application/json"}
    reply = client.post("/decisions", content=json.dumps(value), headers=usual | headers)
    return reply.status_code, reply.json() if reply.status_code != 403 else {}


def test_nobody_is_let_in_without_a_key(client: TestClient) -> None:
    """Without name and key, or with wrong ones, nothing is told but that the server is there."""
    for header in ("", "Basic", "Basic !", "Basic YWRhOg==", "Bearer x", authorization("ada")[:-4]):
        for path in ("/", "/data/record?dataset=simulated&record=sim000", "/page/ask.js"):
            assert client.get(path, headers={"Authorization": header}).status_code == 401, header
    assert client.get("/health", headers={"Authorization": ""}).text == "OK\n"
    assert client.get("/").status_code == 200


def test_pages_of_others_cannot_ask_or_write(client: TestClient) -> None:
    """A request to another name, or from another page, is refused, with the right key too."""
    for headers in ({"Host": "elsewhere.example"}, {"Origin": "http://elsewhere.example"}):
        assert client.get("/", headers=headers).status_code == 403
        assert send(client, decision(1), **headers)[0] == 403
    assert send(client, decision(1), **{"Content-Type": "text/plain"})[0] == 415
    assert read_decisions("simulated") == ()
    policy = client.get("/").headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_a_reader_looks_and_does_not_decide(client: TestClient) -> None:
    """The role of the key file counts, whatever the request says."""
    reader = {"Authorization": authorization("rita")}
    assert client.get("/record/simulated/sim000", headers=reader).status_code == 200
    assert send(client, decision(2) | {"reviewer": "ada"}, **reader)[0] == 403
    assert read_decisions("simulated") == ()


WRONG: dict[str, Any] = {
    "no object": [1],
    "another field": decision(3, reviewer="grace"),
    "no such data set": decision(3, dataset="../simulated"),
    "no such record": decision(3, record="../sim000"),
    "an end outside": decision(3, end=10**9),
    "no passage": decision(3, start=5000),
    "no number": decision(3, start="100"),
    "a verdict of its own": decision(3, verdict="perhaps"),
    "a rhythm that is not AF": decision(3, rhythm="N"),
    "AF that is rejected": decision(3, verdict="reject"),
    "an unknown rhythm": decision(3, verdict="correct", rhythm="<b>"),
    "a rhythm that cannot be told": decision(3, verdict="cannot tell"),
    "a long remark": decision(3, remark="x" * 1001),
    "a control character": decision(3, remark="a\x1b[2J"),
    "an id of its own": decision(3, id="../../x"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_decision_is_refused_and_leaves_nothing(client: TestClient, name: str) -> None:
    """A decision is checked on the server: record, limits, verdict, rhythm, remark."""
    status, answer = send(client, WRONG[name])
    assert status == 400, answer
    assert answer["error"]
    assert read_decisions("simulated") == ()


def test_a_decision_is_kept_once_however_often_it_is_sent(client: TestClient) -> None:
    """The same id with the same content is stored once; with another content it is refused."""
    value = decision(4, remark="<img src=x>\nπ", version="holter-rhythm/1")
    assert [send(client, value)[1]["new"] for _ in range(3)] == [True, False, False]
    assert send(client, value | {"end": 4999})[0] == 400
    assert send(client, value, **{"Authorization": authorization("grace")})[0] == 400
    (kept,) = read_decisions("simulated")
    assert (kept.reviewer, kept.remark, kept.version) == ("ada", value["remark"], "holter-rhythm/1")
    assert send(client, {"x": "y" * MOST_BODY})[0] == 413
    answer = client.get("/data/decisions?dataset=simulated&record=sim000").json()
    assert [one["remark"] for one in answer["decisions"]] == [value["remark"]]


def test_hostile_names_are_text(client: TestClient) -> None:
    """Names, titles and reasons from data are shown as text on every page."""
    for path in ("/", "/queue/hostile", f"/record/hostile/{HOSTILE.replace('&', '%26')}"):
        reply = client.get(path)
        assert reply.status_code == 200, path
        for markup in ("<b id='", "<script>x", "<i>x", "<u>y", "<s>z"):
            assert markup not in reply.text, path
    fields = {"dataset": "hostile", "record": HOSTILE}
    record = client.get("/data/record", params=fields).json()
    assert record["leads"] == []
    assert "no signal here" in record["notes"][0]
    assert client.get("/record/hostile/<b>").status_code == 404


@pytest.mark.parametrize(
    "question",
    ["from=-1", "to=1e9", "from=5&to=5", "from=nan", "columns=0", "columns=1e9", "from=x"],
)
def test_a_stretch_that_is_none_is_told(client: TestClient, question: str) -> None:
    """A request for what is no stretch of the record is answered in a sentence, as a 400."""
    for path in ("day", "ecg"):
        reply = client.get(f"/data/{path}?dataset=simulated&record=sim000&{question}")
        assert reply.status_code == 400, path
        assert "expected" in reply.json()["error"]


def test_a_key_file_that_others_may_read_lets_nobody_in(home: Path, client: TestClient) -> None:
    """The file is this user's alone, and each line of it is a person once."""
    path = people.people_path()
    assert path == home / "keys" / "review.keys"
    text = path.read_text()
    try:
        path.chmod(0o644)
        assert client.get("/").status_code == 500
        path.chmod(0o600)
        for line in (
            "x reviewer short",
            "ada reader " + "k" * 30,
            "x king " + "k" * 30,
            "a\u202eb reader " + "k" * 30,
        ):
            path.write_text(text + line)
            with pytest.raises(PlaceError, match="line 4"):
                people.read_people()
    finally:
        path.write_text(text)
        path.chmod(0o600)
    assert people.add_person("ada", "reader") == KEYS["ada"][1]
    assert people.add_person("ada", "reviewer") == KEYS["ada"][1]
    assert people.read_people()["ada"][0] == people.Person("ada", "reviewer")
    for name in ("", "holter", "a b", "a:b", "-x"):
        with pytest.raises(ValueError, match="name"):
            people.add_person(name, "reader")
