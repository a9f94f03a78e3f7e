"""Promote: an alias moves to a version that its policy passes; roll back: it goes where it was."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from itertools import combinations

import pandas as pd

from flows.decide.decision_events import as_run, promotion_account, rollback_account
from flows.reports.change_plan import current_plan
from flows.reports.change_plan import verdicts as plan_verdicts
from flows.reports.compare import decisions_of
from flows.reports.version_page import renew_pages
from flows.services.events import MODEL_RESOURCE, PROMOTION, refusal, tell
from flows.train.teacher import teachers_of
from flows.train.training_run import work_folder
from storage.audit import ledger
from storage.audit.chain import SIDES, resolve
from storage.audit.ledger_entry import APPROVED, OVERRIDDEN, ROLLED_BACK, decision_tags
from storage.audit.ledger_entry import REFUSED as REFUSED
from storage.audit.verify import MISMATCH, verify
from storage.audit.versions import VersionRecord, read_version
from storage.errors import PromotionError
from storage.files import sha256_file, write_json
from storage.registry import tracking
from storage.registry.policy import Policy
from storage.registry.signing import trusted_keys
from storage.registry.tags import PROMOTIONS_FOLDER, RUNTIME_TAG, runtime_tag
from tasks.pages.simulations import simulated_records
from tasks.runtimes.convert import Limits
from tasks.runtimes.runtimes import REFERENCE
from tasks.scores.bootstrap import RATES
from tasks.scores.compare import by_patient, figures, pair
from tasks.scores.gate import differences
from tasks.scores.promotion import Figure, Verdict, against, judge, unmet

CHAMPION = "champion"
#: Links of the chain that must hold: what the registry keeps. Beat tables and sources on this
#: machine may have moved on with the code since.
SEALED = (
    *("ledger", "seal", "version", "run", "artifacts", "model files", "evaluations"),
    "decisions",
)
ENERGY = "energy_j_per_24_h"
#: Of a runtime's parity with Keras what a policy may bound.
PARITY = [field.name for field in fields(Limits)]
#: A value and the bounds of its interval.
ENDS = ("", "_low", "_high")
#: Where an evaluation's figure begins, behind its data set's name.
LEVEL = re.compile(r"(?<=.)_(?:beat|segment|episode|record|sure|coverage)(?=_|$)")
#: How a figure is had that is not there, by what its name begins with.
HINTS = {
    "device_": "no device has reported: holter edge request {model} --device NAME",
    "test_": "not among the figures of a test set",
    "champion_": "not among the figures of a comparison",
}


@dataclass(frozen=True)
class PromotionResult:
    """A judged promotion: whether the alias moved, each verdict, and the digest of the result."""

    reference: str
    alias: str
    decision: str
    verdicts: tuple[Verdict, ...]
    result_sha256: str


def formal(version: VersionRecord, policy: Policy, decisions: pd.DataFrame) -> dict[str, Figure]:
    """What can be said without scores: seals, sides, licences, parity."""
    compared = verify(version.model.reference, trusted_keys())
    broken = [
        f"{comparison.link}: {comparison.name} {comparison.told}"
        for comparison in compared
        if comparison.state == MISMATCH and comparison.link in SEALED
    ]
    people = {side: set(version.split[side]["subjects"]) for side in SIDES}
    people["test"] |= set(decisions["subject"])
    shared = set().union(*(people[a] & people[b] for a, b in combinations(SIDES, 2)))
    versions = (version, *teachers_of(version))
    behind = [m for source in versions for m in source.manifests]
    records = {source.model.reference: simulated_records(source.params) for source in versions}
    manifests = {manifest.digest(): manifest for manifest in behind}.values()
    barred = [
        f"{manifest.dataset} ({manifest.licence})"
        for manifest in manifests
        if policy.use not in policy.licences.get(manifest.licence, ())
    ]
    simulated = [manifest.dataset for manifest in manifests if manifest.simulated]
    faults = {
        "broken_seals": broken,
        "subjects_on_two_sides": sorted(shared),
        "data_sets_not_for_use": barred,
        "simulated_data_sets": simulated,
    }
    results = {name: Figure(len(items), "; ".join(items[:5])) for name, items in faults.items()}
    most = max(records, key=lambda name: records[name])
    note = f"each epoch of {most}" if records[most] else ""
    results["simulated_records"] = Figure(records[most], note)
    parity = version.metrics.get("parity_max_abs_error")
    results["parity_max_abs_error"] = Figure(parity, "" if parity is not None else "not logged")
    return results


def deployment_figures(version: VersionRecord) -> dict[str, Figure]:
    """Parity with Keras of what devices run: the release's runtime, and any that a report names.

    Of each figure the largest, F1's change either way; missing where one of them has none.
    """
    tags = version.model.tags
    names = [tags.get(RUNTIME_TAG, REFERENCE)]
    names += [r.tags[RUNTIME_TAG] for r in version.reports if RUNTIME_TAG in r.tags]
    parities = {name: json.loads(tags.get(runtime_tag(name), "{}")) for name in names}
    results = {}
    for figure in PARITY:
        lacking = [name for name in parities if figure not in parities[name]]
        if lacking:
            note = f"the version's tags do not say it of {', '.join(lacking)}"
            results[f"deployed_{figure}"] = Figure(None, note)
        else:
            value, name = max((abs(float(parities[name][figure])), name) for name in parities)
            results[f"deployed_{figure}"] = Figure(value, name)
    return results


def testset_figures(version: VersionRecord, decisions: pd.DataFrame) -> dict[str, Figure]:
    """Figures of the version's own test set; none where its patients were trained on too."""
    rates = figures(by_patient(decisions))
    names = dict.fromkeys([*rates, "f1_low", "f1_high"])
    unseen = version.split["paradigm"] != "intrapatient"
    if not unseen:
        note = "its test patients are in training too: nothing is known of unseen ones"
        return {f"test_{name}": Figure(None, note) for name in names}
    note = f"{rates['patients']:.0f} patients, {rates['beats']:,.0f} beats"
    lacking = "one patient gives no interval"
    return {
        f"test_{name}": Figure(rates.get(name), note if name in rates else lacking)
        for name in names
    }


