"""One record to one beat table, without Prefect: what a task of the ingest flow does."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from flows.ingest.withdrawn import refuse_withdrawn
from storage.audit.provenance import beat_code_sha256
from storage.datasets.dataset import DatasetSpec
from storage.errors import RecordError
from storage.files import sha256_file, sha256_json
from storage.formats.checksums import verify_checksums
from storage.labels.decisions import is_in_log
from storage.places import Place
from storage.recordings.check import uncovered_hours
from storage.recordings.records import Record, open_record, read_lead
from storage.tables.beats import Source, write_beats
from storage.tables.beats_manifest import Entry, still_good
from storage.tables.content import LeadPrints, content_of
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing


@dataclass(frozen=True)
class Plan:
    """What the beat tables of a data set are made of.

    Attributes
    ----------
    spec : DatasetSpec
        The data set.
    folder : Path
        Where its records lie.
    out : Path or Remote
        Where its tables go.
    config : Preprocessing
        How signals become beats.
    signal : bool
        Whether signals are read; else annotations alone, and waveforms are null.
    decisions_head : str
        SHA-256 of the newest decision about the data set, where people's decisions are a layer of
        its rhythm: whoever makes a table must know it. "" where there is none.
    """

    spec: DatasetSpec
    folder: Path
    out: Place
    config: Preprocessing
    signal: bool
    decisions_head: str = ""


def record_key(record: Record, config: Preprocessing) -> str:
    """Digest of everything a record's beat table depends on: the same key, the same table."""
    arrays = (record.beats, record.symbols, record.rhythm_start, record.rhythms, record.unreadable)
    return sha256_json(
        {
            "record": [record.dataset, record.name, record.subject, record.lead],
            "label_source": record.label_source,
            "shape": [record.fs_hz, record.n_samples],
            "files": dict(record.digests),
            "af": sorted(record.af),
            "annotations": [hashlib.sha256(a.tobytes()).hexdigest() for a in arrays],
            "preprocessing": config.digest(),
            "code": beat_code_sha256(),
        }
    )


def build_table(
    plan: Plan, name: str, earlier: Entry | None = None
) -> tuple[Literal["built", "kept"], Entry]:
    """Make one record's beat table, or keep the one that is known when nothing changed.

    Raises
    ------
    Withdrawn
        Its use was withdrawn.
    RecordError
        The record cannot be used; its old table, if any, is left as it was.
    """
    config = plan.config
    if plan.decisions_head and not is_in_log(plan.spec.name, plan.decisions_head):
        expected = f"the log that the flow reads, {plan.decisions_head[:12]}… in it"
        raise RecordError(name, "another log of decisions on this machine", expected)
    record = open_record(plan.spec, plan.folder, name, signal=plan.signal)
    refuse_withdrawn(record)
    verify_checksums(plan.folder, name, record.digests)
    key = record_key(record, config)
    if earlier is not None and still_good(earlier, key, plan.out):
        # The key holds them too.
        return "kept", replace(earlier, files=dict(record.digests), warnings=list(record.warnings))
    file = plan.out / f"{name}.parquet"
    read = partial(read_lead, record)
    lead = LeadPrints(read, record.n_samples) if record.lead is not None else None
    tables, counts, stretches = beat_tables(record, lead.read if lead else None, config)
    content = content_of(record, lead)
    source = Source(
        dataset=record.dataset,
        record=record.name,
        subject=record.subject,
        lead=record.lead,
        fs_hz=record.fs_hz,
        n_samples=record.n_samples,
        stretches=stretches.tolist(),
        files=dict(record.digests),
        preprocessing=asdict(config),
        preprocessing_sha256=config.digest(),
        code_sha256=beat_code_sha256(),
        key=key,
        counts=asdict(counts),
        simulated=plan.spec.source.simulated,
        content=content,
        label_source=record.label_source,
    )
    tally = np.zeros(3, dtype=np.int64)

    def count_tables() -> Any:
        for table in tables:
            tally[:] += [
                np.count_nonzero(table.label == 1),
                np.count_nonzero(table.label < 0),
                np.count_nonzero(table.quality),
            ]
            yield table

    rows = write_beats(file, count_tables(), source)
    return "built", Entry(
        record=name,
        subject=record.subject,
        file=f"{name}.parquet",
        sha256=sha256_file(file),
        key=key,
        lead=record.lead,
        hours=record.n_samples / record.fs_hz / 3600,
        analysable_hours=float(np.diff(stretches).sum()) / record.fs_hz / 3600,
        beats=rows,
        af_beats=int(tally[0]),
        unknown_beats=int(tally[1]),
        flagged_beats=int(tally[2]),
        counts=asdict(counts),
        uncovered_hours=uncovered_hours(record),
        files=dict(record.digests),
        content=content,
        warnings=list(record.warnings),
        label_source=record.label_source,
        review=dict(record.review),
        corrected=record.corrected,
    )
