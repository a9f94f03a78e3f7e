"""An S3 store that errs, breaks off or stalls: no table is half-written or lost, all is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.cli.app import app
from flows.ingest.flow import ingest
from flows.ingest.simulate import write_simulated
from flows.services.servers import Servers
from storage import places
from storage.errors import PlaceError
from storage.files import sha256_file, write_bytes
from storage.places import check_beats_place, place
from storage.tables.beats import read_beats
from storage.tables.beats_manifest import Manifest, noted_entry, read_manifest
from tests.faulty import Fault, Faulty, Kind, faulty
from tests.services import s3_server

pytestmark = pytest.mark.slow
SUBJECTS = 4
LARGE = bytes(range(256)) * (21 << 12)  # 21 MB: an upload in parts


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four simulated records."""
    return write_simulated(tmp_path_factory.mktemp("simulated"), SUBJECTS, 0.05, 5)


@pytest.fixture(scope="module")
def calm(simulated: Path, holter_servers: Servers) -> Manifest:
    """What an ingest into a folder makes of them."""
    assert holter_servers.prefect_api
    return ingest(str(simulated), simulated.parent).manifest


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    """An S3 server behind a proxy that can be told to fail, named in the environment."""
    with (
        s3_server(tmp_path_factory.mktemp("s3"), "holter") as env,
        faulty(int(env["AWS_ENDPOINT_URL"].rpartition(":")[2])) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        env |= dict.fromkeys(("AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL"), proxy.address)
        for name, value in env.items():
            patch.setenv(name, value)
        yield proxy


@pytest.fixture
def store(servers: Faulty) -> Iterator[Faulty]:
    """The same, sound at the beginning and at the end."""
    places._system.cache_clear()
    yield servers
    servers.fault = None
    places._system.cache_clear()


#: What heals by asking again: a share of the requests fails so.
HEALS: dict[Kind, float] = {"500": 0.25, "503": 0.25, "reset": 0.25, "cut": 0.25, "slow": 0.5}


@pytest.mark.parametrize("kind", HEALS)
def test_a_share_of_failures_heals(
    kind: Kind, simulated: Path, calm: Manifest, store: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one request in four failing every table is made, and the manifest is the calm one."""
    monkeypatch.setenv("HOLTER_BEATS", f"s3://holter/share-{kind}")
    store.fault = fault = Fault(kind, HEALS[kind], seed=1)
    done = ingest(str(simulated), simulated.parent)
    assert fault.hits > 2
    assert done.failed == ()
    assert read_manifest(done.path).digest() == calm.digest()


def of_record(*names: str) -> Callable[[str, str], bool]:
    return lambda _method, path: any(name in path for name in names)


@pytest.mark.parametrize(("kind", "attempts"), [("503", 2), ("stall", 1)])
def test_a_record_whose_requests_all_fail(
    kind: Kind,
    attempts: int,
    simulated: Path,
    calm: Manifest,
    store: Faulty,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It fails alone with the store's address, what was found and what was expected, exit code 3;
    a later run does only that, and ends with the calm manifest."""
    where = f"s3://holter/dead-{kind}"
    monkeypatch.setattr(places, "ATTEMPTS", attempts)
    monkeypatch.setenv("HOLTER_BEATS", where)
    store.fault = Fault(kind, matches=of_record("sim001.parquet", "sim003.json"))
    words = ["ingest", str(simulated), "--data", str(simulated.parent)]
    assert app(words, standalone_mode=False) == 3
    said = capsys.readouterr().err
    for file in ("sim001.parquet", "entries/sim003.json"):
        assert f"failed  {where}/dataset=simulated/{file}: found a store that refuses" in said
    assert said.count("expected one that this account may read and write") == 2
    manifest = read_manifest(place(where) / "dataset=simulated" / "manifest.json")
    assert {entry.record for entry in manifest.entries} == {"sim000", "sim002"}
    for entry in manifest.entries:
        assert len(read_beats(place(where) / "dataset=simulated" / entry.file)) == entry.beats
    store.fault = None
    assert app(words, standalone_mode=False) in (0, None)
    assert "(2 kept from before, 0 failed)" in " ".join(capsys.readouterr().out.split())
    assert (
        read_manifest(place(where) / "dataset=simulated" / "manifest.json").digest()
        == calm.digest()
    )


def part(number: int) -> Callable[[str, str], bool]:
    return lambda method, path: method == "PUT" and f"partNumber={number}" in path


def end(method: str, path: str) -> bool:
    return method == "POST" and "uploadId" in path


#: What an upload in parts meets: the fault, which requests, and whether it heals.
UPLOADS: dict[str, tuple[Fault, bool]] = {
    "no last part": (Fault("500", matches=part(3)), False),
    "no end": (Fault("503", matches=end), False),
    "an end that errs late": (Fault("late", matches=end), False),
    "an end whose answer is lost": (Fault("lost", matches=end, most=1), True),
    "a part that fails twice": (Fault("reset", matches=part(1), most=2), True),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_in_parts_is_whole_or_not_there(
    name: str, store: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts that are not taken are an error, and the old file stays; a few that fail heal."""
    fault, heals = UPLOADS[name]
    monkeypatch.setattr(places, "ATTEMPTS", 3 if heals else 2)
    file = place("s3://holter/large") / name.replace(" ", "-")
    write_bytes(file, b"old")
    store.fault = fault
    if heals:
        write_bytes(file, LARGE)
    else:
        with pytest.raises(PlaceError, match=f"{file}: found a store that refuses"):
            write_bytes(file, LARGE)
    assert fault.hits
    store.fault = None
    assert file.read_bytes() == (LARGE if heals else b"old")


def test_a_store_that_is_away_is_not_an_empty_one(
    store: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be asked for is an error with the store's address: no note, table or manifest is
    taken for missing or damaged, and no ingest begins."""
    monkeypatch.setattr(places, "ATTEMPTS", 2)
    where = place("s3://holter/away")
    write_bytes(where / "entries" / "r.json", b"{}")
    monkeypatch.setenv("HOLTER_BEATS", str(where))
    store.fault = Fault("503")
    file = where / "r.parquet"
    asked: dict[str, Callable[[], object]] = {
        f"{where}/entries/r.json": lambda: noted_entry(where, "r"),
        f"{where}/manifest.json": lambda: read_manifest(where / "manifest.json"),
        f"{file}": lambda: read_beats(file),
        f"{file} ": lambda: sha256_file(file),
        f"{where}": check_beats_place,
    }
    for name, ask in asked.items():
        with pytest.raises(PlaceError, match=f"^{name.strip()}: found a store that refuses"):
            ask()
    store.fault = None
    monkeypatch.setenv("HOLTER_BEATS", "s3://no-such-bucket/x")
    with pytest.raises(PlaceError, match="found no bucket s3://no-such-bucket; expected"):
        check_beats_place()
