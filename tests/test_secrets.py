"""No secret is in the repository: keys, tokens and passwords are looked for in every file of it."""

from __future__ import annotations

import re
import subprocess

import pytest

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
    assert "tests/test_secrets.py" in files or len(files) > 100
    hits = {
        name: kinds
        for name in files
        if not name.startswith(LEFT_OUT)
        and (ROOT / name).is_file()
        and (kinds := found_in((ROOT / name).read_bytes()))
    }
    assert hits == {}
