"""From a look to a model: a corrected passage is learnt from, and told wherever the model is."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.ingest.simulate import write_simulated
from flows.services.servers import Servers
from storage.labels.decisions import append_decision
from tests.deciding import decision
from tests.flows.cli.test_answers import answer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # MLflow's own, at import
TRAINING = ("--model", "rhythm_tiny", "--no-signal", "--epochs", "1", "--runtime", "litert-float32")
ALL_DAY = (0, 1_000_000)


def test_what_is_corrected_is_learnt_from(holter_servers: Servers, tmp_path: Path) -> None:
    """One record's table is new, the figures move, lineage and comparison say who decided."""
    assert holter_servers.prefect_api
    path = write_simulated(tmp_path, 6, 0.1, 3)
    text = path.read_text().replace('rhythm = "atr"', 'rhythm = ["review", "atr"]')
    path.write_text(text)
    words = (str(path), "--data", str(tmp_path), *TRAINING)
    first = answer("train", *words)
    looked_at = f"{first['model']}/{first['version']}"
    scored = ("--on", str(path), "--data", str(tmp_path), "--no-signal")
    before = answer("evaluate", looked_at, *scored)["figures"]["simulated"]

    assert append_decision(decision(*ALL_DAY, "N", verdict="reject", version=looked_at))

    second = answer("train", *words)
    (ingest,) = second["ingests"]
    assert (ingest["records"], ingest["kept_count"]) == (6, 5)
    assert "1 decision about 1 record" in ingest["review"]
    after = answer("evaluate", looked_at, *scored)["figures"]["simulated"]
    assert after["af_beats"] < before["af_beats"]
    assert after["beat_f1"] != before["beat_f1"]
    name = f"{second['model']}/{second['version']}"
    assert "1 decision about 1 record" in str(answer("lineage", name)["chain"]) + str(
        answer("compare", looked_at, name)
    )
    (row,) = answer("lineage", "--record", "simulated/sim001")["decisions"]
    assert (row["verdict"], row["version"], row["entry"]) == ("reject", looked_at, 1)
