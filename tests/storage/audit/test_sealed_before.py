"""Chains that an earlier commit sealed are verified by today's code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.audit.findings import MATCH, MISMATCH
from storage.audit.lineage import read_lineage
from storage.audit.provenance import has_commit
from storage.audit.verify import LINKS, verify
from storage.audit.versions import read_version
from storage.registry.signing import public_key
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # MLflow's own, at import

#: The last commit whose modules lay side by side.
FLAT = "f5676ad"
#: Seals a version as that commit's trainings do: an ingest's tables, and a device's report.
SEAL = """
import sys
from pathlib import Path

import storage
from tests.sealed import made_up_manifest, made_up_report, made_up_version, sides_of

name, work, code = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
assert Path(storage.__file__).is_relative_to(code), storage.__file__
path, manifest = made_up_manifest(work / "records")
version = made_up_version(name, work / "work", path, manifest, sides_of(manifest))
made_up_report(version, "belt", work / "report")
"""


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True, capture_output=True, timeout=120)


def test_a_chain_of_flat_modules_still_verifies(fresh_model: str, tmp_path: Path) -> None:
    """A version that a commit of flat modules sealed matches in every link, its code included."""
    if not has_commit(FLAT):
        pytest.skip(f"this checkout has no commit {FLAT}: a shallow clone, or an unpacked archive")
    code = tmp_path / "code"
    git("clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(code))
    git("-C", str(code), "checkout", "--quiet", "--detach", FLAT)
    subprocess.run(
        [sys.executable, "-c", SEAL, fresh_model, str(tmp_path), str(code)],
        cwd=code,
        env={**os.environ, "PYTHONPATH": str(code)},
        check=True,
        timeout=240,
    )
    reference, keys = f"{fresh_model}/1", {public_key()}
    findings = list(verify(reference, keys))
    assert [one for one in findings if one.state == MISMATCH] == []
    others = [(one.name, one.told) for one in findings if one.state != MATCH]
    assert others == [("source", "this chain was sealed without it")]
    assert {one.link for one in findings} == LINKS.keys() - {"decisions"}
    version = read_version(reference)
    assert (version.edited, version.deleted, version.unsigned) == ((), (), ())
    assert [state.device for state in version.reports] == ["belt"]
    assert read_lineage(reference, keys).faults == ()
