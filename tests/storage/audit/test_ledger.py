"""The ledger: what was decided is kept in order, signed, and an edit of the database is found."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pytest

from storage.audit import ledger
from storage.audit.ledger_entry import (
    MODEL_CREATED,
    NO_PREVIOUS,
    ROLLED_BACK,
    chain_faults,
    deed,
    entries_of_model,
    head,
)
from storage.audit.ledger_run import ledger_run
from storage.errors import NotInRegistry, RegistryError
from storage.files import write_json
from storage.registry.client import call
from storage.registry.signing import public_key, sign, trusted_keys
from tests.emptied import Emptied

Edit = Callable[[str], None]


@pytest.fixture(scope="module")
def server(empty_mlflow: Emptied) -> tuple[str, Path]:
    """An MLflow server whose database the tests edit, and that database."""
    return empty_mlflow.address, empty_mlflow.home / "mlflow" / "mlflow.db"


@pytest.fixture
def model(server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registered model of the test's own with three versions and no ledger yet."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server[0])
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    name = f"holter-{tmp_path.name}"
    call("POST", "registered-models/create", name=name)
    for _ in range(3):
        call("POST", "model-versions/create", name=name, source="s3://nowhere/model")
    return name


@pytest.fixture
def edit(server: tuple[str, Path]) -> Edit:
    """Change the server's database behind its back."""

    def edit(statement: str) -> None:
        with sqlite3.connect(server[1]) as database:
            assert database.execute(statement).rowcount > 0, statement

    return edit


def filled(model: str) -> None:
    for version in (1, 2):
        ledger.append(model, version, "registered", f"training {version}", run_id=f"r{version}")
        ledger.move_alias(model, version, "candidate", "the newest")
    ledger.append(model, 2, "approved", "F1 0.95 of patients unseen", who="Dr. Who")


def alias_of(model: str) -> dict[str, int]:
    found = call("GET", "registered-models/get", name=model)["registered_model"]
    return {one["alias"]: int(one["version"]) for one in found.get("aliases", ())}


def test_what_was_decided_is_kept(model: str) -> None:
    """Entries come back in order, each with who, what, why, and the digest of the one before."""
    filled(model)
    known = ledger.entries(model)
    assert [e.sequence for e in known] == [1, 2, 3, 4, 5]
    assert [e.action for e in known] == ["registered", "alias"] * 2 + ["approved"]
    assert (known[4].who, known[4].version) == ("Dr. Who", 2)
    made = {MODEL_CREATED: str(ledger.created_ms(model))}
    assert known[3].details == {"alias": "candidate", "from": "1", **made}
    assert known[0].previous == "0" * 64
    assert [e.previous for e in known[1:]] == [e.sha256 for e in known[:-1]]
    assert ledger.check(model, {public_key()}) == []
    assert alias_of(model) == {"candidate": 2}


def test_a_ledger_does_not_seem_to_run(model: str) -> None:
    """Its run in MLflow is FINISHED from the first entry on; one left RUNNING is ended by the next.

    Earlier versions left it RUNNING, and so does a process killed between the two requests.
    """
    ledger.append(model, 1, "registered", "training 1")
    run = ledger_run(model, make=False)["info"]
    assert run["status"] == "FINISHED"
    assert run["end_time"] >= run["start_time"]
    call("POST", "runs/update", run_id=run["run_id"], status="RUNNING")
    filled(model)
    assert ledger_run(model, make=False)["info"]["status"] == "FINISHED"
    assert len(ledger.entries(model)) == 6
    assert ledger.check(model, {public_key()}) == []


def test_an_alias_moves_and_goes(model: str) -> None:
    """An alias stands where its last entry says, and None takes it away."""
    ledger.move_alias(model, 1, "champion", "first")
    ledger.move_alias(model, 3, "champion", "better")
    assert alias_of(model) == ledger.aliases(ledger.entries(model)) == {"champion": 3}
    ledger.move_alias(model, None, "champion", "withdrawn")
    assert alias_of(model) == {}
    assert ledger.check(model, trusted_keys()) == []


