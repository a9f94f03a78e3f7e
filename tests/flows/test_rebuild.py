"""A rebuild: what a version's training is done again with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from flows.decide import rebuild
from flows.reports.compare import CODE
from flows.train.settings import BeatSettings
from flows.train.training_run import use_accelerators
from storage.audit.versions import VersionRecord
from storage.registry.model_files import LITERT, WEIGHTS
from storage.registry.tags import ACCELERATOR_TAG
from tasks.learning.splits import PERMUTED, SKLEARN, refuse_unless_paradigm

PARAMS = {
    "model": "squeeze",
    "paradigm": "intrapatient",
    "epochs": "1",
    "learning_rate": "1e-4",
    "seed": "0",
}


def version(**params: str) -> VersionRecord:
    """A version of single beats with these parameters."""
    manifest = SimpleNamespace(preprocessing={"policy": "consensus"}, entries=(), dataset="made")
    return cast(
        VersionRecord,
        SimpleNamespace(
            params={**PARAMS, **params},
            manifests=(manifest,),
            tags={},
            files={LITERT: "0", WEIGHTS: "0"},
            metrics={},
            model=SimpleNamespace(reference="made/1"),
        ),
    )


@pytest.mark.parametrize(
    ("params", "paradigm"),
    [
        ({}, f"intrapatient {PERMUTED}"),
        ({"split_rule": PERMUTED}, f"intrapatient {PERMUTED}"),
        ({"split_rule": SKLEARN}, "intrapatient"),
        ({"paradigm": "interpatient"}, "interpatient"),
    ],
)
def test_a_split_is_made_by_the_rule_of_its_version(
    params: dict[str, str], paradigm: str, tmp_path: Path
) -> None:
    """A version that names no rule is split again by its paradigm's first one."""
    settings = rebuild.settings_of(version(**params), ["mitdb"], [tmp_path])
    assert isinstance(settings, BeatSettings)
    assert settings.paradigm == paradigm
    refuse_unless_paradigm(paradigm)


def test_a_rule_that_is_not_named_is_no_change() -> None:
    """The first rule named is no change against none named; another rule is one."""
    same, other = (
        rebuild.compare_versions(version(), version(split_rule=rule))
        for rule in (PERMUTED, SKLEARN)
    )
    assert same.changes == ()
    assert other.changes == (("parameter split_rule", PERMUTED, SKLEARN[:16]),)


def test_a_gpu_is_told_of_and_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is a tag, which a rebuild elsewhere tells; a processor leaves all as it was."""
    import tensorflow as tf

    experimental = tf.config.experimental
    before = experimental.tensor_float_32_execution_enabled()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _kind: [])
    assert use_accelerators() == {}
    assert experimental.tensor_float_32_execution_enabled() == before
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _kind: ["one", "other"])
    names = {"one": {"device_name": "NVIDIA L4"}, "other": {}}
    monkeypatch.setattr(experimental, "get_device_details", names.__getitem__)
    try:
        tags = use_accelerators()
        assert not experimental.tensor_float_32_execution_enabled()
    finally:
        experimental.enable_tensor_float_32_execution(before)
    assert tags == {"holter.accelerator": "NVIDIA L4, GPU"}
    assert CODE[ACCELERATOR_TAG] == "GPU of TensorFlow"
