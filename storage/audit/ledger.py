"""The ledger: an append-only, signed, hash-chained log of what was decided about a model.

A registered model has one ledger, for all who share its MLflow server: one run in the experiment
`ledger/MODEL`, one parameter an entry (`entry.000001` ...), which MLflow's database lets nobody
log twice. Every entry holds the digest of the one before and is signed with the release key
(Ed25519). Its digest is also in the registered model's tag `holter.ledger`, and each machine keeps
the newest one it saw in `ledger/` of its state folder (`storage.audit.witness`): an entry that is
edited, deleted or put into the database by hand is found, and so is a ledger that was cut off at
its end. Nothing is appended to a ledger that was cut off. What else stands among its parameters is
told, and counts for nothing.

- `append(model, version, action, reason, who=..., **details)` writes an entry: "registered",
  "evaluated", "approved", or what else. Details are strings; of anything long, give the digest.
  `check_open(model)` asks beforehand whether it can.
- `move_alias(model, version, alias, reason, who=..., **details)` is how every alias moves: the
  entry first, then the alias. Version None takes the alias away.
- `entries(model)` reads them, `own_entries(model)` those of the model that MLflow has now, and
  `trusted_entries(model, keys)` of these the ones that such a key signed.
- `aliases(entries)` says where each alias stands by them, `mlflow_aliases(model)` where it stands
  in MLflow, `check(...)` says all that is wrong.

Two that append at the same time get two numbers; an alias then follows the later entry.

A data set whose passages people decided about has one too, "labels/DATASET":
`storage.audit.reviews`.

A registered model that is deleted and made again counts its versions from 1. Its ledger goes on, so
each entry names the model by the time at which MLflow made it (`model_created_ms`), which is
another one then. Entries without it are told by their own time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from storage.audit.ledger_entry import ALIAS as ALIAS
from storage.audit.ledger_entry import EVALUATED as EVALUATED
from storage.audit.ledger_entry import (
    MODEL_CREATED,
    NO_PREVIOUS,
    OF_DATA,
    Pages,
    chain_faults,
    entries_of_model,
    head,
    read_pages,
)
from storage.audit.ledger_entry import REGISTERED as REGISTERED
from storage.audit.ledger_entry import Entry as Entry
from storage.audit.ledger_entry import aliases as aliases
from storage.audit.ledger_run import ledger_run
from storage.audit.ledger_run import user as user
from storage.audit.witness import Witness, marks_of, missing, see, witnesses
from storage.errors import NotInRegistry, OutOfReach, RegistryError
from storage.registry.client import call, deletions, server_time_s
from storage.registry.signing import sign, trusted_keys
from storage.registry.tags import LEDGER_TAG, entry_param

#: What `LEDGER_TAG` holds: the number of the newest entry and its SHA-256.
HEADS = re.compile("[0-9]{1,18}:[0-9a-f]{64}")
#: MLflow keeps no parameter longer than this.
MOST_CHARACTERS = 6_000


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
        The server is out of reach or refuses, the ledger was cut off at its end or is deleted in
        MLflow, or somebody whose key is unknown here signed an entry of it.
    """
    if not reason.strip():
        raise ValueError(f"{action} of {model}: an entry of the ledger needs a reason")
    if not model.startswith(OF_DATA):
        details = {**details, MODEL_CREATED: str(created_ms(model))}
    run_id = ledger_run(model, make=True)["info"]["run_id"]
    while True:
        history, numbers = _to_append_to(model)
        last = history[-1] if history else None
        number = last.sequence + 1 if last else 1
        while number in numbers:  # by what is no entry
            number += 1
        entry = Entry(
            sequence=number,
            time_utc=_now_utc(last),
            who=who or user(),
            action=action,
            model=model,
            version=version,
            reason=reason.strip(),
            details=details,
            previous=last.sha256 if last else NO_PREVIOUS,
        )
        entry = Entry(**{**asdict(entry), **sign(entry.signed_bytes())})
        value = json.dumps(asdict(entry), sort_keys=True)
        if len(value) > MOST_CHARACTERS:
            raise ValueError(
                f"{action} of {model}: found an entry of {len(value)} characters; at most "
                f"{MOST_CHARACTERS}"
            )
        key = entry_param(number)
        try:
            call("POST", "runs/log-parameter", run_id=run_id, key=key, value=value)
        except OutOfReach:
            raise
        except RegistryError as error:
            if number in _pages(model).numbers:
                continue  # another one was faster
            if faults := deletions(run_id):
                raise RegistryError(f"ledger of {model}: {'; '.join(faults)}") from error
            raise
        _settle(model)
        return entry


