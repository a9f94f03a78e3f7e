"""What a device may run: signed by a key it trusts, unchanged, and answering as it did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_agent import slots
from edge_agent.cli import main as edge_main
from flows.release import seal
from storage.errors import DeviceError, SignatureError
from storage.files import write_json
from storage.golden_beats import GOLDEN, read_golden, write_golden
from storage.model_files import LITERT, MANIFEST
from storage.signing import (
    NAMED,
    SIGNATURE,
    check_release,
    public_key,
    release_key_path,
    sign_name,
    sign_release,
    sign_roll_back,
)
from tests.conftest import ROOT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device's home that trusts the release key of this test."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "server"))
    monkeypatch.delenv("HOLTER_EDGE_KEYS", raising=False)
    slots.enrol(tmp_path / "edge", public_key())
    return tmp_path / "edge"


@pytest.fixture
def release(home: Path, tmp_path: Path) -> Path:
    """A sealed release."""
    folder = tmp_path / "release"
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "golden" / "resnet21-untrained.tflite", folder / LITERT)
    write_json(folder / MANIFEST, {"name": "resnet21"})
    beats = np.random.default_rng(2).normal(size=(20, 300, 1)).astype(np.float32)
    seal(folder, {"waveform": beats})
    assert slots.trusted_keys(home)
    return folder


def install(home: Path, release: Path, reference: str, **more: str) -> None:
    """Install a release under the name that is signed of it."""
    name, _, version = reference.rpartition("/")
    sign_name(release, name, int(version))
    slots.install(home, release, reference, **more)


def swapped(folder: Path) -> None:
    (folder / LITERT).write_bytes(b"another model")


def edited(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    write_json(folder / MANIFEST, {**manifest, "threshold": 0.01})


def added(folder: Path) -> None:
    (folder / "run.pkl").write_bytes(b"!")


def linked(folder: Path) -> None:
    (folder / GOLDEN).unlink()
    (folder / GOLDEN).symlink_to("/etc/hostname")


def unsigned(folder: Path) -> None:
    (folder / SIGNATURE).unlink()


def garbled(folder: Path) -> None:
    (folder / SIGNATURE).write_text("[]")


@pytest.mark.parametrize("change", [swapped, edited, added, linked, unsigned, garbled])
def test_a_changed_release_is_refused(
    home: Path, release: Path, change: Callable[[Path], None]
) -> None:
    """Any byte, file or name that differs from what was signed is refused, and nothing switches."""
    change(release)
    with pytest.raises(SignatureError):
        install(home, release, "m/1")
    assert slots.active(home) is None


def test_a_strangers_signature_is_refused(
    home: Path, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that was not enrolled signs in vain; the message names both keys."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "stranger"))
    sign_release(release)
    with pytest.raises(SignatureError, match=f"by key {public_key()[:16]}; this device trusts"):
        check_release(release, slots.trusted_keys(home))


def test_a_manifest_cannot_leave_its_folder(home: Path, release: Path) -> None:
    """Even signed, a manifest that names a path outside its folder is refused."""
    from storage.signing import _private_key

    write_json(release / MANIFEST, {"files": {"../../.ssh/authorized_keys": {"sha256": ""}}})
    signature = _private_key().sign((release / MANIFEST).read_bytes()).hex()
    write_json(release / SIGNATURE, {"key": public_key(), "signature": signature})
    with pytest.raises(SignatureError, match="outside its folder"):
        check_release(release, slots.trusted_keys(home))


def test_the_release_key_is_private(home: Path) -> None:
    """The key is made for its owner alone, and one that others may read signs nothing."""
    assert release_key_path().stat().st_mode & 0o777 == 0o600
    release_key_path().chmod(0o644)
    with pytest.raises(SignatureError, match="found mode 644"):
        public_key()
    assert home.is_dir()


def test_the_release_key_is_made_whole_and_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key whose making breaks off is not there, and of many makers one makes it."""
    key = release_key_path()
    key.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            public_key()
    assert list(key.parent.iterdir()) == []
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: public_key(), range(16)))) == 1
    assert home.is_dir()


def test_slots_take_turns_and_roll_back(home: Path, release: Path) -> None:
    """Each installation takes the other slot; rollback returns to the one before."""
    install(home, release, "m/1")
    install(home, release, "m/2")
    assert slots.installed(home) == {"a": "m/1", "b": "m/2 (active)"}
    assert slots.rollback(home) == "m/1"
    assert slots.installed(home) == {"a": "m/1 (active)", "b": "m/2"}


def test_a_release_that_answers_otherwise_is_not_switched_to(home: Path, release: Path) -> None:
    """A signed release that fails its golden beats leaves the active slot as it was."""
    install(home, release, "m/1")
    inputs, probability = read_golden(release / GOLDEN)
    write_golden(release / GOLDEN, inputs, 1 - probability)
    sign_release(release)
    with pytest.raises(DeviceError, match="self-test: found an error"):
        install(home, release, "m/2")
    assert slots.installed(home) == {"a": "m/1 (active)"}


def test_a_release_that_dies_on_trial_is_rolled_back(home: Path, release: Path) -> None:
    """After a process that began with a new release and died, the next starts with the old one."""
    install(home, release, "m/1")
    slots.begin(home)
    slots.confirm(home)
    install(home, release, "m/2")
    assert slots.begin(home)[0].name == "b"
    assert slots.begin(home)[0].name == "a"
    assert slots.begin(home)[0].name == "a"


def test_a_release_that_was_benched_is_off_trial(
    home: Path, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A benchmark that ends well ends the trial: the next one finds the same release active."""
    monkeypatch.setenv("HOLTER_EDGE_HOME", str(home))
    monkeypatch.setattr("edge_agent.bench.bench", lambda *_: {})
    install(home, release, "m/1")
    install(home, release, "m/2")
    for _ in range(3):
        with pytest.raises(SystemExit) as ended:
            edge_main(["bench"])
        assert ended.value.code == 0
        assert slots.installed(home) == {"a": "m/1", "b": "m/2 (active)"}


def test_a_slot_that_rots_is_rolled_back(home: Path, release: Path) -> None:
    """A changed byte in the active slot is noticed before use, and the other slot takes over."""
    install(home, release, "m/1")
    install(home, release, "m/2")
    slots.confirm(home)
    swapped(slots.active(home) or home)
    assert slots.begin(home)[0].name == "a"


def test_a_key_is_checked_at_enrolment(home: Path) -> None:
    """Only 64 hexadecimal digits are a key."""
    with pytest.raises(DeviceError, match="64 hexadecimal digits"):
        slots.enrol(home, "not a key")
