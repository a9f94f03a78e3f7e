"""`holter verify` and `holter lineage`: what made a model version, and whether it still holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.tree import Tree

from flows.cli.answer import JSON, Format, answer
from flows.cli.options import registry_to_read, to_write, version
from flows.reports.shown import say, show_table, stdout
from flows.services.progress import console
from storage.errors import NotInRegistry
from storage.files import write_bytes
from storage.json_text import as_json
from storage.registry.reference import parse
from storage.text import did_you_mean

if TYPE_CHECKING:
    from flows.cli.answer import decision_kinds
    from storage.audit.findings import Finding, Sight
    from storage.audit.lineage import Lineage

VersionOf = Annotated[str, version("NAME@alias, NAME/version or NAME.")]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", help="Public key that may sign; repeatable. Else those of this machine."),
]
#: How a finding's state looks, and how many of a link's are told one by one.
COLOURS = {"match": "", "mismatch": "bold red", "out of reach": "yellow", "deleted on request": ""}
#: The colour of a link's row: that of the worst of it.
WORST = {"mismatch": "bold red", "out of reach": "yellow", "match": "green"}
MOST_EXAMPLES = 20


def verify(
    model: VersionOf,
    key: Keys = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not read beat tables and recordings again.")
    ] = False,
    output: Format = "text",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Compute every digest of a version's chain again; exit code 1 where one differs."""
    from storage.audit import verify as work
    from storage.exchange.stamps import findings
    from storage.registry.signing import trusted_keys

    comparisons, keys = [], key or trusted_keys()
    with registry_to_read(model), console.status("Verifying ...") as status:
        for comparison in chain(
            work.verify(model, keys, quick=quick), findings(parse(model).name, keys)
        ):
            comparisons.append(comparison)
            status.update(f"Verifying {comparison.link}: {escape(comparison.name)}")
    form = JSON if as_json else output
    answer(comparisons, form, lambda: _show_findings(model, comparisons))
    if wrong := sum(comparison.state == work.MISMATCH for comparison in comparisons):
        words = f"{model} is not what was sealed: {wrong} of {len(comparisons)} differ."
        console.print(words, markup=False) if form == JSON else say(words)
        raise typer.Exit(1)


def _show_findings(model: str, findings: Sequence[Finding]) -> None:
    """How many of each link match, what does not, and the verdict."""
    from storage.audit import verify as work

    counts = Counter((finding.link, finding.state) for finding in findings)
    seen = {finding.state for finding in findings}
    columns = [state for state in COLOURS if state != work.DELETED or state in seen]
    rows = [
        [link, *(str(counts[link, state] or "") for state in columns), compared]
        for link, compared in work.LINKS.items()
    ]
    styles = [
        next((colour for state, colour in WORST.items() if counts[link, state]), "")
        for link in work.LINKS
    ]
    show_table(["link", *columns, "what is compared"], rows, model, styles)
    for state in (work.MISMATCH, work.OUT, work.DELETED):
        examples = [finding for finding in findings if finding.state == state]
        for finding in examples[:MOST_EXAMPLES]:
            words = f"{state}  {finding.link}: {finding.name} {finding.told}"
            say(words.rstrip(), COLOURS[state])
        if len(examples) > MOST_EXAMPLES:
            say(f"... and {len(examples) - MOST_EXAMPLES} more {state}; --format json tells all.")
    if any(finding.state == work.MISMATCH for finding in findings):
        return
    skipped = sum(finding.told == work.NOT_READ for finding in findings)
    out = sum(finding.state == work.OUT for finding in findings) - skipped
    deleted = sum(finding.state == work.DELETED for finding in findings)
    matches = len(findings) - skipped - out - deleted
    say(
        f"{model} is what was sealed"
        + (f", but for {' and '.join(work.LARGE)}, which were not read" if skipped else "")
        + f": {matches} of {matches + out} match"
        + (f", {deleted} were deleted on request" if deleted else "")
        + (f", {out} are out of reach here." if out else ".")
    )


def lineage(
    model: Annotated[
        str | None, version("NAME@alias, NAME/version or NAME; none with --record.")
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(
            help="Record, subject, DATASET/NAME, digest or patient's own number: who ever saw it."
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format", help="tree (or text), json, mermaid, html or prov (W3C PROV-JSON)."
        ),
    ] = "tree",
    out: Annotated[
        Path | None,
        typer.Option(callback=to_write, help="Write it to this file instead of standard output."),
    ] = None,
    key: Keys = None,
) -> None:
    """What made a version: data, code, split, training, files, evaluations, decisions.

    Exit code 1: the ledger is not whole, MLflow has deleted something, or there is no such record.
    """
    from storage.audit.lineage import read_lineage
    from storage.registry.signing import trusted_keys

    if (model is None) == (record is None):
        raise ValueError("give a model, or a record with --record")
    if form not in FORMS:
        near = did_you_mean(form, FORMS)
        raise ValueError(f"format {form!r}{near}: expected one of {', '.join(FORMS)}")
    keys = set(key or trusted_keys())
    if record is not None:
        _sights(record, keys, form)
        return
    with registry_to_read(model or ""):
        history = read_lineage(model or "", keys)
    if form in TREES and out is None:
        if stdout.is_terminal:
            stdout.print(_rich(history))
        else:
            stdout.file.write(_text(history))
        say(f"Whether it is still so: holter verify {history.chain.reference}")
    elif out is None:
        print(FORMS[form](history))
    else:
        write_bytes(out, FORMS[form](history).encode())
        console.print(f"Written  {out}", soft_wrap=True)
    if history.faults:
        _show("fault", history.faults)
        raise typer.Exit(1)


