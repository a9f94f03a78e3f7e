"""The project's own papers: version, licence, citation, forms, hosted checks, decisions."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
DECISIONS = sorted((ROOT / "docs" / "adr").glob("0*.md"))
#: What no command may load before it prints its version.
HEAVY = ("tensorflow", "keras", "prefect", "mlflow", "pandas", "matplotlib", "scipy")


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    ("command", "module"), [("holter", "flows.cli.app"), ("holter-edge", "edge_agent.cli")]
)
def test_the_version_is_printed(command: str, module: str) -> None:
    """`--version` prints the installed version to standard output, loads little, ends with 0."""
    code = f"""
import sys, {module}
sys.argv = [{command!r}, "--version"]
try:
    {module}.main()
except SystemExit as end:
    print(sorted(set({HEAVY}) & set(sys.modules)), end.code or 0)
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    installed = version(PROJECT["name"])
    assert process.stdout.splitlines() == [f"{command} {installed}", "[] 0"], process.stderr


def test_the_version_stands_in_one_place() -> None:
    """The citation names pyproject's version and licence; no module has a version of its own."""
    citation = loaded(ROOT / "CITATION.cff")
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    copies = [
        path
        for package in ("flows", "tasks", "storage", "edge_agent")
        for path in (ROOT / package).rglob("*.py")
        if "__version__ =" in path.read_text()
    ]
    assert copies == []


def test_the_citation_has_what_its_format_needs() -> None:
    """CITATION.cff has the keys that version 1.2.0 of the format requires, and nobody invented."""
    citation = loaded(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type"} <= set(citation)
    assert citation["authors"] == [{"name": "Holter AF contributors"}]


def test_the_metadata_tells_what_a_user_asks() -> None:
    """Licence, page and Python versions are there; the licence's file is the licence named."""
    assert (ROOT / PROJECT["readme"]).is_file()
    licence, notice = PROJECT["license-files"]
    assert (ROOT / notice).is_file()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / licence).read_text()[:200]
    assert PROJECT["requires-python"] == ">=3.10"
    assert "Private :: Do Not Upload" in PROJECT["classifiers"]


@pytest.mark.parametrize("package", ["flows", "tasks", "storage", "edge_agent"])
def test_the_packages_are_typed(package: str) -> None:
    """A type checker of another project reads the annotations: `py.typed` is there and shipped."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert (ROOT / package / "py.typed").read_bytes() == b""
    assert "py.typed" in tables["package-data"]["*"]


def test_hooks_run_what_is_installed() -> None:
    """The hooks before a commit are the tools of `make lint`, each by itself; none is fetched."""
    (source,) = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    assert source["repo"] == "local"
    lint = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    commands = [line.replace("$(BIN)", ".venv/bin").split() for line in lint.splitlines()[1:]]
    hooks = [hook["entry"].split() for hook in source["hooks"]]
    assert {hook["language"] for hook in source["hooks"]} == {"system"}
    assert len(hooks) == len(commands)
    for words in commands:
        start = [word for word in words if word not in (".", "$(PAGES)")]
        assert any(entry[: len(start)] == start for entry in hooks), start


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_a_form_is_complete(form: Path) -> None:
    """An issue form has a name, a sentence, and fields, each with a label and an id of its own."""
    text = loaded(form)
    assert text["name"]
    assert text["description"].endswith(".")
    fields = [field for field in text["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_there_are_forms_for_bug_data_set_and_device() -> None:
    """The three things that people bring have a form each; a change has a list of its checks."""
    assert [form.stem for form in FORMS] == ["bug", "data_set", "device"]
    assert "make test" in (ROOT / ".github" / "pull_request_template.md").read_text()


def test_hosted_checks_run_what_is_there() -> None:
    """The edge side is checked on each Python that the metadata names, by files that exist."""
    workflow = loaded(ROOT / ".github" / "workflows" / "ci.yml")
    jobs = workflow["jobs"]
    listed = [text.split(" :: ")[-1] for text in PROJECT["classifiers"] if "Python ::" in text]
    assert (
        jobs["edge"]["strategy"]["matrix"]["python"] == listed == ["3.10", "3.11", "3.12", "3.13"]
    )
    steps = [step for job in jobs.values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert "make test" in commands
    paths = [
        path for text in commands for path in re.findall(r"(?:tests|examples)/[\w/]+\.py", text)
    ]
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).is_file()] == []
    assert all(re.search(r"@v\d+$", step["uses"]) for step in steps if "uses" in step)
    assert "secrets" not in (ROOT / ".github" / "workflows" / "ci.yml").read_text().lower().replace(
        "look for secrets", ""
    )


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_parts(page: Path) -> None:
    """A decision is one page of Status, Context, Decision and Consequences, and is in the index."""
    text = page.read_text()
    assert re.findall(r"^## (.+)$", text, re.M) == ["Status", "Context", "Decision", "Consequences"]
    assert len(text.split()) < 700
    title = text.splitlines()[0].removeprefix("# ")
    assert f"[{title}]({page.name})" in (page.parent / "index.md").read_text()


@pytest.mark.parametrize(
    "page",
    [ROOT / "SECURITY.md", ROOT / "examples" / "README.md", *(ROOT / "docs" / "adr").glob("*.md")],
    ids=lambda page: f"{page.parent.name}/{page.name}",
)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of this project leads to one."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert targets
    assert [target for target in targets if not (page.parent / target).exists()] == []
