"""A state folder that an earlier commit made works: read, checked, decided on, trained on top."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.services.servers import MLFLOW, servers
from storage.audit import ledger
from storage.audit.chain import SIDES
from storage.audit.findings import MISMATCH, Finding
from storage.audit.provenance import has_commit
from storage.audit.verify import verify
from storage.registry.signing import trusted_keys
from storage.tables.beats_manifest import manifest_from, manifest_places, read_manifest
from tests.conftest import ROOT, state_folder
from tests.emptied import Databases, Emptied

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # two trainings: a busy machine takes minutes for each
    pytest.mark.filterwarnings("default"),  # MLflow's own, at import
]

#: The commit that the issue of upgrades names: its modules lay side by side.
EARLIER = "f5676ad"
MODEL = "holter-squeeze"
#: What its users do: simulated records, an ingest, a training, in its own code.
MAKE = """
import sys
from pathlib import Path

import flows
from flows.servers import servers
from flows.simulate import write_simulated
from flows.train import train

work, code = Path(sys.argv[1]), Path(sys.argv[2])
assert Path(flows.__file__).is_relative_to(code), flows.__file__
toml = write_simulated(work / "records", 6, 0.03, 3)
with servers():
    train([str(toml)], [toml.parent], model="squeeze", epochs=1)
"""


@pytest.fixture(scope="module")
def records(
    databases: Databases, kept_prefect: Emptied, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The records of a state folder of that commit, whose servers are up all the while.

    The servers are of today's packages, which upgrade their databases themselves.
    """
    if not has_commit(EARLIER):
        pytest.skip(f"this checkout has no {EARLIER}: a shallow clone, or an unpacked archive")
    work = tmp_path_factory.mktemp("earlier")
    code, home = work / "code", work / "home"
    clone = ["git", "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(code)]
    checkout = ["git", "-C", str(code), "checkout", "--quiet", "--detach", EARLIER]
    for words in (clone, checkout):
        subprocess.run(words, check=True, capture_output=True, timeout=120)
    with state_folder(home) as patch:
        kept_prefect.empty()
        patch.setenv("PREFECT_API_URL", f"{kept_prefect.address}/api")
        databases.lay(home, MLFLOW)
        with servers():
            subprocess.run(
                [sys.executable, "-c", MAKE, str(work), str(code)],
                cwd=code,
                env={**os.environ, "PYTHONPATH": str(code)},
                check=True,
                timeout=600,
            )
            yield work / "records"


def holter(*words: str) -> None:
    """Run a command in this process, as `holter` does."""
    from flows.cli.app import app

    app(list(words), standalone_mode=False)


FIRST, SECOND = f"{MODEL}/1", f"{MODEL}/2"


def wrong(reference: str) -> list[Finding]:
    return [one for one in verify(reference, trusted_keys()) if one.state == MISMATCH]


@pytest.mark.usefixtures("records")
def test_its_versions_are_verified_shown_and_decided_on() -> None:
    """Every link of the chain holds; lineage and card are shown; an alias moves, by the ledger."""
    assert wrong(FIRST) == []
    links = {finding.link for finding in verify(FIRST, trusted_keys())}
    assert {"beat tables", "sources", "code", "model files"} <= links
    for words in (["lineage", FIRST], ["card", FIRST]):
        holter(*words)
    holter("promote", FIRST, "--override", "--reason", "to see that it can", "--by", "a test")
    assert ledger.mlflow_aliases(MODEL) == {"candidate": 1, "champion": 1}
    assert ledger.check(MODEL, trusted_keys()) == []


def test_its_training_is_done_again_on_top(records: Path) -> None:
    """Tables are kept or made anew; its training, by today's code, is the next version.

    Its settings are read from the sealed chain, as a rebuild does; its patients are dealt alike.
    The filters are of single precision since: where weights differ, the code's change is named.
    The first version still holds.
    """
    from flows.decide.rebuild import BIT_EQUAL, EQUAL_FIGURES, compare_versions, settings_of
    from flows.ingest.flow import ingest
    from flows.train.flow import train
    from storage.audit.versions import read_version

    toml = str(records / "dataset.toml")
    result = ingest(toml, records)
    assert not result.failed
    assert {outcome.state for outcome in result.outcomes} <= {"kept", "built"}
    first = read_version(FIRST)
    assert train(settings_of(first, [toml], [records])).version.reference == SECOND
    assert ledger.mlflow_aliases(MODEL)["candidate"] == 2
    assert ledger.check(MODEL, trusted_keys()) == []
    assert wrong(FIRST) == wrong(SECOND) == []
    again = read_version(SECOND)
    same = compare_versions(first, again)
    assert same.outcome in (BIT_EQUAL, EQUAL_FIGURES) or "commit" in dict(
        (name, value) for name, _, value in same.changes
    )
    assert {side: again.split[side]["subjects"] for side in SIDES} == {
        side: first.split[side]["subjects"] for side in SIDES
    }


def test_its_beat_tables_are_where_they_are_looked_for(records: Path) -> None:
    """The manifest of an earlier commit is read, and names the place that today's code looks in."""
    from storage.audit import chain
    from storage.places import beats_place

    entries = ledger.own_entries(MODEL)
    sealed = chain.read_chain(chain.registration(entries, 1), f"{MODEL}/1", trusted_keys())
    (data,) = sealed.document["datasets"]
    places = manifest_places(beats_place(), manifest_from(data))
    assert any(path.is_file() for path in places)
    assert read_manifest(next(path for path in places if path.is_file())).entries
    assert Path(data["origin"]) == records
