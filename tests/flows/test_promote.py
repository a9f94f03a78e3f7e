"""Promotion: what was not measured does not pass, and who moved what, and why, is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows.decide import promote as work
from flows.decide.promote import promote, rollback
from flows.reports.card import log_card
from flows.train.evaluate_device import enter
from storage.audit import ledger
from storage.audit.ledger_entry import ROLLED_BACK, deed
from storage.audit.lineage import read_lineage
from storage.audit.verify import MISMATCH, verify
from storage.audit.versions import VersionRecord, read_version
from storage.errors import NotInRegistry, PolicyError, PromotionError
from storage.files import write_bytes
from storage.registry import evaluations, tracking
from storage.registry.client import call, fetch_run_file
from storage.registry.policy import DEFAULT, Check, Policy, read_policy
from storage.registry.signing import trusted_keys
from tasks.pages.document import Words
from tasks.pages.lineage_page import outline
from tasks.scores.promotion import Figure, judge
from tests import made_up

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import


@pytest.fixture
def ready(fresh_model: str, tmp_path: Path) -> VersionRecord:
    """A version that has all that the default policy asks for."""
    version = made_up.register(tmp_path / "ready", name=fresh_model)
    made_up.on_device(version, "belt", energy_j_per_24_h=900.0)
    made_up.on_data_set(version, nsrdb_beat_specificity=0.97)
    return read_version(version.model.reference)


def states(done: work.PromotionResult) -> dict[str, str]:
    return {one.figure: one.state for one in done.verdicts}


def aliases(model: str) -> dict[str, int]:
    """The aliases as MLflow has them."""
    found = call("GET", "registered-models/get", name=model)["registered_model"]
    return {one["alias"]: int(one["version"]) for one in found.get("aliases", ())}


def test_a_passing_version_becomes_champion(ready: VersionRecord) -> None:
    """The alias moves; policy, verdicts and approver are in the ledger, the run and the tags."""
    name, policy = ready.model.name, read_policy(DEFAULT)
    done = promote(ready.model.reference, policy, approver="Dr. Who")
    assert done.decision == "approved", done.verdicts
    assert {v.state for v in done.verdicts} == {"passed", "not asked"}
    assert aliases(name)["champion"] == 1
    approved, moved = ledger.entries(name)[-2:]
    assert (approved.action, approved.who) == ("approved", "Dr. Who")
    assert moved.details["policy_sha256"] == policy.sha256
    found = call("GET", "model-versions/get", name=name, version="1")["model_version"]
    tags = {tag["key"]: tag["value"] for tag in found["tags"]}
    assert tags["holter.champion.by"] == "Dr. Who"
    assert tags["holter.champion.result_sha256"] == done.result_sha256
    assert ledger.check(name, trusted_keys()) == []
    with pytest.raises(PromotionError, match="is champion already"):
        promote(ready.model.reference, policy)


def test_the_result_is_kept_whole(ready: VersionRecord, tmp_path: Path) -> None:
    """The artifact that the ledger names by digest holds the policy's text and each verdict."""
    done = promote(ready.model.reference, read_policy(DEFAULT))
    details = ledger.entries(ready.model.name)[-1].details
    file = fetch_run_file(
        ready.model.run_id, details["result"], details["result_sha256"], tmp_path / "kept"
    )
    kept = json.loads(file.read_text())
    assert kept["policy"] == DEFAULT.read_text()
    assert len(kept["verdicts"]) == len(done.verdicts)


def test_what_was_not_measured_is_refused(fresh_model: str, tmp_path: Path) -> None:
    """Without device and healthy hearts nothing moves; the reason names the command."""
    version = made_up.register(tmp_path / "1", name=fresh_model)
    done = promote(version.model.reference, read_policy(DEFAULT))
    assert done.decision == "refused"
    missing = {v.figure: v.note for v in done.verdicts if v.state == "missing"}
    assert f"holter evaluate {fresh_model}/1 --on nsrdb" in missing["nsrdb_beat_specificity"]
    assert "holter edge request" in missing["device_latency_p99_ms"]
    assert "champion" not in aliases(fresh_model)
    assert ledger.entries(fresh_model)[-1].action == "refused"


