"""Folders that cannot be written: one sentence with their name, before any work is done."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from edge_agent.cli import main as edge
from flows.cli.app import app, plainly
from flows.ingest.flow import ingest
from flows.ingest.folders import DatasetSettings
from flows.ingest.simulate import write_simulated
from flows.train.settings import WatchSettings, train_settings
from flows.train.watch import watch
from storage.errors import PlaceError
from storage.files import UNWRITABLE, check_writable, write_bytes
from storage.recordings import records
from tests.conftest import ROOT

EXPECTED = "expected one that exists or can be made, and that this user may write"


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"")
    return folder / "file" / "below"


def no_right(folder: Path) -> Path:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (folder / "locked").mkdir(mode=0o555)
    return folder / "locked" / "below"


#: Folders in which nothing can be made, by why.
FOLDERS: dict[str, Callable[[Path], Path]] = {
    "below a file": below_a_file,
    "a file itself": lambda folder: below_a_file(folder).parent,
    "in /proc": lambda _: Path("/proc/beats"),
    "a link to nowhere": lambda folder: folder / "link",
    "without the right": no_right,
}


@pytest.fixture(params=FOLDERS)
def unwritable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of each kind that cannot be written."""
    (tmp_path / "link").symlink_to(tmp_path / "none" / "there")
    return FOLDERS[request.param](tmp_path)


def told(folder: Path) -> str:
    return f"{folder}: found that nothing can be written there ("


def test_what_cannot_be_written_is_named(unwritable: Path) -> None:
    """A file and the look before any work fail with the folder, the system's word for it, and
    what was expected."""
    acts: tuple[Callable[[], object], ...] = (
        lambda: check_writable(unwritable, "state folder"),
        lambda: write_bytes(unwritable / "x", b""),
    )
    for act in acts:
        with pytest.raises(PlaceError) as caught:
            act()
        assert told(unwritable) in str(caught.value)
        assert str(caught.value).endswith(EXPECTED)
        assert caught.value.errno in UNWRITABLE
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
        assert (str(again), again.errno) == (str(caught.value), caught.value.errno)


def test_a_look_leaves_nothing(tmp_path: Path) -> None:
    """Looking whether a folder can be written makes neither it nor a file in it."""
    assert check_writable(tmp_path / "a" / "b", "x") == tmp_path / "a" / "b"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No record is read."""

    def read(*_: object, **__: object) -> None:
        raise AssertionError("a record was read")

    for module in (
        records,
        sys.modules["flows.ingest.build"],
        sys.modules["storage.recordings.arrivals"],
    ):
        monkeypatch.setattr(module, "open_record", read, raising=False)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", ["ingest", "watch"])
def test_beat_tables_place(
    name: str, unwritable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flow names the folder of beat tables that it cannot write before it reads any record."""
    toml = write_simulated(tmp_path / "data", 1, 0.05, 1)
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOLTER_BEATS", str(unwritable))
    sets = [DatasetSettings(dataset=str(toml), data=toml.parent)]
    look = WatchSettings(training=train_settings(datasets=sets))
    begin: dict[str, Callable[[], object]] = {
        "ingest": partial(ingest.fn, str(toml), toml.parent),
        "watch": partial(watch.fn, look),
    }
    with pytest.raises(PlaceError, match="beat tables \\(HOLTER_BEATS\\) ") as caught:
        begin[name]()
    assert told(unwritable) in str(caught.value)


#: Commands that write where a user says, with the folder as {0}; and what they call it.
COMMANDS = {
    "data simulate {0}": "folder",
    "data fetch mitdb --to {0}": "folder to fetch into",
    "data add {1} --to {0}": "folder of the TOML",
    "compare a b --out {0}/x.md": "folder",
    "card a --out {0}/x.html": "folder",
    "drift a --out {0}/x.md": "folder",
    "sbom --out {0}/x.json": "folder",
    "lineage a --format json --out {0}/x.json": "folder",
    "edge compare --figure {0}/x.png": "folder",
}
#: Commands that keep their state in HOLTER_HOME.
STATEFUL = (
    *("run", "up", "edge status", "edge key", "promote a", "lineage a", "card a"),
    *("ingest {1} --data {2}", "retrain {1} --data {2}", "train {1} --data {2}"),
    *("data watch {1} --data {2} --once", "evaluate a --on {1} --data {2}"),
)


def says(words: str, *places: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints on standard error, in one line; it ends with 1."""
    filled = [word.format(*places) for word in words.split()]
    assert plainly(lambda: app(filled, standalone_mode=False)) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("words", COMMANDS)
def test_options_that_name_a_folder(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command that writes where it is told ends with 1 and names that folder."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    folder = below_a_file(tmp_path)
    said = says(words, folder, tmp_path, capsys=capsys)
    assert f"{COMMANDS[words]} {told(folder)}" in said
    assert EXPECTED in said


@pytest.mark.parametrize("words", STATEFUL)
def test_the_state_folder(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command that keeps state ends with 1 and names the state folder that takes none."""
    folder = below_a_file(tmp_path)
    toml = write_simulated(tmp_path / "data", 1, 0.05, 1)
    monkeypatch.setenv("HOLTER_HOME", str(folder))
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    said = says(words, folder, toml, toml.parent, capsys=capsys)
    assert told(folder) in said or told(folder / "keys") in said


@pytest.mark.parametrize("words", ["once --device d", "run --device d", "rollback", "enroll"])
def test_a_device_s_state_folder(
    words: str,
    unwritable: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An agent that cannot keep its state says so and ends; it does not wait for ever."""
    monkeypatch.setenv("HOLTER_EDGE_HOME", str(unwritable))
    given = words.split() + ["--key", "0" * 64] * (words == "enroll")
    with pytest.raises(SystemExit) as ended:
        edge(given)
    assert ended.value.code == 1
    assert f"state folder (HOLTER_EDGE_HOME) {told(unwritable)}" in capsys.readouterr().err


def test_a_device_s_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`holter-edge analyse` names the folder that cannot take its files, before the record."""
    folder = below_a_file(tmp_path)
    with pytest.raises(SystemExit):
        edge(["analyse", "no-such-record", "--out", str(folder)])
    assert f"folder (--out) {told(folder)}" in capsys.readouterr().err


def test_a_read_only_file_system(tmp_path: Path) -> None:
    """A folder mounted read-only is named with the system's word for it; nothing is unlinked there
    that need not be."""
    unshare = ["unshare", "-rm"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no mounts of one's own here")
    code = (
        "import sys; from pathlib import Path; from edge_agent.slots import confirm\n"
        "from storage.files import alone, check_home, home, write_bytes\n"
        "confirm(home())\n"
        "for act in (check_home, lambda: write_bytes(home() / 'x', b''), alone('x').__enter__):\n"
        "    try: act()\n"
        "    except Exception as error: print(type(error).__name__, error.errno, error)\n"
    )
    script = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path} && "
    done = subprocess.run(
        [*unshare, "sh", "-c", script + 'exec "$0" -c "$1"', sys.executable, code],
        env={**os.environ, "HOLTER_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    for line in lines:
        assert line.startswith("PlaceError 30 ")
        assert "(Read-only file system)" in line
