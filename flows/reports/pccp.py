"""The plan of change control as a document, and what each version shows of it.

Sections are those of FDA's final guidance on predetermined change control plans (August 2025), and
of Annex IV of Regulation (EU) 2024/1689. A sentence is made of what is recorded, or is marked as
the manufacturer's to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from flows.reports.change_plan import PlanInForce, verdicts
from storage.audit import ledger
from storage.audit.ledger_entry import ALIAS, APPROVED, OVERRIDDEN, REFUSED, ROLLED_BACK
from storage.audit.versions import VersionRecord, read_version
from storage.errors import HolterError, OutOfReach
from storage.policies.plan import Allowed, Range
from storage.registry.policy import Policy
from storage.registry.signing import trusted_keys
from tasks.pages.document import Block, Code, Heading, Summary, Table, Tile, Words
from tasks.pages.numbers import text_of
from tasks.scores.promotion import FAILED, Verdict

#: How what nobody but the manufacturer can say is marked.
TO_WRITE = "Manufacturer's to write"
#: The points of Annex IV: what each asks, and what of it is recorded here.
ANNEX_IV = (
    ("1", "general description of the system", "purpose: manufacturer's; versions: Evidence"),
    ("2 (a)", "methods and steps of development", "holter card NAME/VERSION, Training"),
    ("2 (b)", "design: logic, choices, what is optimised", "holter card NAME/VERSION"),
    ("2 (d)", "data: provenance, scope, labelling", "Data management; holter lineage"),
    ("2 (e)", "assessment of human oversight", ""),
    ("2 (f)", "pre-determined changes and how compliance is kept", "this document"),
    ("2 (g)", "validation and testing: metrics, logs, reports", "Performance; Evidence"),
    ("2 (h)", "cybersecurity measures", ""),
    ("3", "monitoring, functioning, control; limits", "holter card; holter drift"),
    ("4", "why the performance metrics are appropriate", ""),
    ("5", "risk management system (Article 9)", ""),
    ("6", "relevant changes through the lifecycle", "Evidence; the signed ledger"),
    ("7", "harmonised standards applied", ""),
    ("8", "EU declaration of conformity", ""),
    ("9", "post-market evaluation (Article 72)", "holter drift, holter edge status: figures alone"),
)


@dataclass(frozen=True)
class Evidence:
    """A version beside its plan.

    Attributes
    ----------
    version, time_utc : str
        The version, and when it was sealed.
    before : str
        The version in use then; "" where none was.
    outside : list of str
        Rules of the plan that it breaks, by name, with what was found.
    decisions : list of str
        What the gate said of it, by whom and when.
    f1 : float or None
        F1 of beats of its test side.
    data : list of str
        Its data sets with the first digits of their digests.
    unreadable : str
        Why nothing more can be told; "" where all can.
    """

    version: str
    time_utc: str
    before: str
    outside: list[str]
    decisions: list[str]
    f1: float | None
    data: list[str]
    unreadable: str = ""


@dataclass(frozen=True)
class Document:
    """A plan's document: title, blocks, and the evidence of each version."""

    title: str
    blocks: tuple[Block, ...]
    evidence: tuple[Evidence, ...]


def document(plan: PlanInForce, policy: Policy) -> Document:
    """The document of a plan.

    Parameters
    ----------
    plan : PlanInForce
        The plan, adopted or not.
    policy : Policy
        The promotion policy that it names.

    Raises
    ------
    NotInRegistry
        MLflow has no such model.
    """
    entries = ledger.trusted_entries(plan.plan.model, trusted_keys())
    evidence = tuple(_evidence(plan, entries))
    blocks = [
        _summary(plan, evidence),
        Heading("Description of modifications"),
        *_modifications(plan),
        Heading("Modification protocol"),
        *_protocol(plan, policy),
        Heading("Impact assessment"),
        *_impact(plan, evidence),
        Heading("Evidence of each version"),
        *_evidence_blocks(evidence),
        Heading("Annex IV of Regulation (EU) 2024/1689"),
        Table(
            ("point", "asks for", "where it stands"),
            [(point, asks, place or TO_WRITE) for point, asks, place in ANNEX_IV],
        ),
        Heading("Dates"),
        *_dates(plan),
    ]
    return Document(plan.plan.title, tuple(blocks), evidence)


