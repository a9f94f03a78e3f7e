"""What `holter-edge live` tells of a beat, and what it says at a bedside when it cannot tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.cli import parser
from edge_agent.live import Bedside, Decision, Signal, decisions, run
from flows.ingest.simulate import write_simulated
from storage.errors import ModelError
from storage.recordings.records import open_alone, read_lead
from storage.registry.boxed import boxed_release
from tasks.analysis.analyse import analyse
from tasks.scores.rule import log_odds_of, rule_of
from tests.certain import CERTAINTY


@pytest.fixture(scope="module")
def causal() -> tuple[Path, dict[str, Any]]:
    """The causal release of the box, and its manifest with a margin."""
    folder, manifest = boxed_release("rhythm_causal")
    return folder, {**manifest, "certainty": {**CERTAINTY, "around": 1}}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated quarter of an hour with AF."""
    folder = tmp_path_factory.mktemp("record")
    write_simulated(folder, 2, 0.25, seed=6)
    return folder / "sim001"


def beats(events: Iterator[Decision | Signal]) -> list[Decision]:
    return [event for event in events if isinstance(event, Decision)]


def test_a_stream_has_the_calibrated_answers_of_the_whole_record(
    causal: tuple[Path, dict[str, Any]], record: Path
) -> None:
    """P(AF) by the beats so far, as `judge` has it; told where that is far and on one side."""
    release, manifest = causal
    expected = analyse(record, release, manifest)
    live = beats(decisions(iter([read_lead(open_alone(record))]), 250, release, manifest))
    p_af = np.array([event.p_af for event in live])
    np.testing.assert_allclose(p_af, expected.probability, atol=1e-4)
    rule = rule_of(manifest)
    middle = log_odds_of(rule.calibrated_threshold)
    lead = np.array([log_odds_of(p) for p in p_af.tolist()]) - middle
    af = np.array([event.af for event in live])
    told = np.array([event.sure for event in live])
    assert np.array_equal(told, (abs(lead) >= rule.margin) & ((lead >= 0) == af))
    assert 0 < told.mean() < 1
    near = abs(abs(lead) - rule.margin) < 1e-2
    assert not (told & ~expected.judgement.sure & ~near & (expected.beats.quality == 0)).any()


def test_a_stated_share_moves_every_answer(
    causal: tuple[Path, dict[str, Any]], record: Path
) -> None:
    release, manifest = causal
    signal = read_lead(open_alone(record))[: 60 * 250]
    usual, rare = (
        np.array([e.p_af for e in beats(decisions(iter([signal]), 250, release, manifest, share))])
        for share in (None, 0.01)
    )
    assert (rare < usual).all()


def test_a_margin_over_beats_to_come_is_refused(causal: tuple[Path, dict[str, Any]]) -> None:
    release, manifest = causal
    with pytest.raises(ModelError, match="margin over 31 beats around; live needs 1"):
        list(decisions(iter([]), 250, release, {**manifest, "certainty": CERTAINTY}))


def story(*parts: tuple[int, bool, bool]) -> list[Decision]:
    """A beat a second: how many, whether AF, and whether told."""
    out: list[Decision] = []
    for count, af, told in parts:
        for _ in range(count):
            at = len(out)
            out.append(Decision(250 * at, float(at), 0.5, af, 1.0, not at, told))
    return out


def test_a_beat_that_cannot_be_told_begins_and_ends_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """AF goes on through them; ten seconds of them in a row are said, and what was told last."""
    words: list[str] = []
    parts = [(5, False, False), (3, False, True), (4, True, False), (5, True, True)]
    parts += [(15, False, False), (5, True, True), (3, False, True)]
    run(iter(story(*parts)), words.append)
    assert words == [
        "12.0 s: AF begins",
        "27.0 s: cannot tell; last told: AF",
        "32.0 s: told again: AF",
        "37.0 s: AF ends",
        "40 beats, 14 of them AF; 24 cannot be told",
    ]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["told"] for line in lines].count(False) == 24


def test_nothing_is_told_last_before_a_beat_was_told_or_since_the_signal_went() -> None:
    bedside = Bedside()
    said = [bedside.beat(event) for event in story((11, True, False))]
    assert said == [*[""] * 10, "cannot tell; last told: nothing yet"]
    bedside.beat(Decision(3000, 12.0, 0.9, True, 1.0))
    assert bedside.signal(Signal(13.0, False)) == "signal lost; AF ends with it"
    untold = [Decision(0, float(at), 0.5, True, 1.0, at == 20, False) for at in range(20, 31)]
    assert bedside.signal(Signal(19.0, True)) == "signal back"
    assert [bedside.beat(event) for event in untold][-1] == "cannot tell; last told: nothing yet"


def test_a_share_beyond_its_bound_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["live", "--fs", "250"], ["analyse", "x"]):
        for value in ("0", "1", "nan", "-0.1"):
            with pytest.raises(SystemExit):
                parser().parse_args([*command, "--af-share", value])
            assert "af_share: found" in capsys.readouterr().err
