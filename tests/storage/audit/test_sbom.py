"""The bill of materials: valid CycloneDX, whole, and no more than the environment needs."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from storage.registry.sbom import ENVIRONMENTS, sbom

HEAVY = {"tensorflow-cpu", "mlflow", "prefect", "pandas", "scikit-learn"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_it_is_valid(environment: str) -> None:
    """CycloneDX's own schema accepts it, and refuses it where one field is spoilt."""
    judge = JsonStrictValidator(SchemaVersion.V1_6)
    found = sbom(environment)
    assert judge.validate_str(json.dumps(found)) is None
    found["components"][0]["type"] = "gadget"
    assert judge.validate_str(json.dumps(found)) is not None


def test_an_environment_lists_what_it_needs() -> None:
    """Training lists TensorFlow with its version and licence; the edge no more than it asks."""
    training, edge = ({c["name"]: c for c in sbom(e)["components"]} for e in ENVIRONMENTS)
    assert set(training) >= HEAVY
    assert training["tensorflow-cpu"]["version"] == version("tensorflow-cpu")
    assert training["tensorflow-cpu"]["licenses"]
    assert set(edge) >= {"numpy", "ai-edge-litert", "cryptography", "psutil", "cffi"}
    assert not (HEAVY | {"onnx", "onnxruntime"}) & set(edge)
    assert "pytest" not in training


def test_who_needs_whom() -> None:
    """Every reference leads to a component, and what is needed is listed."""
    found = sbom("training")
    known = {c["bom-ref"] for c in found["components"]} | {
        found["metadata"]["component"]["bom-ref"]
    }
    needs = {one["ref"]: one["dependsOn"] for one in found["dependencies"]}
    assert needs.keys() == known
    assert {ref for refs in needs.values() for ref in refs} <= known
    keras = f"pkg:pypi/keras@{version('keras')}"
    assert keras in needs[f"pkg:pypi/tensorflow-cpu@{version('tensorflow-cpu')}"]


def test_extras_that_share_some_and_a_gpu_s_build_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where TensorFlow with CUDA is installed it is the training's; nothing needs itself."""
    needs = {
        "holter-af": [
            "numpy",
            "keras; extra == 'common'",
            "holter-af[common]; extra == 'server'",
            "tensorflow-cpu; extra == 'server'",
            "holter-af[common]; extra == 'gpu'",
            "tensorflow[and-cuda]; extra == 'gpu'",
        ],
        "tensorflow": ["nvidia-cudnn-cu12; extra == 'and-cuda'"],
    }
    installed = {"holter-af", "numpy", "keras", "tensorflow", "nvidia-cudnn-cu12"}

    def metadata(name: str) -> Any:
        if name not in installed:
            raise PackageNotFoundError(name)
        facts = SimpleNamespace(json={"license_expression": "MIT"})
        return SimpleNamespace(requires=needs.get(name), version="1", metadata=facts)

    monkeypatch.setattr("storage.registry.sbom.distribution", metadata)
    training, edge = (sbom(environment) for environment in ENVIRONMENTS)
    names = {one["name"] for one in training["components"]}
    assert names == installed - {"holter-af"}
    assert [one["name"] for one in edge["components"]] == ["numpy"]
    (root,) = [one for one in training["dependencies"] if one["ref"] == "pkg:pypi/holter-af@1"]
    assert root["ref"] not in root["dependsOn"]


def test_equal_environments_give_equal_bytes() -> None:
    """Made twice it is the same, serial number and all; an unknown environment is misuse."""
    assert sbom("edge") == sbom("edge")
    assert sbom("edge")["serialNumber"] != sbom("training")["serialNumber"]
    with pytest.raises(ValueError, match="there are training, edge"):
        sbom("moon")
