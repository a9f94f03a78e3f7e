"""From a look in a browser to a model: what is corrected is learnt from, and told everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.ingest.simulate import write_simulated
from flows.services.servers import Servers
from storage.files import home
from tests.flows.cli.test_answers import answer
from tests.review import CHROMIUM, Served, chromium, visits, write_keys
from tests.services import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
    pytest.mark.filterwarnings("default"),  # MLflow's own, at import
]
TRAINING = ("--model", "rhythm_tiny", "--no-signal", "--epochs", "1", "--runtime", "litert-float32")
RECORD = "/record/simulated.annotations/sim001"


@contextmanager
def reviewer() -> Iterator[Callable[..., Any]]:
    """What opens pages of this state folder in a browser, as a reviewer."""
    server = Served(home(), free_port())
    server.start()
    try:
        with chromium() as browser, visits(server, browser) as visit:
            yield visit
    finally:
        server.kill()


def test_what_is_corrected_is_learnt_from(holter_servers: Servers, tmp_path: Path) -> None:
    """Decided by a key in the page: one table is new, figures move, lineage says who decided."""
    assert holter_servers.prefect_api
    write_keys(home())
    path = write_simulated(tmp_path, 6, 0.1, 3)
    text = path.read_text().replace('rhythm = "atr"', 'rhythm = ["review", "atr"]')
    path.write_text(text)
    words = (str(path), "--data", str(tmp_path), *TRAINING)
    first = answer("train", *words)
    looked_at = f"{first['model']}/{first['version']}"
    scored = ("--on", str(path), "--data", str(tmp_path), "--no-signal")
    before = answer("evaluate", looked_at, *scored)["figures"]["simulated"]

    with reviewer() as visit:
        page = visit(f"{RECORD}?passage=0-359")
        assert "AF by annotation 0.0 %" not in page.inner_text("#status")
        page.keyboard.press("r")
        page.wait_for_selector("#decisions li")
    scoring = answer("evaluate", looked_at, *scored)
    (signed,) = answer("lineage", "--record", "simulated/sim001")["decisions"]
    second = answer("train", *words)
    (ingest,) = scoring["ingests"]
    assert (ingest["records"], ingest["kept_count"]) == (6, 5)
    assert "1 decision about 1 record" in ingest["review"]
    after = scoring["figures"]["simulated"]
    assert after["af_beats"] < before["af_beats"]
    assert after["beat_f1"] != before["beat_f1"]
    name = f"{second['model']}/{second['version']}"
    assert "1 decision about 1 record" in str(answer("lineage", name)["chain"]) + str(
        answer("compare", looked_at, name)
    )
    (row,) = answer("lineage", "--record", "simulated/sim001")["decisions"]
    assert row == signed
    assert (row["verdict"], row["reviewer"], row["entry"]) == ("reject", "ada", 1)
    with reviewer() as visit:
        assert "AF by annotation 0.0 %" in visit(RECORD).inner_text("#status")
