"""A state folder with two simulated records and one of hostile names, for tests of the page."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

from flows.ingest.build import Plan, build_table
from flows.ingest.simulate import write_simulated
from storage.datasets.dataset import load_spec, record_names
from storage.files import sha256_file, write_secret
from storage.tables.beats import write_beats
from storage.tables.beats_manifest import Entry, Manifest, write_manifest
from tasks.signal.preprocessing import Preprocessing
from tests.tiny import SOURCE, tiny_table

#: Nobody's keys: of a server on loopback with made-up data.
KEYS = {
    "ada": ("reviewer", "made-up-key-of-ada-0123456789"),
    "grace": ("reviewer", "made-up-key-of-grace-0123456789"),
    "rita": ("reader", "made-up-key-of-rita-0123456789"),
}
HOSTILE = "<b id='made-up'>&\"r"
HOURS = 0.1


def authorization(name: str) -> str:
    """The header that a browser sends for a person."""
    return "Basic " + base64.b64encode(f"{name}:{KEYS[name][1]}".encode()).decode()


def fill(home: Path) -> Path:
    """Write keys, tables and recordings of `simulated` and `hostile`."""
    lines = [f"{name} {role} {key}\n" for name, (role, key) in KEYS.items()]
    (home / "keys").mkdir(parents=True)
    write_secret(home / "keys" / "review.keys", "".join(lines))
    _simulated(home)
    folder = home / "beats" / "dataset=hostile"
    table = replace(tiny_table(0, 40), record=HOSTILE, dataset="hostile")
    write_beats(folder / "0.parquet", [table], replace(SOURCE, dataset="hostile", record=HOSTILE))
    digest = sha256_file(folder / "0.parquet")
    entry = Entry(HOSTILE, "<i>x</i>", "0.parquet", digest, "", "II", 0.01, 40, 20, 0, 0, {})
    manifest = Manifest(
        *("hostile", "<script>x</script>", "1", "", "", str(home / "nowhere"), "", "", ""),
        simulated=True,
        entries=(entry,),
        failures={"<u>y</u>": "<s>z</s>"},
        excluded={},
        spec=load_spec(home / "data" / "dataset.toml").model_dump(mode="json"),
    )
    write_manifest(folder / "manifest.json", manifest)
    return home


def _simulated(home: Path) -> None:
    toml = write_simulated(home / "data", 2, HOURS, seed=3)
    spec, out = load_spec(toml), home / "beats" / "dataset=simulated"
    plan = Plan(spec, toml.parent, out, Preprocessing(), True)
    entries = tuple(build_table(plan, name)[1] for name in record_names(spec, toml.parent))
    manifest = Manifest(
        *(spec.name, spec.title, spec.version, spec.licence, spec.citation, str(toml.parent)),
        *(spec.digest(), Preprocessing().digest(), ""),
        simulated=True,
        entries=entries,
        failures={},
        excluded={},
        spec=spec.model_dump(mode="json"),
        signal=True,
    )
    write_manifest(out / "manifest.json", manifest)
