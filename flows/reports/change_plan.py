"""A model's plan of change control: adopted in its ledger, and what a version holds of it.

The newest entry `planned` of the ledger that a trusted key signed names the plan that counts, by
its digest. The gate of `holter promote` holds every version to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from storage.audit import ledger
from storage.audit.ledger_run import ledger_run
from storage.audit.versions import VersionRecord, read_version
from storage.errors import PolicyError
from storage.files import sha256_file, write_bytes
from storage.policies.plan import (
    DECISION,
    PATTERN,
    Allowed,
    Plan,
    Range,
    parse_plan,
    policy_of,
    read_plan,
    sha256_of,
)
from storage.registry import tracking
from storage.registry.client import read_run_file
from storage.registry.policy import Policy, read_policy
from storage.registry.signing import trusted_keys
from tasks.learning.splits import SEALED_SIDES
from tasks.scores.promotion import FAILED, INAPPLICABLE, PASSED, Verdict
from tasks.scores.rule import rule_of_tags

#: The action of the entry that adopts a plan, and where plans lie among the ledger's artifacts.
PLANNED, FOLDER = "planned", "plans"
MOST_BYTES = 1 << 20
#: Parameters that have checks of their own, or change nothing of what is trained.
ASIDE = frozenset({"dataset", "model", "name", "policy", "signal", "most_failed"})
#: Of a data set's TOML what says what is read of its recordings.
READING = ("annotations", "leads", "rhythms")


@dataclass(frozen=True)
class PlanInForce:
    """A plan, its text, and the digest of the policy that it names; by which entry, if any."""

    plan: Plan
    text: str
    policy_sha256: str
    entry: ledger.Entry | None = None

    @property
    def sha256(self) -> str:
        """The digest of its text."""
        return sha256_of(self.text)


def plan_at(path: Path) -> tuple[PlanInForce, Policy]:
    """A plan from a file, not adopted yet, and its policy; PolicyError where it is none."""
    plan, text = read_plan(path)
    policy = policy_of(plan, path.parent)
    return PlanInForce(plan, text, policy.sha256), policy


def adopt(path: Path, *, author: str | None = None, reason: str = "") -> PlanInForce:
    """Adopt a plan for the model that it names: the ledger has its digest, and its policy's.

    Raises
    ------
    PolicyError
        The plan, or its policy, cannot be used.
    NotInRegistry
        MLflow has no such model.
    """
    proposal, policy = plan_at(path)
    model = proposal.plan.model
    ledger.check_open(model)
    run_id = ledger_run(model, make=True)["info"]["run_id"]
    files: dict[str, str] = {}
    with TemporaryDirectory(prefix="holter-") as folder:
        for kind, text in (("plan", proposal.text), ("policy", policy.text)):
            name = f"{kind}-{sha256_of(text)[:12]}.toml"
            file = write_bytes(Path(folder) / name, text.encode())
            tracking.log_file(run_id, file, FOLDER)
            files |= {kind: f"{FOLDER}/{name}", f"{kind}_sha256": sha256_file(file)}
    text = reason.strip() or f"plan {proposal.plan.title!r}"
    ledger.append(model, None, PLANNED, text, who=author, run_id=run_id, **files)
    plan = current_plan(model)
    if plan is None:
        raise PolicyError(f"plan of {model}: found none after its adoption; expected one")
    return plan


def current_plan(model: str) -> PlanInForce | None:
    """The plan that counts for a model; None where none was adopted.

    Raises
    ------
    DigestMismatch
        It is not what was signed.
    PolicyError
        It cannot be used by this version.
    """
    entries = [e for e in ledger.trusted_entries(model, trusted_keys()) if e.action == PLANNED]
    if not entries:
        return None
    details = entries[-1].details
    data = read_run_file(details["run_id"], details["plan"], details["plan_sha256"], MOST_BYTES)
    text = data.decode()
    plan = parse_plan(text, f"of {model}, entry {entries[-1].sequence}")
    return PlanInForce(plan, text, details["policy_sha256"], entries[-1])


def plan_and_policy(model: str) -> tuple[PlanInForce, Policy]:
    """The plan that counts for a model, and its policy, as both were adopted.

    Raises
    ------
    PolicyError
        None was adopted.
    DigestMismatch
        One is not what was signed.
    """
    plan = current_plan(model)
    if plan is None or plan.entry is None:
        raise PolicyError(
            f"{model}: found no plan of change control; expected one: holter pccp {model} "
            "--propose plan.toml, then --adopt plan.toml"
        )
    details = plan.entry.details
    data = read_run_file(details["run_id"], details["policy"], details["policy_sha256"], MOST_BYTES)
    with TemporaryDirectory(prefix="holter-") as folder:
        return plan, read_policy(write_bytes(Path(folder) / "policy.toml", data))


def proposal(model: str) -> str:
    """A plan's text, made of the version in use: its champion, else its newest version.

    It allows what that version is, and nothing else; bounds and texts are for a person to set.
    """
    aliases = ledger.mlflow_aliases(model)
    at = aliases.get("champion")
    version = read_version(f"{model}/{at}" if at else model)
    rule = rule_of_tags(version.model.tags)
    manifests = version.manifests
    numbers = zip(DECISION, (rule.threshold, rule.change, rule.margin), strict=True)
    beats = sorted({str(m.preprocessing.get("policy", "consensus")) for m in manifests})
    pattern = PATTERN.read_text()
    texts = pattern[pattern.index("[[modification]]") :]
    lines = [
        f"# Made of {version.model.reference}: it allows what that version is, and nothing else.",
        "# Set bounds that a new training may use; a text that is empty is yours to write.",
        "",
        f"title = {_toml(f'Change control of {model}')}",
        f"model = {_toml(model)}",
        'alias = "champion"',
        'policy = "champion.toml"',
        "",
        "[inside]",
        f"networks = [{_toml(version.model.network)}]",
        f"datasets = [{', '.join(_toml(m.dataset) for m in manifests)}]",
        f"beats = [{', '.join(map(_toml, beats))}]",
        f"signal = [{', '.join(sorted({str(m.has_signal).lower() for m in manifests}))}]",
        "",
        "[inside.settings]",
        *(
            f"{name} = {{ least = {version.params[name]}, most = {version.params[name]} }}"
            for name in ("epochs", "learning_rate", "seed")
            if name in version.params
        ),
        "",
        "[inside.decision]",
        *(f"{name} = {{ least = {value!r}, most = {value!r} }}" for name, value in numbers),
        "",
        texts,
    ]
    return "\n".join(lines)


def _toml(text: str) -> str:
    """A text as TOML's basic string, whose escapes are those of JSON."""
    return json.dumps(text)