def test_a_device_without_a_meter_is_refused(ready: VersionRecord) -> None:
    """One device of two that did not measure energy is enough to refuse, by its name."""
    made_up.on_device(ready, "old-belt")
    done = promote(ready.model.reference, read_policy(DEFAULT))
    (missing,) = (v for v in done.verdicts if v.state == "missing")
    assert missing.figure == "device_energy_j_per_24_h"
    assert "old-belt did not measure it" in missing.note


@pytest.mark.parametrize(
    ("metrics", "figure"),
    [
        ({"latency_p99_ms": 250.0}, "device_latency_p99_ms"),
        ({"f1": 0.1}, "device_differences"),
        ({"energy_j_per_24_h": 1e6}, "device_energy_j_per_24_h"),
    ],
)
def test_the_worst_device_counts(
    ready: VersionRecord, metrics: dict[str, float], figure: str
) -> None:
    """A second device that is slow, hungry or answers otherwise fails its check and no other."""
    made_up.on_device(ready, "worse", **{"energy_j_per_24_h": 1.0, **metrics})
    done = promote(ready.model.reference, read_policy(DEFAULT))
    assert [f for f, state in states(done).items() if state == "failed"] == [figure]


@pytest.mark.parametrize(
    ("figure", "value"), [("f1_change", -0.02), ("p99_abs_error", 0.2), ("mean_abs_error", 0.05)]
)
def test_int8_beyond_its_bounds_is_refused(
    fresh_model: str, tmp_path: Path, figure: str, value: float
) -> None:
    """What devices run is bounded, though float32 answers as Keras does: that check alone fails."""
    version = made_up.register(
        tmp_path / "1", name=fresh_model, runtime="litert-int8", parity={figure: value}
    )
    made_up.on_device(version, "belt", energy_j_per_24_h=900.0)
    made_up.on_data_set(version, nsrdb_beat_specificity=0.97)
    done = promote(version.model.reference, read_policy(DEFAULT))
    assert done.decision == "refused"
    (failed,) = (v for v in done.verdicts if v.state == "failed")
    assert failed.figure == f"deployed_{figure}"
    assert failed.note == "litert-int8"
    assert "champion" not in aliases(fresh_model)


def test_the_runtime_of_a_report_is_bounded_too(ready: VersionRecord) -> None:
    """A device that ran another runtime: its parity counts, or is missing where none is known."""
    tagged = [replace(r, tags={**r.tags, "holter.runtime": "onnx"}) for r in ready.reports]
    version = replace(ready, reports=tuple(tagged))
    assert work.deployment_figures(version)["deployed_f1_change"].value is None
    assert "onnx" in work.deployment_figures(version)["deployed_f1_change"].note
    told = json.dumps({**made_up.PARITY, "f1_change": -0.004})
    tags = {**version.model.tags, "holter.runtime.onnx": told}
    version = replace(version, model=replace(version.model, tags=tags))
    assert work.deployment_figures(version)["deployed_f1_change"] == Figure(0.004, "onnx")


def test_simulated_records_of_a_training_are_judged(fresh_model: str, tmp_path: Path) -> None:
    """What a training draws beside its data sets is a figure: more than a policy allows fails."""
    version = made_up.register(tmp_path / "1", name=fresh_model, simulated=17)
    done = promote(version.model.reference, read_policy(DEFAULT))
    (failed,) = (v for v in done.verdicts if v.state == "failed")
    assert (failed.figure, failed.note) == ("simulated_records", f"each epoch of {fresh_model}/1")


def test_unfit_data_is_refused(fresh_model: str, tmp_path: Path) -> None:
    """Simulated data, a licence that is not for the use, patients on two sides: each fails."""
    version = made_up.register(
        tmp_path / "1",
        name=fresh_model,
        data=made_up.manifest(licence="CC BY-NC 4.0", simulated=True),
        train=("a", "g"),
    )
    done = promote(version.model.reference, read_policy(DEFAULT))
    failed = {v.figure: v.note for v in done.verdicts if v.state == "failed"}
    assert failed["data_sets_not_for_use"] == "made-up (CC BY-NC 4.0)"
    assert failed["simulated_data_sets"] == "made-up"
    assert failed["subjects_on_two_sides"] == "made-up/a"


def test_beats_dealt_singly_say_nothing_of_new_patients(fresh_model: str, tmp_path: Path) -> None:
    """Figures of an intra-patient split, and of a data set trained on, count as not measured."""
    version = made_up.register(tmp_path / "1", name=fresh_model, paradigm="intrapatient")
    made_up.on_data_set(version, **{"made-up_beat_f1": 0.99})
    mine = read_version(version.model.reference)
    found = work.all_figures(mine, None, read_policy(DEFAULT))
    assert found["test_f1_low"].value is None
    assert "in training too" in found["test_f1_low"].note
    assert found["made-up_beat_f1"].value is None