def evaluation_figures(version: VersionRecord) -> dict[str, Figure]:
    """The newest figure of each name from evaluations on data sets that it was not trained on."""
    own = tuple(f"{manifest.dataset}_" for manifest in version.manifests)
    results: dict[str, Figure] = {}
    for state in version.evaluations:
        for name, value in state.metrics.items():
            note = f"evaluation {state.request_id[:8]}"
            figure = Figure(value, note)
            if name.startswith(own):
                figure = Figure(None, "it was trained on this data set: these are no new patients")
            results.setdefault(name, figure)
    return results


def on_devices(version: VersionRecord) -> dict[str, Figure]:
    """Of each figure the largest over the devices (`device_`), and the least (`device_least_`).

    Missing where one of the devices has not measured it.
    """
    if not version.reports:
        return {}
    server = {k.removeprefix("test_"): v for k, v in version.metrics.items()}
    wrong = [
        f"{report.device}: {text}"
        for report in version.reports
        for text in differences(report.metrics, server)
    ]
    results = {"device_differences": Figure(len(wrong), "; ".join(wrong[:5]))}
    for name in dict.fromkeys([*(n for r in version.reports for n in r.metrics), ENERGY]):
        lacking = [r.device for r in version.reports if name not in r.metrics]
        for start, worst in (("device_", max), ("device_least_", min)):
            if lacking:
                note = f"{', '.join(lacking)} did not measure it"
                results[f"{start}{name}"] = Figure(None, note)
            else:
                value, device = worst((r.metrics[name], r.device) for r in version.reports)
                results[f"{start}{name}"] = Figure(value, f"on {device}")
    return results


