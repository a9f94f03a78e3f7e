"""Releases in the box: what they hold, why they are trusted, and that they are installed."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomllib

from edge_agent.slots import choose_release
from storage.errors import DigestMismatch, ModelError, SignatureError
from storage.files import read_json, sha256_file, write_json
from storage.registry import boxed
from storage.registry.boxed import BOXED, boxed_release, trusted_content
from storage.registry.model_files import MANIFEST
from storage.tables.golden_beats import GOLDEN
from tasks.runtimes.releases import self_test
from tasks.runtimes.runtimes import RUNTIMES, files_of, usual
from tests.conftest import ROOT

MOST_BYTES = 2_000_000
RATES = ("sensitivity", "specificity", "ppv", "f1")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a release, which the code takes for the box's own."""
    name = next(iter(BOXED))
    shutil.copytree(boxed.FOLDER / name, tmp_path / name)
    monkeypatch.setattr(boxed, "FOLDER", tmp_path)
    return tmp_path / name


@pytest.mark.parametrize("name", BOXED)
def test_a_release_is_whole_and_says_what_it_is(name: str) -> None:
    """Its files are as its manifest has them; it names its version, its data and its figures."""
    folder, manifest = boxed_release(name)
    assert (manifest["name"], manifest["registered"]) == (name, f"holter-{name}/1")
    assert {path.name for path in folder.iterdir()} == {MANIFEST, *manifest["files"]}
    assert {"card.md", GOLDEN} <= manifest["files"].keys()
    assert all(file.endswith((".tflite", ".onnx")) for file in files_of(manifest).values())
    assert usual(manifest) == "litert-float32"
    learnt = {row["dataset"] for row in manifest["trained_on"]}
    sides = {row["dataset"]: row["side"] for row in manifest["figures"]}
    assert {dataset for dataset, side in sides.items() if side == "test"} == learnt
    assert learnt
    assert set(sides.values()) <= {"test", "never seen"}
    for row in manifest["figures"]:
        assert 0 <= row["prevalence"] <= 1
        assert row["threshold"] == manifest["threshold"]
        assert (row["level"], row["seed"]) == ("beat", 0)
        for rate in RATES:
            known = row["prevalence"] > 0 or rate == "specificity"
            assert (row[rate] is not None) == (rate in row["interval"]) == known
            if known:
                low, high = row["interval"][rate]
                assert low <= row[rate] <= high


def test_the_usual_network_has_figures_of_data_sets_it_never_learnt_from() -> None:
    """What `analyse` says of its choice; of fused_cues nothing of the kind can be told."""
    rows = {name: boxed_release(name)[1]["figures"] for name in ("rhythm", "fused_cues")}
    never = {
        name: [r["dataset"] for r in figures if r["side"] == "never seen" and r["sensitivity"]]
        for name, figures in rows.items()
    }
    assert len(never["rhythm"]) >= 2
    assert not never["fused_cues"]


@pytest.mark.parametrize("name", BOXED)
def test_a_card_and_the_notice_attribute_the_data(name: str) -> None:
    """Licence and citation of all that was learnt from; and that it is no medical device."""
    folder, manifest = boxed_release(name)
    card, notice = (folder / "card.md").read_text(), (ROOT / "NOTICE").read_text()
    assert "For research. It is no medical device" in card
    for row in manifest["trained_on"]:
        assert row["citation"] in card
        assert row["citation"] in notice
        assert row["licence"] in card
        assert f"({row['licence']})" in notice
        (entry,) = [part for part in notice.split("\n\n") if f"({row['dataset']})" in part]
        assert name in entry.split("Networks: ")[1].split("\n")[0].split(", ")


@pytest.mark.parametrize("name", BOXED)
def test_a_release_answers_as_it_did(name: str) -> None:
    """In every runtime that it has a file for and that is installed here."""
    folder, manifest = boxed_release(name)
    for runtime in files_of(manifest):
        if RUNTIMES[runtime].installed:
            self_test(folder, runtime)


