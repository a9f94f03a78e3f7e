"""Model cards in MLflow, held by the ledger: an entry has the digest of each file."""

from __future__ import annotations

from pathlib import Path

from storage.audit import ledger
from storage.audit.ledger_entry import CARD, CARD_FILE
from storage.files import sha256_file
from storage.registry import tracking
from storage.registry.models import ModelVersion
from storage.registry.tags import CARD_FOLDER


def enter_card(model: ModelVersion, folder: Path) -> None:
    """Log a card's files to a version's run, and enter their digests into the ledger."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    marks = {f"{CARD_FILE}{p.relative_to(folder).as_posix()}": sha256_file(p) for p in paths}
    tracking.log_folder(model.run_id, folder, CARD_FOLDER)
    entries = [e for e in ledger.own_entries(model.name) if e.action == CARD]
    last = [entry.details for entry in entries if entry.version == model.version][-1:]
    if not all(marks.items() <= details.items() for details in last or [{}]):
        ledger.append(model.name, model.version, CARD, "model card", **marks)
