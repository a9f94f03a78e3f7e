"""What a device may run: signed by a key it trusts, unchanged, and answering as it did."""

from __future__ import annotations

import json
import shutil
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_agent import presence, slots
from edge_agent.bench import bench
from edge_agent.cli import main as edge_main
from flows.train.release import seal
from storage.errors import DeviceError, PlaceError, SignatureError
from storage.files import write_json
from storage.registry.model_files import LITERT, MANIFEST
from storage.registry.signing import (
    MOST_MANIFEST,
    NAME_FILE,
    SIGNATURE,
    check_release,
    public_key,
    release_key_path,
    sign,
    sign_name,
    sign_release,
    sign_roll_back,
)
from storage.tables.golden_beats import GOLDEN, read_golden, write_golden
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
    from storage.registry.signing import _private_key

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
    assert slots.contents(home) == {"a": "m/1", "b": "m/2 (active)"}
    assert slots.rollback(home) == "m/1"
    assert slots.contents(home) == {"a": "m/1 (active)", "b": "m/2"}


def test_a_release_that_answers_otherwise_is_not_switched_to(home: Path, release: Path) -> None:
    """A signed release that fails its golden beats leaves the active slot as it was."""
    install(home, release, "m/1")
    inputs, probability = read_golden(release / GOLDEN)
    write_golden(release / GOLDEN, inputs, 1 - probability)
    sign_release(release)
    with pytest.raises(DeviceError, match="self-test: found an error"):
        install(home, release, "m/2")
    assert slots.contents(home) == {"a": "m/1 (active)"}


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
        assert slots.contents(home) == {"a": "m/1", "b": "m/2 (active)"}


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


def stated(reference: str) -> str:
    """A signed roll-back of the device belt to a version."""
    name, _, version = reference.rpartition("/")
    return sign_roll_back("belt", name, int(version))


def test_a_release_installs_under_its_signed_name_alone(home: Path, release: Path) -> None:
    """One model's release does not install as another's, nor as another version."""
    sign_name(release, "m", 2)
    for reference in ("n/2", "m/3", "m/20"):
        with pytest.raises(SignatureError, match="release: signed for"):
            slots.install(home, release, reference)
    assert slots.active(home) is None
    slots.install(home, release, "m/2")


def changed_name(folder: Path) -> None:
    statement = json.loads((folder / NAME_FILE).read_text())
    write_json(folder / NAME_FILE, {**statement, "name": "n"})


