"""The ledger: an append-only, signed, hash-chained log of what was decided about a model.

A registered model has one ledger, for all who share its MLflow server: one run in the experiment
`ledger/MODEL`, one parameter an entry (`entry.000001` ...), which MLflow's database lets nobody
log twice. Every entry holds the digest of the one before and is signed with the release key
(Ed25519). Its digest is also in the registered model's tag `holter.ledger`, and each machine keeps
the newest one it saw in `ledger/` of its state folder: an entry that is edited, deleted or put
into the database by hand is found, and so is a ledger that was cut off at its end.

- `append(model, version, action, reason, who=..., **details)` writes an entry: "registered",
  "evaluated", "approved", or what else. Details are strings; of anything long, give the digest.
- `move_alias(model, version, alias, reason, who=..., **details)` is how every alias moves: the
  entry first, then the alias. Version None takes the alias away.
- `entries(model)` reads them, `aliases(entries)` says where each alias stands, `check(...)` says
  all that is wrong.

Two that append at the same time get two numbers; an alias then follows the later entry.
"""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from storage.errors import NotInRegistry, OutOfReach, RegistryError
from storage.files import checked, home, parsed, read_json, sha256_bytes, write_json
from storage.mlflow_rest import address, call, server_time_s
from storage.signing import sign, signed_by

ENTRY, HEAD = "entry.", "holter.ledger"
#: Experiments that hold a ledger, before the model's name.
LEDGER = "ledger/"
REGISTERED, ALIAS, EVALUATED = "registered", "alias", "evaluated"
#: What the first entry names as the one before it.
NOTHING = "0" * 64
#: MLflow keeps no parameter longer than this.
MOST_CHARACTERS = 6_000
#: How long the one who made the experiment may take to make its run.
WAIT_S = 10.0


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes
    ----------
    sequence : int
        Its number, from 1.
    time_utc : str
        When, by the MLflow server's clock, ISO 8601.
    who : str
        Who did or approved it.
    action : str
        "registered", "alias", "approved" ...
    model, version : str, int or None
        What it is about; None where an alias is taken away.
    reason : str
        Why.
    details : dict of str to str
        What else: the alias and where it stood, digests of policies and reports.
    previous : str
        SHA-256 of the entry before.
    key : str
        The public key that signed, 64 hexadecimal digits.
    signature : str
        Ed25519 over `said()`, in hexadecimal digits.
    """

    sequence: int
    time_utc: str
    who: str
    action: str
    model: str
    version: int | None
    reason: str
    details: dict[str, str]
    previous: str
    key: str = ""
    signature: str = ""

    def said(self) -> bytes:
        """What is digested and signed: all but key and signature, as canonical JSON."""
        parts = {k: v for k, v in asdict(self).items() if k not in ("key", "signature")}
        return json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()

    @property
    def sha256(self) -> str:
        """Its digest, which the next entry holds."""
        return sha256_bytes(self.said())


def user() -> str:
    """Who is at work: MLflow's user name, else the account on this machine."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()


def append(
    model: str,
    version: int | None,
    action: str,
    reason: str,
    *,
    who: str | None = None,
    **details: str,
) -> Entry:
    """Write an entry and give it back.

    Raises
    ------
    ValueError
        No reason is given, or the entry is longer than MLflow keeps.
    RegistryError
        The server is out of reach or refuses, or the last entry cannot be read.
    """
    if not reason.strip():
        raise ValueError(f"{action} of {model}: an entry of the ledger needs a reason")
    run_id = _run(model, make=True)["info"]["run_id"]
    while True:
        known = entries(model)
        when = datetime.fromtimestamp(server_time_s(), tz=timezone.utc)
        entry = Entry(
            sequence=len(known) + 1,
            time_utc=when.isoformat(timespec="seconds"),
            who=who or user(),
            action=action,
            model=model,
            version=version,
            reason=reason.strip(),
            details=details,
            previous=known[-1].sha256 if known else NOTHING,
        )
        entry = Entry(**{**asdict(entry), **sign(entry.said())})
        value = json.dumps(asdict(entry), sort_keys=True)
        if len(value) > MOST_CHARACTERS:
            raise ValueError(
                f"{action} of {model}: found an entry of {len(value)} characters; at most "
                f"{MOST_CHARACTERS}"
            )
        key = f"{ENTRY}{entry.sequence:06d}"
        try:
            call("POST", "runs/log-parameter", run_id=run_id, key=key, value=value)
        except OutOfReach:
            raise
        except RegistryError:
            if len(entries(model)) > len(known):
                continue  # another one was faster
            raise
        _settle(model)
        return entry