def test_a_worse_challenger_is_refused_until_overridden(
    ready: VersionRecord, tmp_path: Path
) -> None:
    """Worse than champion by the paired interval is refused; an override needs and keeps a reason.

    Rolling back is one step, and a second one has nowhere to go.
    """
    name, policy = ready.model.name, read_policy(DEFAULT)
    promote(ready.model.reference, policy)
    worse = made_up.register(tmp_path / "2", name=name, threshold=0.51)
    made_up.on_device(worse, "belt", energy_j_per_24_h=900.0)
    made_up.on_data_set(worse, nsrdb_beat_specificity=0.97)
    done = promote(worse.model.reference, policy)
    assert states(done)["champion_f1_gain_low"] == "failed"
    assert aliases(name)["champion"] == 1
    with pytest.raises(ValueError, match="needs a reason"):
        promote(worse.model.reference, policy, override=True)
    done = promote(worse.model.reference, policy, override=True, reason="trial in ward 7")
    assert done.decision == "overridden"
    assert aliases(name)["champion"] == 2
    assert ledger.entries(name)[-2].reason == "trial in ward 7"
    assert rollback(name) == (2, 1)
    assert aliases(name)["champion"] == 1
    with pytest.raises(PromotionError, match="was on none before"):
        rollback(name)
    assert ledger.check(name, trusted_keys()) == []


def test_a_roll_back_is_in_both_versions_ledgers(ready: VersionRecord, tmp_path: Path) -> None:
    """It is called one, by alias and both numbers, whatever reason is given."""
    name = ready.model.name
    other = made_up.register(tmp_path / "2", name=name)
    for number in (1, 2):
        ledger.move_alias(name, number, "champion", "approved")
    rollback(name, reason="the trial is over")
    for version in (ready, other):
        last = read_version(version.model.reference).entries[-1]
        assert deed(last) == "roll-back of @champion from version 2 to version 1"
        assert last.reason == "the trial is over"
        outlined = str(outline(read_lineage(version.model.reference, trusted_keys())))
        assert "roll-back of @champion from version 2 to version 1" in outlined


def test_an_alias_that_was_taken_away_is_seen(ready: VersionRecord, tmp_path: Path) -> None:
    """MLflow's word counts: nothing is champion already, nothing is rolled back, and it is told."""
    name, policy = ready.model.name, read_policy(DEFAULT)
    promote(ready.model.reference, policy)
    second = made_up.register(tmp_path / "2", name=name)
    ledger.move_alias(name, second.model.version, "champion", "better")
    call("DELETE", "registered-models/alias", name=name, alias="champion")
    told = "on no version in MLflow; the ledger has version 2"
    with pytest.raises(PromotionError, match=told):
        rollback(name)
    done = promote(ready.model.reference, policy)
    assert done.decision == "refused"
    (broken,) = (v for v in done.verdicts if v.state == "failed")
    assert "alias champion is on no version; the ledger has 2" in broken.note
    assert "champion" not in aliases(name)
    done = promote(ready.model.reference, policy, override=True, reason="it was withdrawn")
    assert (done.decision, aliases(name)["champion"]) == ("overridden", 1)
    details = ledger.entries(name)[-1].details
    assert (details["from"], details["ledger_from"]) == ("", "2")
    assert ledger.check(name, trusted_keys()) == []


def test_a_version_before_that_is_gone_is_no_way_back(ready: VersionRecord, tmp_path: Path) -> None:
    """A roll-back to a version that MLflow no longer has is refused, and says so; nothing moves."""
    name = ready.model.name
    made_up.register(tmp_path / "2", name=name)
    for number in (1, 2):
        ledger.move_alias(name, number, "champion", "approved")
    call("DELETE", "model-versions/delete", name=name, version="1")
    with pytest.raises(NotInRegistry, match=f"{name}/1 is gone from MLflow"):
        rollback(name)
    assert aliases(name)["champion"] == 2
    ledger.move_alias(name, None, "champion", "withdrawn")
    with pytest.raises(PromotionError, match="is on no version; there is nothing to go back to"):
        rollback(name)


