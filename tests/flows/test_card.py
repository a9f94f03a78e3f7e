"""The model card: what is recorded is on it, what is not is said to be missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.decide.promote import promote, rollback
from flows.reports.card import card, log_card, title
from flows.reports.card_sections import SECTIONS
from flows.reports.shown import write
from storage.audit import ledger
from storage.audit.versions import VersionRecord, read_version
from storage.errors import DigestMismatch
from storage.registry import tracking
from storage.registry.client import call
from storage.registry.policy import DEFAULT, read_policy
from tasks.pages.checklists import CHECKLISTS
from tasks.pages.document import Block, Heading, Picture, Table, Words
from tests import made_up

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import


def sections(blocks: list[Block]) -> dict[str, list[Block]]:
    """Blocks by the heading before them."""
    found: dict[str, list[Block]] = {}
    name = ""
    for block in blocks:
        if isinstance(block, Heading):
            name = block.text
        if name:  # what comes before is the answer
            found.setdefault(name, []).append(block)
    return {name: mine[1:] for name, mine in found.items()}


def filled(blocks: list[Block], checklist: str) -> dict[str, str]:
    (table,) = (b for b in sections(blocks)[checklist] if isinstance(b, Table))
    return {row[0]: row[2] for row in table.rows}


def limits(blocks: list[Block]) -> str:
    return str(sections(blocks)["Limits"])


@pytest.fixture
def version(fresh_model: str, tmp_path: Path) -> VersionRecord:
    return made_up.register(tmp_path / "1", name=fresh_model)


def test_what_is_not_recorded_is_said(version: VersionRecord) -> None:
    """No use, device, other data or age is recorded: each is said, and fills no item."""
    found = sections(card(version))
    assert list(found)[: len(SECTIONS)] == list(SECTIONS)
    for name in ("Declared use", "Demographics", "Other data sets", "Devices"):
        assert found[name] == [Words("Not recorded.")], name
    tripod = filled(card(version), "TRIPOD+AI")
    assert tripod["20b"] == tripod["16"] == tripod["17"] == "not filled"
    assert tripod["12d"] == "Figures"
    assert filled(card(version), "GMLP")["6"] == "not filled"
    for said in ("Fewer than 20", "Age, sex", "No device", "Nobody has approved"):
        assert said in limits(card(version))
    assert "simulated" not in limits(card(version))


def test_what_comes_later_is_on_it(version: VersionRecord) -> None:
    """Evaluation, device and approval fill their sections, and the limits that named them go."""
    made_up.on_device(version, "belt", energy_j_per_24_h=900.0)
    metrics = {"accuracy": 0.97, "accuracy_low": 0.96, "accuracy_high": 0.98, "specificity": 0.97}
    made_up.on_data_set(version, **{f"nsrdb_beat_{k}": v for k, v in metrics.items()})
    promote(version.model.reference, read_policy(DEFAULT), approver="Dr. Who")
    blocks = card(read_version(version.model.reference))
    found = sections(blocks)
    assert "Dr. Who" in str(found["Declared use"])
    assert "0.9700 (0.9600 to 0.9800)" in str(found["Other data sets"])
    assert "belt" in str(found["Devices"])
    assert filled(blocks, "TRIPOD+AI")["16"] == "Other data sets"
    for gone in ("No device", "Nobody has approved", "no data set but its own"):
        assert gone not in limits(blocks)


def test_a_card_has_signed_figures_alone(version: VersionRecord) -> None:
    """Where MLflow has other figures than were signed there is no card: they are named.

    An evaluation whose figures nobody signed is a limit.
    """
    made_up.on_data_set_unsigned(version, nsrdb_beat_accuracy=0.97)
    blocks = card(read_version(version.model.reference))
    assert "nobody signed the figures" in limits(blocks)
    assert sections(blocks)["Other data sets"] == [Words("Not recorded.")]
    made_up.on_data_set(version, nsrdb_beat_accuracy=0.97)
    (_, run_id) = (
        one.request_id for one in read_version(version.model.reference).evaluations[::-1]
    )
    tracking.log_metrics(run_id, {"nsrdb_beat_accuracy": 0.99})
    told = f"run {run_id}: metric nsrdb_beat_accuracy: found 0.99; sealed was 0.97"
    with pytest.raises(DigestMismatch, match=told):
        card(read_version(version.model.reference))


def test_limits_follow_from_the_record(fresh_model: str, tmp_path: Path) -> None:
    """Simulated data and beats dealt singly are told as limits."""
    version = made_up.register(
        tmp_path / "1",
        name=fresh_model,
        paradigm="intrapatient",
        data=made_up.manifest(simulated=True),
    )
    told = limits(card(version))
    assert "simulated" in told
    assert "in training too" in told


def test_what_mlflow_has_deleted_is_told(version: VersionRecord) -> None:
    """A training's run, or its experiment, that is deleted in MLflow is a limit, by its name."""
    assert "deleted" not in limits(card(version))
    run_id = version.model.run_id
    call("POST", "runs/delete", run_id=run_id)
    blocks = card(read_version(version.model.reference))
    assert "deleted in MLflow" in limits(blocks)
    assert f"run {run_id} is deleted in MLflow" in str(sections(blocks)["Provenance"])


def test_what_is_simulated_and_rolled_back_is_told(fresh_model: str, tmp_path: Path) -> None:
    """Records that a training simulates, and a roll-back beside the approval before it."""
    versions = [
        made_up.register(tmp_path / str(n), name=fresh_model, simulated=16) for n in range(2)
    ]
    for one in versions:
        ledger.move_alias(fresh_model, one.model.version, "champion", "good")
    rollback(fresh_model, reason="it missed AF")
    for one in versions:
        blocks = card(read_version(one.model.reference))
        assert "16 simulated records" in str(sections(blocks)["Training"])
        assert "simulated records beside the recordings" in limits(blocks)
        assert "roll-back of @champion from version 2" in str(sections(blocks)["Declared use"])


def test_pages_need_nothing_else(version: VersionRecord, tmp_path: Path) -> None:
    """The page holds its pictures and loads nothing, Markdown has them beside; both are logged."""
    blocks = card(version)
    assert any(isinstance(block, Picture) for block in blocks)
    for form in (".html", ".md"):
        write(title(version), blocks, tmp_path / f"card{form}")
    page = (tmp_path / "card.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert (tmp_path / "figures" / "mistakes.png").read_bytes().startswith(b"\x89PNG")
    log_card(version, blocks)
    files = call("GET", "artifacts/list", run_id=version.model.run_id, path="card")["files"]
    assert {one["path"] for one in files} >= {"card/card.html", "card/card.md"}


def test_every_item_names_a_section_there_is() -> None:
    """No item of a checklist counts as filled by a section that no card has."""
    for items in CHECKLISTS.values():
        assert len({item.number for item in items}) == len(items)
        assert {item.section for item in items} <= {"", *SECTIONS}