def move_alias(
    model: str,
    version: int | None,
    alias: str,
    reason: str,
    *,
    who: str | None = None,
    **details: str,
) -> Entry:
    """Move an alias to a version, or take it away (None): the entry first, then the alias.

    Raises
    ------
    NotInRegistry
        There is no such version.
    RegistryError, ValueError
        As `append`. Where the entry is written and the alias is not, doing it again heals it.
    """
    if version is not None:
        call("GET", "model-versions/get", name=model, version=str(version))
    stood = aliases(entries(model)).get(alias)
    before = "" if stood is None else str(stood)
    marks = {**details, "alias": alias, "from": before}
    entry = append(model, version, ALIAS, reason, who=who, **marks)
    _settle(model, alias)
    return entry


def entries(model: str) -> list[Entry]:
    """The entries of a model, first to last, as they stand in the database; `check` judges them.

    Raises
    ------
    RegistryError
        The server is out of reach, or an entry cannot be read at all.
    """
    return [entry for _, entry in _numbered(model)]


def aliases(known: Iterable[Entry]) -> dict[str, int]:
    """Where each alias stands by the ledger."""
    found: dict[str, int] = {}
    for entry in known:
        if entry.action == ALIAS:
            found.pop(entry.details["alias"], None)
            if entry.version is not None:
                found[entry.details["alias"]] = entry.version
    return found


def check(model: str, trusted: Iterable[str]) -> list[str]:
    """All that is wrong with a model's ledger: one sentence each, none where it is whole.

    Parameters
    ----------
    model : str
        The registered model.
    trusted : iterable of str
        The public keys that may sign, 64 hexadecimal digits each.
    """
    try:
        numbered, registered = _numbered(model), _registered(model)
    except OutOfReach:
        raise
    except RegistryError as error:
        return [str(error)]
    wrong = _chain_faults(model, numbered, set(trusted))
    known = [entry for _, entry in numbered]
    last = _head(known)
    tags = {tag["key"]: tag["value"] for tag in registered.get("tags", ())}
    if tags.get(HEAD, "") != last:
        wrong.append(f"the model's tag {HEAD} is {tags.get(HEAD)!r}; the last entry is {last!r}")
    seen = _seen(model)
    if seen and seen not in {_head(known[:n]) for n in range(1, len(known) + 1)}:
        wrong.append(f"entry {seen} was seen on this machine; it is not in the ledger")
    now = {one["alias"]: int(one["version"]) for one in registered.get("aliases", ())}
    for alias in sorted({*now, *aliases(known)}):
        said = aliases(known).get(alias)
        if now.get(alias) != said:
            there = now.get(alias, "no version")
            wrong.append(f"alias {alias} is on {there}; the ledger has {said or 'no version'}")
    if not wrong:
        _see(model, last)
    return wrong


def _chain_faults(model: str, numbered: Sequence[tuple[int, Entry]], keys: set[str]) -> list[str]:
    """What is wrong with the entries among themselves."""
    wrong, previous = [], NOTHING
    for expected, (number, entry) in enumerate(numbered, start=1):
        faults = {
            f"stands at number {number}; expected {expected}": number != expected,
            f"says that it is number {entry.sequence}": entry.sequence != number,
            f"is about {entry.model}": entry.model != model,
            "does not follow the entry before it": entry.previous != previous,
            f"is signed by key {entry.key[:16]}, which is not trusted": entry.key not in keys,
            "is not what was signed": not _signed(entry),
        }
        wrong += [f"entry {number} {text}" for text, found in faults.items() if found]
        previous = entry.sha256
    return wrong