def test_a_model_made_again_shares_its_ledger_and_no_entry(model: str) -> None:
    """The chain goes on over both; what is about the earlier model is not about the new one."""
    ledger.move_alias(model, 3, "champion", "better")
    call("DELETE", "registered-models/delete", name=model)
    with pytest.raises(NotInRegistry):
        ledger.append(model, 3, "approved", "it is gone")
    assert ledger.check(model, trusted_keys()) == []
    call("POST", "registered-models/create", name=model)
    call("POST", "model-versions/create", name=model, source="s3://nowhere/model")
    assert ledger.own_entries(model) == []
    ledger.move_alias(model, 1, "candidate", "the newest")
    assert [e.sequence for e in ledger.own_entries(model)] == [2]
    assert len(ledger.entries(model)) == 2
    assert alias_of(model) == {"candidate": 1}
    assert ledger.check(model, trusted_keys()) == []


def test_an_entry_without_its_models_time_is_told_by_its_own() -> None:
    """Entries as earlier versions wrote them are the model's own from when it was made."""
    times = ("2026-11-28T10:00:00+00:00", "2026-11-29T10:00:01+00:00", "2026-11-30T10:00:00+00:00")
    known = [
        ledger.Entry(n, time, "", "registered", "m", n, "r", {}, "") for n, time in enumerate(times)
    ]
    made_ms = 1_000 * int(datetime.fromisoformat("2026-11-29T10:00:02+00:00").timestamp()) + 500
    assert [entry.version for entry in entries_of_model(known, made_ms)] == [1, 2]
    assert entries_of_model(known, None) == []


def test_what_an_entry_did_is_told_in_words() -> None:
    """Aliases by both ends, a roll-back by its name, other deeds as they are called."""

    def words(action: str, version: int | None, **details: str) -> str:
        return deed(ledger.Entry(1, "", "", action, "m", version, "r", details, ""))

    to, back = {"alias": "x"}, {ROLLED_BACK: "2"}
    assert words("alias", 1, **to) == "alias @x to version 1"
    assert words("alias", 2, **to, **{"from": "1"}) == "alias @x from version 1 to version 2"
    assert words("alias", 1, **to, **back) == "roll-back of @x from version 2 to version 1"
    assert words("alias", None, **to, **{"from": "1"}) == "alias @x taken away from version 1"
    assert words("approved", 1, **to) == "approved @x"
    assert words("registered", 1) == "registered"


def test_no_entry_without_reason_or_version(model: str) -> None:
    """A decision without a reason, too long, or about a version that is not there, is refused."""
    with pytest.raises(ValueError, match="needs a reason"):
        ledger.append(model, 1, "approved", " ")
    with pytest.raises(ValueError, match="at most 6000"):
        ledger.append(model, 1, "approved", "x" * 6000)
    with pytest.raises(NotInRegistry):
        ledger.move_alias(model, 9, "champion", "best")
    assert ledger.entries(model) == []


def test_many_append_at_once(model: str) -> None:
    """Whoever appends at the same time, the chain has every entry once, and stays whole."""
    public_key()
    with ThreadPoolExecutor(6) as pool:
        for n in range(12):
            pool.submit(ledger.move_alias, model, 1 + n % 3, "champion", f"move {n}")
    known = ledger.entries(model)
    assert {e.reason for e in known} == {f"move {n}" for n in range(12)}
    assert ledger.check(model, trusted_keys()) == []