def moved_name(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    statement = (folder / NAME_FILE).read_bytes()
    write_json(folder / MANIFEST, {**manifest, "title": "another"})
    sign_release(folder)
    (folder / NAME_FILE).write_bytes(statement)


def other_statement(folder: Path) -> None:
    (folder / NAME_FILE).write_text(sign_roll_back("belt", "m", 2))


def garbled_name(folder: Path) -> None:
    (folder / NAME_FILE).write_text("[]")


def swollen_name(folder: Path) -> None:
    (folder / NAME_FILE).write_bytes(b" " * (MOST_MANIFEST + 1))


@pytest.mark.parametrize(
    "change", [changed_name, moved_name, other_statement, garbled_name, swollen_name]
)
def test_a_changed_name_is_refused(
    home: Path, release: Path, change: Callable[[Path], None]
) -> None:
    """A statement that was changed, is of another manifest or of another kind names nothing."""
    sign_name(release, "m", 2)
    change(release)
    for reference in ("m/2", "n/2"):
        with pytest.raises(SignatureError):
            slots.install(home, release, reference)
    assert slots.active(home) is None


def test_a_release_without_a_signed_name_says_how_it_is_made(home: Path, release: Path) -> None:
    """A version from before is refused with the command that signs its name."""
    with pytest.raises(SignatureError, match=r"make it on the server: holter edge sign m/2$"):
        slots.install(home, release, "m/2")


def test_an_older_release_needs_a_signed_roll_back(home: Path, release: Path) -> None:
    """Whoever holds the server cannot bring back a version; whoever holds the key can, each time
    anew, for one device and one version."""
    install(home, release, "m/3")
    install(home, release, "n/1")
    with pytest.raises(DeviceError, match="this device has had version 3; an older one needs"):
        install(home, release, "m/2")
    statement = stated("m/2")
    for device, reference in (("wall", "m/2"), ("belt", "m/1")):
        with pytest.raises(SignatureError, match="roll-back: signed for"):
            install(home, release, reference, roll_back=statement, device=device)
    wrong = statement.replace('"version": 2', '"version": 1')
    with pytest.raises(SignatureError, match="not what was signed"):
        install(home, release, "m/1", roll_back=wrong, device="belt")
    assert slots.contents(home) == {"a": "m/3", "b": "n/1 (active)"}
    install(home, release, "m/2", roll_back=statement, device="belt")
    assert slots.contents(home) == {"a": "m/2 (active)", "b": "n/1"}
    install(home, release, "m/3")
    with pytest.raises(DeviceError, match="this roll-back was used"):
        install(home, release, "m/2", roll_back=statement, device="belt")
    time.sleep(0.002)
    install(home, release, "m/2", roll_back=stated("m/2"), device="belt")


def test_a_device_from_before_keeps_what_it_has(home: Path, release: Path) -> None:
    """Without a record of newest versions, an older one than in the slots is refused; what runs
    goes on to run, though its name was not signed."""
    install(home, release, "m/3")
    (home / "slots" / "newest.json").unlink()
    (home / "slots" / "a" / NAME_FILE).unlink()
    with pytest.raises(DeviceError, match="has had version 3"):
        install(home, release, "m/2")
    assert slots.begin(home)[0].name == "a"


def test_a_download_of_mlflow_s_own_tool_is_a_release(home: Path, release: Path) -> None:
    """The file that `mlflow artifacts download models:/NAME/1` adds is no part of the release."""
    sign_name(release, "m", 2)
    (release / "registered_model_meta").write_text("model_name: m\nmodel_version: '2'\n")
    slots.install(home, release, "m/2")
    (release / "sub").mkdir()
    (release / "sub" / "registered_model_meta").write_text("another")
    with pytest.raises(SignatureError, match="sub/registered_model_meta is not what was signed"):
        check_release(release, slots.trusted_keys(home))


def test_sizes_are_known_before_files_are_read(home: Path, release: Path) -> None:
    """A swollen file of a release is refused in a megabyte or two of memory."""
    for name in (MANIFEST, SIGNATURE, LITERT, "extra"):
        folder = release.with_name(f"swollen-{name}")
        shutil.copytree(release, folder)
        with (folder / name).open("r+b" if (folder / name).exists() else "wb") as file:
            file.truncate(700_000_000)  # sparse: it takes no room
        tracemalloc.start()
        with pytest.raises(SignatureError):
            check_release(folder, slots.trusted_keys(home))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * MOST_MANIFEST, name


#: What a trusted key might sign by mistake.
MANIFESTS: list[object] = [
    *([], None, 1, "x", {}, {"files": []}, {"files": {"a": 1}}, {"files": {"a": {}}}),
    {"files": {"a": {"sha256": "0" * 64, "bytes": -1}}},
    {"files": {"a": {"sha256": 5, "bytes": 1}}},
    {"files": {}, "runtimes": []},
    {"files": {}, "runtimes": {"onnx": "model.onnx"}},
    {"files": {}, "runtimes": {"onnx": {"file": 5}}},
    {"files": {}, "runtime": []},
    {"files": {}, "name": {}},
    {"files": {}, "threshold": "0.5"},
    {"files": {}, "threshold": 10**400},
    {"files": {}, "smoothing_change": float("nan")},
]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_signed_manifest_is_checked_too(home: Path, release: Path, manifest: object) -> None:
    """A manifest of a trusted key that its readers could not take is refused in our words."""
    write_json(release / MANIFEST, manifest)
    write_json(release / SIGNATURE, sign((release / MANIFEST).read_bytes()))
    with pytest.raises(SignatureError, match="release: "):
        check_release(release, slots.trusted_keys(home))
    with pytest.raises(SignatureError, match="release: "):  # what is only measured, too
        bench(release, {})


STATES: dict[str, Callable[[Path], object]] = {
    "slots/trial": slots.begin,
    "slots/newest.json": lambda home: slots.refuse_older(home, "m/3"),
    "slots/a.release": slots.contents,
    "agent.json": presence.agent_id,
}


@pytest.mark.parametrize("name", STATES)
def test_a_damaged_state_file_is_named(home: Path, release: Path, name: str) -> None:
    """Of the device's own files each that is damaged is named, in one of our errors."""
    install(home, release, "m/2")
    for data in (b"", b"[", b"[]", b"\xff", b'{"begun": "x", "release": 5, "agent": [], "m": 1}'):
        (home / name).write_bytes(data)
        with pytest.raises(PlaceError, match=f"state file .*{name}: found"):
            STATES[name](home)