def check_open(model: str) -> None:
    """Make sure, before any work, that the ledger of a model takes an entry; errors as `append`."""
    _to_append_to(model)


def _now_utc(last: Entry | None) -> str:
    """When an entry is made, by the server's clock; never before the entry that it follows."""
    now = datetime.fromtimestamp(server_time_s(), tz=timezone.utc).replace(microsecond=0)
    return max(now, datetime.fromisoformat(last.time_utc) if last else now).isoformat()


def _to_append_to(model: str) -> tuple[tuple[Entry, ...], frozenset[int]]:
    """The entries that another one may follow, and the numbers that are taken.

    Raises
    ------
    RegistryError
        One that was seen is missing at the end, or nobody here knows the key of one.
    """
    sightings, registered = _sightings(model)  # before the entries, to which others append
    pages = _pages(model)
    cut = _cut_faults(pages.entries, sightings, registered)
    in_tag = _tag(registered) or ""
    if HEADS.fullmatch(in_tag) and in_tag not in map(head, pages.entries):
        cut.append(f"entry {in_tag} is in the model's tag {LEDGER_TAG}; it is not in the ledger")
    if cut:
        raise RegistryError(
            f"ledger of {model}: {'; '.join(cut)}; expected one that goes on from it. Nothing is "
            "added to a ledger that was cut off: bring MLflow's database back from a copy"
        )
    keys = trusted_keys() | {entry.key for entry in pages.entries[:1]}
    for entry in pages.entries:
        if entry.key not in keys:
            raise RegistryError(
                f"ledger of {model}: entry {entry.sequence} is signed by key {entry.key}, which is "
                "unknown here; expected a key in keys/*.pub of the state folder. If it is nobody's "
                f"of yours, take the parameter {entry_param(entry.sequence)} out of MLflow's "
                "database"
            )
    return pages.entries, pages.numbers


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
    """The entries of a model, first to last, each as somebody signed it; `check` judges them.

    Raises
    ------
    RegistryError
        The server is out of reach.
    """
    return list(_pages(model).entries)


def own_entries(model: str) -> list[Entry]:
    """The entries about the model that MLflow has now, none of an earlier one of the same name.

    Raises
    ------
    NotInRegistry
        MLflow has no such model.
    RegistryError
        As `entries`.
    """
    return entries_of_model(entries(model), created_ms(model))


def trusted_entries(model: str, trusted: Iterable[str]) -> list[Entry]:
    """Of the model's own entries those that a trusted key signed; errors as `own_entries`."""
    keys = set(trusted)
    return [entry for entry in own_entries(model) if entry.key in keys]


def mlflow_aliases(model: str) -> dict[str, int]:
    """Where each alias stands in MLflow.

    Raises
    ------
    NotInRegistry
        MLflow has no such model.
    """
    rows = _registered_model(model).get("aliases", ())
    return {row["alias"]: int(row["version"]) for row in rows}


def created_ms(model: str) -> int:
    """When MLflow made a registered model, ms since 1970: no two of one name share it.

    Raises
    ------
    NotInRegistry
        MLflow has no such model.
    """
    return int(_registered_model(model)["creation_timestamp"])


