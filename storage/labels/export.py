"""Decisions for other programs: one Parquet table, and a WFDB annotation file a record.

`RECORD.review` marks the rhythm that holds ("(AFIB" where a passage begins, ")" where it ends and
no other begins) and has a note for each decision: who, what, and the remark. WFDB keeps 255 bytes
of a text; a longer remark ends in "..." there, and is whole in the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from storage.files import make_folder, safe_path, whole, write_bytes
from storage.formats.wfdb_annotation import MOST_TEXT_BYTES, encode_annotations
from storage.labels.decisions import Decision
from storage.labels.passages import passages

TABLE, ENDING = "decisions.parquet", "review"
_CUT = "..."
#: What stands at one sample is written in this order: an end, a beginning, then notes.
_END, _BEGIN, _NOTE = range(3)


def write_labels(decisions: Sequence[Decision], rule: str, folder: Path) -> list[Path]:
    """Write a data set's decisions, each file whole or not at all; gives the files.

    Parameters
    ----------
    decisions : sequence of Decision
        Those of one data set, as they were made.
    rule : str
        Which of them hold: `storage.labels.passages`.
    folder : Path
        Where to; a record's folders are made below it.

    Raises
    ------
    UnsafeName
        A link there leads a record's file out of the folder.
    PlaceError
        Nothing can be written there.
    """
    by_record: dict[str, list[Decision]] = {}
    for decision in decisions:
        by_record.setdefault(decision.record, []).append(decision)
    make_folder(folder)
    names = {name: f"{name}.{ENDING}" for name in sorted(by_record)}
    paths = {name: safe_path(folder, file, record=name) for name, file in names.items()}
    for name, path in paths.items():
        write_bytes(path, annotations_of(by_record[name], rule))
    return [_write_table(decisions, folder / TABLE), *paths.values()]


def annotations_of(decisions: Sequence[Decision], rule: str) -> bytes:
    """One record's decisions as the bytes of a WFDB annotation file."""
    rows: list[tuple[int, int, str]] = []
    layer = passages(decisions, rule)
    begins = {passage.start for passage in layer if passage.rhythm}
    for passage in layer:
        if passage.rhythm:
            rows.append((passage.start, _BEGIN, f"({passage.rhythm}"))
        if passage.rhythm and passage.end not in begins:
            rows.append((passage.end, _END, ")"))
    rows += [(decision.start, _NOTE, _note(decision)) for decision in decisions]
    rows.sort(key=lambda row: row[:2])
    return encode_annotations(
        np.array([at for at, _, _ in rows], np.int64),
        ['"' if kind == _NOTE else "+" for _, kind, _ in rows],
        dict(enumerate(text for _, _, text in rows)),
    )


def _note(decision: Decision) -> str:
    """A decision in a line of at most 255 bytes."""
    length = decision.end - decision.start
    words = " ".join([decision.verdict, decision.rhythm]).strip()
    text = f"{decision.reviewer}, {decision.time}: {words}, {length} samples. {decision.remark}"
    data = " ".join(text.split()).encode()
    if len(data) <= MOST_TEXT_BYTES:
        return data.decode()
    return data[: MOST_TEXT_BYTES - len(_CUT)].decode(errors="ignore") + _CUT


def _write_table(decisions: Iterable[Decision], path: Path) -> Path:
    """A row a decision, in the order in which they were made."""
    import pyarrow as pa
    from pyarrow import parquet

    names = [f.name for f in fields(Decision)]
    columns = {name: [getattr(decision, name) for decision in decisions] for name in names}
    kinds = {name: pa.int64() if name in ("start", "end") else pa.string() for name in names}
    arrays = {name: pa.array(values, kinds[name]) for name, values in columns.items()}
    with whole(path) as partial:
        parquet.write_table(pa.table(arrays), partial)
    return path
