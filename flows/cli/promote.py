"""Commands of a version's way into use: compare, promote, roll back, and its card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import JSON, TEXT, Form, Format, answer
from flows.cli.exchange.signing import stamp_decision
from flows.cli.options import (
    Signals,
    callback_of,
    exit_for,
    registry,
    registry_to_read,
    report_to_write,
    serving,
    to_write,
    version,
    warn_of_records,
)
from flows.reports.shown import say, show_table
from flows.services.progress import console
from storage.errors import PromotionError
from storage.json_text import as_json
from storage.registry.reference import check_alias, check_name
from tasks.scores.promotion import unmet

if TYPE_CHECKING:
    from tasks.pages.document import Block

Version = Annotated[str, version("NAME@alias, NAME/version or NAME (its newest).")]
Out = Annotated[
    Path | None,
    typer.Option(
        callback=report_to_write, help="Write it to this .md or .html file instead of printing it."
    ),
]


def compare(
    before: Annotated[str, version("The older: NAME@alias, NAME/version or NAME.")],
    after: Annotated[str, version("The newer, in the same words.")],
    out: Out = None,
    output: Format = "text",
) -> None:
    """Two versions side by side: data, parameters, code, figures on shared patients, devices."""
    with registry_to_read(before, after):
        from flows.reports.compare import compare as work
        from storage.audit.versions import read_version

        comparison = work(read_version(before), read_version(after))
    _deliver(comparison.title, comparison.blocks, out, output)


def _deliver(title: str, blocks: Sequence[Block], out: Path | None, form: str) -> None:
    """Give a report in the form asked for, and write it where a file is named."""
    from flows.cli.answer.contents import report_of
    from flows.reports.shown import deliver

    if out and form == JSON:
        deliver(title, blocks, out)
    answer(report_of(title, blocks, out), form, lambda: deliver(title, blocks, out))


def pareto(
    models: Annotated[
        list[str] | None,
        version("NAME@alias, NAME/version or NAME; none: every registered version."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Whose latency; else of the device with most reports, else the server."),
    ] = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Answer the test sets again for intervals of F1.")
    ] = False,
    output: Format = "text",
    json_too: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    out: Out = None,
) -> None:
    """F1 against parameters, multiply-adds, bytes and latency: which versions no other beats."""
    with registry_to_read():  # a model that is not there is left out, and told
        from flows.reports import pareto as work
        from flows.reports.shown import deliver
        from storage.audit.versions import all_references

        versions, left_out = work.read(models or all_references())
        groups = work.groups(versions, device, bounds=intervals)
        form = JSON if json_too else output
        if out or form == TEXT:
            blocks = work.blocks(groups, left_out)
            deliver("F1 of the registered versions against what they cost", blocks, out)
        if form == JSON:
            print(as_json(work.content(groups, left_out)))


def card(
    model: Version,
    out: Out = None,
    log: Annotated[bool, typer.Option(help="Log it to the version's run too.")] = True,
    output: Format = "text",
) -> None:
    """The model card of a version, from what is recorded now: data, figures, limits, checklists."""
    with (registry if log else registry_to_read)(model):
        from flows.reports.card import card as work
        from flows.reports.card import log_card, title
        from storage.audit.versions import read_version

        version = read_version(model)
        blocks = work(version)
        _deliver(title(version), blocks, out, output)
        if log:
            log_card(version, blocks)
            console.print("Logged to the version's run, under card/.")


def sbom(
    environment: Annotated[str, typer.Option("--of", help="training or edge.")] = "training",
    out: Annotated[
        Path | None, typer.Option(callback=to_write, help="Write it here; else it is printed.")
    ] = None,
    output: Annotated[
        Form, typer.Option("--format", help="json: CycloneDX; or text: names and versions.")
    ] = "json",
) -> None:
    """The software bill of materials of an environment, from what is installed: CycloneDX JSON."""
    from storage.files import write_json
    from storage.registry import sbom as work

    document = work.sbom(environment)
    if out is None and output == JSON:
        print(json.dumps(document, indent=1, sort_keys=True))
        return
    if out is None:
        rows = [(part["name"], part.get("version", "")) for part in document["components"]]
        show_table(["package", "version"], rows)
        return
    write_json(out, document)
    console.print(f"Written  {out}: {len(document['components'])} components", markup=False)


#: How a verdict looks.
COLOURS = {"passed": "", "failed": "bold red", "missing": "yellow", "not asked": "dim"}


def promote(
    model: Version,
    to: Annotated[
        str, typer.Option(callback=callback_of(check_alias), help="The alias to move.")
    ] = "champion",
    policy: Annotated[
        Path | None, typer.Option(help="Policy, a TOML; else the one that comes with this.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who approves; else who is at work.")] = None,
    reason: Annotated[str, typer.Option(help="Why; needed to override.")] = "",
    override: Annotated[
        bool, typer.Option("--override", help="Move it although a check failed or is missing.")
    ] = False,
    output: Format = "text",
) -> None:
    """Move an alias to a version that a policy passes; the result and the approver are recorded."""
    from storage.registry.policy import DEFAULT, read_policy

    rules = read_policy(policy or DEFAULT)
    if override and not reason.strip():
        raise ValueError("--override needs a --reason")
    with registry(model):
        from flows.cli.answer.decision_kinds import Promotion
        from flows.decide.promote import REFUSED
        from flows.decide.promote import promote as work

        promotion = work(model, rules, to, approver=by, reason=reason, override=override)
        stamp_decision(promotion.reference)
    value = Promotion(
        promotion.reference, to, rules.title, promotion.decision, [*promotion.verdicts]
    )
    refused = promotion.decision == REFUSED
    name = promotion.reference.partition("/")[0]

    def show() -> None:
        rows = [(v.title, v.asked, v.found, v.state, v.note) for v in value.checks]
        styles = [COLOURS[check.state] for check in value.checks]
        columns = ("check", "asked", "found", "state", "from")
        show_table(columns, rows, f"{value.version}, {value.policy}", styles)
        if not refused:
            say(f"{value.version} is {to} ({value.decision}). Back: holter rollback {name}")

    answer(value, output, show)
    if refused:
        raise PromotionError(
            f"{promotion.reference} is not {to}: {len(unmet(promotion.verdicts))} of "
            f"{len(promotion.verdicts)} checks do not pass; heal them, or give --override with a "
            "--reason"
        )


def rollback(
    model: Annotated[
        str, typer.Argument(callback=callback_of(check_name), help="The registered model's name.")
    ],
    alias: Annotated[
        str, typer.Option(callback=callback_of(check_alias), help="The alias to move back.")
    ] = "champion",
    by: Annotated[str | None, typer.Option(help="Who decides; else who is at work.")] = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "rolled back",
    output: Format = "text",
) -> None:
    """Move an alias back to the version that it was on before."""
    with registry(model):
        from flows.cli.answer.decision_kinds import Rollback
        from flows.decide.promote import rollback as work

        before, now = work(model, alias, approver=by, reason=reason)
        stamp_decision(model)
    value = Rollback(model, alias, int(before), int(now))
    answer(
        value, output, lambda: say(f"{model}: {alias} was version {before} and is version {now}")
    )


#: Exit code of a drift beyond a bound.
DRIFTED = 4


def drift(
    model: Version,
    on: Annotated[
        list[str] | None, typer.Option(help="Data set, by name or TOML; repeatable.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of each data set, in the same order; else those of the TOMLs."),
    ] = None,
    analysis: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSON of `holter-edge analyse`; repeatable."
        ),
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option(help="Bounds, a TOML; else those that come with this.")
    ] = None,
    signal: Signals = None,
    out: Out = None,
    output: Format = "text",
) -> None:
    """Recordings that came back against those of the training; exit code 4: beyond a bound."""
    from storage.registry.policy import DRIFT, read_checks

    names = on or []
    if not names and not analysis:
        raise ValueError("give a data set (--on), or analyses of devices (--analysis)")
    from flows.ingest.folders import data_sets, resolve_folders

    read_checks(thresholds or DRIFT)
    resolve_folders(data_sets(names, data=data, signal=signal))
    with serving(model):
        from flows.cli.answer.contents import ingest_of, report_of
        from flows.cli.answer.decision_kinds import Drift
        from flows.decide.drift import drift as flow
        from flows.reports.shown import deliver

        result = flow(
            model=model,
            thresholds=thresholds or DRIFT,
            datasets=names,
            data=data,
            analyses=analysis or [],
            signal=signal,
        )
    for ingested in result.ingested:
        warn_of_records(ingested)
    value = Drift(
        drifted=result.drifted,
        run_id=result.run_id,
        checks=[*result.verdicts],
        report=report_of(result.title, result.blocks, out),
        ingests=[ingest_of(ingested) for ingested in result.ingested],
    )
    if out and output == JSON:
        deliver(result.title, result.blocks, out)
    answer(value, output, lambda: deliver(result.title, result.blocks, out))
    if result.drifted:
        raise typer.Exit(DRIFTED)
    exit_for(result.ingested)


def rebuild(
    model: Version,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder of each data set, in order; else where they were read.",
        ),
    ] = None,
    output: Format = "text",
) -> None:
    """Do a version's training again, apart from all else: the same to the byte, or why not."""
    with serving(model):
        from flows.cli.answer.decision_kinds import Change, Rebuild
        from flows.decide.rebuild import DIFFERS
        from flows.decide.rebuild import rebuild as work
        from storage.audit.versions import read_version
        from tasks.pages.numbers import name_of

        result = work(read_version(model), data or [])
    value = Rebuild(
        version=result.reference,
        outcome=result.outcome,
        changes=[Change(*row) for row in result.changes],
        files={**result.files},
        figures={name: [*pair] for name, pair in result.figures.items()},
    )

    def show() -> None:
        say(f"{value.version}: {value.outcome}", "bold")
        rows = [(change.name, change.recorded, change.local) for change in value.changes]
        rows += [
            (name_of(name), f"{then:.6f}", f"{now:.6f}")
            for name, (then, now) in value.figures.items()
        ]
        if rows:
            show_table(["not as it was", "recorded", "here"], rows)
        for name, same in value.files.items():
            say(f"{name}: {'equal to the byte' if same else 'other bytes'}")

    answer(value, output, show)
    if result.outcome == DIFFERS:
        raise PromotionError(
            f"{result.reference} differs when it is built again; "
            + (
                "what is not as it was is above"
                if result.changes
                else "nothing recorded explains it"
            )
        )
