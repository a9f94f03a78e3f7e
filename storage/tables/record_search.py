"""Whose record is asked for: a name, a digest or a patient's own number, sought in data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from storage.tables.beats_manifest import manifest_from
from storage.tables.content import Recording, copies, recordings, without_prints

#: Digits of a digest that name one: more than a record's name is by chance.
DIGEST = re.compile(r"[0-9a-f]{12,64}")
#: A subject that was numbered anew.
PATIENT_NUMBER = re.compile(r"p\d{4,}")
NO_PRINTS = "tables of before there were prints of recordings, which may have another name there"


@dataclass(frozen=True)
class Query:
    """What is asked for.

    Attributes
    ----------
    text : str
        As it was asked.
    number : str or None
        The digest that it has as a patient's own number.
    recordings : tuple of Recording
        What is known to be asked for: copies of it have other names.
    """

    text: str
    number: str | None
    recordings: tuple[Recording, ...] = ()


@dataclass(frozen=True)
class Look:
    """What one look at data sets gave.

    Attributes
    ----------
    matches : list of dict
        What was asked for: `dataset` to `simulated` of a sight.
    by_name : bool
        Whether the text is a name there, or a digest; else it may be a patient's own number.
    names : set of str
        All names that are there, each also as DATASET/NAME.
    uncompared : list of str
        Data sets whose patients' own numbers cannot be compared, and why.
    faults : list of str
        What could not be read, or not be told from a copy.
    recordings : list of Recording
        Those of what was found by name.
    """

    matches: list[dict[str, Any]] = field(default_factory=list)
    by_name: bool = False
    names: set[str] = field(default_factory=set)
    uncompared: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)


def look_into(datasets: Iterable[Mapping[str, Any]], query: Query, source: str) -> Look:
    """What data sets have of what is asked for, as of an evaluation."""
    looks = [_look_at(data, query, source) for data in datasets]
    return Look(
        matches=[match for look in looks for match in look.matches],
        by_name=any(look.by_name for look in looks),
        names=set().union(*(look.names for look in looks)),
        uncompared=[text for look in looks for text in look.uncompared],
        faults=[text for look in looks for text in look.faults],
        recordings=[recording for look in looks for recording in look.recordings],
    )


def _look_at(data: Mapping[str, Any], query: Query, source: str) -> Look:
    """What one data set has of what is asked for."""
    entries, name = data["entries"], data["dataset"]
    texts = {query.text, query.text.removeprefix(f"{name}/")}
    subjects = data.get("spec", {}).get("subjects", {})
    rejects = {*data["failures"], *data["excluded"]}
    people = {entry["subject"] for entry in entries if _is_named(entry, texts)}
    by_name = bool(people) or not texts.isdisjoint(rejects)
    if number := subjects.get("numbers", {}).get(query.number):
        people.add(number)
    fault = _key_fault(subjects, query.number)
    names = rejects.union(*(_names(entry) for entry in entries))
    manifest = manifest_from(data)
    own_recordings = list(recordings(manifest))
    copied = {
        copy.subject.removeprefix(f"{name}/"): query_recording.name
        for query_recording, copy in copies(query.recordings, own_recordings)
    }
    unknown = bool(query.recordings and not people and without_prints([manifest]))
    return Look(
        matches=[
            {
                "dataset": name,
                "subject": person,
                "records": tuple(e["record"] for e in entries if e["subject"] == person),
                "side": "evaluated",
                "simulated": data["simulated"],
                "same_as": "" if person in people else copied[person],
            }
            for person in sorted(people | copied.keys())
        ],
        by_name=by_name,
        names=names | {f"{name}/{record}" for record in names},
        uncompared=[f"{source}, data set {name}: {fault}"] if fault else [],
        faults=[f"{source}, data set {name}: {NO_PRINTS}"] if unknown else [],
        recordings=[
            recording
            for recording in own_recordings
            if recording.subject.removeprefix(f"{name}/") in people
        ],
    )


def _names(entry: Mapping[str, Any]) -> set[str]:
    """A record's name, with and without its folder, and its subject's."""
    return {entry["record"], entry["record"].rpartition("/")[2], entry["subject"]}


def _is_named(entry: Mapping[str, Any], texts: set[str]) -> bool:
    """Whether one of the texts names a record or its subject, or is a digest of a file of it."""
    digits = [text.lower() for text in texts if DIGEST.fullmatch(text.lower())]
    digests = (entry["sha256"], *entry.get("files", {}).values()) if digits else ()
    return not texts.isdisjoint(_names(entry)) or any(
        digest.startswith(start) for digest in digests for start in digits
    )


def _key_fault(subjects: Mapping[str, Any], number: str | None) -> str:
    """Why a patient's own number cannot be looked for in a data set; "" where it can."""
    numbers, own_key = subjects.get("numbers", {}), (number or "").partition(":")[0]
    keys = {digest.partition(":")[0] for digest in numbers} - {own_key}
    if keys:
        return f"patients' own numbers are kept by key {min(keys)}, which is not here"
    renamed = subjects.get("map", {}).values()
    if renamed and not numbers and all(PATIENT_NUMBER.fullmatch(subject) for subject in renamed):
        return "patients were numbered anew, and their own numbers not kept"
    return ""
