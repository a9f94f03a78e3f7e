"""Change control: a plan is proposed, adopted and held, and its document says what is recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.cli.app import app, plainly
from flows.decide.promote import promote
from flows.reports import change_plan, pccp
from storage.audit import ledger
from storage.audit.versions import VersionRecord
from storage.errors import PolicyError
from storage.policies.plan import parse_plan
from storage.registry.policy import DEFAULT, read_policy
from tasks.scores.promotion import FAILED, INAPPLICABLE, PASSED
from tests import made_up
from tests.answers import held
from tests.emptied import Emptied

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import
MODEL = "holter-planned"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the state folder lies whose key seals the versions."""
    return tmp_path_factory.mktemp("planned")


@pytest.fixture(scope="module")
def versions(empty_mlflow: Emptied, place: Path) -> tuple[VersionRecord, ...]:
    """Two versions of a model on one server; the second has another threshold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLTER_HOME", str(place / "home"))
        patch.setenv("MLFLOW_TRACKING_URI", empty_mlflow.address)
        return tuple(
            made_up.register(place / str(number), name=MODEL, threshold=threshold)
            for number, threshold in enumerate((made_up.THRESHOLD, 0.51))
        )


@pytest.fixture
def home(
    versions: tuple[VersionRecord, ...],
    empty_mlflow: Emptied,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A working folder beside the server and the state folder of the versions."""
    monkeypatch.setenv("HOLTER_HOME", str(place / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_mlflow.address)
    monkeypatch.chdir(tmp_path)
    assert versions
    return tmp_path


def plan_from(text: str) -> change_plan.PlanInForce:
    return change_plan.PlanInForce(parse_plan(text, "here"), text, read_policy(DEFAULT).sha256)


def failures(text: str, *arguments: Any) -> set[str]:
    """The rules of a plan that a version breaks, by name."""
    rows = change_plan.verdicts(plan_from(text), *arguments)
    return {
        verdict.title.removesuffix(" inside the plan")
        for verdict in rows
        if verdict.state == FAILED
    }


def test_what_is_proposed_allows_the_version_and_nothing_else(
    home: Path, versions: tuple[VersionRecord, ...]
) -> None:
    """Each other network, data set, input, setting and rule of decision is refused by its name."""
    assert home.is_dir()
    first, second = versions
    text = change_plan.proposal(f"{MODEL}")  # of the newest: none is champion
    assert failures(text, second, None) == set()
    assert failures(text, first, second) == {"threshold", "what the plan does not name"}
    policy = read_policy(DEFAULT)
    assert failures(text, second, None, policy.sha256) == set()
    assert failures(text, second, None, "0" * 64) == {"promotion policy"}
    other = replace(second.manifests[0], dataset="ward7")
    unread = replace(second.manifests[0], signal=False)
    for name, version in {
        "network": replace(
            second, model=replace(second.model, tags={**second.model.tags, "holter.network": "x"})
        ),
        "model": replace(second, model=replace(second.model, name="holter-x")),
        "data sets": replace(second, manifests=(*second.manifests, other)),
        "signals read": replace(second, manifests=(unread,)),
        "epochs": replace(second, params={**second.params, "epochs": "4"}),
        "seed": replace(second, params={**second.params, "seed": "none"}),
    }.items():
        assert name in failures(text, version, None), name
    balanced = replace(second, params={**second.params, "balance": "patient"})
    assert failures(text, balanced, second) == {"what the plan does not name"}
    withdrawn = replace(second, params={**second.params, "split_rule": "sealed_sides/1"})
    assert failures(text, withdrawn, second) == set()


def test_the_gate_holds_what_was_adopted(
    home: Path, versions: tuple[VersionRecord, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused by name, overridden with a reason, told in the document; other aliases are free."""
    first, _ = versions
    with pytest.raises(PolicyError, match="found no plan of change control"):
        change_plan.plan_and_policy(MODEL)
    done = plainly(lambda: app(["pccp", MODEL, "--propose", "plan.toml"], standalone_mode=False))
    assert done == 0
    words = ["pccp", MODEL, "--adopt", "plan.toml", "--by", "A. Reviewer", "--format", "json"]
    capsys.readouterr()
    app(words, standalone_mode=False)
    value = held(capsys.readouterr().out, "pccp")
    assert value["adopted"]
    assert [bool(row["outside"]) for row in value["evidence"]] == [True, False]
    policy = read_policy(DEFAULT)
    assert promote(first.model.reference, policy, "canary", override=True, reason="x").verdicts
    result = promote(first.model.reference, policy)
    (verdict,) = (v for v in result.verdicts if v.title == "threshold inside the plan")
    assert (result.decision, verdict.state) == ("refused", FAILED)
    rest = [v.state for v in result.verdicts if v.title == "what the plan does not name inside"]
    assert rest in ([], [INAPPLICABLE])
    assert any(v.state == PASSED and v.figure == "plan: network" for v in result.verdicts)
    promote(first.model.reference, policy, override=True, reason="a device waits")
    document = pccp.document(*change_plan.plan_and_policy(MODEL))
    assert document.evidence[0].decisions[-1].startswith("overridden @champion by ")
    assert "threshold inside the plan" in document.evidence[0].outside[0]
    entry = next(e for e in ledger.entries(MODEL) if e.action == "planned")
    assert entry.who == "A. Reviewer"
    app(["pccp", MODEL, "--out", "plan.html"], standalone_mode=False)
    page = (home / "plan.html").read_text()
    assert "Manufacturer&#39;s to write: intended use" in page
    for section in ("Description of modifications", "Modification protocol", "Impact assessment"):
        assert section in page


def test_a_sentence_of_the_manufacturers_is_theirs(home: Path) -> None:
    """What the plan's file says is taken as it is; nothing is made up where it is silent."""
    assert home.is_dir()
    text = change_plan.proposal(MODEL).replace('intended_use = ""', 'intended_use = "Screening."')
    blocks = pccp.document(plan_from(text), read_policy(DEFAULT)).blocks
    texts = [str(getattr(block, "text", "")) for block in blocks]
    assert "Screening." in texts
    marks = [text for text in texts if text.startswith(pccp.TO_WRITE)]
    assert not any("intended use" in text for text in marks)
    assert any("risks of" in text for text in marks)


def test_a_plan_of_another_model_is_refused(home: Path) -> None:
    """By both names, and before anything is signed."""
    text = change_plan.proposal(MODEL).replace(MODEL, "holter-other")
    (home / "other.toml").write_text(text)
    with pytest.raises(PolicyError, match=f"found model 'holter-other'; expected '{MODEL}'"):
        app(["pccp", MODEL, "--adopt", "other.toml"], standalone_mode=False)