def alias_faults(model: str, history: Iterable[Entry]) -> list[str]:
    """Aliases that stand elsewhere in MLflow than by the model's own entries.

    Parameters
    ----------
    model : str
        A registered model that MLflow has.
    history : iterable of Entry
        Its own entries.
    """
    in_mlflow, in_ledger = mlflow_aliases(model), aliases(history)
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
        sightings, registered = _sightings(model)  # before the entries, to which others append
        run = ledger_run(model, make=False)
    except OutOfReach:
        raise
    except RegistryError as error:
        return [str(error)]
    pages = _read(model, run)
    history = pages.entries
    wrong = [*pages.faults, *chain_faults(history, set(trusted))]
    wrong += deletions(run["info"]["run_id"]) if run else []
    try:
        wrong += _registry_faults(model, history)
    except NotInRegistry as error:
        wrong += [] if history or model.startswith(OF_DATA) else [str(error)]
    wrong += _cut_faults(history, sightings, registered)
    if not wrong:
        _see(history, model, registered)
    return wrong


def _sightings(model: str) -> tuple[list[Witness], dict[str, Any]]:
    """What this machine saw of ledgers of the name, and the registered model; {} where none is."""
    try:
        return witnesses(model), _registered_model(model)
    except NotInRegistry:
        return witnesses(model), {}


def _cut_faults(
    history: Sequence[Entry], sightings: Iterable[Witness], registered: Mapping[str, Any]
) -> list[str]:
    """Entries that this machine saw and that are no longer in the ledger."""
    lost = missing(sightings, _marks(history, registered), [head(entry) for entry in history])
    return [
        f"entry {at} was seen on this machine; it is not in the ledger (kept in {path})"
        for at, path in {witness.head: witness.path for witness in lost}.items()
    ]


def _see(history: Sequence[Entry], model: str, registered: Mapping[str, Any]) -> None:
    see(model, _marks(history, registered), [head(entry) for entry in history])


def _marks(history: Sequence[Entry], registered: Mapping[str, Any]) -> frozenset[str]:
    made_ms = registered.get("creation_timestamp")
    return marks_of(history[0] if history else None, int(made_ms) if made_ms else None)


def _registry_faults(model: str, history: Sequence[Entry]) -> list[str]:
    """Where the registered model is not as the ledger says: the head in its tag, its aliases."""
    registered, last = _registered_model(model), head(history[-1]) if history else ""
    in_tag = _tag(registered)
    wrong = alias_faults(model, entries_of_model(history, int(registered["creation_timestamp"])))
    if (in_tag or "") != last:
        wrong.append(f"the model's tag {LEDGER_TAG} is {in_tag!r}; the last entry is {last!r}")
    return wrong


def _tag(registered: Mapping[str, Any]) -> str | None:
    tags = {tag["key"]: tag["value"] for tag in registered.get("tags", ())}
    return tags.get(LEDGER_TAG)


def _pages(model: str) -> Pages:
    return _read(model, ledger_run(model, make=False))


def _read(model: str, run: Mapping[str, Any]) -> Pages:
    params = {param["key"]: param["value"] for param in run.get("data", {}).get("params", ())}
    return read_pages(model, params)


def _registered_model(model: str) -> dict[str, Any]:
    if model.startswith(OF_DATA):
        raise NotInRegistry(f"{model} is the ledger of a data set, and of no model")
    fields: dict[str, Any] = call("GET", "registered-models/get", name=model)["registered_model"]
    return fields


def _settle(model: str, alias: str | None = None) -> None:
    """Bring the head's tag, and an alias, to the last word, though others append meanwhile."""
    before = None
    while (history := entries(model)) != before:
        before = history
        if model.startswith(OF_DATA):
            _see(history, model, {})
            continue
        call(
            "POST", "registered-models/set-tag", name=model, key=LEDGER_TAG, value=head(history[-1])
        )
        _see(history, model, _registered_model(model))
        if alias is None:
            continue
        version = aliases(entries_of_model(history, created_ms(model))).get(alias)
        if version is not None:
            at = str(version)
            call("POST", "registered-models/alias", name=model, alias=alias, version=at)
        elif alias in mlflow_aliases(model):
            call("DELETE", "registered-models/alias", name=model, alias=alias)
