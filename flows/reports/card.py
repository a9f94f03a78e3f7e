"""The model card of a version: what is recorded of it, and nothing that is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.reports.card_sections import LIMITS, SECTIONS, Facts
from flows.reports.compare import answers_of, decisions_frame, threshold_of
from flows.reports.shown import FORMS, write
from storage.audit.ledger_entry import APPROVED
from storage.audit.versions import VersionRecord, check_unedited, enter_card
from tasks.pages.checklists import CHECKLISTS
from tasks.pages.decision import share
from tasks.pages.document import Block, Heading, Summary, Table, Tile, Words
from tasks.pages.numbers import bounds_of, label_of, text_of
from tasks.scores.compare import figures
from tasks.scores.rule import rule_of_tags

#: What stands under a rate of one patient.
NO_BOUNDS = "no interval"


def card(version: VersionRecord) -> list[Block]:
    """The blocks of a version's card.

    A section is there with what is recorded, or says "Not recorded."; the checklists count an item
    as filled where its section holds something.

    Raises
    ------
    DigestMismatch
        MLflow has other figures or parameters of its runs than were signed.
    """
    testset, probability = answers_of(check_unedited(version).model)
    decisions = decisions_frame(testset, probability, threshold_of(version.model))
    facts = Facts(version, testset, probability, decisions)
    sections = {name: section(facts) for name, section in SECTIONS.items()}
    blocks: list[Block] = [summary(facts)]
    for name, section in sections.items():
        blocks += [Heading(name), *(section or [Words("Not recorded.")])]
    filled = {name for name, section in sections.items() if section}
    for name, items in CHECKLISTS.items():
        rows = [
            (item.number, item.asks, item.section if item.section in filled else "not filled")
            for item in items
        ]
        count = sum(row[2] != "not filled" for row in rows)
        text = f"{count} of {len(items)} items are filled by the sections named; the others are "
        blocks += [Heading(name), Words(f"{text}not recorded: a person's to write.")]
        blocks.append(Table(("item", "asks", "section"), rows))
    return blocks


def summary(facts: Facts) -> Summary:
    """For what it is approved, its figures on its own test set, and how many limits follow."""
    approved = [
        f"{entry.details['use']} (@{entry.details['alias']})"
        for entry in facts.version.entries
        if entry.action == APPROVED and "use" in entry.details
    ]
    rates = figures(facts.patients)
    tiles = [
        Tile(label_of(rate), text_of(rates[rate], rate), bounds_of(rates, rate) or NO_BOUNDS)
        for rate in ("f1", "sensitivity", "specificity", "ppv")
    ]
    simulated = "SIMULATED recordings. " * any(m.simulated for m in facts.version.manifests)
    limits = sum(holds(facts) for holds in LIMITS.values())
    use = f"for {', '.join(dict.fromkeys(approved))}" if approved else "for any use"
    return Summary(
        f"{simulated}{'An' if approved else 'No'} approval {use} is on record",
        [
            *tiles,
            *told_tile(facts),
            Tile("Patients tested", f"{len(facts.patients):,}", f"{rates['beats']:,.0f} beats"),
            Tile("Limits", f"{limits}", "see below"),
        ],
    )


def told_tile(facts: Facts) -> list[Tile]:
    """What the margin left told in patients whom the network did not learn from, and its risk."""
    risk = rule_of_tags(facts.version.model.tags).risk
    if risk is None:
        return []
    most = "" if risk.bound is None else f", {share(risk.bound)} at most expected"
    note = f"{share(risk.wrong)} wrongly{most}"
    return [Tile("Beats told, patients it did not learn from", share(risk.coverage), note)]


def title(version: VersionRecord) -> str:
    """A card's title."""
    return f"Model card of {version.model.reference}"


def log_card(version: VersionRecord, blocks: Sequence[Block]) -> None:
    """Log a card to the version's run, as Markdown and as one HTML page.

    The ledger has the digests of its files; a card that is as the last one has no further entry.
    """
    with TemporaryDirectory() as folder:
        for form in FORMS:
            write(title(version), blocks, Path(folder) / f"card{form}")
        enter_card(version.model, Path(folder))
