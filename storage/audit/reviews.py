"""Decisions about passages, held by the ledger of their data set.

The ledger "labels/DATASET" has an entry for each batch of decisions: how many there are by then,
and the digest of the newest line of their log. Each line holds the digest of the one before, so
that an entry signs every decision up to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from storage.audit import ledger
from storage.audit.findings import ABSENT, MATCH, MISMATCH, OUT, Finding, compare
from storage.audit.ledger_entry import OF_DATA, REVIEWED, Entry
from storage.errors import DecisionError
from storage.labels.decisions import Decision, log_heads, read_decisions, reviewed_datasets
from storage.recordings.review import decision_digests
from storage.registry.signing import trusted_keys
from storage.tables.beats_manifest import Manifest

#: How an entry names the newest line of the log: its number and its SHA-256.
_HEAD = re.compile(r"([1-9][0-9]{0,11}):([0-9a-f]{64})")
#: Characters of JSON of the names that an entry lists; all of it has 6,000.
MOST_CHARACTERS = 1_000


@dataclass(frozen=True)
class SignedDecisions:
    """Which of a data set's decisions its ledger signs.

    Attributes
    ----------
    entries : tuple of (int, int)
        The number of each entry, and up to which decision it signs, from 1.
    faults : tuple of str
        Where the log is not as it was signed, and what is wrong with the ledger, in sentences.
    """

    entries: tuple[tuple[int, int], ...]
    faults: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many decisions are signed, from the first on."""
        return max((last for _, last in self.entries), default=0)

    def entry_of(self, number: int) -> int | None:
        """The entry that signs a decision, counted from 1; None where it is not signed yet."""
        return next((entry for entry, last in self.entries if last >= number), None)


def sign_decisions(dataset: str, *, user: str | None = None) -> Entry | None:
    """Enter what was decided about a data set since its last entry; None where that is nothing.

    Raises
    ------
    DecisionError
        The log is damaged, or is not the one that was signed before.
    RegistryError
        As `storage.audit.ledger.append`.
    """
    heads, decisions = log_heads(dataset), read_decisions(dataset)
    signed = signed_decisions(dataset, trusted_keys(), check=False)
    if signed.faults:
        raise DecisionError(f"{'; '.join(signed.faults)}. Nothing is signed after that")
    batch = decisions[signed.count :]
    if not batch:
        return None
    reviewers = sorted({decision.reviewer for decision in batch})
    versions = sorted({decision.version for decision in batch} - {""})
    return ledger.append(
        f"{OF_DATA}{dataset}",
        None,
        REVIEWED,
        f"{len(batch)} decisions by {_listing(reviewers)}",
        who=user,
        decisions=str(len(batch)),
        head=f"{len(heads)}:{heads[-1]}",
        reviewers=_listing(reviewers),
        versions=_listing(versions),
    )


def sign_labels(manifests: Iterable[Manifest]) -> None:
    """Have the ledger sign the decisions that labels are made of, before any is used.

    Raises
    ------
    DecisionError, RegistryError
        As `sign_decisions`.
    """
    for manifest in manifests:
        if any(entry.review for entry in manifest.entries):
            sign_decisions(manifest.dataset)


def signed_decisions(
    dataset: str, trusted: Iterable[str], *, check: bool = True
) -> SignedDecisions:
    """What the ledger signs of a data set's decisions, and whether the log still is that.

    Parameters
    ----------
    dataset : str
        The data set.
    trusted : iterable of str
        The public keys that may sign.
    check : bool
        Whether the ledger itself is checked too.

    Raises
    ------
    DecisionError
        The log is damaged.
    RegistryError
        The server is out of reach.
    """
    name, keys, heads = f"{OF_DATA}{dataset}", set(trusted), log_heads(dataset)
    signed, faults = [], ledger.check(name, keys) if check else []
    history = [e for e in ledger.entries(name) if e.action == REVIEWED and e.key in keys]
    for entry in history:
        match = _HEAD.fullmatch(entry.details["head"])
        number = int(match[1]) if match else 0
        if match and number <= len(heads) and heads[number - 1] == match[2]:
            signed.append((entry.sequence, number))
        else:
            faults.append(
                f"decisions about {dataset}: entry {entry.sequence} signs the log up to "
                f"{entry.details['head'][:40]!r}; this log is another one, or was cut off"
            )
    return SignedDecisions(tuple(signed), tuple(faults))


@dataclass(frozen=True)
class RecordDecisions:
    """What was decided about a record.

    Attributes
    ----------
    decisions : tuple of (Decision, int or None)
        As they were made, each with the entry of its data set's ledger that signs it.
    faults : tuple of str
        As of `SignedDecisions`, or why a log cannot be read.
    """

    decisions: tuple[tuple[Decision, int | None], ...]
    faults: tuple[str, ...]


def record_decisions(
    text: str, records: Iterable[tuple[str, str]], trusted: Iterable[str]
) -> RecordDecisions:
    """What was decided about a record, in whichever data sets.

    Parameters
    ----------
    text : str
        Its name, with or without its folder, or DATASET/NAME.
    records : iterable of (str, str)
        Data set and name of records that are asked for beside it.
    trusted : iterable of str
        The public keys that may sign.

    Raises
    ------
    RegistryError
        The server is out of reach.
    """
    pairs, keys = set(records), set(trusted)
    out: list[tuple[Decision, int | None]] = []
    faults: list[str] = []
    for dataset in reviewed_datasets():
        try:
            rows = [
                (number, decision)
                for number, decision in enumerate(read_decisions(dataset), start=1)
                if (dataset, decision.record) in pairs or text in _names(decision)
            ]
            signed = signed_decisions(dataset, keys) if rows else SignedDecisions((), ())
        except DecisionError as error:
            faults.append(str(error))
            continue
        out += [(decision, signed.entry_of(number)) for number, decision in rows]
        faults += signed.faults
    return RecordDecisions(tuple(out), tuple(faults))


def _names(decision: Decision) -> set[str]:
    name = decision.record
    return {name, name.rpartition("/")[2], f"{decision.dataset}/{name}"}


def _listing(names: list[str]) -> str:
    count = len(names)
    while count and len(json.dumps(", ".join(names[:count]))) > MOST_CHARACTERS:
        count -= 1
    more = f" and {len(names) - count} more" if count < len(names) else ""
    return ", ".join(names[:count]) + more


def decisions_finding(dataset: str, record: str, file: str, digest: str) -> Finding:
    """Whether the decisions about a record begin with those that its labels were made of."""
    name = f"{dataset}: {file}"
    try:
        decisions = read_decisions(dataset, record)
    except DecisionError as error:
        return Finding("sources", name, MISMATCH, str(error))
    digests = decision_digests(decisions)
    if not decisions:
        return Finding("sources", name, OUT, ABSENT)
    if digest not in digests:
        return compare("sources", name, digest, digests[-1])
    later = len(digests) - 1 - digests.index(digest)
    return Finding("sources", name, MATCH, f"{later} decisions since" if later else "")