ENTRY_3 = "key = 'entry.000003' AND run_uuid = '{run}'"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (f"UPDATE params SET value = replace(value, 'training 2', 'training 9') WHERE {ENTRY_3}",
         "entry 3 is not what was signed"),
        (f"DELETE FROM params WHERE {ENTRY_3}", "entry 4 stands at number 4; expected 3"),
        ("DELETE FROM params WHERE key = 'entry.000005' AND run_uuid = '{run}'", "entry 5:"),
        (f"UPDATE params SET value = '{{{{}}}}' WHERE {ENTRY_3}", "entry.000003 cannot be read"),
        ("UPDATE registered_model_tags SET value = '1:a' WHERE key = 'holter.ledger' "
         "AND name = '{model}'", "the model's tag holter.ledger is '1:a'"),
        ("UPDATE registered_model_aliases SET version = 3 WHERE name = '{model}'",
         "alias candidate is on 3; the ledger has 2"),
        ("INSERT INTO registered_model_aliases (name, alias, version) "
         "VALUES ('{model}', 'champion', 3)", "alias champion is on 3; the ledger has no version"),
        ("DELETE FROM registered_model_aliases WHERE name = '{model}'",
         "alias candidate is on no version; the ledger has 2"),
        ("DELETE FROM params WHERE run_uuid = '{run}'", "was seen on this machine"),
    ],
)  # fmt: skip
def test_an_edit_of_the_database_is_found(
    model: str, edit: Edit, statement: str, words: str
) -> None:
    """An entry, the head or an alias that is changed, added or deleted by hand is named."""
    filled(model)
    experiment = call("GET", "experiments/get-by-name", experiment_name=f"ledger/{model}")
    found = call("POST", "runs/search", experiment_ids=[experiment["experiment"]["experiment_id"]])
    (run,) = [one["info"]["run_id"] for one in found["runs"]]
    edit(statement.format(run=run, model=model))
    assert words in "\n".join(ledger.check(model, trusted_keys()))


def test_an_entry_of_an_unknown_key_is_found(model: str, tmp_path: Path) -> None:
    """Whoever has no trusted key cannot write an entry that passes."""
    filled(model)
    mine = trusted_keys()
    (tmp_path / "keys" / "release.key").unlink()
    ledger.append(model, 1, "approved", "because I say so")
    assert ledger.check(model, mine) == [
        f"entry 6 is signed by key {public_key()[:16]}, which is not trusted"
    ]


def test_an_alias_set_by_hand_before_a_ledger_is_found(model: str) -> None:
    """A model whose alias moved without any ledger is told."""
    call("POST", "registered-models/alias", name=model, alias="champion", version="1")
    assert ledger.check(model, []) == ["alias champion is on 1; the ledger has no version"]


def test_a_cut_ledger_whose_head_was_edited_too_is_found(model: str, edit: Edit) -> None:
    """Deleting the last entry and setting the head back does not pass where it was seen before."""
    filled(model)
    known = ledger.entries(model)
    edit(f"DELETE FROM params WHERE key = 'entry.000005' AND value LIKE '%{model}%'")
    value = f"4:{known[3].sha256}"
    edit(f"UPDATE registered_model_tags SET value = '{value}' WHERE name = '{model}'")
    (wrong,) = ledger.check(model, trusted_keys())
    assert wrong.startswith(f"entry 5:{known[4].sha256} was seen on this machine")


def cut(model: str, edit: Edit) -> None:
    """Take the last entry out of the database, and set the model's tag back."""
    known = ledger.entries(model)
    edit(f"DELETE FROM params WHERE key = 'entry.000005' AND value LIKE '%{model}%'")
    value = f"4:{known[3].sha256}"
    edit(f"UPDATE registered_model_tags SET value = '{value}' WHERE name = '{model}'")


def test_nothing_is_appended_to_a_cut_ledger(model: str, edit: Edit) -> None:
    """What was seen and is missing stops an append, and no append makes this machine forget it."""
    filled(model)
    cut(model, edit)
    for _ in range(2):
        with pytest.raises(RegistryError, match=r"entry 5:.* was seen on this machine"):
            ledger.move_alias(model, 1, "champion", "better")
        assert "entry 5:" in "\n".join(ledger.check(model, trusted_keys()))
    assert len(ledger.entries(model)) == 4
    assert alias_of(model) == {"candidate": 2}


