"""Labels that come back: what was decided shapes one table, is signed, and is told everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.answer.contents import ingest_of
from flows.cli.app import app
from flows.ingest.flow import IngestResult, ingest
from flows.ingest.simulate import write_simulated
from flows.reports import card_sections, compare
from flows.services.servers import Servers
from storage.audit import ledger
from storage.audit.lineage import read_lineage
from storage.audit.reviews import sign_labels
from storage.audit.verify import MATCH, MISMATCH, verify
from storage.errors import DecisionError
from storage.files import sha256_folder
from storage.labels.decisions import append_decision, log_path
from storage.registry.signing import trusted_keys
from storage.tables.beats import BeatTable, read_beats
from tasks.pages.document import lines
from tasks.pages.lineage_page import outline
from tests.deciding import decision
from tests.flows.cli.test_answers import answer
from tests.sealed import made_up_version, sides_of

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import
VERSION = "holter-reviewed/1"
WORDS = "2 episodes corrected by 2 reviewers (3 decisions about 1 record)"
#: A passage that both decide about, and one of which Ben cannot tell.
BOTH, UNTOLD = (1_000, 9_000), (20_000, 21_000)


@dataclass(frozen=True)
class Reviewed:
    """A data set before and after three decisions about sim001, and a version of the latter."""

    toml: str
    records: Path
    before: IngestResult
    after: IngestResult
    tables: tuple[BeatTable, BeatTable]
    sources: str


@pytest.fixture(scope="module")
def reviewed(holter_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Reviewed:
    assert holter_servers.prefect_api
    records = tmp_path_factory.mktemp("records")
    path = write_simulated(records, 4, 0.05, 3)
    text = path.read_text().replace('rhythm = "atr"', 'rhythm = ["review", "atr"]')
    path.write_text(text)
    sources, toml = sha256_folder(records), str(path)
    before = ingest(toml, records)
    table = read_beats(before.path.parent / "sim001.parquet")
    for row in (
        decision(*BOTH, "AFIB", remark="P waves? <b>none</b>"),
        decision(*BOTH, "AFIB", reviewer="Ben"),
        decision(*UNTOLD, "", reviewer="Ben"),
    ):
        assert append_decision(row)
    after = ingest(toml, records)
    sign_labels([after.manifest])
    work = tmp_path_factory.mktemp("work")
    assert isinstance(after.path, Path)
    made_up_version("holter-reviewed", work, after.path, after.manifest, sides_of(after.manifest))
    tables = (table, read_beats(after.path.parent / "sim001.parquet"))
    return Reviewed(toml, records, before, after, tables, sources)


def test_one_table_is_new_and_no_other(reviewed: Reviewed) -> None:
    """After a decision its record's table is made again, the data set's digest is another one."""
    states = {outcome.record: outcome.state for outcome in reviewed.after.outcomes}
    assert states == {"sim000": "kept", "sim001": "built", "sim002": "kept", "sim003": "kept"}
    old, new = reviewed.before.manifest, reviewed.after.manifest
    differing = {a.record for a, b in zip(old.entries, new.entries, strict=True) if a != b}
    assert differing == {"sim001"}
    assert old.digest() != new.digest()
    assert new.entries[1].review == {"Anna": 1, "Ben": 2}
    assert (ingest_of(reviewed.before).review, ingest_of(reviewed.after).review) == ("", WORDS)
    assert sha256_folder(reviewed.records) == reviewed.sources  # the source is never touched


def test_labels_change_in_the_beats_concerned(reviewed: Reviewed) -> None:
    """Beats of a passage are as it was decided, those nobody can tell have no label."""
    before, after = reviewed.tables
    sample = after.sample
    both = (sample >= BOTH[0]) & (sample < BOTH[1])
    untold = (sample >= UNTOLD[0]) & (sample < UNTOLD[1])
    assert both.any()
    assert untold.any()
    expected = np.select([both, untold], [np.int8(1), np.int8(-1)], before.label)
    assert after.label.tolist() == expected.tolist()
    assert (before.label != after.label).any()
    assert before.waveform is not None
    assert after.waveform is not None
    assert np.array_equal(after.waveform, before.waveform, equal_nan=True)


def test_a_version_tells_who_shaped_its_labels(reviewed: Reviewed) -> None:
    """Lineage, card and comparison say how many episodes how many reviewers corrected."""
    history = read_lineage(VERSION, trusted_keys())
    tree = [text for _, text in lines(outline(history))]
    assert f"labels reviewed: {WORDS}" in tree
    assert "annotators: beats qrs, rhythm review, then atr" in tree
    old, new = reviewed.before.manifest, reviewed.after.manifest
    facts: Any = SimpleNamespace(version=SimpleNamespace(manifests=[new]))
    card: Any = card_sections.annotators(facts)
    assert card[0].rows == [("simulated", "qrs", "review, then atr", WORDS)]
    sides = sides_of(new)
    pair: Any = [SimpleNamespace(manifests=[m], split=sides) for m in (old, new)]
    blocks: Any = compare._data(*pair)
    *_, told, changes = blocks
    assert told.text == f"Labels reviewed: no decision of a reviewer before, {WORDS} after."
    assert [row[0] for row in changes.rows] == ["simulated/sim001"]
    assert changes.rows[0][2].endswith(", decisions 0 -> 3")


@pytest.mark.usefixtures("reviewed")
def test_a_version_is_verified_with_its_decisions() -> None:
    """What was decided by then matches, later decisions are counted, and an edit is found."""
    key, path = trusted_keys(), log_path("simulated")
    name = "simulated: labels/simulated/decisions.jsonl#sim001"

    def state() -> tuple[str, str]:
        found = list(verify(VERSION, key))
        assert [f.name for f in found if f.state == MISMATCH and f.name != name] == []
        (own,) = (f for f in found if f.name == name)
        return own.state, own.told

    assert state() == (MATCH, "")
    data = path.read_bytes()
    try:
        append_decision(decision(40_000, 41_000, "N"))
        assert state() == (MATCH, "1 decisions since")
        path.write_bytes(data.replace(b"AFIB", b"AFLT", 1))
        assert state()[0] == MISMATCH
    finally:
        path.write_bytes(data)


def test_the_ledger_signs_decisions(reviewed: Reviewed) -> None:
    """An entry signs the log up to a line; another log is told, and nothing is added after it."""
    assert reviewed.after.manifest
    (entry,) = ledger.entries("labels/simulated")
    assert (entry.action, entry.details["decisions"], entry.details["reviewers"]) == (
        "reviewed",
        "3",
        "Anna, Ben",
    )
    value = answer("lineage", "--record", "simulated/sim001")
    assert {sight["model"] for sight in value["sights"]} == {"holter-reviewed"}
    rows = [(d["reviewer"], d["version"], d["rhythm"], d["entry"]) for d in value["decisions"]]
    assert rows == [
        ("Anna", "holter-x/1", "AFIB", 1),
        ("Ben", "holter-x/1", "AFIB", 1),
        ("Ben", "holter-x/1", "", 1),
    ]
    path = log_path("simulated")
    data = path.read_bytes()
    try:
        path.unlink()
        append_decision(decision(0, 1, "N", remark="another past"))
        with pytest.raises(DecisionError, match="entry 1 signs the log up to '3:"):
            sign_labels([reviewed.after.manifest])
        value = answer("labels", reviewed.toml, code=1)
        assert (value["signed_count"], len(value["faults"])) == (0, 1)
    finally:
        path.write_bytes(data)
    assert len(ledger.entries("labels/simulated")) == 1


def test_labels_are_told_and_written(reviewed: Reviewed, tmp_path: Path) -> None:
    """`holter labels` counts by reviewer, gives kappa, and writes anywhere but at the source."""
    value = answer("labels", reviewed.toml, "--export", str(tmp_path / "out"))
    assert (value["is_layer"], value["rule"], value["decisions"]) == (True, "agreement", 3)
    assert {r["name"]: r["decisions"] for r in value["reviewers"]} == {"Anna": 1, "Ben": 2}
    (pair,) = value["agreements"]
    assert (pair["episodes"], pair["kappa_time"], pair["disputes"]) == (1, None, [])
    assert (value["signed_count"], value["faults"], value["torn"]) == (3, [], [])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"decisions.parquet", "sim001.review"}
    shown = CliRunner().invoke(app, ["labels", reviewed.toml]).stdout
    assert "simulated: 3 decisions about 1 record by 2 reviewers." in shown
    assert "Signed in the ledger: 3 of 3." in shown
    told = CliRunner().invoke(app, ["lineage", "--record", "sim001"]).stdout
    assert "P waves? <b>none</b>" in told
    text = Path(reviewed.toml).read_text()
    assert "[source]\nsimulated = true" in text
    own = f'[source]\nfolder = "{reviewed.records}"'
    toml = tmp_path / "own.toml"
    toml.write_text(text.replace("[source]\nsimulated = true", own))
    done = CliRunner().invoke(app, ["labels", str(toml), "--export", str(reviewed.records / "x")])
    assert "which is never written" in str(done.exception)
    assert sha256_folder(reviewed.records) == reviewed.sources