def _signed(entry: Entry) -> bool:
    try:
        return signed_by(entry.said(), {"key": entry.key, "signature": entry.signature})
    except ValueError:
        return False


def _numbered(model: str) -> list[tuple[int, Entry]]:
    run = _run(model, make=False)
    params = {one["key"]: one["value"] for one in run.get("data", {}).get("params", ())}
    return [
        (int(key.removeprefix(ENTRY)), _read(model, key, params[key]))
        for key in sorted(params)
        if key.startswith(ENTRY)
    ]


def _read(model: str, key: str, value: str) -> Entry:
    try:
        return checked(Entry(**parsed(value)))
    except (ValueError, TypeError) as error:
        raise RegistryError(f"ledger of {model}: {key} cannot be read: {error}") from error


def _run(model: str, *, make: bool) -> dict[str, Any]:
    """The run that holds a model's ledger, made if need be; {} where there is none."""
    name = f"{LEDGER}{model}"
    first = False
    try:
        found = call("GET", "experiments/get-by-name", experiment_name=name)["experiment"]
        experiment = found["experiment_id"]
    except NotInRegistry:
        if not make:
            return {}
        try:
            note = {"key": "mlflow.note.content", "value": __doc__.split("\n\n")[0]}
            experiment = call("POST", "experiments/create", name=name, tags=[note])["experiment_id"]
            first = True
        except RegistryError:  # another process made it meanwhile
            return _run(model, make=True)
    until = time.monotonic() + (0 if first or not make else WAIT_S)
    while True:
        answer = call(
            "POST", "runs/search", experiment_ids=[experiment], run_view_type="ALL", max_results=50
        )
        runs: list[dict[str, Any]] = answer.get("runs", [])
        if runs:
            oldest = min(runs, key=lambda run: (run["info"]["start_time"], run["info"]["run_id"]))
            return _ended(oldest) if make else oldest
        if time.monotonic() >= until:
            break
        time.sleep(0.1)
    if not make:
        return {}
    tags = [
        {"key": "mlflow.runName", "value": f"ledger of {model}"},
        {"key": "holter.kind", "value": "ledger"},
    ]
    made: dict[str, Any] = call(
        "POST",
        "runs/create",
        experiment_id=experiment,
        start_time=int(server_time_s() * 1000),
        tags=tags,
    )["run"]
    return _ended(made)


def _ended(run: dict[str, Any]) -> dict[str, Any]:
    """A ledger's run, FINISHED: MLflow takes parameters all the same, and nothing seems to run."""
    info = run["info"]
    if info["status"] == "RUNNING":
        end = max(int(server_time_s() * 1000), info["start_time"])
        call("POST", "runs/update", run_id=info["run_id"], status="FINISHED", end_time=end)
    return run


def _registered(model: str) -> dict[str, Any]:
    found: dict[str, Any] = call("GET", "registered-models/get", name=model)["registered_model"]
    return found


def _head(known: Sequence[Entry]) -> str:
    return f"{known[-1].sequence}:{known[-1].sha256}" if known else ""


def _settle(model: str, alias: str | None = None) -> None:
    """Bring the head's tag, and an alias, to the last word, though others append meanwhile."""
    before = None
    while (known := entries(model)) != before:
        before = known
        call("POST", "registered-models/set-tag", name=model, key=HEAD, value=_head(known))
        _see(model, _head(known))
        if alias is None:
            continue
        version = aliases(known).get(alias)
        if version is not None:
            at = str(version)
            call("POST", "registered-models/alias", name=model, alias=alias, version=at)
        elif any(one["alias"] == alias for one in _registered(model).get("aliases", ())):
            call("DELETE", "registered-models/alias", name=model, alias=alias)


def _witness(model: str) -> Path:
    """Where this machine keeps the newest head that it saw of a server's ledger."""
    server = sha256_bytes(address().encode())[:12]
    return home() / "ledger" / server / f"{quote(model, safe='')}.json"


def _seen(model: str) -> str:
    path = _witness(model)
    return str(read_json(path)["head"]) if path.exists() else ""


def _see(model: str, head: str) -> None:
    if head and head != _seen(model):
        write_json(_witness(model), {"head": head, "server": address(), "model": model})
