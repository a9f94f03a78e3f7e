"""Lineage events of decisions, which no flow of Prefect takes: a decision is a run of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar

from rich.markup import escape

from flows.exchange import hooks
from flows.exchange.account import Account, alias_of, version_named
from flows.exchange.facets import DecisionRunFacet
from flows.services.progress import console
from storage.audit.ledger_entry import REFUSED
from storage.registry import tracking
from storage.registry.reference import parse
from tasks.scores.promotion import Verdict, unmet

P = ParamSpec("P")
R = TypeVar("R")


class Decision(Protocol):
    """What a promotion decided."""

    @property
    def reference(self) -> str:
        """The version, as NAME/version."""

    @property
    def alias(self) -> str:
        """The alias that was to move."""

    @property
    def decision(self) -> str:
        """What was decided."""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Each check of the policy."""

    @property
    def result_sha256(self) -> str:
        """The digest of the result."""


def as_run(
    action: str, account: Callable[..., Account]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Tell of each call of a function as of a run of a job, by its first argument, a model.

    `account` makes the account of what it gave back, and of what it was called with.
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def work(*args: P.args, **kwargs: P.kwargs) -> R:
            with hooks.decision(action, _model(args)) as tellings:
                result = function(*args, **kwargs)
                tellings.append(functools.partial(account, result, *args, **kwargs))
            if words := hooks.complaint():
                console.print(f"[yellow]not told[/yellow]  {escape(words)}", soft_wrap=True)
            return result

        return work

    return wrap


def _model(args: Sequence[object]) -> str:
    """The name of the model that a call is about; "" where it is none, as the call itself says."""
    try:
        return parse(str(args[0])).name
    except (IndexError, ValueError):
        return ""


def promotion_account(result: Decision, *_: Any, **__: Any) -> Account:
    """A version was judged, and an alias moved to it unless it was refused."""
    address, version = tracking.address(), parse(result.reference)
    facet = DecisionRunFacet(
        alias=result.alias,
        decision=result.decision,
        checks=len(result.verdicts),
        not_passed=len(unmet(result.verdicts)),
        result_sha256=result.result_sha256,
    )
    number = int(version.version)
    moved = () if result.decision == REFUSED else (result.alias,)
    return Account(
        (version_named(version.name, number, address),),
        tuple(alias_of(version.name, alias, number, address) for alias in moved),
        (facet,),
    )


def rollback_account(
    versions: Sequence[int], model: str, alias: str = "champion", **_: Any
) -> Account:
    """An alias went back from one version to another."""
    address, (_before, after) = tracking.address(), versions
    return Account(
        (version_named(model, after, address),), (alias_of(model, alias, after, address),)
    )
