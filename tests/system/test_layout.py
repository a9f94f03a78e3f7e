"""The house: what may lie where."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from tests.conftest import ROOT

#: A room with more is two.
MOST_FILES = 15
#: An empty file that tells type checkers of the annotations: nothing to look through.
MARK = "py.typed"
PACKAGES = ("flows", "tasks", "storage", "edge_agent")
#: Where names that begin as ours are written out, and why.
VOCABULARIES = {
    "storage/registry/tags.py": "tags and parameters in MLflow",
    "flows/services/events.py": "events in Prefect",
    "storage/tables/beats.py": "keys of a Parquet file",
    "flows/train": "its rooms are being rewritten",
    "flows/cli": "its rooms are being rewritten",
    "tasks/pages": "its rooms are being rewritten",
}


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def test_mlflow_is_the_installed_one() -> None:
    """The folder mlflow/ at the root does not shadow the installed package."""
    words = [sys.executable, "-c", "import mlflow; print(mlflow.__version__)"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == version("mlflow")
    assert not list((ROOT / "mlflow").rglob("*.py"))


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("prefect", "flows/"),
        ("mlflow", "storage/registry/tracking.py"),
        ("soundfile", "storage/formats/flac.py"),
        ("typer", "flows/"),
    ],
)
def test_each_library_has_one_home(library: str, homes: str) -> None:
    """Prefect, MLflow, soundfile and Typer are imported where the design says, and nowhere else."""
    pattern = re.compile(rf"^\s*(import|from) {library}\b", re.MULTILINE)
    users = [str(p.relative_to(ROOT)) for p in sources() if pattern.search(p.read_text())]
    assert users
    assert all(user.startswith(homes) for user in users), users
    if library != "prefect" and library != "typer":
        assert len(users) == 1, users


def test_tensorflow_is_imported_late() -> None:
    """No module imports TensorFlow or Keras when it is loaded."""
    pattern = re.compile(r"^(import|from) (tensorflow|keras)\b", re.MULTILINE)
    assert [p.name for p in sources() if pattern.search(p.read_text())] == []


def test_flow_modules_shadow_nothing() -> None:
    """Prefect puts a flow's folder first on the path: no module there has a library's name."""
    names = {path.stem for path in (ROOT / "flows").rglob("*.py") if path.stem[0] != "_"}
    assert not names & set(sys.stdlib_module_names)
    words = [
        sys.executable,
        "-c",
        f"import importlib.util as u; print([n for n in {sorted(names)} if u.find_spec(n)])",
    ]
    found = subprocess.run(words, cwd="/", capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_room_holds_few_files() -> None:
    """Who looks for a file reads a folder's list at a glance: at most 15 in each."""
    folders = {path.parent for path in sources()} | {
        p.parent for p in (ROOT / "tests").rglob("*.py")
    }
    files = {
        str(folder.relative_to(ROOT)): sum(
            path.is_file() and path.name != MARK for path in folder.iterdir()
        )
        for folder in folders
    }
    assert {folder: n for folder, n in files.items() if n > MOST_FILES} == {}


def test_tags_are_named_once() -> None:
    """Tags, parameters and events have constants: nowhere else is a name spelled a second time."""
    literal = re.compile(r"""["']holter\.""")
    written = {
        name: count
        for path in sources()
        if not (name := str(path.relative_to(ROOT))).startswith(tuple(VOCABULARIES))
        and (count := len(literal.findall(path.read_text())))
    }
    assert written == {}
    assert all((ROOT / place).exists() for place in VOCABULARIES)


def test_modules_stay_small() -> None:
    """A module of more than 400 lines holds a second thing that wants to move out."""
    long = {p.name: n for p in sources() if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


def test_the_agent_loads_little() -> None:
    """A device's import chain loads none of the server's libraries."""
    heavy = "tensorflow keras prefect mlflow pandas wfdb scipy pyarrow pydantic matplotlib requests"
    heavy += " sklearn reportlab"
    code = (
        "import sys, edge_agent.agent, tasks.analysis.analyse, edge_agent.cli; "
        "import tasks.networks.models; tasks.networks.models.known_models(); "
        f"print(sorted(set('{heavy}'.split()) & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_what_is_pinned_installs_on_debian_12() -> None:
    """Debian 12 has Python 3.11.2: beside a release for a later one only, pip searches for ever."""
    for_later = {
        f"{one.metadata['Name']} {one.version}": wanted
        for one in distributions()
        for wanted in one.metadata.get_all("Requires-Python") or []
        if not SpecifierSet(wanted).contains("3.11.2")
    }
    assert for_later == {}
