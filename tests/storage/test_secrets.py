"""No secret is in the repository, in each file of which it is looked for, nor in what we say."""

from __future__ import annotations

import logging
import os
import pickle
import re
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.services.servers import servers
from storage import logs
from storage.addresses import without_credentials
from storage.errors import RegistryError
from storage.places import beats_place
from storage.registry import client, tracking
from storage.registry.models import ModelVersion
from tests.conftest import ROOT

#: What a secret looks like, by what it is.
PATTERNS = {
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an AWS key": re.compile(rb"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(rb"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{60})"),
    "a Slack token": re.compile(rb"\bxox[abprs]-[A-Za-z0-9-]{10}"),
    "a Google key": re.compile(rb"\bAIza[0-9A-Za-z_-]{35}\b"),
    "a web token": re.compile(rb"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\."),
    "a registry token": re.compile(rb"\bpypi-[A-Za-z0-9_-]{30}"),
    "a password in an address": re.compile(rb"://[^\s/:@{}$<]+:[^\s/@{}$<]{3,}@[a-z0-9.]+"),
    "a password set": re.compile(
        rb"(?i)\b\w*(password|passwd|secret|token|api_?key)\w*[\"']?\s*[:=]\s*[\"']?"
        rb"(?=[^\s\"']*\d)(?=[^\s\"']*[a-z])[A-Za-z0-9+/_!-]{16,}"
    ),
}
#: Read by people as what they are: the golden files are data.
LEFT_OUT = ("tests/golden/", "docs/images/")


def found_in(data: bytes) -> list[str]:
    return [name for name, pattern in PATTERNS.items() if pattern.search(data)]


#: Nobody's: written in two parts, so that the search of this repository passes by.
USER, WORD = "sister", "hush" + "-hush"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"http://{USER}:{WORD}@h:5000/a@b", "http://h:5000/a@b"),
        (f"https://{WORD}@h", "https://h"),
        (f"postgresql+psycopg2://{USER}:{WORD}@@h/db", "postgresql+psycopg2://h/db"),
        (f"s3://{USER}:{WORD}/+{WORD}@bucket/beats", "s3://bucket/beats"),
        (f"'http://{USER}:{WORD}@h/': refused, 'a@b'", "'http://h/': refused, 'a@b'"),
        (f"https://h/x?X-Amz-Signature={WORD}&part=1", "https://h/x?X-Amz-Signature=***&part=1"),
        ("http://[::1]:5000/models/x@champion", "http://[::1]:5000/models/x@champion"),
        ("http://h:5000/models/x@champion and a@b", "http://h:5000/models/x@champion and a@b"),
    ],
)
def test_an_address_is_shown_without_its_credentials(address: str, shown: str) -> None:
    """User, password and signature are gone from what is shown; nothing else is."""
    assert without_credentials(address) == shown


def shown_everywhere(address: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """All that we say where the servers and the tables have this address, by what says it."""
    monkeypatch.setenv("PREFECT_API_URL", f"{address}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("HOLTER_BEATS", address.replace("http://", "s3://"))
    error = RegistryError(f"MLflow at {address}: away")
    line = logging.LogRecord("holter", logging.ERROR, "", 0, f"at {address}", None, None)
    try:
        raise RuntimeError(address)
    except RuntimeError:
        line.exc_info = sys.exc_info()
    run = [CliRunner().invoke(app, [word]) for word in ("up", "doctor", "status", "ingest")]
    return {
        "error": f"{error} {pickle.loads(pickle.dumps(error))}",  # noqa: S301 - our own
        "table": str(beats_place() / "dataset=a"),
        "log": logs.JsonLines().format(line) + logs.Lines("%(message)s").format(line),
        "lineage, device": client.address(),
        "page": tracking.model_page(ModelVersion("a", 1, "r", {})),
        **{f"command {n}": f"{one.output} {one.exception}" for n, one in enumerate(run)},
    }


def test_no_message_log_or_page_has_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where addresses hold a password, nothing that is printed, logged or kept holds it."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    told = shown_everywhere(f"http://{USER}:{WORD}@127.0.0.1:9", monkeypatch)
    assert {name: text for name, text in told.items() if WORD in text or USER in text} == {}
    assert "127.0.0.1:9" in told["command 0"]


def test_credentials_of_an_address_let_clients_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients are given the address without them, and them by the variables that are for it."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_API_URL", f"https://{USER}:{WORD}@prefect.example/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://{USER}:{WORD}%40@mlflow.example")
    with servers() as here:
        assert here.prefect_api == os.environ["PREFECT_API_URL"] == "https://prefect.example/api"
        assert here.mlflow == os.environ["MLFLOW_TRACKING_URI"] == "https://mlflow.example"
        assert os.environ["PREFECT_API_AUTH_STRING"] == f"{USER}:{WORD}"
        assert os.environ["MLFLOW_TRACKING_USERNAME"] == USER
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == f"{WORD}@"
    assert "PREFECT_API_AUTH_STRING" not in os.environ
    sent = client._authorization("https", "mlflow.example")["Authorization"]
    assert b64decode(sent.removeprefix("Basic ")).decode() == f"{USER}:{WORD}@"


@pytest.mark.parametrize(
    "planted",
    [
        "-----BEGIN " + "PRIVATE KEY-----",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "ghp_" + "a1" * 18,
        "xoxb-" + "1234567890",
        "AIza" + "b" * 35,
        "eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + ".c",
        "pypi-" + "A1" * 15,
        "postgresql://holter:" + "hunter2@db/x",
        "MLFLOW_TRACKING_PASSWORD=" + "a1b2c3d4e5f6a7b8c9",
        'api_key = "' + "a1b2c3d4e5f6a7b8c9" + '"',
    ],
)
def test_the_scan_finds_what_is_planted(planted: str) -> None:
    """Each kind of secret is found where it is; the scan can fail."""
    assert found_in(planted.encode())


def test_no_secret_is_in_the_repository() -> None:
    """No file that git holds looks like it had a key, a token or a password in it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("no git checkout")
    files = [name for name in listed.stdout.decode().split("\0") if name]
    assert "tests/storage/test_secrets.py" in files or len(files) > 100
    hits = {
        name: kinds
        for name in files
        if not name.startswith(LEFT_OUT)
        and (ROOT / name).is_file()
        and (kinds := found_in((ROOT / name).read_bytes()))
    }
    assert hits == {}