def test_the_box_is_small() -> None:
    """A device downloads it with the package: under 2 MB in all."""
    sizes = [path.stat().st_size for path in boxed.FOLDER.rglob("*") if path.is_file()]
    assert 0 < sum(sizes) < MOST_BYTES


def test_only_what_the_code_trusts_lies_in_the_box() -> None:
    """Every folder has its constant, and every constant its folder."""
    assert {path.name for path in boxed.FOLDER.iterdir()} == set(BOXED)


def test_a_changed_byte_is_refused_by_name(copy: Path) -> None:
    """Whichever file it is in."""
    for path in sorted(copy.iterdir()):
        data = path.read_bytes()
        path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
        with pytest.raises(DigestMismatch, match=f"{copy.name}, file {path.name}: found SHA-256"):
            boxed_release(copy.name)
        path.write_bytes(data)
    assert boxed_release(copy.name)[0] == copy


def test_a_missing_and_an_extra_file_are_refused_by_name(copy: Path) -> None:
    """A link is no file of it either, wherever it leads."""
    (copy / "more.py").write_text("")
    with pytest.raises(ModelError, match=r"found the file more\.py"):
        boxed_release(copy.name)
    (copy / "more.py").unlink()
    (copy / GOLDEN).rename(copy.parent / GOLDEN)
    with pytest.raises(ModelError, match=f"found no file {GOLDEN}"):
        boxed_release(copy.name)
    (copy / GOLDEN).symlink_to(copy.parent / GOLDEN)
    with pytest.raises(ModelError, match=f"found no file {GOLDEN}"):
        boxed_release(copy.name)
    (copy / MANIFEST).unlink()
    with pytest.raises(ModelError, match=MANIFEST):
        boxed_release(copy.name)


def test_a_wrong_name_is_refused_with_those_that_there_are() -> None:
    """With the nearest, where one is near."""
    with pytest.raises(ModelError, match=r"release rhythm_tinny: .*rhythm_tiny.*expected one of"):
        boxed_release("rhythm_tinny")
    with pytest.raises(ModelError, match="found none in the box"):
        boxed_release("../releases")


def test_a_device_runs_it_without_a_key(tmp_path: Path) -> None:
    """What is trusted is the digest in the code; nothing is enrolled or installed."""
    for name in BOXED:
        folder, manifest = boxed_release(name)
        assert choose_release(tmp_path / "edge", folder) == (folder, manifest)
    assert not (tmp_path / "edge").exists()


def rename(folder: Path) -> None:
    """Another manifest of the same name, whose files are as it says."""
    manifest = read_json(folder / MANIFEST)
    write_json(folder / MANIFEST, {**manifest, "threshold": manifest["threshold"] / 2})


