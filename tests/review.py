"""A state folder with two simulated records and one of hostile names, its page, and a browser."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from flows.ingest.build import Plan, build_table
from flows.ingest.simulate import write_simulated
from flows.services.servers import QUIET
from flows.services.up_state import answers
from storage.datasets.dataset import load_spec, record_names
from storage.files import sha256_file, write_secret
from storage.tables.beats import write_beats
from storage.tables.beats_manifest import Entry, Manifest, write_manifest
from tasks.signal.preprocessing import Preprocessing
from tests import ROOT
from tests.tiny import SOURCE, tiny_table

#: Nobody's keys: of a server on loopback with made-up data.
KEYS = {
    "ada": ("reviewer", "made-up-key-of-ada-0123456789"),
    "grace": ("reviewer", "made-up-key-of-grace-0123456789"),
    "rita": ("reader", "made-up-key-of-rita-0123456789"),
}
CHROMIUM = shutil.which("chromium")
FAST_MS = 20_000
HOSTILE = "<b id='made-up'>&\"r"
HOURS = 0.1


def authorization(name: str) -> str:
    """The header that a browser sends for a person."""
    return "Basic " + base64.b64encode(f"{name}:{KEYS[name][1]}".encode()).decode()


def write_keys(home: Path) -> None:
    """Let the people of `KEYS` into the page of a state folder."""
    lines = [f"{name} {role} {key}\n" for name, (role, key) in KEYS.items()]
    (home / "keys").mkdir(parents=True, exist_ok=True)
    write_secret(home / "keys" / "review.keys", "".join(lines))


def fill(home: Path) -> Path:
    """Write keys, tables and recordings of `simulated` and `hostile`."""
    write_keys(home)
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


@dataclass
class Served:
    """The page's server as a process that can be killed, and started again on the same port."""

    home: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; it answers when this ends."""
        words = [sys.executable, "-m", "uvicorn", "--factory", "flows.review.server:app"]
        words += ["--port", str(self.port), "--log-level", "warning"]
        env = {**os.environ, **QUIET, "HOLTER_HOME": str(self.home)}
        self.processes.append(subprocess.Popen(words, cwd=ROOT, env=env))
        deadline = time.monotonic() + 120
        while not answers(f"{self.address}/health"):
            assert self.processes[-1].poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.processes[-1].kill()
        self.processes[-1].wait(20)


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's browser, without a window."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visits(served: Served, browser: Any) -> Iterator[Callable[..., Any]]:
    """What opens a page as a person; a script that fails fails the test."""
    contexts, faults = [], []

    def visit(path: str, name: str = "ada", width: int = 1200) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 850},
            http_credentials={"username": name, "password": KEYS[name][1]},
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(FAST_MS)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(served.address + path)
        page.wait_for_selector("body[data-ready], body.overview")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert faults == []
