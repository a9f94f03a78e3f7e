"""Labels of whole records as they are proposed: by a CSV that names the records, or by folders."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from storage.recordings.survey import LabelFile
from tasks.proposals.record_names import folder_names

#: Rhythm codes of the field, and what the tables call them (WFDB annotation codes; PhysioNet).
RHYTHMS: Mapping[str, str] = {
    **{code: code for code in ("N", "AFIB", "AFL", "AB", "B", "BII", "IVR", "J", "P", "PREX")},
    **{code: code for code in ("SBR", "SVTA", "T", "VFL", "VT")},
    "NOD": "J",
    **dict.fromkeys(("AF", "AFib", "Afib", "afib", "AFIBRILLATION"), "AFIB"),
    **dict.fromkeys(("SR", "NSR", "SINUS", "Sinus", "sinus", "NORM", "Normal"), "N"),
    **dict.fromkeys(("AFlutter", "FLUTTER", "Aflutter"), "AFL"),
}
AF = "AFIB"
#: What labels of whole records, and folders, are called beside the codes above.
_WORDS: Mapping[str, str] = {
    **{code.lower(): name for code, name in RHYTHMS.items() if len(code) > 1},
    **{"atrialfibrillation": AF, "atrialflutter": "AFL"},
    **dict.fromkeys(("sinusrhythm", "normalsinusrhythm"), "N"),
}


def is_label(folder: str) -> bool:
    """Whether a folder's name says that its records are AF, flutter or normal."""
    return rhythm_of(folder) in (AF, "AFL", "N")


def rhythm_of(label: str) -> str:
    """What a label is called in the tables, by the words of the field; "" where it is not known."""
    return RHYTHMS.get(label) or _WORDS.get(re.sub(r"[ _-]", "", label).lower(), "")


def propose_labels(
    names: Sequence[str],
    tables: Sequence[LabelFile],
    labels_at: int | None,
    doubts: dict[str, str],
    notes: list[str],
) -> tuple[dict[str, Any], LabelFile | None]:
    """The TOML's `labels` for records without a rhythm mark.

    Parameters
    ----------
    names : sequence of str
        Records without a mark.
    tables : sequence of LabelFile
        The folder's CSVs of records.
    labels_at : int or None
        How deep the folders lie that are named by labels.
    doubts, notes
        As in `tasks.proposals.proposal.Proposal`; added to.

    Returns
    -------
    dict
        `file` and `columns`, or `paths`; empty where nothing tells a label.
    LabelFile or None
        The CSV that is taken.
    """
    useful = [table for table in tables if (table.labels and names) or table.subjects]
    notes += [
        f"{table.file} names records; nothing tells which of its columns is a label ([labels] "
        "columns in the TOML)"
        for table in tables
        if not table.labels and not table.subjects
    ]
    if len(useful) > 1:
        files = ", ".join(table.file for table in useful)
        doubts["labels_csv"] = f"which CSV tells of the records ({files}): --labels-csv FILE"
    if useful:
        return _labels_of(useful[0]), useful[0]
    if labels_at is None or not names:
        return {}, None
    before = "*/" * labels_at
    folders = folder_names(names, labels_at)
    return {"paths": {f"{before}{glob.escape(folder)}/*": folder for folder in folders}}, None


def _labels_of(table: LabelFile) -> dict[str, Any]:
    """The TOML's `labels` for a CSV; columns only where its header does not use our names."""
    standard = all(name == place for name, place in table.columns.items())
    return {"file": table.file, **({} if standard else {"columns": dict(table.columns)})}


def label_codes(labels: Mapping[str, Any], table: LabelFile | None) -> list[str]:
    """Every label that a CSV or patterns of paths give."""
    return sorted({*(table.labels if table else ()), *labels.get("paths", {}).values()})


def has_label(name: str, labels: Mapping[str, Any], table: LabelFile | None) -> bool:
    """Whether a CSV or a pattern gives a record a label."""
    patterns = labels.get("paths", {})
    return (table is not None and name in table.records) or any(
        fnmatchcase(name, pattern) for pattern in patterns
    )
