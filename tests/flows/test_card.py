"""The model card: what is recorded is on it, what is not is said to be missing."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from flows.decide.promote import promote, rollback
from flows.reports import version_page
from flows.reports.card import card, log_card, title, told_tile
from flows.reports.card_sections import SECTIONS, Facts, inputs_and_outputs, other_data
from flows.reports.compare import answers_of, rule_facts
from flows.reports.release_card import limits_of
from flows.reports.shown import write
from flows.train.flow import rule_metrics
from storage.audit import ledger
from storage.audit.chain import resolve
from storage.audit.ledger_entry import CARD
from storage.audit.verify import MATCH, MISMATCH, OUT, verify
from storage.audit.versions import VersionRecord, read_version
from storage.errors import DigestMismatch
from storage.registry import tracking
from storage.registry.client import call
from storage.registry.policy import DEFAULT, read_policy
from storage.registry.signing import trusted_keys
from storage.registry.tags import CERTAINTY_TAG
from tasks.pages.checklists import CHECKLISTS
from tasks.pages.document import Block, Heading, Picture, Table, Words
from tasks.pages.markup import line
from tasks.scores.rule import Risk, Rule
from tests import made_up
from tests.certain import CERTAINTY

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
    assert not re.findall(r'src="(?!data:)|<link', page)
    links = re.findall(r'href="(?!#)([^"]*)"', page)
    assert links
    assert all(re.match(r"http://127\.0\.0\.1:\d+/record/", link) for link in links), links
    assert (tmp_path / "figures" / "mistakes.png").read_bytes().startswith(b"\x89PNG")
    log_card(version, blocks)
    files = call("GET", "artifacts/list", run_id=version.model.run_id, path="card")["files"]
    assert {one["path"] for one in files} >= {"card/card.html", "card/card.md"}


def test_every_item_names_a_section_there_is() -> None:
    """No item of a checklist counts as filled by a section that no card has."""
    for items in CHECKLISTS.values():
        assert len({item.number for item in items}) == len(items)
        assert {item.section for item in items} <= {"", *SECTIONS}


#: What somebody may write as a reason: markup of every kind that MLflow's page knows.
HOSTILE = (
    "See [here](javascript:alert(1)) http://evil.example www.evil.example <script>alert(1)</script>"
    " <img src=x onerror=alert(1)> | a | b\n# Heading @octocat `x` **b** _i_ ~~s~~ &amp; $x^2$"
)


def entry(number: int, action: str, reason: str, **details: str) -> ledger.Entry:
    """An entry about version 1, without a signature."""
    time = f"2026-11-{number:02d}T10:00:00+00:00"
    return ledger.Entry(number, time, HOSTILE, action, "m", 1, reason, details, "")


def test_nothing_from_outside_is_markup_on_a_version_s_page() -> None:
    """Reasons, names and outcomes are shown as they are: no link, cell, heading or element."""
    entries = [
        entry(1, "registered", "made up"),
        entry(2, "alias", HOSTILE, alias="champion"),
        entry(3, "refused", f"- {HOSTILE}", alias=HOSTILE),
    ]
    drift = ("r", 0, HOSTILE)
    facts = version_page.Facts(
        1, ["champion"], entries, {"Ledger": "#/ledger"}, {"r": "#/r"}, drift
    )
    text = version_page.page_text(facts, 5_000)
    page = MarkdownIt("commonmark", {"linkify": False}).enable("table").render(text)
    assert set(re.findall(r"<(\w+)", page)) == set(
        ["p", "strong", "a", "table", "thead", "tbody", "tr", "th", "td", "code"]
    )
    assert re.findall(r'href="([^"]*)"', page) == ["#/ledger", "#/r"]
    assert page.count("<td>") == 3 * 4
    shown = html.unescape(re.sub(r"<[^>]*>", "", page))
    assert shown.count(line(HOSTILE)[: version_page.MOST_REASON]) == 9
    # GitHub's mentions and bare addresses would become links in MLflow's Markdown
    assert not re.search(r"(^|\s)@|://|www\.|[<~`$]", text.replace("`holter verify`", ""))


def test_a_long_history_keeps_to_what_mlflow_takes() -> None:
    """The oldest decisions are left out, and counted."""
    entries = [entry(number, "refused", "no " * 60) for number in range(1, 29)]
    facts = version_page.Facts(1, [], entries, {}, {}, None)
    text = version_page.page_text(facts, 2_500)
    assert len(text) <= 2_500
    rows = re.findall(r"^\| 2026-11-(\d\d)", text, re.MULTILINE)
    assert rows[0] == "28"
    assert 0 < len(rows) < 10
    assert f"{28 - len(rows)} more in the ledger" in text
    assert version_page.page_text(facts, 10) == ""


def test_a_version_s_page_follows_each_decision(fresh_model: str, tmp_path: Path) -> None:
    """Champion, approver, when and why are there, of both versions; the seal holds meanwhile."""
    first = made_up.register(tmp_path / "first", name=fresh_model)
    made_up.on_device(first, "belt", energy_j_per_24_h=900.0)
    made_up.on_data_set(first, nsrdb_beat_specificity=0.97)
    reference, policy = first.model.reference, read_policy(DEFAULT)
    assert "report of device belt" in resolve(reference).description
    promote(reference, policy, approver="Dr. Who", override=True, reason="it is better")
    text = resolve(reference).description
    assert re.match(
        r"\*\*Champion\*\* since [-\d: ]+ UTC, moved here by Dr. Who: it is better", text
    )
    assert text.endswith("made up")
    for link in ("Training", "Lineage", "Ledger", "evaluated", "registered"):
        assert re.search(
            rf"\[{link}\]\(#/experiments/\d+/runs/[0-9a-f]{{32}}[^)]*workflowType", text
        )
    (file,) = call("GET", "artifacts/list", run_id=first.model.run_id, path="lineage")["files"]
    assert file["path"] == "lineage/lineage.html"
    second = made_up.register(tmp_path / "second", name=fresh_model)
    ledger.append(fresh_model, 2, CARD, "model card")  # as a training does, before its page
    version_page.renew_page(fresh_model, 2)
    assert "[Lineage](" in resolve(second.model.reference).description
    promote(second.model.reference, policy, override=True, reason="newer")
    assert "**Champion**" not in resolve(reference).description
    assert "**Champion**" in resolve(second.model.reference).description
    rollback(fresh_model, reason="it was worse")
    text = resolve(reference).description
    assert "rolled back to this one" in text
    assert text.count("[holter]: #") == 1
    assert "it was worse" in resolve(second.model.reference).description
    assert read_version(reference).description == "made up"

    def found() -> tuple[str, str]:
        (one,) = [f for f in verify(reference, trusted_keys()) if f.name == "description"]
        return one.state, one.told

    assert found() == (MATCH, "")
    tracking.describe_version(first.model, text.replace("Dr. Who", "Dr. No"))
    assert found()[0] == MISMATCH
    version_page.renew_or_tell(fresh_model, 1)  # an edit is not covered up
    assert "Dr. No" in resolve(reference).description
    tracking.describe_version(first.model, text)
    ledger.append(fresh_model, 1, "noted", "a decision that no page tells")
    assert found()[0] == OUT
    version_page.renew_page(fresh_model, 1)
    assert found() == (MATCH, "")


def test_a_margin_is_on_the_card_and_in_a_comparison(version: VersionRecord) -> None:
    """Its limits, its risk with patients and bound; what evaluations told, beside how rightly."""
    made_up.on_data_set(
        version, nsrdb_beat_accuracy=0.97, nsrdb_coverage=0.91, nsrdb_sure_accuracy=0.992
    )
    seen = read_version(version.model.reference)
    plain = Facts(seen, *answers_of(seen.model), pd.DataFrame())
    certain = {**seen.model.tags, CERTAINTY_TAG: json.dumps(CERTAINTY)}
    model = replace(seen.model, tags=certain)
    facts = replace(plain, version=replace(seen, model=model))
    said = str(inputs_and_outputs(facts))
    for words in ("31 beats around lies between", "In 56 patients", "2.25 % at most", "45 % of"):
        assert words in said
        assert words not in str(inputs_and_outputs(plain))
    (tile,) = told_tile(facts)
    assert (tile.value, tile.note) == ("95 %", "0.5 % wrongly, 2.25 % at most expected")
    assert told_tile(plain) == []
    (table,) = other_data(facts)
    assert isinstance(table, Table)
    assert table.columns[-2:] == ("Share of beats told", "Beat accuracy where told")
    assert table.rows[0][-2:] == ("0.9100", "0.9920")
    before, after = rule_facts(seen.model), rule_facts(model)
    assert [name for name in before if before[name] == after[name]] == []
    assert before["cannot tell"] == "never"


def test_the_limits_of_a_release_are_those_that_it_has() -> None:
    """One that is calibrated by length says so of strips; one that is not is not for them."""
    plain, certain = (
        limits_of({"threshold": 0.5, "certainty": certainty}) for certainty in ({}, CERTAINTY)
    )
    assert any("It is not for strips of seconds" in text for text in plain)
    assert any("calibrated for the few beats" in text for text in certain)
    assert any("leave them untold" in text for text in certain)
    assert "{" not in "".join([*plain, *certain])


def test_a_risk_without_a_bound_is_logged_without_it() -> None:
    """The usual margin has none; MLflow takes numbers alone."""
    figures = rule_metrics(Rule(0.5, risk=Risk(0.0, 0.01, 0.9, 4, None)))
    assert figures["risk_wrong"] == 0.01
    assert "risk_bound" not in figures