def test_an_entry_that_the_tag_names_alone_stops_an_append(
    model: str, edit: Edit, tmp_path: Path
) -> None:
    """A machine that never saw the ledger finds the cut by the model's tag."""
    filled(model)
    edit(f"DELETE FROM params WHERE key = 'entry.000005' AND value LIKE '%{model}%'")
    shutil.rmtree(tmp_path / "ledger")
    with pytest.raises(RegistryError, match=r"entry 5:.* is in the model's tag holter\.ledger"):
        ledger.append(model, 1, "approved", "F1 0.95")


@pytest.mark.parametrize("what", ["the last entry", "every entry"])
def test_a_cut_is_found_whatever_the_server_is_called(
    model: str, edit: Edit, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A ledger is known again by itself: another name or port of its server hides nothing."""
    filled(model)
    if what == "the last entry":
        cut(model, edit)
    else:
        edit(f"DELETE FROM params WHERE key LIKE 'entry.%' AND value LIKE '%{model}%'")
        edit(f"DELETE FROM registered_model_tags WHERE name = '{model}'")
    other = os.environ["MLFLOW_TRACKING_URI"].replace("127.0.0.1", "localhost")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    assert "was seen on this machine" in "\n".join(ledger.check(model, trusted_keys()))
    with pytest.raises(RegistryError, match="was seen on this machine"):
        ledger.append(model, 1, "approved", "F1 0.95")


def test_what_was_seen_by_a_servers_address_counts(model: str, edit: Edit, tmp_path: Path) -> None:
    """A witness as earlier versions kept it, by its server's address, finds the cut too."""
    filled(model)
    last = ledger.entries(model)[-1]
    shutil.rmtree(tmp_path / "ledger")
    about = {"head": head(last), "server": os.environ["MLFLOW_TRACKING_URI"], "model": model}
    write_json(tmp_path / "ledger" / "0123456789ab" / f"{model}.json", about)
    assert ledger.check(model, trusted_keys()) == []
    cut(model, edit)
    (wrong,) = ledger.check(model, trusted_keys())
    assert wrong.startswith(f"entry {head(last)} was seen on this machine")


def test_a_damaged_witness_is_named(model: str, tmp_path: Path) -> None:
    """The file that says what was seen is named where it cannot be read."""
    filled(model)
    for text in ("{", "[]", '{"seen": [1]}', '{"seen": [{"head": "1:a"}]}'):
        (tmp_path / "ledger" / f"{model}.json").write_text(text)
        assert "found a damaged file" in "\n".join(ledger.check(model, trusted_keys()))
        with pytest.raises(RegistryError, match=f"{model}.json: found a damaged file"):
            ledger.append(model, 1, "approved", "F1 0.95")


def replayed(known: list[ledger.Entry]) -> str:
    return json.dumps(asdict(known[3]))


def unsigned(known: list[ledger.Entry]) -> str:
    marks = {"alias": "champion"}
    entry = replace(known[-1], sequence=6, action="alias", details=marks, previous=known[-1].sha256)
    return json.dumps(asdict(replace(entry, signature="", key="")))


JUNK: dict[str, tuple[str, Callable[[list[ledger.Entry]], str], str]] = {
    "name": ("entry.abc", lambda _: "x", "parameter 'entry.abc' is no entry"),
    "digits": ("entry.6", lambda _: "x", "parameter 'entry.6' is no entry"),
    "other digits": ("entry.00000²", lambda _: "x", "is no entry"),
    "far": ("entry." + "9" * 200, lambda _: "x", "is no entry"),
    "text": ("entry.000006", lambda _: "x", "entry.000006 cannot be read"),
    "list": ("entry.000006", lambda _: "[]", "entry.000006 cannot be read"),
    "unsigned": ("entry.000006", unsigned, "entry 6 is not what was signed"),
    "replayed": ("entry.000006", replayed, "entry 6 says that it is number 4"),
    "details": (
        "entry.000006",
        lambda known: json.dumps({**asdict(known[-1]), "details": ["alias"]}),
        "entry.000006 cannot be read",
    ),
    "no alias": (
        "entry.000006",
        lambda known: json.dumps({**asdict(known[1]), "details": {}}),
        "entry.000006 cannot be read",
    ),
    "no zone": (
        "entry.000006",
        lambda known: json.dumps({**asdict(known[1]), "time_utc": "2026-11-29T10:00:00"}),
        "entry.000006 cannot be read",
    ),
}


@pytest.mark.parametrize("what", JUNK)
def test_what_is_no_entry_is_told_and_stops_nothing(model: str, edit: Edit, what: str) -> None:
    """The honest entries stand beside it and go on after it; without it the ledger is whole."""
    filled(model)
    known = ledger.entries(model)
    key, make, words = JUNK[what]
    run_id = ledger_run(model, make=False)["info"]["run_id"]
    call("POST", "runs/log-parameter", run_id=run_id, key=key, value=make(known))
    assert ledger.entries(model) == known
    (wrong,) = ledger.check(model, trusted_keys())
    assert words in wrong
    ledger.move_alias(model, 1, "champion", "better")
    ledger.append(model, 1, "approved", "F1 0.95")
    assert [e.action for e in ledger.entries(model)][5:] == ["alias", "approved"]
    assert alias_of(model) == {"candidate": 2, "champion": 1}
    assert ledger.check(model, trusted_keys()) == [wrong]
    edit(f"DELETE FROM params WHERE key = '{key}' AND run_uuid = '{run_id}'")
    assert ledger.check(model, trusted_keys()) == []


def test_an_entry_of_a_stranger_is_named(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is appended after an entry whose key nobody here knows: it is named, with what to do.

    Its key among those of this machine, the ledger goes on.
    """
    filled(model)
    with monkeypatch.context() as other:
        other.setenv("HOLTER_HOME", str(tmp_path / "other"))
        ledger.append(model, 3, "approved", "because I say so")
        key = public_key()
    with pytest.raises(RegistryError, match=f"entry 6 is signed by key {key}.*keys/"):
        ledger.append(model, 1, "approved", "F1 0.95")
    assert [e.sequence for e in ledger.trusted_entries(model, trusted_keys())] == [1, 2, 3, 4, 5]
    (tmp_path / "keys" / "other.pub").write_text(key)
    assert ledger.append(model, 1, "approved", "F1 0.95").sequence == 7
    assert ledger.check(model, trusted_keys()) == []


def test_a_deleted_ledger_is_named(model: str) -> None:
    """Nothing is appended to a run that is deleted in MLflow: it says what restores the ledger."""
    filled(model)
    run_id = ledger_run(model, make=False)["info"]["run_id"]
    call("POST", "runs/delete", run_id=run_id)
    with pytest.raises(RegistryError, match=f"run {run_id} is deleted in MLflow: restore it"):
        ledger.append(model, 1, "approved", "F1 0.95")
    call("POST", "runs/restore", run_id=run_id)
    assert ledger.append(model, 1, "approved", "F1 0.95").sequence == 6


def test_another_run_beside_the_ledger_hides_nothing(model: str) -> None:
    """Runs that are put into the ledger's experiment, older ones too, are not the ledger."""
    filled(model)
    known = ledger.entries(model)
    experiment = ledger_run(model, make=False)["info"]["experiment_id"]
    for _ in range(2):
        call("POST", "runs/create", experiment_id=experiment, start_time=1)
    assert ledger.entries(model) == known
    assert ledger.append(model, 1, "approved", "F1 0.95").sequence == 6
    assert ledger.check(model, trusted_keys()) == []


def test_an_entry_of_before_the_one_before_it_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that are dated backwards are named; the second that two servers differ is not."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    known: list[ledger.Entry] = []
    for number, second in enumerate((30, 29, 10), start=1):
        time = f"2026-11-29T10:00:{second}+00:00"
        previous = known[-1].sha256 if known else NO_PREVIOUS
        entry = ledger.Entry(number, time, "me", "approved", "m", 1, "r", {}, previous)
        known.append(ledger.Entry(**{**asdict(entry), **sign(entry.signed_bytes())}))
    assert chain_faults(known, trusted_keys()) == [
        "entry 3 is of 2026-11-29T10:00:10+00:00; the one before it is later"
    ]