def against_champion(decisions: pd.DataFrame, champion: VersionRecord | None) -> dict[str, Figure]:
    """What the challenger gains on patients of both test sets, paired by patient."""
    names = ["champion_patients"]
    names += [f"champion_{rate}_gain{end}" for rate in RATES for end in ENDS]
    if champion is None:
        return dict.fromkeys(names, Figure(None, "no version is champion", applies=False))
    reference = champion.model.reference
    paired = pair(decisions_of(champion.model), decisions)
    out = {"champion_patients": Figure(len(paired.patients), f"{reference} is champion")}
    if not paired.patients:
        note = f"its test set and that of {reference} share no patient"
        return {**dict.fromkeys(names, Figure(None, note)), **out}
    for rate, gain in paired.differences().items():
        note = f"against {reference}, {len(paired.patients)} patients"
        for end, value in zip(ENDS, (gain.value, gain.low, gain.high), strict=True):
            out[f"champion_{rate}_gain{end}"] = Figure(value, note)
    return out


def champion_of(version: VersionRecord, alias: str) -> VersionRecord | None:
    """The version that the alias is on in MLflow, or None; the seals tell what the ledger has."""
    at = ledger.mlflow_aliases(version.model.name).get(alias)
    return None if at is None else read_version(f"{version.model.name}/{at}")


def all_figures(
    version: VersionRecord, champion: VersionRecord | None, policy: Policy
) -> dict[str, Figure]:
    """Every figure that there is for a policy to ask for; those it asks for and that are not."""
    decisions = decisions_of(version.model)
    results = {
        **evaluation_figures(version),
        **formal(version, policy, decisions),
        **deployment_figures(version),
        **testset_figures(version, decisions),
        **on_devices(version),
        **against_champion(decisions, champion),
    }
    for check in policy.checks:
        results.setdefault(check.figure, Figure(None, _hint(check.figure, version.model.reference)))
    return results


def _hint(figure: str, model: str) -> str:
    """How a figure that is not there is had."""
    for start, hint in HINTS.items():
        if figure.startswith(start):
            return hint.format(model=model)
    if level := LEVEL.search(figure):
        return f"not evaluated: holter evaluate {model} --on {figure[: level.start()]}"
    return f"nothing measures a figure {figure!r}"