def test_a_model_made_again_starts_without_a_champion(ready: VersionRecord, tmp_path: Path) -> None:
    """Nothing that was decided or measured of an earlier model of the name counts for the new."""
    name, policy = ready.model.name, read_policy(DEFAULT)
    assert promote(ready.model.reference, policy).decision == "approved"
    request = evaluations.request_state(ready.reports[0].request_id)
    call("DELETE", "registered-models/delete", name=name)
    again = made_up.register(tmp_path / "again", name=name)
    assert again.model.reference == ready.model.reference
    assert again.model.run_id != ready.model.run_id
    assert (again.reports, again.evaluations) == ((), ())
    assert [entry.action for entry in again.entries] == ["registered", "alias"]
    done = promote(again.model.reference, policy)
    assert "device_latency_p99_ms" in {v.figure for v in done.verdicts if v.state == "missing"}
    assert "champion" not in aliases(name)
    with pytest.raises(NotInRegistry, match="gone from MLflow"):
        enter(request)
    with pytest.raises(PromotionError, match="nothing to go back to"):
        rollback(name)


def test_a_challenger_without_shared_patients_is_refused(
    ready: VersionRecord, tmp_path: Path
) -> None:
    """Where champion and challenger share no test patient, nothing says which is better."""
    promote(ready.model.reference, read_policy(DEFAULT))
    other = made_up.register(
        tmp_path / "2", name=ready.model.name, patients=("j", "k"), data=made_up.manifest("jkghi")
    )
    done = promote(other.model.reference, read_policy(DEFAULT))
    (gain,) = (v for v in done.verdicts if v.figure == "champion_f1_gain_low")
    assert gain.state == "missing"
    assert "share no patient" in gain.note


def test_an_edited_version_is_refused(ready: VersionRecord) -> None:
    """A metric that was changed after the sealing fails the check of seals, and it alone."""
    tracking.log_metrics(ready.model.run_id, {"test_f1": 1.0})
    done = promote(ready.model.reference, read_policy(DEFAULT))
    assert [f for f, state in states(done).items() if state == "failed"] == ["broken_seals"]


def test_a_figure_edited_in_mlflow_neither_passes_nor_is_read(
    fresh_model: str, tmp_path: Path
) -> None:
    """The gate reads what was signed: an evaluation's or a report's better figure is refused.

    The refusal names run, figure and both values.
    """
    version = made_up.register(tmp_path / "1", name=fresh_model)
    made_up.on_device(version, "belt", energy_j_per_24_h=1e6)
    made_up.on_data_set(version, nsrdb_beat_specificity=0.5)
    before = read_version(version.model.reference)
    report, evaluation = before.reports[0].request_id, before.evaluations[0].request_id
    tracking.log_metrics(evaluation, {"nsrdb_beat_specificity": 0.99})
    tracking.log_metrics(report, {"energy_j_per_24_h": 1.0})
    done = promote(version.model.reference, read_policy(DEFAULT))
    failed = {one.figure: one for one in done.verdicts if one.state == "failed"}
    assert failed.keys() == {
        "broken_seals", "nsrdb_beat_specificity", "device_energy_j_per_24_h"
    }  # fmt: skip
    assert failed["nsrdb_beat_specificity"].found == "0.5"
    for run_id, name, now, signed in (
        (evaluation, "nsrdb_beat_specificity", 0.99, 0.5),
        (report, "energy_j_per_24_h", 1.0, 1e6),
    ):
        told = f"run {run_id}: metric {name} found {now}; sealed was {signed}"
        assert told in failed["broken_seals"].note


