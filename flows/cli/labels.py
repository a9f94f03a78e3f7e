"""`holter labels`: what people decided about a data set's passages, and how they agree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import Format, answer
from flows.cli.options import Dataset, registry, registry_to_read
from flows.reports.shown import say, show_table
from storage.errors import RegistryError
from storage.files import check_writable, home

if TYPE_CHECKING:
    from flows.cli.answer import data_kinds
    from storage.audit.reviews import SignedDecisions
    from storage.datasets.dataset import DatasetSpec
    from storage.labels.decisions import Decision
    from tasks.review.agreement import Agreement

#: Passages on which two reviewers disagree that are told one by one.
MOST_DISPUTES = 20


def labels(
    dataset: Dataset,
    export: Annotated[
        Path | None,
        typer.Option(help="Write WFDB annotation files and one Parquet table into this folder."),
    ] = None,
    sign: Annotated[
        bool, typer.Option("--sign", help="Enter what is not signed yet into the ledger.")
    ] = False,
    output: Format = "text",
) -> None:
    """Decisions about a data set's passages: by whom, how they agree, whether they are signed.

    Exit code 1: the log of decisions is not the one that the ledger signed.
    """
    from storage.datasets.dataset import load_spec
    from storage.labels.decisions import read_decisions
    from storage.labels.export import write_labels

    spec = load_spec(dataset)
    decisions = read_decisions(spec.name)
    files: list[Path] = []
    if export is not None:
        _check_apart(spec, check_writable(export.absolute(), "folder"))
        files = write_labels(decisions, spec.review.rule, export.absolute())
    signed, note = _signed(spec.name, sign=sign)
    value = labels_of(spec, decisions, signed, note, files)
    answer(value, output, lambda: _show(value))
    if value.faults:
        raise typer.Exit(1)


def _check_apart(spec: DatasetSpec, folder: Path) -> None:
    """Refuse to write where the recordings lie."""
    source = Path(spec.source.folder).resolve() if spec.source.folder else None
    if source is not None and folder.resolve().is_relative_to(source):
        raise ValueError(
            f"{folder}: found the folder of the recordings of {spec.name}, which is never written; "
            "expected another one"
        )


def _signed(dataset: str, *, sign: bool) -> tuple[SignedDecisions | None, str]:
    """What the ledger signs; None where it cannot be asked, and why."""
    from flows.services.access import named_servers
    from storage.audit.reviews import sign_decisions, signed_decisions
    from storage.registry.signing import trusted_keys

    if sign:
        with registry():
            sign_decisions(dataset)
            return signed_decisions(dataset, trusted_keys()), ""
    has_registry = (home() / "mlflow" / "mlflow.db").is_file()
    if not (has_registry or "MLFLOW_TRACKING_URI" in named_servers()):
        return None, "there is no ledger yet: --sign begins one"
    try:
        with registry_to_read():
            return signed_decisions(dataset, trusted_keys()), ""
    except RegistryError as error:
        return None, str(error)


def labels_of(
    spec: DatasetSpec,
    decisions: Sequence[Decision],
    signed: SignedDecisions | None,
    note: str,
    files: Sequence[Path],
) -> data_kinds.LabelDecisions:
    """What was decided about a data set, as its kind of answer."""
    from flows.cli.answer import data_kinds
    from storage.labels.decisions import log_path
    from storage.labels.log import TORN
    from storage.labels.passages import passages
    from tasks.review.agreement import agreements

    by_record: dict[str, list[Decision]] = {}
    by_reviewer: dict[str, list[Decision]] = {}
    for decision in decisions:
        by_record.setdefault(decision.record, []).append(decision)
        by_reviewer.setdefault(decision.reviewer, []).append(decision)
    layer = [p for rows in by_record.values() for p in passages(rows, spec.review.rule)]
    path = log_path(spec.name)
    return data_kinds.LabelDecisions(
        data_set=spec.name,
        is_layer=spec.annotations.has_review,
        rule=spec.review.rule,
        log=str(path),
        decisions=len(decisions),
        records=len(by_record),
        passages=len(layer),
        cannot_tell=sum(not passage.rhythm for passage in layer),
        disputed=sum(passage.disputed for passage in layer),
        reviewers=[_reviewer(name, by_reviewer[name]) for name in sorted(by_reviewer)],
        agreements=[_pair(agreement) for agreement in agreements(decisions)],
        signed_count=signed.count if signed else None,
        note=note,
        faults=[*signed.faults] if signed else [],
        torn=[str(file) for file in sorted(path.parent.glob(TORN))],
        files=[str(file) for file in files],
    )


def _reviewer(name: str, decisions: Sequence[Decision]) -> data_kinds.Reviewer:
    from flows.cli.answer import data_kinds
    from storage.labels.decisions import VERDICTS

    counts = Counter(decision.verdict for decision in decisions)
    return data_kinds.Reviewer(
        name=name,
        decisions=len(decisions),
        records=len({decision.record for decision in decisions}),
        verdicts={verdict: counts[verdict] for verdict in VERDICTS},
        versions=sorted({decision.version for decision in decisions} - {""}),
        last_utc=max(decision.time for decision in decisions),
    )


def _pair(agreement: Agreement) -> data_kinds.ReviewerPair:
    from flows.cli.answer import data_kinds

    return data_kinds.ReviewerPair(
        reviewers=[*agreement.reviewers],
        episodes=agreement.episodes,
        samples=agreement.samples,
        kappa_episodes=agreement.kappa_episodes,
        kappa_time=agreement.kappa_time,
        disputes=[
            data_kinds.Dispute(d.record, d.start, d.end, [*d.rhythms]) for d in agreement.disputes
        ],
    )


def _show(value: data_kinds.LabelDecisions) -> None:
    """The answer in words, reviewers, pairs, disputes, then whether it is signed."""
    if value.decisions:
        _show_reviewers(value)
        _show_agreement(value.agreements)
    else:
        say(f"{value.data_set}: nobody has decided anything about it.")
    if value.signed_count is None:
        say(f"Signed in the ledger: cannot tell, {value.note}.")
    else:
        say(f"Signed in the ledger: {value.signed_count:,} of {value.decisions:,}.")
    for fault in value.faults:
        say(f"fault    {fault}", "bold red")
    for file in value.torn:
        say(f"torn     {file}: a line whose writer was ended before it was saved", "yellow")
    if value.files:
        say(f"Written  {len(value.files):,} files, {value.files[0]} among them")


def _show_reviewers(value: data_kinds.LabelDecisions) -> None:
    say(
        f"{value.data_set}: {_count(value.decisions, 'decision')} about "
        f"{_count(value.records, 'record')} by {_count(len(value.reviewers), 'reviewer')}. By the "
        f"rule {value.rule!r} {_count(value.passages, 'passage')} hold, {value.cannot_tell:,} of "
        f"them as such that nobody can tell ({value.disputed:,} disputed).",
        "bold",
    )
    if not value.is_layer:
        words = 'Its TOML does not read them: [annotations] rhythm = ["review", ...] does.'
        say(words, "yellow")
    verdicts = [*value.reviewers[0].verdicts]
    rows = [
        (r.name, *(f"{n:,}" for n in (r.decisions, r.records, *r.verdicts.values())), r.last_utc)
        for r in value.reviewers
    ]
    show_table(("reviewer", "decisions", "records", *verdicts, "last"), rows)


def _show_agreement(agreements: Sequence[data_kinds.ReviewerPair]) -> None:
    """How each pair agrees, and where not."""
    rows = [
        (
            " and ".join(pair.reviewers),
            f"{pair.episodes:,}",
            _kappa(pair.kappa_episodes),
            _kappa(pair.kappa_time),
            f"{len(pair.disputes):,}",
        )
        for pair in agreements
    ]
    if rows:
        say()
        columns = ("reviewers", "episodes", "kappa by episode", "by time", "disagree about")
        show_table(columns, rows)
    disputes = [
        (d.record, f"{d.start}-{d.end}", *_sides(pair.reviewers, d.rhythms))
        for pair in agreements
        for d in pair.disputes
    ]
    if disputes:
        say()
        show_table(("record", "samples", "one says", "the other"), disputes[:MOST_DISPUTES])
    if len(disputes) > MOST_DISPUTES:
        say(f"... and {len(disputes) - MOST_DISPUTES} more; --format json tells all.")


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _kappa(kappa: float | None) -> str:
    return "undefined" if kappa is None or math.isnan(kappa) else f"{kappa:.2f}"


def _sides(names: Sequence[str], rhythms: Sequence[str]) -> list[str]:
    pairs = zip(names, rhythms, strict=True)
    return [f"{name}: {rhythm or 'cannot tell'}" for name, rhythm in pairs]