def _evidence(plan: PlanInForce, entries: Sequence[ledger.Entry]) -> Iterator[Evidence]:
    """What each version shows, in the order of their registration."""
    alias, known = plan.plan.alias, dict[str, VersionRecord | str]()
    for entry in entries:
        if entry.action != ledger.REGISTERED or entry.version is None:
            continue
        reference = f"{entry.model}/{entry.version}"
        in_use = _in_use(entries, alias, entry.version)
        decisions = [
            f"{e.action} @{e.details.get('alias', alias)} by {e.who}, {e.time_utc}"
            for e in entries
            if e.version == entry.version and e.action in (APPROVED, OVERRIDDEN, REFUSED)
        ]
        version = _read(reference, known)
        before = _read(in_use, known) if in_use else None
        if isinstance(version, str) or isinstance(before, str):
            reason = version if isinstance(version, str) else str(before)
            yield Evidence(reference, entry.time_utc, in_use, [], decisions, None, [], reason)
            continue
        yield Evidence(
            version=reference,
            time_utc=entry.time_utc,
            before=in_use,
            outside=[_words(verdict) for verdict in broken(verdicts(plan, version, before))],
            decisions=decisions,
            f1=version.metrics.get("test_f1"),
            data=[f"{m.dataset} {m.digest()[:12]}" for m in version.manifests],
        )


def broken(rows: Iterable[Verdict]) -> list[Verdict]:
    """The rules that a version breaks."""
    return [verdict for verdict in rows if verdict.state == FAILED]


def _words(verdict: Verdict) -> str:
    return f"{verdict.title}: found {verdict.found}, asked {verdict.asked}"


def _in_use(entries: Sequence[ledger.Entry], alias: str, version: int) -> str:
    """The version that an alias was on before it was first moved to one, or is on; "" for none."""
    at = ""
    for entry in entries:
        if entry.action != ALIAS or entry.details["alias"] != alias:
            continue
        if entry.version == version and ROLLED_BACK not in entry.details:
            return at
        at = f"{entry.model}/{entry.version}" if entry.version is not None else ""
    return at


def _read(reference: str, known: dict[str, VersionRecord | str]) -> VersionRecord | str:
    """A version, or why it cannot be read."""
    if reference not in known:
        try:
            known[reference] = read_version(reference)
        except OutOfReach:
            raise
        except HolterError as error:
            known[reference] = str(error)
    return known[reference]


def _summary(plan: PlanInForce, evidence: Sequence[Evidence]) -> Summary:
    outside = sum(bool(row.outside) for row in evidence)
    unknown = sum(bool(row.unreadable) for row in evidence)
    adopted = plan.entry is not None
    text = (
        f"The plan of {plan.plan.model} is adopted: @{plan.plan.alias} moves to what is inside it"
        if adopted
        else f"This plan of {plan.plan.model} is not adopted: no gate holds anything to it"
    )
    told = f"{unknown} cannot be told" if unknown else ""
    return Summary(
        text,
        [
            Tile("Versions", f"{len(evidence):,}", told),
            Tile("Inside the plan", f"{len(evidence) - outside - unknown:,}"),
            Tile("Outside", f"{outside:,}", "refused by name unless overridden" * adopted),
        ],
        "plain" if adopted else "bad",
    )


def _own(text: str, subject: str) -> Words:
    """A text of the manufacturer's, or the mark that it is theirs to write."""
    return Words(text) if text.strip() else Words(f"{TO_WRITE}: {subject}.", caveat=True)


def _modifications(plan: PlanInForce) -> Iterator[Block]:
    own = plan.plan.manufacturer
    yield _own(own.device and f"Device: {own.device}, {own.name}".rstrip(", "), "device and maker")
    yield _own(own.intended_use, "intended use")
    for modification in plan.plan.modification:
        yield Words(f"Modification: {modification.title}.")
        yield _own(modification.rationale, f"why {modification.title!r} is planned")
        yield _own(modification.effect, f"what {modification.title!r} changes in performance")
        yield _own(modification.labelling, f"what users are told of {modification.title!r}")
    if not plan.plan.modification:
        yield Words(f"{TO_WRITE}: the modifications that are planned.", caveat=True)
    inside = plan.plan.inside
    rows = [
        ("networks", ", ".join(inside.networks)),
        ("data sets", ", ".join(inside.datasets)),
        ("beats of the tables", ", ".join(inside.beats)),
        ("signals read", ", ".join("yes" if flag else "no" for flag in inside.signal)),
        *((f"setting {name}", _allowed(values)) for name, values in inside.settings.items()),
        *((f"decision: {name}", values.words()) for name, values in inside.decision.items()),
        ("all else", "as in the version in use"),
    ]
    yield Table(("what may change", "to what"), rows)


