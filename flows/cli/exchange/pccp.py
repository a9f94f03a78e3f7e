"""`holter pccp`: a model's plan of change control, with the evidence of each version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.answer import Format, answer
from flows.cli.options import callback_of, registry, registry_to_read, report_to_write, to_write
from flows.reports.shown import say
from storage.errors import PolicyError
from storage.registry.reference import check_name


def pccp(
    model: Annotated[
        str, typer.Argument(callback=callback_of(check_name), help="The registered model's name.")
    ],
    plan: Annotated[
        Path | None, typer.Option(help="A plan, a TOML, to look at; else the one adopted.")
    ] = None,
    adopt: Annotated[
        Path | None,
        typer.Option(help="Adopt this plan: from now on the gate of promote holds versions to it."),
    ] = None,
    propose: Annotated[
        Path | None,
        typer.Option(callback=to_write, help="Write a plan, made of the version in use, here."),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who adopts it; else who is at work.")] = None,
    reason: Annotated[str, typer.Option(help="Why it is adopted.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(callback=report_to_write, help="Write it to this .md or .html file."),
    ] = None,
    output: Format = "text",
) -> None:
    """What may change of a model without a new decision, and what each version shows of that.

    Its sections are those of FDA's guidance on change control plans, and of the EU AI Act's Annex
    IV. What no record says is marked as the manufacturer's to write.
    """
    if sum(path is not None for path in (plan, adopt, propose)) > 1:
        raise ValueError("give one of --plan, --adopt and --propose")
    with (registry if adopt else registry_to_read)(model):
        from flows.cli.answer.contents import report_of
        from flows.cli.answer.decision_kinds import ChangeControl
        from flows.reports import change_plan, pccp
        from flows.reports.shown import deliver

        if propose:
            text = change_plan.proposal(model)
            propose.write_text(text)
            say(f"Written  {propose}: set its bounds, then holter pccp {model} --adopt {propose}")
            plan = propose
        path = adopt or plan
        if path:
            chosen, policy = change_plan.plan_at(path)
            _refuse_unless_of(model, chosen.plan.model, path)
        if adopt:
            chosen = change_plan.adopt(adopt, author=by, reason=reason)
        if not path:
            chosen, policy = change_plan.plan_and_policy(model)
        document = pccp.document(chosen, policy)
    value = ChangeControl(
        model=model,
        plan=chosen.sha256,
        adopted=chosen.entry is not None,
        evidence=[*document.evidence],
        report=report_of(document.title, document.blocks, out),
    )
    if out and output == "json":
        deliver(document.title, document.blocks, out)
    answer(value, output, lambda: deliver(document.title, document.blocks, out))


def _refuse_unless_of(model: str, name: str, path: Path) -> None:
    if name != model:
        raise PolicyError(f"plan {path}: found model {name!r}; expected {model!r}")