def test_an_edited_decision_is_found(ready: VersionRecord, tmp_path: Path) -> None:
    """Approver and reason of a promotion, its tags and a card are held to the ledger's digests."""
    promote(ready.model.reference, read_policy(DEFAULT), approver="Dr. Who")
    log_card(ready, [Words("A card.")])
    name, run_id = ready.model.name, ready.model.run_id

    def edited() -> list[tuple[str, str]]:
        """What differs of the links that the registry keeps; there is no data set's code here."""
        found = verify(ready.model.reference, trusted_keys())
        return [(f.name, f.told) for f in found if f.state == MISMATCH and f.link in work.SEALED]

    assert edited() == []
    result = next(e.details["result"] for e in ledger.entries(name) if e.action == "approved")
    file = fetch_run_file(run_id, result, None, tmp_path / "edited")
    file.write_text(file.read_text().replace("Dr. Who", "Dr. Kim"))
    tracking.log_file(run_id, file, "promotions")
    assert [told[0] for told in edited()] == [result]
    tracking.tag_version(ready.model, {"holter.champion.by": "Dr. Kim"})
    tracking.tag_version(ready.model, {"holter.stable-ward.by": "Dr. Kim"})
    log_card(replace(ready, chain_sha256=""), [Words("A card.")])  # as it was: no further entry
    page = tmp_path / "card" / "card.html"
    write_bytes(page, b"The best of all.")
    tracking.log_file(run_id, page, "card")
    assert dict(edited()[1:]) == {
        "card/card.html": edited()[1][1],
        "tag holter.champion.by": "found Dr. Kim; sealed was Dr. Who",
        "tag holter.stable-ward.by": "found Dr. Kim; sealed was nothing",
    }
    assert [e.action for e in ledger.entries(name)].count("card") == 1


def test_a_figure_that_nobody_signed_is_missing(fresh_model: str, tmp_path: Path) -> None:
    """An evaluation of before figures were signed gives none: it is to be made again."""
    version = made_up.register(tmp_path / "1", name=fresh_model)
    made_up.on_data_set_unsigned(version, nsrdb_beat_specificity=0.97)
    mine = read_version(version.model.reference)
    assert [dict(one.metrics) for one in mine.evaluations] == [{}]
    (told,) = mine.unsigned
    assert "its figures were signed by nobody: evaluate again" in told
    figure = work.all_figures(mine, None, read_policy(DEFAULT))["nsrdb_beat_specificity"]
    assert (figure.value, "holter evaluate" in figure.note) == (None, True)


def test_a_stranger_adds_no_figure(
    fresh_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation that a key nobody trusts entered is not among a version's, nor an approval."""
    version = made_up.register(tmp_path / "1", name=fresh_model)
    with monkeypatch.context() as other:
        other.setenv("HOLTER_HOME", str(tmp_path / "other"))
        made_up.on_data_set(version, nsrdb_beat_specificity=0.97)
    mine = read_version(version.model.reference)
    assert mine.evaluations == ()
    assert [entry.action for entry in mine.entries] == ["registered", "alias"]


def test_history_takes_back_what_was_rolled_back() -> None:
    """After a roll-back the alias's past is what it was before the promotion."""

    def moved(version: int | None, **details: str) -> ledger.Entry:
        marks = {"alias": "champion", **details}
        return ledger.Entry(1, "", "", ledger.ALIAS, "m", version, "r", marks, "")

    back = moved(1, **{ROLLED_BACK: "2"})
    past = [moved(1), moved(2), back, moved(3), moved(3, alias="x"), moved(None)]
    assert work.history(past, "champion") == [1, 3]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_no_number_never_passes(value: float | None) -> None:
    """A figure that is missing, NaN or infinite is not within any bounds."""
    check = Check("t", "f", float("-inf"), float("inf"))
    assert judge([check], {"f": Figure(value)})[0].state == "missing"
    assert judge([check], {})[0].state == "missing"
    assert judge([check], {"f": Figure(1.0)})[0].state == "passed"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('use = "research"\n', "", "missing \\['use'\\]"),
        ("least = 0.85", "lesat = 0.85", "no bound"),
        ("least = 0.85", 'least = "0.85"', "least is '0.85'"),
        ("least = 0.85", f"least = {'9' * 400}", "found inf; expected finite bounds"),
        ('figure = "test_f1_low"', 'figure = "test_f1_low"\nwhy = "x"', "unknown \\['why'\\]"),
        ("[licences]", "[licences", "cannot be read"),
        ('"internal" = ["research"]', '"internal" = "research"', "expected a list of uses"),
    ],
)
def test_a_bad_policy_is_refused(old: str, new: str, told: str, tmp_path: Path) -> None:
    """An unknown, missing or mistyped key is named, with the file."""
    text = DEFAULT.read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(PolicyError, match=f"mine.toml.*{told}"):
        read_policy(path)
    with pytest.raises(PolicyError, match=r"nowhere\.toml: cannot be read"):
        read_policy(tmp_path / "nowhere.toml")


def test_bounds_are_told_in_words() -> None:
    """A check says what it asks for."""
    assert Check("t", "f", 0.5, 1.0).bounds_text == "at least 0.5, at most 1"
    assert isinstance(read_policy(DEFAULT), Policy)
