"""A person who withdrew: found, deleted, certified; what is gone verifies as deleted on request."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.cli.exchange.forget import deliver
from flows.consent import forget as work
from flows.consent import journal
from flows.consent.certificate import Certificate, Remade, folder
from flows.reports.card import card, log_card
from storage.audit import ledger
from storage.audit.findings import DELETED, MISMATCH
from storage.audit.verify import verify
from storage.audit.versions import read_version, testset_of
from storage.errors import ConsentError, RegistryError
from storage.files import home, write_bytes, write_json
from storage.places import beats_place
from storage.registry import tracking
from storage.registry.signing import signed_by, trusted_keys
from storage.tables.beats_manifest import Manifest, read_manifest, write_manifest
from tests import made_up
from tests.answers import held
from tests.emptied import Emptied
from tests.sealed import made_up_manifest, made_up_version, sides_of

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]  # MLflow's own, at import

#: What a kill may come before, in the order of the work.
STEPS = (
    "flows.consent.forget.block",
    "flows.consent.forget._enter",
    "flows.consent.forget._remove_local",
    "flows.consent.forget.write_testset",
    "storage.registry.tracking.delete_file",
    "flows.consent.certificate.seal",
    "flows.consent.forget._renew_cards",
)
TESTED, LEARNT = "made-up/a", "simulated/sim000"


@pytest.fixture
def state(empty_mlflow: Emptied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A version that was tested on one person; one that learnt from another, with its tables."""
    empty_mlflow.empty()
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HOLTER_BEATS", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_mlflow.address)
    tested = made_up.register(tmp_path / "tested", name="holter-tested")
    log_card(tested, card(tested))
    path, manifest = made_up_manifest(tmp_path / "records", subjects=4)
    write_manifest(path, manifest, signed=True)
    made_up_version("holter-learnt", tmp_path / "learnt", path, manifest, sides_of(manifest))
    for name in ("folds/kept.npz", "runs/other/report.html", "checkpoints/any.npz"):
        write_bytes(home() / name, b"")
    for name in ("simulated/sim000.json", "simulated/sim001.json"):
        write_bytes(home() / "labels" / name, b"marks of a reader")
    return manifest


def die(*_: Any, **__: Any) -> None:
    raise RegistryError("killed")


def states(reference: str) -> dict[tuple[str, str], str]:
    """The state of each finding of a version."""
    return {(f.link, f.name): f.state for f in verify(reference, trusted_keys())}


def carried_out(person: str, **options: Any) -> Certificate:
    return work.forget(work.plan(person), reason="a letter", tell=lambda _: None, **options)