def replace(folder: Path) -> None:
    """Another network of the same name, with a manifest that fits it."""
    path = folder / "model.tflite"
    path.write_bytes(path.read_bytes() + b" ")
    manifest = read_json(folder / MANIFEST)
    manifest["files"][path.name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    write_json(folder / MANIFEST, manifest)


@pytest.mark.parametrize("change", [rename, replace])
def test_a_folder_of_the_same_name_elsewhere_is_not_trusted(
    copy: Path, change: Callable[[Path], None]
) -> None:
    """It needs a signature, as any other release does."""
    change(copy)
    assert trusted_content(copy) is None
    with pytest.raises(SignatureError, match=r"manifest\.sig"):
        choose_release(copy.parent / "edge", copy)


def test_a_trusted_manifest_beside_a_changed_file_is_refused(copy: Path) -> None:
    """On a device too, before anything is run."""
    (copy / "model.tflite").write_bytes(b"another network")
    with pytest.raises(DigestMismatch, match=r"file model\.tflite"):
        choose_release(copy.parent / "edge", copy)


def test_the_page_has_the_figures_of_the_manifests() -> None:
    """`python docs/list_releases.py` writes them."""
    script = runpy.run_path(str(ROOT / "docs" / "list_releases.py"))
    text = (ROOT / "docs" / "releases.md").read_text()
    assert script["page_of"](text) == text
    assert text.count("\n### ") == len(BOXED)


def test_what_is_installed_holds_the_releases(tmp_path: Path) -> None:
    """By the package data of pyproject.toml, with setuptools' own build; it works from there."""
    setuptools = pytest.importorskip("setuptools", reason="setuptools, which builds the package")
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    build = (
        "import json, sys; from setuptools import Distribution, find_packages; "
        "packages, data = map(json.loads, sys.argv[2:]); "
        "d = Distribution(dict(packages=find_packages(include=packages), package_data=data)); "
        "d.script_name = 'setup.py'; "
        "c = d.get_command_obj('build_py'); c.build_lib = sys.argv[1]; d.run_command('build_py')"
    )
    parts = (tables["packages"]["find"]["include"], tables["package-data"])
    assert setuptools
    quiet = [sys.executable, "-W", "ignore", "-c"]
    words = [*quiet, build, str(tmp_path / "lib"), *map(json.dumps, parts)]
    subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
    use = (
        "import sys; sys.path.insert(0, sys.argv[1]); from storage.registry import boxed; "
        "print(*[boxed.boxed_release(name)[0] for name in boxed.BOXED], sep='\\n')"
    )
    done = subprocess.run(
        [*quiet, use, str(tmp_path / "lib")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path / "lib" / "storage" / "releases"
    assert done.stdout.split() == [str(folder / name) for name in BOXED]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """The names of the script that makes the releases."""
    return runpy.run_path(str(ROOT / "scripts" / "make_releases.py"))


def test_the_script_makes_what_is_there(script: dict[str, Any]) -> None:
    """Each network has a recipe, and learnt from what its recipe says, with the signals of it."""
    for name in BOXED:
        recipe, manifest = script["RECIPES"][name], boxed_release(name)[1]
        learnt = [(row["dataset"], row["signal"]) for row in manifest["trained_on"]]
        assert learnt == [(source.dataset, source.signal) for source in recipe.learns]
        tested = [(row["dataset"], row["signal"]) for row in manifest["figures"]]
        sources = (*recipe.learns, *recipe.tests)
        assert tested == [(source.dataset, source.signal) for source in sources]


def test_what_differs_from_run_to_run_is_left_out(script: dict[str, Any]) -> None:
    """The run's id and how quick each runtime was are not in a manifest of the box."""
    runtimes = {
        "litert-float32": {"file": "model.tflite", "bytes": 3, "cpu_us_per_row": 1.5},
        "keras-hdf5": {"file": "model.weights.h5"},
    }
    sealed = {"name": "n", "run_id": "abc", "files": {"MLmodel": {}}, "runtimes": runtimes}
    expected = {"litert-float32": {"file": "model.tflite", "bytes": 3}}
    assert script["device_manifest"](sealed) == {"name": "n", "runtimes": expected}
    text = "".join((boxed.FOLDER / name / MANIFEST).read_text() for name in BOXED)
    assert "run_id" not in text
    assert "cpu_us" not in text


def test_the_script_tells_what_differs(copy: Path, script: dict[str, Any]) -> None:
    """Nothing of a copy; else the files, the members of the manifest, and by how much."""
    differences, place = script["differences"], boxed.FOLDER.parent / "none"
    other = copy.parent / "other"
    shutil.copytree(copy, other)
    assert differences(copy, other) == []
    assert differences(place, copy) == ["there was none before"]
    golden = read_json(other / GOLDEN)
    golden["probability"] = (np.array(golden["probability"]) + 0.25).tolist()
    write_json(other / GOLDEN, golden)
    write_json(other / MANIFEST, {**read_json(other / MANIFEST), "threshold": 0.125})
    assert differences(copy, other) == [
        f"{GOLDEN} differs",
        f"{MANIFEST} differs",
        "manifest: threshold",
        "weights: largest difference 0",
        "golden beats' answers: largest difference 0.25",
    ]