@as_run("promote", promotion_account)
def promote(
    reference: str,
    policy: Policy,
    alias: str = CHAMPION,
    *,
    approver: str | None = None,
    reason: str = "",
    override: bool = False,
) -> PromotionResult:
    """Move an alias to a version that the policy passes, or that is overridden with a reason.

    The policy, every verdict and the approver are an artifact of the version's training run, its
    digest is in the ledger and among the version's tags. A refusal is entered too.

    Parameters
    ----------
    reference : str
        NAME@alias, NAME/version or NAME.
    policy : Policy
        What is asked.
    alias : str
        Which alias is to move.
    approver : str, optional
        Who approves; else MLflow's user, or the account's.
    reason : str
        Why; needed to override.
    override : bool
        Move it although a check failed or is missing.

    Returns
    -------
    PromotionResult
        `decision` is "approved", "overridden" or "refused": then nothing moved.

    Raises
    ------
    ValueError
        To override without a reason.
    PromotionError
        The alias is on the version already.
    """
    if override and not reason.strip():
        raise ValueError("to override a policy needs a reason: --reason")
    version = read_version(reference)
    champion = champion_of(version, alias)
    name = version.model.reference
    if champion and champion.model.reference == name:
        raise PromotionError(f"{name} is {alias} already")
    plan = current_plan(version.model.name)
    verdicts = judge(policy.checks, all_figures(version, champion, policy))
    if plan and plan.plan.alias == alias:
        verdicts += plan_verdicts(plan, version, champion, policy.sha256)
    wrong = against(verdicts)
    decision = (OVERRIDDEN if override else REFUSED) if wrong else APPROVED
    result = write_json(
        work_folder(version.model.run_id)
        / f"{alias}-v{version.model.version}-{decision}-{len(version.entries)}.json",
        {
            "model": name,
            "chain_sha256": version.chain_sha256,
            "alias": alias,
            "before": champion.model.reference if champion else None,
            "decision": decision,
            "who": approver or ledger.user(),
            "reason": reason,
            "policy": policy.text,
            "policy_sha256": policy.sha256,
            "plan_sha256": plan.sha256 if plan else None,
            "verdicts": [asdict(verdict) for verdict in verdicts],
        },
    )
    tracking.log_file(version.model.run_id, result, PROMOTIONS_FOLDER)
    marks = {
        "policy_sha256": policy.sha256,
        "result": f"{PROMOTIONS_FOLDER}/{result.name}",
        "result_sha256": sha256_file(result),
        "use": policy.use,
    }
    explanation = reason.strip() or (wrong[0][:500] if wrong else f"passes {policy.title!r}")
    number = version.model.version
    entry = ledger.append(
        version.model.name, number, decision, explanation, who=approver, alias=alias, **marks
    )
    entries = [entry]
    if decision != REFUSED:
        name_of = version.model.name
        entries.append(
            ledger.move_alias(name_of, number, alias, explanation, who=approver, **marks)
        )
        tracking.tag_version(version.model, decision_tags(entry))
    renew_pages(*entries)
    tell(
        f"{PROMOTION}.{decision}",
        f"{MODEL_RESOURCE}.{version.model.name}",
        name,
        refusal(
            alias,
            approver or ledger.user(),
            unmet(verdicts),
            tracking.model_page(version.model),
            decision,
        ),
    )
    return PromotionResult(name, alias, decision, verdicts, marks["result_sha256"])


@as_run("rollback", rollback_account)
def rollback(
    model: str, alias: str = CHAMPION, *, approver: str | None = None, reason: str = "rolled back"
) -> tuple[int, int]:
    """Move an alias back to the version before; gives that it was on and that it is on now.

    Raises
    ------
    PromotionError
        There is none before, or the alias is not where the ledger has it.
    NotInRegistry
        MLflow no longer has the version before.
    """
    entries = ledger.trusted_entries(model, trusted_keys())
    in_mlflow, in_ledger = (
        aliases.get(alias) for aliases in (ledger.mlflow_aliases(model), ledger.aliases(entries))
    )
    if in_mlflow != in_ledger:
        raise PromotionError(
            f"{model}: alias {alias} is on {_version(in_mlflow)} in MLflow; the ledger has "
            f"{_version(in_ledger)}, so nothing says where it goes back to: put it where it "
            f"belongs with holter promote {model}/VERSION --to {alias} --override --reason TEXT"
        )
    versions = history(entries, alias)
    if in_mlflow is None or len(versions) < 2:
        on = f"is on {_version(in_mlflow)}" + " and was on none before" * (in_mlflow is not None)
        raise PromotionError(f"{model}: alias {alias} {on}; there is nothing to go back to")
    resolve(f"{model}/{versions[-2]}")
    marks = {ROLLED_BACK: str(in_mlflow)}
    renew_pages(ledger.move_alias(model, versions[-2], alias, reason, who=approver, **marks))
    return in_mlflow, versions[-2]


def _version(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"


def history(entries: Iterable[ledger.Entry], alias: str) -> list[int]:
    """The versions that an alias was on, oldest first, those that it went back from left out."""
    versions: list[int] = []
    for entry in entries:
        if entry.action != ledger.ALIAS or entry.details["alias"] != alias:
            continue
        if ROLLED_BACK in entry.details:
            versions = versions[:-1]
        elif entry.version is not None and versions[-1:] != [entry.version]:
            versions.append(entry.version)
    return versions
