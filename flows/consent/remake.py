"""Versions that learnt from a person are trained again without them, and compared with what was.

The training is that of the sealed chain: data sets, settings, seed. Ingest leaves the person out.
A teacher is made again before its students.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from flows.consent.certificate import Remade
from flows.consent.person import Trace, VersionTrace
from flows.decide.rebuild import SOURCES, params_of, settings_of
from flows.reports.compare import compare
from flows.train.flow import train
from flows.train.kept_sides import keep_sides
from storage.audit import ledger
from storage.audit.versions import VersionRecord, read_version
from storage.consent.orders import CERTIFIED
from storage.datasets.dataset import DatasetSpec
from storage.datasets.dataset_write import write_spec
from storage.errors import HolterError, OutOfReach, SplitError, TableError
from storage.files import home
from storage.logs import log
from storage.registry.signing import trusted_keys

#: Parameters that a training again may have otherwise: which version teaches, and whose sides.
OTHERWISE = ("teacher", "split_rule")


def to_remake(trace: Trace) -> list[VersionTrace]:
    """Versions in use that learnt from the person, and their teachers that did: teachers first.

    One that an earlier withdrawal made again is not among them.
    """
    learnt = {version.reference: version for version in trace.versions if version.is_learner}
    order: dict[str, VersionTrace] = {}

    def add(version: VersionTrace) -> None:
        if version.teacher in learnt:
            add(learnt[version.teacher])
        order.setdefault(version.reference, version)

    for version in learnt.values():
        if version.in_use and version.in_mlflow == "yes":
            add(version)
    return [version for version in order.values() if not _successor(version.reference)]


def _successor(reference: str) -> str:
    """The version that an earlier withdrawal put in the place of one; "" where none did."""
    if not reference:
        return ""
    name, _, number = reference.partition("/")
    return next(
        (
            entry.details["remade"]
            for entry in reversed(ledger.trusted_entries(name, trusted_keys()))
            if entry.action == CERTIFIED
            and str(entry.version) == number
            and "remade" in entry.details
        ),
        "",
    )


def remake(version: VersionTrace, remade: Sequence[Remade], since: str) -> Remade:
    """Train a version again, or find the one that was before this was killed; compare the two.

    Parameters
    ----------
    version : VersionTrace
        The version.
    remade : sequence of Remade
        Those that were made again so far, among them its teacher.
    since : str
        When the withdrawal began, ISO 8601.

    Returns
    -------
    Remade
        Without a version in its place where none could be made, and why.
    """
    successors = {row.version: row.by for row in remade}
    try:
        before = read_version(version.reference)
        teacher = successors.get(version.teacher) or _successor(version.teacher)
        if version.teacher in successors and not teacher:
            raise TableError(f"its teacher {version.teacher} was not made again")
        again = _made_since(before, since) or _train(before, teacher)
    except OutOfReach:
        raise
    except HolterError as error:
        return Remade(version.reference, reason=f"not made again: {error}")
    return _compared(before, again)


def _made_since(before: VersionRecord, since: str) -> VersionRecord | None:
    """The version that the same training registered since; None where there is none."""
    name = before.model.name
    for entry in reversed(ledger.trusted_entries(name, trusted_keys())):
        if entry.time_utc < since:
            return None
        if entry.action == ledger.REGISTERED and entry.version != before.model.version:
            again = read_version(f"{name}/{entry.version}")
            if _settings(again) == _settings(before):
                return again
    return None


def _settings(version: VersionRecord) -> dict[str, str]:
    return {name: text for name, text in params_of(version).items() if name not in OTHERWISE}


def _train(before: VersionRecord, teacher: str) -> VersionRecord:
    """Train again on the same data sets and sides; what ingest may not use is left out.

    Raises
    ------
    TableError
        The recordings are not where they were read, or the training is of a kind unknown here.
    """
    folders = [Path(manifest.origin) for manifest in before.manifests]
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    source = before.tags.get("mlflow.source.name", "")
    if missing or source not in SOURCES:
        problem = f"no folder {', '.join(missing)}" if missing else f"a training by {source!r}"
        raise TableError(f"{before.model.reference}: found {problem}; expected the recordings")
    specs = [
        write_spec(
            home() / "consent" / "specs" / before.chain_sha256[:12] / f"{manifest.dataset}.toml",
            DatasetSpec.model_validate(manifest.spec),
        )
        for manifest in before.manifests
    ]
    settings = settings_of(before, [*map(str, specs)], folders)
    changes = {"teacher": teacher} if teacher else {}
    if settings.registered_name != before.model.name:
        changes["name"] = before.model.name
    changes["most_failed"] = before.params.get("most_failed", "0")
    settings = settings.model_copy(update=changes)
    try:
        with keep_sides(before.split):
            result = train(settings)
    except SplitError as error:  # of a training that ends before it begins
        log.warning(f"{before.model.reference}: {error}: the sides are dealt anew")
        result = train(settings)
    return read_version(result.version.reference)


def _compared(before: VersionRecord, again: VersionRecord) -> Remade:
    """The two, paired by patient; why they cannot be compared where they cannot."""
    names = before.model.reference, again.model.reference
    try:
        paired = compare(before, again).paired
    except OutOfReach:
        raise
    except HolterError as error:
        return Remade(*names, reason=f"not compared: {error}")
    gains = {
        rate: [v if isfinite(v) else None for v in map(float, (gain.value, gain.low, gain.high))]
        for rate, gain in paired.differences().items()
    }
    return Remade(*names, patients=len(paired.patients), gains=gains)
