"""A person who withdrew: found, deleted, certified; what is gone verifies as deleted on request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.cli.exchange.forget import deliver
from flows.consent import forget as work
from flows.consent import journal
from flows.consent.certificate import Certificate, Remade, folder
from flows.reports.card import card, log_card
from storage.audit import ledger, versions
from storage.audit.findings import DELETED, MISMATCH
from storage.audit.verify import verify
from storage.consent.blocks import block
from storage.errors import ConsentError, RegistryError
from storage.files import home, write_bytes, write_json
from storage.places import beats_place
from storage.registry.signing import signed_by, trusted_keys
from storage.tables.beats_manifest import read_manifest, write_manifest
from storage.tables.testset import TestSet
from tests import made_up
from tests.answers import held
from tests.emptied import Emptied
from tests.sealed import made_up_manifest, made_up_version, sides_of

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]  # MLflow's own, at import

TESTED, LEARNT = "made-up/a", "simulated/sim000"
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
States = dict[tuple[str, str], str]


def die(*_: Any, **__: Any) -> None:
    raise RegistryError("killed")


def states(reference: str) -> States:
    """The state of each finding of a version."""
    return {(f.link, f.name): f.state for f in verify(reference, trusted_keys())}


def carried_out(person: str) -> Certificate:
    return work.forget(work.plan(person), reason="a letter", tell=lambda _: None)


def files_at_home() -> list[Path]:
    """All files of the state folder but copies of what MLflow has."""
    fetched = {"ledger", "chains"}
    return sorted(path for path in home().rglob("*") if fetched.isdisjoint(path.parts))


@pytest.fixture(scope="module")
def state(empty_mlflow: Emptied, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A version that was tested on one person; one that learnt from another, with its tables."""
    place = tmp_path_factory.mktemp("consent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLTER_HOME", str(place / "home"))
        patch.delenv("HOLTER_BEATS", raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", empty_mlflow.address)
        tested = made_up.register(place / "tested", name="holter-tested", patients=("a", "b"))
        log_card(tested, card(tested))
        path, manifest = made_up_manifest(place / "records", subjects=4)
        write_manifest(path, manifest, signed=True)
        made_up_version("holter-learnt", place / "learnt", path, manifest, sides_of(manifest))
        for name in ("folds/kept.npz", "runs/other/report.html", "checkpoints/any.npz"):
            write_bytes(home() / name, b"")
        write_bytes(home() / "review" / "answers" / "any.npz", b"")
        write_bytes(path.parent / "pyramids" / "any.npy", b"")
        for name in ("sim000", "sim001"):
            write_bytes(home() / "labels" / "simulated" / f"{name}.json", b"marks of a reader")
        yield place


@dataclass(frozen=True)
class Outcome:
    """A withdrawal: its certificate, and what verified before and after."""

    certificate: Certificate
    before: States
    after: States


@pytest.fixture(scope="module")
def learnt(state: Path) -> Outcome:
    """That of the person whom a version learnt from, which is made again in the words alone."""
    assert state.is_dir()
    before = states("holter-learnt/1")
    row = Remade("holter-learnt/1", by="holter-learnt/2", patients=3, gains={"f1": [0.1, 0, 0.2]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "remake", lambda *_: row)
        return Outcome(carried_out(LEARNT), before, states("holter-learnt/1"))


@dataclass(frozen=True)
class Killed(Outcome):
    """One that was killed before every step: what stood then, and the test set before."""

    told: Sequence[tuple[str, str, bool]]
    testset: TestSet


@pytest.fixture(scope="module")
def tested(state: Path) -> Killed:
    """That of the person whom a version was tested on."""
    assert state.is_dir()
    before, told = states("holter-tested/1"), []
    testset = versions.testset_of(versions.read_version("holter-tested/1").model)
    testset = TestSet(**{**vars(testset), "inputs": {"waveform": testset.inputs["waveform"][:]}})
    for step in STEPS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(step, die)
            with pytest.raises(RegistryError, match="killed"):
                carried_out(TESTED)
        preview = work.preview(work.plan(TESTED))
        sealed = (folder() / f"{preview.withdrawal}.json").exists()
        told.append((preview.state, preview.withdrawal, sealed))
    return Killed(carried_out(TESTED), before, states("holter-tested/1"), told, testset)


def test_a_dry_run_changes_nothing_and_tells_what_goes(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By kind, and each version that saw the person; as text, and by the command's schema."""
    assert state.is_dir()
    before = files_at_home()
    preview = work.preview(work.plan(LEARNT))
    assert preview.state == "to go"
    assert files_at_home() == before
    deliver(preview, None, "json")
    value = held(capsys.readouterr().out, "forget")
    kinds = {row["kind"]: row["count"] for row in value["deleted"]}
    assert kinds == {
        "beat tables": 1,
        "checkpoint": 1,
        "drawing or answers of the review page": 2,
        "file of labels": 1,
        "work folder of a run": 1,
    }
    assert [row["version"] for row in value["versions"]] == ["holter-learnt/1"]
    assert [row["version"] for row in value["remade"]] == ["holter-learnt/1"]  # it is candidate
    deliver(preview, None, "text")
    assert "would go" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("person", "words"),
    [
        ("simulated/sim00", "did you mean 'simulated/sim00"),
        ("simulated/sim%", "found none of that name"),
        ("nowhere/sim000", "found none of that name"),
    ],
)
def test_a_wrong_name_is_refused(state: Path, person: str, words: str) -> None:
    """With the nearest name that there is; nothing is planned."""
    assert state.is_dir()
    with pytest.raises(ConsentError, match=words):
        work.plan(person)


def test_somebody_of_whom_nothing_is_left_is_known_as_such(state: Path) -> None:
    """One who is blocked, and whom neither a version nor a table names any more."""
    assert state.is_dir()
    block("w-1", ["elsewhere/p1"], [])
    assert work.preview(work.plan("elsewhere/p1")).state == "nothing left"
    with pytest.raises(ConsentError, match="found none of that name"):
        work.plan("elsewhere/p2")


def test_it_waits_for_flows(state: Path) -> None:
    """While a flow runs, which may read what is to go, nothing is planned."""
    assert state.is_dir()
    with pytest.raises(ValueError, match="expected DATASET/SUBJECT"):
        work.plan("sim000")
    note = {"flow_run_id": "r", "flow": "train", "host": "elsewhere", "pid": 1, "since": 0.0}
    path = write_json(home() / "running" / "r.json", note)
    try:
        with pytest.raises(ConsentError, match="in use: train"):
            work.plan(LEARNT)
    finally:
        path.unlink()


def test_what_was_made_of_the_person_goes_and_nothing_else(learnt: Outcome) -> None:
    """Tables, files of any kind below their name, checkpoints; not those of the others."""
    assert learnt.certificate.state == "done"
    path = beats_place() / "dataset=simulated" / "manifest.json"
    assert isinstance(path, Path)
    assert [entry.record for entry in read_manifest(path).entries] == ["sim001", "sim002", "sim003"]
    assert not [file for file in path.parent.rglob("*") if "sim000" in file.name]
    assert not (home() / "labels" / "simulated" / "sim000.json").exists()
    for name in ("checkpoints/any.npz", "review/answers/any.npz"):
        assert not (home() / name).exists(), name
    assert not (path.parent / "pyramids" / "any.npy").exists()
    for name in ("folds/kept.npz", "runs/other/report.html", "labels/simulated/sim001.json"):
        assert (home() / name).exists(), name


def test_the_chain_verifies_and_tells_what_was_deleted(learnt: Outcome) -> None:
    """All that matched does; the table is told as deleted on request, and no name is signed."""
    assert MISMATCH not in learnt.after.values()
    assert [key for key, value in learnt.after.items() if value == DELETED] == [
        ("beat tables", LEARNT)
    ]
    expected = {**learnt.before, ("beat tables", LEARNT): DELETED}
    assert {key: learnt.after[key] for key in expected} == expected
    entries = ledger.entries("holter-learnt")
    assert [entry.action for entry in entries][-2:] == ["withdrawn", "forgotten"]
    assert entries[-1].details["remade"] == "holter-learnt/2"
    assert "sim000" not in str([asdict(entry) for entry in entries[-2:]])


def test_the_certificate_is_signed_and_names_nobody(learnt: Outcome) -> None:
    """Its signature holds, the ledger has its digest, and no name of the person is in it."""
    path = folder() / f"{learnt.certificate.withdrawal}.json"
    data = path.read_bytes()
    assert signed_by(data, json.loads(path.with_suffix(".sig").read_text()))
    assert "sim000" not in data.decode() + path.with_suffix(".html").read_text()
    assert learnt.after["decisions", f"withdrawals/{path.name}"] == "match"


def test_one_that_was_killed_goes_on_and_says_nothing_before(tested: Killed) -> None:
    """Before every step: begun, by one number, and no certificate until all is gone; then one."""
    assert {(told[0], told[1]) for told in tested.told} == {
        ("begun", tested.certificate.withdrawal)
    }
    assert [told[2] for told in tested.told] == [False] * (len(STEPS) - 1) + [True]
    assert list(journal.journals()) == []
    actions = [entry.action for entry in ledger.entries("holter-tested")]
    assert [actions.count(action) for action in ("withdrawn", "forgotten")] == [1, 1]
    assert work.plan(TESTED).nothing_left
    assert work.preview(work.plan(TESTED)).state == "nothing left"


def test_a_test_set_stays_without_the_person(tested: Killed) -> None:
    """The others of it can be evaluated as before; the network, which never saw them, stays."""
    assert tested.certificate.remade == []
    model = versions.read_version("holter-tested/1").model
    before, after = tested.testset, versions.testset_of(model)
    others = before.subject != TESTED
    assert set(after.subject) == {"made-up/b"}
    np.testing.assert_array_equal(after.label, before.label[others])
    np.testing.assert_array_equal(after.inputs["waveform"][:], before.inputs["waveform"][others])


def test_what_no_order_names_is_missing_still(tested: Killed) -> None:
    """Test set and beat table are away on request; a card that somebody takes away is not."""
    deleted = [key for key, value in tested.after.items() if value == DELETED]
    assert deleted == [("artifacts", "testset/testset.npz"), ("beat tables", "made-up/a")]
    assert tested.after["decisions", "card/card.html"] == "match"  # made again, of the others
    mismatches = [key for key, value in tested.after.items() if value == MISMATCH]
    assert mismatches == [key for key, value in tested.before.items() if value == MISMATCH]