def _allowed(values: Allowed) -> str:
    return values.words() if isinstance(values, Range) else f"of {', '.join(map(str, values))}"


def _protocol(plan: PlanInForce, policy: Policy) -> Iterator[Block]:
    digest = plan.sha256[:12]
    yield Words(
        "Data management: each training seals its data sets with licence, annotators, source "
        "files and beat tables by digest, and the subjects of each side. A subject on two sides "
        f"ends it. Licences for the use {policy.use!r}: "
        + "; ".join(name for name, uses in policy.licences.items() if policy.use in uses)
        + "."
    )
    yield Words(
        "Retraining: the settings, seed, code, environment and weights are sealed. "
        "holter rebuild does a training again and tells what differs."
    )
    yield Words(f"Performance evaluation: promotion policy {policy.title!r}. Each must hold:")
    yield Table(
        ("figure", "acceptance"), [(check.title, check.bounds_text) for check in policy.checks]
    )
    entry = plan.entry
    adopted = (
        f"adopted by {entry.who}, {entry.time_utc}, entry {entry.sequence} of the ledger"
        if entry
        else "not adopted"
    )
    yield Words(
        f"Update: @{plan.plan.alias} moves by holter promote alone, after every rule of this "
        "plan and of the policy held. An override needs a reason, and is told. holter rollback "
        "moves it back. Devices take releases that a trusted key signed."
    )
    yield Table(
        ("", ""),
        [
            ("plan", f"{digest}, {adopted}"),
            ("policy", plan.policy_sha256[:12]),
        ],
    )


def _impact(plan: PlanInForce, evidence: Sequence[Evidence]) -> Iterator[Block]:
    yield _own(plan.plan.manufacturer.benefits_and_risks, "benefits and risks of the modifications")
    for modification in plan.plan.modification:
        yield _own(modification.risk, f"risks of {modification.title!r}, and what mitigates them")
    yield Words(
        "What each version gains on the one in use, by patient, with 95 % intervals: "
        "holter compare. Whether new recordings lie far from those of the training: "
        "holter drift."
    )
    measured = [(row.version, text_of(row.f1, "f1")) for row in evidence if row.f1 is not None]
    if measured:
        yield Table(("version", "F1 of beats, its own test side"), measured)
    yield _own(plan.plan.manufacturer.post_market, "monitoring after the market")


def _evidence_blocks(evidence: Sequence[Evidence]) -> Iterator[Block]:
    if not evidence:
        yield Words("No version is registered.")
        return
    yield Table(
        ("version", "sealed, UTC", "in use then", "data", "inside the plan", "gate"),
        [
            (
                row.version,
                row.time_utc,
                row.before or "none",
                ", ".join(row.data) or "-",
                "cannot be told" if row.unreadable else "no" if row.outside else "yes",
                "; ".join(row.decisions) or "not asked",
            )
            for row in evidence
        ],
    )
    for row in evidence:
        yield from (Words(f"{row.version}, {text}.", caveat=True) for text in row.outside)
        if row.unreadable:
            yield Words(f"{row.version} cannot be told of: {row.unreadable}.", caveat=True)
    yield Code(f"holter verify {evidence[-1].version}")


def _dates(plan: PlanInForce) -> Iterator[Block]:
    rows = [
        (
            row.date.isoformat(),
            row.duty,
            row.source,
            "yes" if row.confirmed else "not confirmed",
            row.note,
        )
        for row in plan.plan.date
    ]
    if rows:
        yield Table(("date", "duty", "source", "confirmed", "note"), rows)
    yield Words("Dates are what the plan's file says, with its sources: check them.", caveat=True)