def _rich(history: Lineage) -> Tree:
    from tasks.pages.document import Branch
    from tasks.pages.lineage_page import outline

    def grow(branch: Branch, on: Tree) -> Tree:
        for child in branch.below:
            grow(child, on.add(escape(child.text)))
        return on

    top = outline(history)
    return grow(top, Tree(f"[bold]{escape(top.text)}[/bold]"))


def _text(history: Lineage) -> str:
    from tasks.pages.document import lines
    from tasks.pages.lineage_page import outline

    return "".join(f"{'  ' * depth}{text}\n" for depth, text in lines(outline(history)))


def _json(history: Lineage) -> str:
    whole = {
        "aliases": history.aliases,
        "chain": history.chain.document,
        "chain_sha256": history.chain.sha256,
        "seal_fault": history.chain.fault,
        "faults": history.faults,
        "ledger": [asdict(entry) for entry in history.entries],
        "evaluations": history.evaluations,
    }
    return json.dumps(whole, indent=1, sort_keys=True)


def _mermaid(history: Lineage) -> str:
    from tasks.pages.provenance_graph import graph, mermaid

    return mermaid(graph(history, detailed=False))


def _html(history: Lineage) -> str:
    from tasks.pages.lineage_page import html

    return html(history)


def _prov(history: Lineage) -> str:
    from tasks.pages.provenance_graph import graph, prov_json

    return json.dumps(prov_json(graph(history, detailed=True)), indent=1)


#: The outline for people, by either name.
TREES = ("tree", "text")
FORMS = {
    "tree": _text,
    "json": _json,
    "mermaid": _mermaid,
    "html": _html,
    "prov": _prov,
    "text": _text,
}


def _sights(record: str, keys: set[str], form: str) -> None:
    """Who ever saw a record's subject; exit code 1 where that cannot be told for certain."""
    from flows.cli.answer import decision_kinds
    from storage.audit.reviews import record_decisions
    from storage.audit.sights import faults, sights_of

    if form not in (*TREES, "json"):
        raise ValueError(f"--record answers as tree or json, not as {form}")
    with registry_to_read():
        wrong = faults(keys)
        answer = sights_of(record, keys)
        names = {(sight.dataset, name) for sight in answer.sights for name in sight.records}
        review = record_decisions(record, names, keys)
    order = ("model", "version", "run_id", "dataset", "subject", "side")
    value = decision_kinds.RecordLineage(
        sights=sorted(answer.sights, key=attrgetter(*order)),
        decisions=[
            decision_kinds.RecordDecision(**vars(decision), entry=entry)
            for decision, entry in review.decisions
        ],
    )
    if form == "json":
        print(as_json(value))
    else:
        _show_sights(record, value.sights)
        _show_decisions(value.decisions)
    _show("ledger", dict.fromkeys([*wrong, *review.faults]))
    _show("cannot tell", answer.unreadable)
    if not (value.sights or value.decisions or answer.exists):
        raise NotInRegistry(
            f"record {record!r}: found none of that name, digest or number"
            f"{did_you_mean(record, answer.names)}; expected one of a sealed version, an "
            "evaluation, or the beat tables here"
        )
    if wrong or review.faults or answer.unreadable:
        console.print(f"Whether other versions saw {escape(record)}, nobody can tell from this.")
        raise typer.Exit(1)
    if not value.sights and form != "json":
        say(f"No model version ever saw {record}.")


def _show_decisions(decisions: Sequence[decision_kinds.RecordDecision]) -> None:
    """What people decided about passages: who, when, about which version, and what it is since."""
    if not decisions:
        return
    rows = [
        [
            f"{d.dataset}/{d.record}",
            f"{d.start}-{d.end}",
            d.verdict,
            d.rhythm,
            d.reviewer,
            d.time,
            d.version,
            f"entry {d.entry}" if d.entry else "not signed yet",
            d.remark.replace("\n", " "),
        ]
        for d in decisions
    ]
    columns = ("record", "samples", "verdict", "rhythm since", "reviewer", "when", "looking at")
    show_table((*columns, "ledger", "remark"), rows, "Decisions about its passages")


def _show(kind: str, texts: Iterable[str]) -> None:
    """What is wrong, a line each."""
    for text in texts:
        console.print(f"[bold red]{kind}[/bold red]  {escape(text)}", soft_wrap=True)


def _show_sights(record: str, sights: Sequence[Sight]) -> None:
    if not sights:
        return
    rows = [
        [
            f"{sight.model}/{sight.version}",
            sight.in_mlflow,
            " ".join(f"@{alias}" for alias in sight.aliases),
            "SIMULATED " * sight.simulated
            + f"{sight.dataset}/{sight.subject}"
            + f", the same recording as {sight.same_as}" * bool(sight.same_as),
            " ".join(sight.records),
            sight.side or "no beat with a label",
        ]
        for sight in sights
    ]
    show_table(["model", "in MLflow", "aliases", "subject", "records", "side"], rows, record)
    versions = {(sight.model, sight.version, sight.run_id) for sight in sights}
    say(f"Versions that saw {record} or its subject: {len(versions)}.")
