"""What pages say of the state folder: where all lies, and what is lost where it is deleted."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from flows.ingest.build import Plan, build_table
from storage.audit import ledger, versions
from storage.audit.verify import verify
from storage.audit.versions import read_version
from storage.datasets.dataset import load_spec
from storage.errors import SignatureError
from storage.files import home, sha256_file
from storage.registry.signing import public_key, trusted_keys
from tasks.signal.preprocessing import Preprocessing
from tests import made_up
from tests.conftest import ROOT
from tests.sealed import made_up_manifest

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import

PAGE = (ROOT / "docs" / "operating.md").read_text()
TABLE = PAGE.partition("## What is where")[2].partition("\n## ")[0]
#: The rows of the page's table: the folders of each, and what is lost with them.
ROWS = [
    (re.findall(r"`([a-z]+)/", cells[1]), cells[3])
    for cells in (line.split("|") for line in TABLE.splitlines() if line.startswith("| `"))
]
#: Of these the page says in bold that something is lost for good.
KEPT = {"mlflow", "keys", "datasets", "labels", "consent"}


def test_the_page_names_every_folder() -> None:
    """Whatever the code keeps in the state folder is a row of the page, and no other is."""
    code = "".join(
        path.read_text()
        for package in ("flows", "storage", "tasks")
        for path in (ROOT / package).rglob("*.py")
    )
    used = set(re.findall(r'(?:home\(\)|\bfolder) / "(?!logs\b|model\b)([a-z]+)"', code))
    named = {folder for folders, _ in ROWS for folder in folders}
    assert set(re.findall(r'home\(\) / "([a-z]+)"', code)) | {"edge"} <= named
    assert named - used <= {"logs", "edge"}
    assert {folder for folders, lost in ROWS if "**" in lost for folder in folders} == KEPT
    concepts = (ROOT / "docs" / "concepts.md").read_text().partition("## State")[2]
    assert set(re.findall(r"^\| `([a-z]+)/`", concepts, re.MULTILINE)) == KEPT


def test_what_may_be_deleted_is_made_again(fresh_model: str, tmp_path: Path) -> None:
    """A version is verified, its test set read, its ledger whole, with all the rest deleted."""
    version = made_up.register(tmp_path, name=fresh_model)
    states: list[list[tuple[str, str, str]]] = []
    for _ in range(2):
        again = read_version(version.model.reference)
        assert again.chain_sha256 == version.chain_sha256
        assert len(versions.testset_of(again.model)) == len(made_up.PATIENTS) * made_up.BEATS
        found = verify(version.model.reference, trusted_keys())
        states.append([(one.link, one.name, one.state) for one in found])
        assert ledger.check(fresh_model, set(trusted_keys())) == []
        for folder in home().iterdir():
            if folder.name not in KEPT:
                shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    assert states[0] == states[1]
    assert "match" in {state for _, _, state in states[0]}


def test_without_its_key_no_seal_is_trusted(fresh_model: str, tmp_path: Path) -> None:
    """A new key is made, which devices do not know, and what the old one sealed is refused."""
    version = made_up.register(tmp_path, name=fresh_model)
    before = public_key()
    shutil.rmtree(home() / "keys")
    assert public_key() != before
    with pytest.raises(SignatureError, match=version.model.reference):
        read_version(version.model.reference)


def test_beat_tables_are_made_again_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted beat tables cost the reading of the records, and no version its data."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    path, manifest = made_up_manifest(tmp_path / "records", subjects=1)
    (entry,) = manifest.entries
    shutil.rmtree(home() / "beats")
    spec, folder = load_spec(tmp_path / "records"), tmp_path / "records"
    plan = Plan(spec, folder, path.parent, Preprocessing(), True)
    state, _ = build_table(plan, entry.record, entry)
    assert state == "built"
    assert sha256_file(path.parent / entry.file) == entry.sha256