def test_a_dry_run_changes_nothing_and_tells_what_goes(
    state: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the withdrawal deletes later is what was told; as text and by the command's schema."""
    assert state.entries
    before = sorted(path for path in home().rglob("*") if "mlflow" not in path.parts)
    preview = work.preview(work.plan(LEARNT))
    assert preview.state == "to go"
    assert sorted(path for path in home().rglob("*") if "mlflow" not in path.parts) == before
    deliver(preview, None, "json")
    value = held(capsys.readouterr().out, "forget")
    kinds = {row["kind"]: row["count"] for row in value["deleted"]}
    assert kinds == {"beat tables": 1, "checkpoint": 1, "file of labels": 1}
    assert [row["version"] for row in value["versions"]] == ["holter-learnt/1"]
    assert [row["version"] for row in value["remade"]] == ["holter-learnt/1"]  # it is candidate
    deliver(preview, None, "text")
    assert "would go" in capsys.readouterr().out


def test_what_was_learnt_goes_but_for_the_seal(
    state: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables and files go, the others stay; the chain verifies, and tells what was deleted."""
    assert state.entries
    before = states("holter-learnt/1")
    row = Remade("holter-learnt/1", by="holter-learnt/2", patients=3, gains={"f1": [0.1, 0, 0.2]})
    monkeypatch.setattr(work, "remake", lambda *_: row)
    certificate = carried_out(LEARNT)
    assert certificate.state == "done"
    path = beats_place() / "dataset=simulated" / "manifest.json"
    assert [entry.record for entry in read_manifest(path).entries] == ["sim001", "sim002", "sim003"]
    assert isinstance(path, Path)
    assert not list(path.parent.rglob("*sim000*"))
    assert not (home() / "labels" / "simulated" / "sim000.json").exists()
    assert not (home() / "checkpoints" / "any.npz").exists()
    for name in ("folds/kept.npz", "runs/other/report.html", "labels/simulated/sim001.json"):
        assert (home() / name).exists(), name
    after = states("holter-learnt/1")
    assert MISMATCH not in after.values()
    assert {key for key, value in after.items() if value == DELETED} == {("beat tables", LEARNT)}
    assert {key: before[key] for key in before} | {("beat tables", LEARNT): DELETED} == {
        key: value for key, value in after.items() if key in before
    }
    entries = ledger.entries("holter-learnt")
    assert [entry.action for entry in entries][-2:] == ["withdrawn", "forgotten"]
    assert entries[-1].details["remade"] == "holter-learnt/2"
    words = [word for entry in entries[-2:] for word in str(asdict(entry)).split()]
    assert not any("sim000" in word for word in words)


def test_the_certificate_is_signed_and_names_nobody(
    state: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its signature holds, its digest is in the ledger, and no name of the person is in it."""
    assert state.entries
    monkeypatch.setattr(work, "remake", lambda version, *_: Remade(version.reference, reason="no"))
    certificate = carried_out(LEARNT)
    path = folder() / f"{certificate.withdrawal}.json"
    data = path.read_bytes()
    import json

    assert signed_by(data, json.loads(path.with_suffix(".sig").read_text()))
    page = path.with_suffix(".html").read_text()
    assert "sim000" not in data.decode() + page
    assert "sealed" in page
    assert ("decisions", f"withdrawals/{path.name}") in states("holter-learnt/1")


def test_a_test_set_stays_without_the_person(state: Manifest) -> None:
    """The others of it can be evaluated as before; the card is made again from them alone."""
    assert state.entries
    model = read_version("holter-tested/1").model
    before = testset_of(model)
    certificate = carried_out(TESTED)
    assert certificate.remade == []  # its network never learnt from them
    after = testset_of(model)
    others = before.subject != TESTED
    assert set(after.subject) == set(before.subject[others])
    np.testing.assert_array_equal(after.label, before.label[others])
    np.testing.assert_array_equal(after.inputs["waveform"][:], before.inputs["waveform"][:][others])
    after_states = states("holter-tested/1")
    assert {key for key, value in after_states.items() if value == DELETED} == {
        ("artifacts", "testset/testset.npz")
    }
    assert ("decisions", "card/card.html") in after_states
    missing = {key for key, value in after_states.items() if value == MISMATCH}
    assert missing == {key for key, value in states("holter-tested/1").items() if value == MISMATCH}
    tracking.delete_file(model.run_id, "card/card.html")  # by nobody's order
    assert states("holter-tested/1")["decisions", "card/card.html"] == MISMATCH


def test_one_that_was_killed_goes_on_and_says_nothing_before(
    state: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step: no certificate until all is gone, then one; and nothing is left afterwards."""
    assert state.entries
    person = TESTED
    for step in STEPS:
        with monkeypatch.context() as patch:
            patch.setattr(step, die)
            with pytest.raises(RegistryError, match="killed"):
                carried_out(person)
            (open_journal,) = journal.journals()
            preview = work.preview(work.plan(person))
            assert (preview.state, preview.withdrawal) == ("begun", open_journal.withdrawal)
    certificate = carried_out(person)
    assert certificate.state == "done"
    assert list(journal.journals()) == []
    assert [path.stem for path in folder().glob("*.json")] == [certificate.withdrawal]
    actions = [entry.action for entry in ledger.entries("holter-tested")]
    assert [actions.count(action) for action in ("withdrawn", "forgotten")] == [1, 1]
    assert work.plan(person).nothing_left
    assert work.preview(work.plan(person)).state == "nothing left"


@pytest.mark.parametrize(
    ("person", "words"),
    [
        ("simulated/sim00", "did you mean 'simulated/sim00"),
        ("simulated/sim%", "found none of that name"),
        ("nowhere/sim000", "found none of that name"),
    ],
)
def test_a_wrong_name_deletes_nothing(state: Manifest, person: str, words: str) -> None:
    """It is refused, with the nearest name that there is."""
    assert state.entries
    with pytest.raises(ConsentError, match=words):
        work.plan(person)
    with pytest.raises(ValueError, match="expected DATASET/SUBJECT"):
        work.plan("sim000")


def test_it_waits_for_flows(state: Manifest) -> None:
    """While a flow runs, which may read what is to go, nothing is planned."""
    assert state.entries
    note = {"flow_run_id": "r", "flow": "train", "host": "elsewhere", "pid": 1, "since": 0.0}
    write_json(home() / "running" / "r.json", note)
    with pytest.raises(ConsentError, match="in use: train"):
        work.plan(LEARNT)