def verdicts(
    plan_in_force: PlanInForce,
    version: VersionRecord,
    before: VersionRecord | None,
    policy_sha256: str | None = None,
) -> tuple[Verdict, ...]:
    """Whether a version is inside a plan, each rule by its name.

    Parameters
    ----------
    plan_in_force : PlanInForce
        The plan.
    version : VersionRecord
        The version.
    before : VersionRecord or None
        The version in use: what the plan does not name is as it is there.
    policy_sha256 : str, optional
        The promotion policy that judges the version; not asked where none does.
    """
    plan = plan_in_force.plan
    inside, manifests = plan.inside, version.manifests
    rule = rule_of_tags(version.model.tags)
    numbers = dict(zip(DECISION, (rule.threshold, rule.change, rule.margin), strict=True))
    beats = {str(manifest.preprocessing.get("policy", "consensus")) for manifest in manifests}
    rows = [
        _among("model", [version.model.name], [plan.model]),
        _among("network", [version.model.network], inside.networks),
        _among("data sets", [manifest.dataset for manifest in manifests], inside.datasets),
        _among("beats of the tables", beats, inside.beats),
        _among("signals read", {m.has_signal for m in manifests}, inside.signal),
        *(_within(name, str(numbers[name]), inside.decision[name]) for name in inside.decision),
        *_settings(inside.settings, version.params),
        *_as_before(inside.settings, version, before),
    ]
    if policy_sha256 is not None:
        digests = policy_sha256[:12], plan_in_force.policy_sha256[:12]
        rows.append(_among("promotion policy", digests[:1], digests[1:]))
    return tuple(rows)


def _verdict(name: str, asked: str, found: str, *, good: bool, note: str = "") -> Verdict:
    title = f"{name} inside the plan"
    return Verdict(title, f"plan: {name}", asked, found, PASSED if good else FAILED, note)


def _among(name: str, values: Iterable[object], allowed: Iterable[object]) -> Verdict:
    texts, choices = [str(value) for value in values], [str(choice) for choice in allowed]
    good = bool(texts) and {*texts} <= {*choices}
    return _verdict(name, f"of {', '.join(choices)}", ", ".join(sorted(texts)) or "-", good=good)


def _within(name: str, text: str, allowed: Allowed) -> Verdict:
    if isinstance(allowed, Range):
        return _verdict(name, allowed.words(), text, good=allowed.holds(text))
    good = any(_same(text, str(choice)) for choice in allowed)
    return _verdict(name, f"of {', '.join(map(str, allowed))}", text, good=good)


def _same(left: str, right: str) -> bool:
    """Whether two settings are the same, numbers by their value."""
    try:
        return float(left) == float(right)
    except ValueError:
        return left.casefold() == right.casefold()


def _settings(allowed: Mapping[str, Allowed], params: Mapping[str, str]) -> Iterator[Verdict]:
    """Each setting that the plan names; one that the training did not have is not asked."""
    for name, values in allowed.items():
        if name in params:
            yield _within(name, params[name], values)
        else:
            title = f"{name} inside the plan"
            note = "the training has no such setting"
            yield Verdict(title, f"plan: {name}", "-", "-", INAPPLICABLE, note)


def _as_before(
    allowed: Mapping[str, Allowed], version: VersionRecord, before: VersionRecord | None
) -> Iterator[Verdict]:
    """What the plan does not name, against the version in use."""
    name, figure = "what the plan does not name", "plan: the rest"
    if before is None:
        note = "no version is in use to compare with"
        yield Verdict(name, figure, "as in the version in use", "-", INAPPLICABLE, note)
        return
    changes = []
    keeps = version.params.get("split_rule") == SEALED_SIDES
    aside = ASIDE | ({"split_rule"} if keeps else set())
    for key in sorted({*version.params, *before.params} - aside - {*allowed}):
        old, new = before.params.get(key, "-"), version.params.get(key, "-")
        if not _same(old, new):
            changes.append(f"{key} {old} -> {new}")
    olds = {manifest.dataset: manifest for manifest in before.manifests}
    for manifest in version.manifests:
        old_manifest = olds.get(manifest.dataset)
        if old_manifest is None:
            continue
        parts = [p for p in READING if manifest.spec.get(p) != old_manifest.spec.get(p)]
        parts += ["preprocessing"] * (_signal(manifest) != _signal(old_manifest))
        changes += [f"{manifest.dataset}: {part}" for part in parts]
    state = FAILED if changes else PASSED
    asked = f"as in {before.model.reference}"
    yield Verdict(name, figure, asked, "; ".join(changes) or "the same", state, "")


def _signal(manifest: Any) -> dict[str, Any]:
    """How signals are prepared, but for which beats are kept: that has a rule of its own."""
    return {k: v for k, v in manifest.preprocessing.items() if k != "policy"}
