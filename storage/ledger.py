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
- `entries(model)` reads them, `own_entries(model)` those of the model that MLflow has now,
  `aliases(entries)` says where each alias stands by them, `mlflow_aliases(model)` where it stands
  in MLflow, `check(...)` says all that is wrong.

Two that append at the same time get two numbers; an alias then follows the later entry.

A registered model that is deleted and made again counts its versions from 1. Its ledger goes on, so
each entry names the model by the time at which MLflow made it (`model_created_ms`), which is
another one then. Entries without it are told by their own time.
"""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from storage.errors import NotInRegistry, OutOfReach, RegistryError
from storage.files import home, read_json, sha256_bytes, write_json
from storage.ledger_entry import ALIAS as ALIAS
from storage.ledger_entry import EVALUATED as EVALUATED
from storage.ledger_entry import MODEL_CREATED, NOTHING, chain_faults, own, read_entry
from storage.ledger_entry import REGISTERED as REGISTERED
from storage.ledger_entry import Entry as Entry
from storage.ledger_entry import aliases as aliases
from storage.mlflow_rest import address, call, deletions, server_time_s
from storage.signing import sign

ENTRY, HEAD = "entry.", "holter.ledger"
#: Experiments that hold a ledger, before the model's name.
LEDGER = "ledger/"
#: MLflow keeps no parameter longer than this.
MOST_CHARACTERS = 6_000
#: How long the one who made the experiment may take to make its run.
WAIT_S = 10.0


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
    NotInRegistry
        MLflow has no such model.
    RegistryError
        The server is out of reach or refuses, or the last entry cannot be read.
    """
    if not reason.strip():
        raise ValueError(f"{action} of {model}: an entry of the ledger needs a reason")
    details = {**details, MODEL_CREATED: str(created_ms(model))}
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
    in_mlflow, in_ledger = mlflow_aliases(model).get(alias), aliases(own_entries(model)).get(alias)
    marks = {**details, "alias": alias, "from": str(in_mlflow or "")}
    if in_ledger != in_mlflow:  # it was moved past the ledger
        marks["ledger_from"] = str(in_ledger or "")
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
    return [entry for _, entry in _numbered(model, _run(model, make=False))]


def own_entries(model: str) -> list[Entry]:
    """The entries about the model that MLflow has now, none of an earlier one of the same name.

    Raises
    ------
    NotInRegistry
        MLflow has no such model.
    RegistryError
        As `entries`.
    """
    return own(entries(model), created_ms(model))


def mlflow_aliases(model: str) -> dict[str, int]:
    """Where each alias stands in MLflow.

    Raises
    ------
    NotInRegistry
        MLflow has no such model.
    """
    return _aliases_of(_registered(model))


def _aliases_of(registered: Mapping[str, Any]) -> dict[str, int]:
    return {one["alias"]: int(one["version"]) for one in registered.get("aliases", ())}


def created_ms(model: str) -> int:
    """When MLflow made a registered model, ms since 1970: no two of one name share it.

    Raises
    ------
    NotInRegistry
        MLflow has no such model.
    """
    return int(_registered(model)["creation_timestamp"])


def alias_faults(model: str, known: Iterable[Entry]) -> list[str]:
    """Aliases that stand elsewhere in MLflow than by the model's own entries.

    Parameters
    ----------
    model : str
        A registered model that MLflow has.
    known : iterable of Entry
        Its own entries.
    """
    in_mlflow, in_ledger = mlflow_aliases(model), aliases(known)
    return [
        f"alias {alias} is on {in_mlflow.get(alias, 'no version')}; the ledger has "
        + _version_words(model, in_ledger.get(alias))
        for alias in sorted({*in_mlflow, *in_ledger})
        if in_mlflow.get(alias) != in_ledger.get(alias)
    ]


def _version_words(model: str, version: int | None) -> str:
    """A version that the ledger names, and whether MLflow has it."""
    if version is None:
        return "no version"
    try:
        call("GET", "model-versions/get", name=model, version=str(version))
    except NotInRegistry:
        return f"{version}, which MLflow no longer has"
    return str(version)


def check(model: str, trusted: Iterable[str]) -> list[str]:
    """All that is wrong with a model's ledger: one sentence each, none where it is whole.

    The ledger of a model that MLflow no longer has is whole where its entries are.

    Parameters
    ----------
    model : str
        The registered model.
    trusted : iterable of str
        The public keys that may sign, 64 hexadecimal digits each.
    """
    try:
        run = _run(model, make=False)
        numbered = _numbered(model, run)
    except OutOfReach:
        raise
    except RegistryError as error:
        return [str(error)]
    wrong = chain_faults(model, numbered, set(trusted))
    wrong += deletions(run["info"]["run_id"]) if run else []
    known = [entry for _, entry in numbered]
    last = _head(known)
    try:
        wrong += _registry_faults(model, known)
    except OutOfReach:
        raise
    except NotInRegistry as error:
        wrong += [] if known else [str(error)]
    seen = _seen(model)
    if seen and seen not in {_head(known[:n]) for n in range(1, len(known) + 1)}:
        wrong.append(f"entry {seen} was seen on this machine; it is not in the ledger")
    if not wrong:
        _see(model, last)
    return wrong


def _registry_faults(model: str, known: Sequence[Entry]) -> list[str]:
    """Where the registered model is not as the ledger says: the head in its tag, its aliases."""
    registered, last = _registered(model), _head(known)
    head = {tag["key"]: tag["value"] for tag in registered.get("tags", ())}.get(HEAD)
    wrong = alias_faults(model, own(known, int(registered["creation_timestamp"])))
    if (head or "") != last:
        wrong.append(f"the model's tag {HEAD} is {head!r}; the last entry is {last!r}")
    return wrong


def _numbered(model: str, run: Mapping[str, Any]) -> list[tuple[int, Entry]]:
    params = {one["key"]: one["value"] for one in run.get("data", {}).get("params", ())}
    return [
        (int(key.removeprefix(ENTRY)), read_entry(model, key, params[key]))
        for key in sorted(params)
        if key.startswith(ENTRY)
    ]


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
        version = aliases(own(known, created_ms(model))).get(alias)
        if version is not None:
            at = str(version)
            call("POST", "registered-models/alias", name=model, alias=alias, version=at)
        elif alias in mlflow_aliases(model):
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
